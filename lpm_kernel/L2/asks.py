"""What a person may be asked about themselves, and what no note of theirs answers.

Belongs here: self_qa and refusal questions, and the sentences that all kinds choose from.
Does not belong here: preferences (`opinions.py`), other people and things (`about.py`), requests (`requests.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.records import Biography, BiographyLine
from lpm_kernel.L1.sentences import Sentence, read_sentences
from lpm_kernel.L2.persons import first_name
from lpm_kernel.L2.questions import ask_about
from lpm_kernel.L2.sampling import Ask
from lpm_kernel.records import Entity, content_id

MAX_WORDS = 32
"""Of a sentence in an answer; a small model copies a longer one with holes."""

_HANGS = re.compile(
    r"(?:And|But|So|Or|Then|Which|That|This|These|Those|He|She|It|They|His|Her|Its|Their|Both|Afterwards|Also|Yet)\b"
)
_WHO_I_AM = re.compile(
    r"(?:On \w+ |For \w+ \w+ )?I (?:came from|began (?:at|as)|started (?:at|as)|work|live|play|own|keep|trained as|learned my"
    r"|was born|have been|spent (?:\w+-)?\w+ years|moved from|am (?!not|for|against|all|sorry|strongly|in favour|\w+ing))\b"
)
_WHO_ARE_YOU = (
    "Who are you?",
    "Tell me about yourself.",
    "What should people know about you?",
)
_LATELY = ("What have you been doing lately?", "What is new with you?")
_ASIDE = {"“", "”", '"'}

_UNMENTIONED = (
    ("favourite colour", "colour"), ("middle name", "middle"), ("email address", "email"), ("star sign", "zodiac"),
    ("passport number", "passport"), ("eye colour", "colour"), ("favourite singer", "singer"), ("favourite author", "author"),
    ("national insurance number", "national insurance"), ("favourite season", "season"), ("nickname at school", "nickname"),
    ("favourite board game", "board game"), ("house number", "house number"),
)  # fmt: skip
"""What may be asked of anybody, and the word that would stand in a note that answers it."""


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence of the person and the chunk it stands in."""

    sentence: Sentence
    item: ChunkText

    @property
    def text(self) -> str:
        return self.sentence.text

    @property
    def is_quotable(self) -> bool:
        """Whole, short, and clear without the sentences around it."""
        return (
            self.sentence.is_statement
            and not _HANGS.match(self.text)
            and len(self.text.split()) <= MAX_WORDS
            and not _ASIDE & set(self.text)
        )


def read_said(items: Sequence[ChunkText], usable: Collection[str]) -> list[Said]:
    """The person's sentences in usable chunks, in order; one that stands twice counts where it stands first."""
    by_id = {item.chunk.chunk_id: item for item in items if item.chunk.chunk_id in usable}
    told: dict[str, Said] = {}
    for sentence in read_sentences(items):
        if sentence.citation.chunk_id in by_id:
            told.setdefault(sentence.text, Said(sentence, by_id[sentence.citation.chunk_id]))
    return list(told.values())


def names_of_people(entities: Iterable[Entity]) -> set[str]:
    """Names of persons in every spelling, and what they are called for short."""
    names = {name for entity in entities if entity.type == "PERSON" for name in (entity.name, *entity.aliases)}
    return names | {first_name(name) for name in names}


def own_asks(said: Sequence[Said], people: Collection[str]) -> list[Ask]:
    """What the person's own sentences answer by their grammar, each answered by the whole sentence."""
    plain = [line for line in said if not _HANGS.match(line.text) and not _ASIDE & set(line.text)]
    return [
        Ask(pair.question, line.text, line.item, "self_qa", (line.sentence.citation,))
        for line, pairs in zip(plain, ask_about([line.text for line in plain], people), strict=True)
        for pair in pairs
        if line.text == pair.sentence or line.text.startswith(pair.sentence)
    ]


def identity_asks(biography: Biography | None, said: Sequence[Said]) -> list[Ask]:
    """Who the person is, in sentences that say what they are and do, those of the biography first; and what they did last."""
    if biography is None:
        return []
    by_text = {line.text: line for line in said if line.is_quotable and line.sentence.is_of_oneself and line.sentence.is_clear}
    told = _lines(biography.lines, by_text)
    lines = dict.fromkeys([line for line in (*told, *by_text.values()) if _WHO_I_AM.match(line.text)])
    asked = [*zip(_WHO_ARE_YOU, lines, strict=False), *zip(_LATELY, _lines(biography.status, by_text), strict=False)]
    return [
        Ask(question, line.text, line.item, "self_qa", (line.sentence.citation,), comes_first=True) for question, line in asked
    ]


def _lines(lines: Sequence[BiographyLine], by_text: dict[str, Said]) -> list[Said]:
    return [by_text[line.text] for line in lines if line.text in by_text]


def unmentioned_asks(entities: Sequence[Entity], items: Sequence[ChunkText], name: str | None, limit: int) -> list[Ask]:
    """Questions about the person and about people they name that no note answers: no note has the word for it.

    Why these beside questions whose answer is hidden: a live search brings lines about the very person, and none that answers.
    """
    corpus = " ".join(item.text for item in items).casefold()
    silent = [attribute for attribute, word in _UNMENTIONED if word not in corpus]
    by_id = {item.chunk.chunk_id: item for item in items}
    own = set((name or "").split())
    people = [e for e in entities if e.type == "PERSON" and not own & set(e.name.split()) and e.mentions[0].chunk_id in by_id]
    people.sort(key=lambda entity: (-len(entity.mentions), entity.entity_id))
    asks: list[Ask] = []
    for turn, attribute in enumerate(sorted(silent, key=lambda attribute: content_id("silent", name or "", attribute))):
        if turn % 2 and people:
            entity = people[turn // 2 % len(people)]
            asks.append(Ask(f"What is {entity.name}'s {attribute}?", "", by_id[entity.mentions[0].chunk_id], "refusal"))
        elif items:
            asks.append(Ask(f"What is your {attribute}?", "", items[turn % len(items)], "refusal"))
    return asks[:limit]
