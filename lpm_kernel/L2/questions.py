"""Sentences to questions, by grammar alone: what a friend might ask that this sentence answers.

Belongs here: turning one parsed sentence around (who, what, when, where, how much), spoken to its writer.
Does not belong here: choosing sentences and making rows (`synthesize.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lpm_kernel.english import open_english

MIN_WORDS, MAX_WORDS = 4, 16
MAX_SENTENCE_TOKENS = 36

_TO_SECOND_PERSON = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself",
    "we": "you", "us": "you", "our": "your", "ours": "yours", "ourselves": "yourselves",
}  # fmt: skip
_UNCLEAR = {"he", "she", "it", "they", "him", "her", "them", "his", "hers", "its", "their", "this", "that", "these", "those"}
_LOWERED = {"DET", "PRON", "ADP", "ADV", "SCONJ", "CCONJ", "ADJ", "NUM", "NOUN"}
_STRAY = re.compile(r"(?<!^)\b(?:what|who|whom|which|how)\b|^How many \S?\b\s", re.IGNORECASE)
_BLOCK_END = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:[-*+•>]|\d+[.)])[ \t])")
_HEADING_LINE = re.compile(r"^\s*#{1,6} .*$", re.MULTILINE)
_BLOCK_MARK = re.compile(r"^\s*(?:[-*+•>]|\d+[.)])\s+")
_PLACES = {"GPE", "LOC", "FAC"}
_MOMENTS = {"DATE", "TIME"}


@dataclass(frozen=True, slots=True)
class AskedSentence:
    """A question and the sentence of the notes that answers it."""

    question: str
    sentence: str


def ask_about(texts: Sequence[str]) -> list[list[AskedSentence]]:
    """For each text the questions its sentences give, in their order; none where the grammar is not plain.

    Deterministic. Raises: IngestionError `parser_missing` when the English model is not installed.
    """
    blocks = [(i, block) for i, text in enumerate(texts) for block in _plain_blocks(text)]
    asked: list[dict[str, AskedSentence]] = [{} for _ in texts]
    for (i, _), parsed in zip(blocks, open_english().pipe((block for _, block in blocks), batch_size=64), strict=True):
        for item in _asked(parsed):
            asked[i].setdefault(item.question, item)
    return [list(items.values()) for items in asked]


def _plain_blocks(text: str) -> list[str]:
    """Paragraphs and list items without their marks; headings are no sentences and go."""
    blocks = _BLOCK_END.split(_HEADING_LINE.sub("\n", text))
    return [plain for block in blocks if (plain := " ".join(_BLOCK_MARK.sub("", block).split()))]


def _asked(parsed: Any) -> Iterator[AskedSentence]:
    for sentence in parsed.sents:
        statement = sentence.text.strip()
        if (
            not statement.endswith((".", "!"))
            or any(mark in statement for mark in '?“”"')
            or len(sentence) > MAX_SENTENCE_TOKENS
        ):
            continue
        for question in _questions(sentence):
            if MIN_WORDS <= len(question.split()) <= MAX_WORDS and not _STRAY.search(question):
                yield AskedSentence(question, statement)


def _questions(sentence: Any) -> Iterator[str]:
    root = sentence.root
    subject = next((child for child in root.children if child.dep_ in ("nsubj", "nsubjpass")), None)
    if subject is None or root.pos_ not in ("VERB", "AUX") or any(child.dep_ == "mark" for child in root.children):
        return
    clause = _clause(root)
    if any(token.lower_ in _UNCLEAR for token in clause):
        return  # nobody knows who "she" is in a question without its story
    subject_words = [token for token in subject.subtree if token in clause]
    if subject.pos_ in ("PROPN", "NOUN") and not any(child.dep_ == "conj" for child in subject.children):
        rest = [token for token in clause if token not in subject_words]
        verb = next((token for token in rest if token.head == root or token == root), root)
        if rest and verb.i > subject.i and verb.tag_ in ("VBD", "VBZ", "MD"):
            asker = "Who" if subject.pos_ == "PROPN" and subject.ent_type_ in ("PERSON", "") else "What"
            before, after = _split_at(subject, [(token, token.text) for token in rest])
            if _says_something(rest, root):
                yield _polish([asker, *_spoken(after), *_spoken(before)])
    front, rest = _inverted(root, subject, clause, subject_words)
    if not front:
        return
    for target, asker, gone in _targets(root, subject):
        kept = [(token, word) for token, word in rest if token not in gone and token not in _tail(root, target)]
        if _says_something([*subject_words, *(token for token, _ in kept)], root):
            before, after = _split_at(subject, kept)
            yield _polish([asker, front, *_spoken([(t, t.text) for t in subject_words]), *_spoken(after), *_spoken(before)])


def _split_at(subject: Any, words: list[tuple[Any, str]]) -> tuple[list[tuple[Any, str]], list[tuple[Any, str]]]:
    """What stood before the subject ("in spring") and what stood after it."""
    before = [(token, word) for token, word in words if token.i < subject.i]
    return before, [(token, word) for token, word in words if token.i > subject.i]


def _says_something(tokens: Sequence[Any], root: Any) -> bool:
    """Whether a question with these words can be told from others: it names a thing beyond its verb."""
    return any(token.pos_ in ("NOUN", "PROPN", "NUM") and token != root for token in tokens)


def _targets(root: Any, subject: Any) -> Iterator[tuple[Any, str, set[Any]]]:
    """(the word asked for, its question word, the words that leave the sentence with it)."""
    for child in root.children:
        branch = set(child.subtree)
        types = {token.ent_type_ for token in branch}
        if child.dep_ in ("dobj", "attr", "oprd") and child.pos_ in ("NOUN", "PROPN"):
            if "MONEY" in types and child.dep_ == "dobj":
                yield child, "How much", branch
            elif child.pos_ == "PROPN" and child.ent_type_ == "PERSON":
                yield child, "Who", branch
            else:
                number = next((token for token in child.children if token.ent_type_ == "CARDINAL"), None)
                if number is not None:
                    yield child, f"How many {child.text}", branch
                yield child, "What", branch
        elif child.dep_ in ("prep", "npadvmod", "advmod"):
            if types & _MOMENTS and not types & _PLACES:
                yield child, "When", branch
            elif types & _PLACES and child.lower_ in ("in", "at", "to", "on", "near", "above", "behind"):
                yield child, "Where", branch


def _clause(root: Any) -> list[Any]:
    """The words of the main clause in order, without what is joined to it by "and", a comma splice or a subordinate clause."""
    left_out: set[Any] = set()
    for child in root.children:
        if child.dep_ in ("conj", "cc", "punct", "advcl", "parataxis", "dep", "intj") or (
            child.dep_ == "ccomp" and child.i < root.i
        ):
            left_out.update(child.subtree)
    return [token for token in root.subtree if token not in left_out and token.text.strip()]


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
        if token.is_sent_start and token.pos_ in _LOWERED:
            word = word.lower()
        spoken.append(_TO_SECOND_PERSON.get(word.lower(), word))
    return spoken


def _polish(words: list[str]) -> str:
    text = " ".join(words)
    text = re.sub(r"\s+([,.;:!?%)’'])", r"\1", text)
    text = re.sub(r"([£$€(])\s+", r"\1", text)
    text = re.sub(r"(\w) - (\w)", r"\1-\2", text)
    text = re.sub(r"\s+(n't|'s|’s)", r"\1", text).strip(" ,;:-—")
    return f"{text}?"
