"""One parsed sentence to what it says its writer prefers, wants or decides: rules over lemmas and dependencies.

Belongs here: the patterns, and the words each of them takes, by class of meaning and not by example.
Does not belong here: documents, citations and choosing among sentences (`preferences.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from lpm_kernel.L0.grammar import (
    has_auxiliary,
    has_complement,
    is_conditional,
    is_first_person,
    is_fragment,
    is_negated,
    modal_of,
    noun_phrase,
    subject_is,
    subject_of,
    thing_behind,
)
from lpm_kernel.L0.preference_words import (
    AGAINST_HABITS,
    BAD,
    BEARS,
    CHOOSES,
    DISLIKES,
    FEELS_AGAINST,
    FEELS_FOR,
    FORMULAS,
    GOOD,
    HABITS,
    HAS_AGAINST,
    HAS_FOR,
    LIKES,
    NO_DEEDS,
    OFTEN,
    OWN_NOUNS,
    PAINS,
    PLEADS,
    PLEASES,
    SAYS,
    STRONGER,
    WANTS,
)

_STILL = (None, "do", "would", "should", "will", "have", "'ve", "’ve")  # "have": see `perfect` below

Kind = Literal["attitude", "wish", "choice", "rule", "stance", "norm"]
Polarity = Literal["for", "against", "undecided"]


class Found(NamedTuple):
    kind: Kind
    polarity: Polarity
    strength: float
    anchor: Any
    """The word that says it."""
    about: str | None
    """The thing it is said of, or else what the sentence is about, in its own words; None when there are only pronouns."""


def find_preference(sentence: Any, is_quoted: Callable[[int], bool]) -> Found | None:
    """The firmest thing a sentence says, the earliest of equals; None when its writer takes no side in it.

    What stands in quotation marks, in a question, behind "if", or in the mouth of somebody else is not the writer's.
    """
    if sentence.text.rstrip("”\"'’)").endswith("?"):
        return None
    named = next((phrase for token in sentence if token.dep_ == "nsubj" and (phrase := noun_phrase(token))), None)
    found = [
        item if item.about else item._replace(about=named)
        for token in sentence
        for item in _all_patterns(token)
        if not is_quoted(token.idx) and not is_conditional(token) and not _of_another(token) and not is_fragment(token)
    ]
    return max(found, key=lambda item: (item.strength, -item.anchor.i), default=None)


def _all_patterns(token: Any) -> Iterator[Found]:
    yield from _noun_of_own(token)
    if token.lower_ == "like" and token.pos_ in ("ADP", "INTJ") and any(child.lower_ == "i" for child in token.children):
        # The parser takes the verb of "I really like bread" for a preposition, with a subject that no preposition has.
        yield from _attitude(token)
    if token.pos_ not in ("VERB", "AUX"):
        return
    yield from _norm(token)
    yield from _effect_on_me(token)
    if is_first_person(token):
        yield from _attitude(token)
        yield from _would(token)
        yield from _habit(token)
        yield from _holding(token)
        yield from _stance(token)


def _attitude(verb: Any) -> Iterator[Found]:
    lemma = verb.lemma_.lower()
    deeds = [child for child in verb.children if child.dep_ == "xcomp"]
    turned = any(is_negated(deed) != (deed.lemma_.lower() in ("avoid", "stop", "refuse")) for deed in deeds)
    negated = is_negated(verb) != turned  # "prefer not to watch", "want to avoid"
    past = verb.tag_ == "VBD" or has_auxiliary(verb, {"did"})
    perfect = has_auxiliary(verb, {"have", "has", "had", "'ve", "’ve"})
    perfect = perfect and not any(child.lower_ in ("always", "never") for child in verb.children)  # "I have always loved tea"
    past = past and not has_auxiliary(verb, {"have", "'ve", "’ve"})
    about = thing_behind(verb)
    more = _stronger(verb)
    if lemma == "live" and negated and any(child.lower_ == "without" for child in verb.children) and modal_of(verb) != "do":
        yield Found("attitude", "for", 0.9, verb, about)
    if lemma in BEARS and negated and has_auxiliary(verb, {"can", "ca", "could"}):
        yield Found("attitude", "against", 1.0, verb, about)
    elif not past and not perfect and modal_of(verb) in _STILL and not _formula(verb):
        if lemma == "like" and modal_of(verb) in ("would", "should"):
            yield Found("wish", _side(not negated), 0.6 + more, verb, about)
        elif lemma in LIKES:
            compared = any(token.lower_ in ("better", "more", "most") for token in verb.children)
            yield Found("attitude", _side(not negated), max(LIKES[lemma], 0.8 * compared) + more, verb, about)
        elif lemma in DISLIKES and not (lemma == "mind" and not negated and verb.dep_ == "ROOT" and about is None):
            yield Found("attitude", _side(negated), DISLIKES[lemma] + more, verb, about)
        elif lemma in WANTS:
            yield Found("wish", _side(negated == (lemma == "refuse")), WANTS[lemma] + more, verb, about)


def _holding(verb: Any) -> Iterator[Found]:
    """Having an aversion to it, being a fan of it, finding it tedious."""
    if verb.tag_ not in ("VBP", "VB", "VBZ") or modal_of(verb) not in (None, "do"):
        return
    negated = is_negated(verb)
    for child in verb.children:
        lemma, no = child.lemma_.lower(), any(grand.lower_ == "no" for grand in child.children)
        if verb.lemma_ == "have" and child.dep_ == "dobj" and lemma in HAS_FOR | HAS_AGAINST:
            beside = verb.doc[min(child.i + 1, len(verb.doc) - 1)]  # "to", wherever the parser hangs it
            if beside.pos_ in ("ADP", "PART"):
                yield Found("attitude", _side((lemma in HAS_FOR) != (negated or no)), 0.7, verb, thing_behind(beside))
        elif verb.lemma_ == "be" and child.dep_ == "attr" and lemma in ("fan", "lover") and has_complement(child):
            yield Found("attitude", _side(negated == no), 0.7, verb, thing_behind(child))
        elif verb.lemma_ == "be" and child.dep_ == "prep" and child.lower_ == "into" and (about := thing_behind(child)):
            yield Found("attitude", _side(not negated), 0.7, verb, about)
        elif verb.lemma_ == "find" and (judged := {t.lemma_.lower() for t in verb.subtree if t.pos_ == "ADJ"} & (GOOD | BAD)):
            yield Found("attitude", _side(bool(judged & GOOD) != negated), 0.6, verb, thing_behind(verb))
            return


def _would(verb: Any) -> Iterator[Found]:
    """Rather paying, keeping it where it is: a choice, unless it looks back ("would have") or asks politely."""
    if modal_of(verb) != "would" or has_auxiliary(verb, {"have"}) or verb.lemma_ in ("be", *LIKES):
        return
    if any(step.dep_ == "ccomp" and step.head.tag_ in ("VBD", "VBN") for step in (verb, *verb.ancestors)):
        return  # "I thought I would last": the past's future
    side = _side(not is_negated(verb))
    if any(child.lower_ in ("rather", "sooner") for child in verb.children):
        yield Found("choice", side, 0.8, verb, thing_behind(verb))
    elif verb.lemma_ not in FORMULAS | SAYS:
        yield Found("choice", side, 0.5, verb, thing_behind(verb))


def _habit(verb: Any) -> Iterator[Found]:
    """Never going on a Saturday, changing one's mind when the numbers change: done as a rule, hence in the present tense."""
    finite = verb.tag_ in ("VBP", "VBZ") or (verb.tag_ == "VB" and not any(child.lower_ == "to" for child in verb.children))
    if not finite or modal_of(verb) not in (None, "do", "will", "shall"):
        return
    if has_auxiliary(verb, {"have", "'ve", "’ve", "am", "'m", "’m"}) or verb.lemma_ in ("have", "be", "know"):
        return
    plainly = modal_of(verb) in (None, "do")
    for child in verb.children:
        word = child.lower_
        if child.dep_ == "advmod" and (word in ("only", "exclusively", "best")) and verb.lemma_ not in NO_DEEDS:
            yield Found("rule", "for", 0.6, verb, thing_behind(verb))
        elif child.dep_ == "neg" and plainly and word != "never" and verb.lemma_ not in (*NO_DEEDS, *LIKES, *DISLIKES):
            yield Found("rule", "against", 0.5, verb, thing_behind(verb))
        elif child.dep_ in ("advmod", "neg") and word in HABITS:
            yield Found("rule", _side(word not in AGAINST_HABITS), HABITS[word], verb, thing_behind(verb))
        elif word == "longer" and any(grand.lower_ == "no" for grand in child.children):
            yield Found("rule", "against", 0.7, verb, thing_behind(verb))
        elif plainly and _recurs(child):
            yield Found("rule", _side(not is_negated(verb)), 0.5, verb, thing_behind(verb))


