"""Questions to a parsed English sentence: who does it, with which auxiliary, of which thing.

Belongs here: what holds for any sentence, in spaCy's labels.
Does not belong here: what a sentence says about its writer (`preference_grammar.py`).
"""

from __future__ import annotations

from typing import Any

from lpm_kernel.L0.preference_words import OFTEN

_EMPTY = {
    "lot", "bit", "way", "thing", "time", "kind", "sort", "type", "form", "number", "any", "nothing", "nobody",
    "following",
}  # fmt: skip
_QUESTION_WORDS = {"what", "which", "who", "whom", "where", "why", "how"}


def subject_of(verb: Any) -> Any | None:
    """Of the verb, or of the one it is joined to ("I read and vote"), or that it completes ("I try to avoid")."""
    seen = verb
    for _ in range(4):
        own = next((child for child in seen.children if child.dep_ in ("nsubj", "nsubjpass")), None)
        if own is not None:
            return own
        if seen.dep_ not in ("conj", "xcomp"):
            return None
        if seen.dep_ == "xcomp" and any(child.dep_ == "dobj" for child in seen.head.children):
            return None  # "I asked him to avoid": he avoids
        seen = seen.head
    return None


def is_first_person(verb: Any) -> bool:
    return subject_is(verb, {"i"})


def subject_is(verb: Any, words: set[str]) -> bool:
    subject = subject_of(verb)
    return subject is not None and subject.lower_ in words


def has_auxiliary(verb: Any, words: set[str]) -> bool:
    return any(child.dep_ in ("aux", "auxpass") and child.lower_ in words for child in verb.children)


def modal_of(verb: Any) -> str | None:
    """The first auxiliary, of the verb or of the one it is joined to; short forms in full."""
    short = {"'d": "would", "’d": "would", "'ll": "will", "’ll": "will", "wo": "will", "ca": "can"}
    while True:
        for child in verb.children:
            if child.dep_ in ("aux", "auxpass") and child.i < verb.i and child.lower_ != "to":
                word = child.lower_
                return short.get(word, word)
        if verb.dep_ != "conj" or verb.tag_ != "VB" or any(child.dep_ == "nsubj" for child in verb.children):
            return None
        verb = verb.head


def is_negated(verb: Any) -> bool:
    return any(child.dep_ == "neg" or child.lower_ == "never" for child in verb.children)


def is_conditional(token: Any) -> bool:
    """Whether it stands in an "if" or "whether" clause."""
    return any(
        child.dep_ in ("mark", "advmod") and child.lower_ in ("if", "whether", "unless")
        for step in (token, *token.ancestors)
        for child in step.children
    )


def has_complement(word: Any) -> bool:
    return any(child.dep_ in ("prep", "xcomp", "ccomp", "advcl") for child in word.children)


def thing_behind(word: Any) -> str | None:
    """The first thing named behind a word: its object, or the object of what it leads to, or what its relative clause is on."""
    if word.dep_ == "relcl" and not any(child.dep_ == "dobj" and noun_phrase(child) for child in word.children):
        return noun_phrase(word.head)
    for child in sorted(word.children, key=lambda child: child.i):
        if child.i > word.i and child.dep_ in ("dobj", "pobj", "attr", "oprd", "nsubj") and (phrase := noun_phrase(child)):
            return phrase
    for child in sorted(word.children, key=lambda child: child.i):
        if child.i > word.i and child.dep_ in ("xcomp", "ccomp", "prep", "pcomp", "advmod", "acomp", "dobj", "relcl"):
            if child.lower_ == "than":
                continue  # the other thing
            compared = next((grand for grand in child.children if grand.dep_ == "npadvmod" and grand.i > word.i), None)
            own = subject_of(child) if child.dep_ == "ccomp" else compared  # "like metal better than plastic"
            if own is not None and (phrase := noun_phrase(own)):
                return phrase
            if phrase := thing_behind(child):
                return phrase
    # A noun right behind a verb is its object, however the parser hangs it ("I trust logs more than memories").
    beside = word.doc[word.i + 1] if word.pos_ == "VERB" and word.i + 1 < len(word.doc) else None
    return noun_phrase(beside) if beside is not None else None


def noun_phrase(noun: Any) -> str | None:
    """A noun with the words right before it that belong to it, without its article; None for a pronoun or a bare number."""
    code = noun.pos_ in ("X", "NUM") and "-" in noun.text and any(sign.isalpha() for sign in noun.text)  # "P-09"
    if not (code or noun.pos_ in ("NOUN", "PROPN")) or noun.lower_ in _EMPTY:
        return None
    near = {"amod", "compound", "nmod", "poss", "case", "nummod", "punct", "npadvmod"}
    start = noun.i
    while start > noun.sent.start:
        before = noun.doc[start - 1]
        if before.lower_ in ("the", "a", "an", "my", "our", "any", "some", "every"):
            break
        if not (before.dep_ in near and (before.head == noun or before.head.head == noun)) or before.is_quote:
            break
        start -= 1
    return noun.doc[start : noun.i + 1].text.strip(" -,;:()") or None


def is_fragment(verb: Any) -> bool:
    """Whether there is only a name for what the verb is on, and no sentence: a heading or the words over a list.

    Such as "Pieces I love", "What I would vote for", "Habits I want to see:", and a question without its mark.
    """
    text = verb.doc.text.rstrip()
    if text.endswith(":") and verb.dep_ == "ROOT" and thing_behind(verb) is None:
        return True  # "I like:", and the list is elsewhere
    path = [verb, *verb.ancestors]
    if not text.endswith((".", "!", "…")) and any(_names_its_object(step) for step in path):
        return True
    for step, above in zip(path, [*path[1:], None], strict=True):
        if (_asks(step) or (step.dep_ == "relcl" and not _is_clause(above))) and not any(
            _is_verb(head) for head in step.ancestors
        ):
            return True
    return False


def _names_its_object(verb: Any) -> bool:
    """Whether a thing stands right before its subject, as in "Pieces I love"; and no time, as in "Mondays I bake"."""
    subject = next((child for child in verb.children if child.dep_ == "nsubj"), None)
    before = subject.doc[subject.left_edge.i - 1] if subject is not None and subject.left_edge.i else None
    return before is not None and before.pos_ in ("NOUN", "PROPN") and before.lemma_.lower() not in OFTEN and _is_bare(before)


def _is_bare(noun: Any) -> bool:
    return noun.dep_ not in ("pobj", "nmod", "poss") and all(step.dep_ != "prep" for step in noun.ancestors)


def _is_verb(token: Any) -> bool:
    return token.pos_ in ("VERB", "AUX")


def _is_clause(noun: Any) -> bool:
    """Whether the noun stands in a clause with a verb of its own."""
    return any(_is_verb(step) for step in noun.ancestors) or any(child.dep_ in ("nsubj", "cop") for child in noun.children)


def _asks(verb: Any) -> bool:
    """Whether a word such as "what" opens its clause before the subject."""
    subject = next((child for child in verb.children if child.dep_ == "nsubj"), None)
    opening = [child for child in verb.children if child.i < (subject.i if subject is not None else verb.i)]
    words = [word for child in opening if child.dep_ not in ("advcl", "conj", "csubj") for word in child.subtree]
    return any(word.tag_ in ("WP", "WDT", "WRB") and word.dep_ != "nsubj" and word.lower_ in _QUESTION_WORDS for word in words)
