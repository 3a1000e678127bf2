"""Sentences to questions, by grammar alone: what a friend might ask that this sentence answers.

Belongs here: turning one parsed sentence around (who, what, when, where, how much), spoken to its writer.
Does not belong here: choosing sentences and making rows (`synthesize.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lpm_kernel.english import open_english

MIN_WORDS, MAX_WORDS = 4, 16
MAX_SENTENCE_TOKENS = 36

_TO_SECOND_PERSON = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself",
    "we": "you", "us": "you", "our": "your", "ours": "yours", "ourselves": "yourselves",
}  # fmt: skip
_UNCLEAR = {
    "he", "she", "it", "they", "him", "her", "them", "his", "hers", "its", "their", "this", "that", "these", "those", "there",
    "you", "your", "yours",
}  # fmt: skip
"""Words that point at what another sentence named, or at the reader of a letter."""
_OF_THE_STORY = {"only", "again", "though", "even", "just", "too", "then", "therefore", "however", "still", "also"}
"""Words that tie a sentence to the one before it; a question stands alone."""
_EMPTY = {"point", "thing", "one", "kind", "part", "case", "bit", "way"}
_HUMAN = {
    "apprentice", "aunt", "baker", "boy", "brother", "captain", "caretaker", "chairman", "child", "colleague",
    "conductor", "customer", "cyclist", "dad", "daughter", "dentist", "doctor", "driver", "engineer", "examiner",
    "farmer", "father", "friend", "girl", "goldsmith", "gran", "grandfather", "grandmother", "husband", "insurer",
    "joiner", "lad", "landlord", "lodger", "man", "manager", "member", "mother", "mum", "neighbour", "nephew", "niece",
    "nurse", "officer", "owner", "partner", "pharmacist", "plumber", "postman", "priest", "reverend", "roofer",
    "salesman", "sister", "son", "stranger", "surgeon", "teacher", "treasurer", "uncle", "vet", "vicar", "widow",
    "wife", "woman", "worker",
}  # fmt: skip
_LOWERED = {"DET", "PRON", "ADP", "ADV", "SCONJ", "CCONJ", "ADJ", "NUM", "NOUN", "VERB"}
_STRAY = re.compile(
    r"(?<!^)\b(?:what|who|whom|which|how)\b(?<!^Since when)|^How many \S?\b\s|\b(?:and|or|but|because|the|a|of)\?$",
    re.IGNORECASE,
)
_BLOCK_END = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:[-*+•>]|\d+[.)])[ \t])")
_HEADING_LINE = re.compile(r"^\s*#{1,6} .*$", re.MULTILINE)
_BLOCK_MARK = re.compile(r"^\s*(?:[-*+•>]|\d+[.)])\s+")
_PLACES = {"GPE", "LOC", "FAC"}
_MOMENTS = {"DATE", "TIME"}
_LENGTH = re.compile(r"\b(?:second|minute|hour|day|week|month|year)s?\b", re.IGNORECASE)
_CLOCK = re.compile(r"\d[:.]\d\d|\b(?:o['’]clock|past|to|noon|midnight|am|pm|night|evening|morning|lunch\w*)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AskedSentence:
    """A question and the sentence of the notes that answers it."""

    question: str
    sentence: str


def ask_about(texts: Sequence[str], people: Collection[str] = ()) -> list[list[AskedSentence]]:
    """For each text the questions its sentences give, in their order; none where the grammar is not plain.

    `people` are names that are known to be of persons: the small model takes Imogen for a place.
    Deterministic. Raises: IngestionError `parser_missing` when the English model is not installed.
    """
    blocks = [(i, block) for i, text in enumerate(texts) for block in _plain_blocks(text)]
    asked: list[dict[str, AskedSentence]] = [{} for _ in texts]
    for (i, _), parsed in zip(blocks, open_english().pipe((block for _, block in blocks), batch_size=64), strict=True):
        for item in _asked(parsed, frozenset(people)):
            asked[i].setdefault(item.question, item)
    return [list(items.values()) for items in asked]


def _plain_blocks(text: str) -> list[str]:
    """Paragraphs and list items without their marks; headings are no sentences and go."""
    blocks = _BLOCK_END.split(_HEADING_LINE.sub("\n", text))
    return [plain for block in blocks if (plain := " ".join(_BLOCK_MARK.sub("", block).split()))]


def _asked(parsed: Any, people: frozenset[str]) -> Iterator[AskedSentence]:
    for sentence in parsed.sents:
        statement = sentence.text.strip()
        if (
            not statement.endswith((".", "!"))
            or any(mark in statement for mark in '?“”"')
            or len(sentence) > MAX_SENTENCE_TOKENS
        ):
            continue
        for question in _questions(sentence, people):
            if MIN_WORDS <= len(question.split()) <= MAX_WORDS and not _STRAY.search(question):
                yield AskedSentence(question, statement)


def _questions(sentence: Any, people: frozenset[str]) -> Iterator[str]:
    root = sentence.root
    subject = next((child for child in root.children if child.dep_ in ("nsubj", "nsubjpass")), None)
    if subject is None or root.pos_ not in ("VERB", "AUX") or any(child.dep_ == "mark" for child in root.children):
        return
    if _is_any(subject) and root.lemma_ in ("be", "have"):
        return  # "What does a tumble dryer have?" asks after no dryer in particular
    clause = _clause(root)
    if any(token.lower_ in _UNCLEAR for token in clause):
        return  # nobody knows who "she" is in a question without its story
    subject_words = [token for token in subject.subtree if token in clause]
    if subject.pos_ in ("PROPN", "NOUN") and not any(child.dep_ == "conj" for child in subject.children):
        rest = [token for token in clause if token not in subject_words]
        verb = next((token for token in rest if token.head == root or token == root), root)
        if rest and verb.i > subject.i and verb.tag_ in ("VBD", "VBZ", "MD") and not _only_names(root, subject):
            before, after = _split_at(subject, [(token, token.text) for token in rest])
            if _says_something(rest, root):
                yield _polish([_asker_of(subject, subject_words, people), *_spoken(after), *_spoken(before)])
    front, rest = _inverted(root, subject, clause, subject_words)
    if not front:
        return
    for target, asker, gone in _targets(root, subject, people):
        kept = [(token, word) for token, word in rest if token not in gone and token not in _tail(root, target)]
        if target.dep_ == "attr":
            if not any(token.pos_ in ("NOUN", "PROPN") for token in subject_words) or target.lower_ in _EMPTY:
                continue
            kept = [(token, word) for token, word in kept if token == root or token.dep_ == "neg"]
        if asker in ("When", "Since when", "Until when"):  # else it would ask when something was on a day
            kept = [(token, word) for token, word in kept if token not in _times(root)]
        if _says_something([*subject_words, *(token for token, _ in kept)], root):
            before, after = _split_at(subject, kept)
            yield _polish([asker, front, *_spoken([(t, t.text) for t in subject_words]), *_spoken(after), *_spoken(before)])


def _asker_of(subject: Any, subject_words: Sequence[Any], people: frozenset[str]) -> str:
    """ "Who" for persons, by name or by what they are."""
    said = " ".join(token.text for token in subject_words)
    if said in people or subject.text in people or subject.lemma_.lower() in _HUMAN:
        return "Who"
    is_person = subject.pos_ == "PROPN" and subject.ent_type_ in ("PERSON", "")
    return "Who" if is_person and subject_words[0].lower_ not in ("a", "an", "the") else "What"


def _only_names(root: Any, subject: Any) -> bool:
    """ "A noise is a fault report": asked for its subject, it would ask what a fault report is."""
    attributes = [child for child in root.children if child.dep_ == "attr"]
    definite = ("the", "my", "our")
    return root.lemma_ == "be" and (
        _is_any(subject)
        or any(not any(c.lower_ in definite or c.dep_ == "poss" for c in child.children) for child in attributes)
        or not any(child.dep_ in ("attr", "acomp", "agent", "prep") for child in root.children)
    )


def _is_any(subject: Any) -> bool:
    """Any one of a kind, and not one that can be asked after."""
    return any(child.lower_ in ("a", "an", "no", "every", "each", "any", "some") for child in subject.children)


def _split_at(subject: Any, words: list[tuple[Any, str]]) -> tuple[list[tuple[Any, str]], list[tuple[Any, str]]]:
    """What stood before the subject ("in spring") and what stood after it."""
    before = [(token, word) for token, word in words if token.i < subject.i]
    return before, [(token, word) for token, word in words if token.i > subject.i]


def _says_something(tokens: Sequence[Any], root: Any) -> bool:
    """Whether a question with these words can be told from others: it names a thing, and more of it than that it is."""
    things = [token for token in tokens if token.pos_ in ("NOUN", "PROPN", "NUM") and token != root]
    acts = [token for token in (*tokens, root) if token.pos_ == "VERB" and token.lemma_ not in ("be", "have", "do")]
    more = [token for token in tokens if token.pos_ in ("ADJ", "ADV") or token.dep_ == "poss"]
    return bool(things) and len({*things, *acts, *more}) >= 2


def _targets(root: Any, subject: Any, people: frozenset[str]) -> Iterator[tuple[Any, str, set[Any]]]:
    """(the word asked for, its question word, the words that leave the sentence with it)."""
    is_passive = any(child.dep_ == "auxpass" for child in root.children)
    objects = [child for child in root.children if child.dep_ in ("dobj", "attr", "oprd") and not is_passive]
    for child in root.children:
        branch = set(child.subtree)
        types = {token.ent_type_ for token in branch}
        if child in objects and child.dep_ != "dobj" and child.ent_type_ == "MONEY":
            yield child, "How much", branch
        elif child in objects and child.pos_ in ("NOUN", "PROPN") and len(objects) == 1:
            is_object = child.dep_ == "dobj"
            number = next((token for token in child.children if token.ent_type_ == "CARDINAL" or token.pos_ == "NUM"), None)
            is_list = any(token.dep_ == "conj" for token in child.children) or len(child.text) < len("kilo")
            if "MONEY" in types and is_object:
                yield child, "How much", branch
            elif child.pos_ == "PROPN" and (child.ent_type_ == "PERSON" or child.text in people):
                if is_object or subject.lemma_.lower() in _HUMAN or subject.pos_ == "PROPN":
                    yield child, "Who", branch
            elif number is not None and is_object and not is_list:
                if not _LENGTH.search(child.text):
                    yield child, f"How many {child.text}", branch
            elif not ({child.ent_type_} & _MOMENTS and is_object) and "°" not in " ".join(token.text for token in branch):
                yield child, "What", branch
        elif child.dep_ in ("prep", "npadvmod", "advmod") and not any(item.dep_ == "attr" for item in objects):
            if types & _MOMENTS and not types & _PLACES:
                if asker := _asker_of_time(child, " ".join(token.text for token in child.subtree)):
                    yield child, asker, branch
            elif types & _PLACES and child.lower_ in ("in", "at", "to", "on", "near", "above", "behind"):
                yield child, "Where", branch


def _asker_of_time(child: Any, said: str) -> str | None:
    """ "How long" of a length, "When" of a moment, none of an age or of how soon."""
    if child.lower_ in ("since", "until"):
        return f"{child.text.capitalize()} when"
    is_length = bool(_LENGTH.search(said)) and not re.search(r"\b(?:last|this|next|every|each|ago|first)\b", said.lower())
    if child.lower_ == "for":
        return "How long" if is_length else None
    if child.dep_ == "prep" and is_length:
        return None
    return None if child.lower_ == "at" and not _CLOCK.search(said) else "When"


def _times(root: Any) -> set[Any]:
    """The words of the clause that say when."""
    branches = [set(child.subtree) for child in root.children if child.dep_ in ("prep", "npadvmod", "advmod")]
    moments = [branch for branch in branches if {token.ent_type_ for token in branch} & _MOMENTS]
    return {token for branch in moments if not any(token.ent_type_ in _PLACES for token in branch) for token in branch}


def _clause(root: Any) -> list[Any]:
    """The words of the main clause in order, without what is joined to it by "and", a comma splice or a subordinate clause."""
    left_out: set[Any] = set()
    for child in root.children:
        if child.dep_ in ("conj", "cc", "punct", "advcl", "parataxis", "dep", "intj") or (
            child.dep_ == "ccomp" and child.i < root.i
        ):
            left_out.update(child.subtree)
    return [
        token for token in root.subtree if token not in left_out and token.text.strip() and token.lower_ not in _OF_THE_STORY
    ]


def _tail(root: Any, target: Any) -> set[Any]:
    """Side clauses behind the word that is asked for: they would hang in the air without it."""
    return {t for child in root.children if child.dep_ in ("relcl", "advcl") and child.i > target.i for t in child.subtree}


def _inverted(root: Any, subject: Any, clause: list[Any], subject_words: list[Any]) -> tuple[str, list[tuple[Any, str]]]:
    """The word that moves before the subject, and the rest of the clause as it then reads."""
    rest = [token for token in clause if token not in subject_words]
    helpers = [token for token in rest if token.head == root and token.dep_ in ("aux", "auxpass") and token.i < root.i]
    if helpers or root.lemma_ == "be":
        mover = helpers[0] if helpers else root
        front: str = mover.lower_
        if subject.lower_ in ("i", "we"):
            front = {"am": "are", "was": "were", "'m": "are", "’m": "are"}.get(front, front)
        if not front.isalpha():
            return "", []
        front = {"wo": "will", "ca": "can", "sha": "shall"}.get(front, front)  # what is left of "won't"
        return front, [(token, "not" if token.lower_ in ("n't", "n’t") else token.text) for token in rest if token != mover]
    front = {"VBD": "did", "VBZ": "does", "VBP": "do"}.get(root.tag_, "")
    return front, [(token, root.lemma_ if token == root else token.text) for token in rest]


def _spoken(words: list[tuple[Any, str]]) -> list[str]:
    """The words as said to the writer: first person becomes second, a capital that only began the sentence goes."""
    spoken: list[str] = []
    for token, word in words:
        if token.is_sent_start and (token.pos_ in _LOWERED or token.like_num) and not _is_a_name(token):
            word = word.lower()
        spoken.append(_TO_SECOND_PERSON.get(word.lower(), word))
    return spoken


def _is_a_name(token: Any) -> bool:
    """ "Rook 11" and what the capital is kept for elsewhere in the text."""
    follower = token.nbor() if token.i + 1 < len(token.doc) else None
    return token.pos_ == "NOUN" and follower is not None and (follower.like_num or follower.text in ("'s", "’s"))


def _polish(words: list[str]) -> str:
    text = " ".join(words)
    text = re.sub(r"\s+([,.;:!?%)’'])", r"\1", text)
    text = re.sub(r"([£$€(])\s+", r"\1", text)
    text = re.sub(r"(\w) - (\w)", r"\1-\2", text).replace("° C", "°C")
    text = re.sub(r"\s+(n't|'s|’s)", r"\1", text).strip(" ,;:-—")
    return f"{text}?"