def _recurs(adverbial: Any) -> bool:
    """Such as "on Sundays", "on a Friday", "every week", "when the numbers change"."""
    if adverbial.dep_ == "advcl":
        opens = any(child.lower_ in ("when", "whenever", "if") for child in adverbial.children)
        return opens and adverbial.tag_ in ("VBP", "VBZ")
    for noun in (adverbial, *adverbial.children):
        if adverbial.dep_ in ("prep", "npadvmod") and noun.lemma_.lower() in OFTEN:
            words = {child.lower_ for child in noun.children if child.dep_ == "det"}
            if words & {"every", "each"} or (adverbial.lower_ == "on" and (noun.tag_ in ("NNS", "NNPS") or "a" in words)):
                return True
    return False


def _formula(verb: Any) -> bool:
    """A way to begin saying it, and no wish: "I would like to thank you"."""
    return any(child.dep_ == "xcomp" and child.lemma_ in FORMULAS for child in verb.children)


def _stance(verb: Any) -> Iterator[Found]:
    lemma, negated = verb.lemma_.lower(), is_negated(verb)
    more = _stronger(verb)
    firm = 0.6 if negated else 0.9
    if lemma == "be" and verb.tag_ == "VBP":
        says_else = any(child.dep_ in ("attr", "acomp") for child in verb.children)
        for child in verb.children:
            if child.dep_ == "prep" and child.lower_ in ("for", "against") and any(child.children) and not says_else:
                yield Found("stance", _side((child.lower_ == "for") != negated), firm + more, verb, thing_behind(child))
            elif child.lower_ == "in" and any(grand.lower_ in ("favour", "favor") for grand in child.children):
                yield Found("stance", _side(not negated), firm + more, verb, thing_behind(next(child.children)))
            elif child.dep_ == "acomp" and child.lower_ in FEELS_FOR | FEELS_AGAINST and has_complement(child):
                if any(grand.lower_ == "too" for grand in child.children):
                    continue  # "too tired to go" is a state
                yield Found("attitude", _side((child.lower_ in FEELS_FOR) != negated), 0.6 + more, verb, thing_behind(child))
        return
    if lemma in PLEADS and modal_of(verb) in (None, "do", "will"):
        for child in verb.children:
            if child.dep_ == "prep" and child.lower_ in ("for", "against") and (about := thing_behind(child)):
                yield Found("stance", _side((child.lower_ == "for") != negated), 0.7, verb, about)
    decides = lemma != "decide" or any(child.dep_ == "xcomp" for child in verb.children)
    if lemma in CHOOSES and decides and not (modal_of(verb) == "would" and has_auxiliary(verb, {"have"})):
        words = {token.lower_ for token in verb.subtree if abs(token.i - verb.i) <= 6}
        against = negated or lemma == "oppose" or (lemma == "vote" and bool(words & {"no", "against"}))
        side: Polarity = "undecided" if lemma == "abstain" else _side(not against)
        yield Found("stance", side, 0.8 + more if verb.tag_ != "VBD" else 0.6, verb, thing_behind(verb))


def _norm(verb: Any) -> Iterator[Found]:
    """What a writer says ought to be, in a main clause or behind "I think that": "Nobody should hold more than five"."""
    if modal_of(verb) not in ("should", "ought"):
        return
    head = verb
    while head.dep_ == "conj":
        head = head.head
    stated = head.dep_ == "ROOT" or (head.dep_ == "ccomp" and (head.head.dep_ == "ROOT" or is_first_person(head.head)))
    if stated and not has_auxiliary(verb, {"have"}) and not subject_is(verb, {"you", "i"}):
        subject = subject_of(verb)
        opposed = is_negated(verb) or (subject is not None and subject.lower_ in ("nobody", "none", "nothing"))
        thing = noun_phrase(subject) if subject is not None else None
        yield Found("norm", _side(not opposed), 0.5, verb, thing or thing_behind(verb))


def _effect_on_me(verb: Any) -> Iterator[Found]:
    """Such as "this town suits me", "the trains do not bother me"."""
    lemma = verb.lemma_.lower()
    mine = any(child.dep_ == "dobj" and child.lower_ == "me" for child in verb.children)
    if mine and lemma in PLEASES | PAINS and verb.tag_ not in ("VBD", "VBN"):
        subject = subject_of(verb)
        yield Found(
            "attitude",
            _side((lemma in PLEASES) != is_negated(verb)),
            0.5,
            verb,
            noun_phrase(subject) if subject is not None else None,
        )


def _noun_of_own(noun: Any) -> Iterator[Found]:
    """Such as "My rule is ...", "in my view"."""
    if noun.dep_ == "nsubj" and noun.head.lemma_ == "be" and noun.head.tag_ != "VBD" and _is_favourite(noun):
        about = next((noun_phrase(child) for child in noun.head.children if child.dep_ == "attr"), None)
        yield Found("attitude", _side(not is_negated(noun.head)), 0.8, noun, about or noun_phrase(noun))
    if noun.pos_ not in ("NOUN", "ADJ") or noun.lemma_.lower() not in OWN_NOUNS:
        return
    if not any(child.dep_ == "poss" and child.lower_ == "my" for child in noun.children):
        return
    verb = noun.head
    against = noun.lemma_.lower() == "objection"
    if noun.dep_ in ("nsubj", "attr") and verb.lemma_ == "be" and verb.tag_ != "VBD":
        says = {"attr", "ccomp", "xcomp", "acomp"} | ({"prep"} if against else set())
        if noun.dep_ == "nsubj" and not any(child.dep_ in says for child in verb.children):
            return  # "my view is in my paper"
        about = next((noun_phrase(child) for child in verb.children if child.dep_ in ("attr", "nsubj") and child != noun), None)
        yield Found("rule" if noun.lemma_ == "rule" else "stance", _side(not against), 0.7, noun, about or thing_behind(verb))
    elif noun.dep_ == "pobj" and noun.head.lower_ in ("in", "to") and noun.lemma_.lower() in ("view", "opinion", "taste"):
        clause = noun.head.head
        subject = subject_of(clause)
        yield Found("stance", "for", 0.6, noun, noun_phrase(subject) if subject is not None else thing_behind(clause))


def _is_favourite(noun: Any) -> bool:
    words = {child.lower_ for child in noun.children if child.dep_ in ("poss", "amod", "compound")}
    return "my" in words and bool(words & {"favourite", "favorite", "ideal", "preferred"})


def _side(in_favour: bool) -> Polarity:
    return "for" if in_favour else "against"


def _stronger(verb: Any) -> float:
    near = [child for child in verb.children if child.dep_ in ("advmod", "aux")]
    near += [grand for child in verb.children if child.dep_ in ("advmod", "prep") for grand in child.children]
    emphatic = any(t.lower_ in STRONGER and not (t.lower_ == "do" and is_negated(verb)) for t in near)
    return 0.1 if emphatic else 0.0


def _of_another(token: Any) -> bool:
    """Whether somebody else says it: "my sister says that I never listen"."""
    for step in token.ancestors:
        if step.lemma_.lower() in SAYS and step.pos_ == "VERB" and not subject_is(step, {"i", "we"}):
            inside = next((child for child in step.children if token == child or token in child.subtree), None)
            if inside is not None and inside.dep_ in ("ccomp", "xcomp") and subject_of(step) is not None:
                return True
    return False
