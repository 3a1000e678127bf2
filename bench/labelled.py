"""Labelled sentences: where they come from and how they are read.

Belongs here: the sets that extractors of names are measured on.
Does not belong here: extractors and scores (`ner.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.people import DATA

PUBLIC = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "ner"
HELD_OUT = DATA / "golden" / "held_out_entities.txt"
WIKIGOLD = {
    "PERSON": "PER", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC", "ORG": "ORG",
    **dict.fromkeys(("NORP", "EVENT", "WORK_OF_ART", "PRODUCT", "LAW", "LANGUAGE"), "MISC"),
}  # fmt: skip
WNUT = {
    "PERSON": "person", "GPE": "location", "LOC": "location", "FAC": "location", "ORG": "corporation+group",
    "PRODUCT": "product", "WORK_OF_ART": "creative-work",
}  # fmt: skip
WNUT_GROUPS = {"corporation": "corporation+group", "group": "corporation+group"}
Label = tuple[int, int, str]


@dataclass(frozen=True)
class Labelled:
    """One sentence and what is named in it; `person` says whose documents it comes from."""

    text: str
    labels: frozenset[Label]
    person: str = ""


def golden() -> list[Labelled]:
    return [
        Labelled(item["sentence"], frozenset((m["start"], m["end"], m["type"]) for m in item.get("mentions") or ()), person)
        for person in ("1", "2")
        for item in yaml.safe_load((DATA / "golden" / f"{person}.yaml").read_bytes())["entities"]
    ]


def held_out() -> list[Labelled]:
    """One sentence a line, `[characters|TYPE]` is a mention, `## name` begins a person, `#` a remark."""
    sentences: list[Labelled] = []
    person = ""
    for line in HELD_OUT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            person = line[3:]
        elif line and not line.startswith("#"):
            sentences.append(read_marked(line, person))
    return sentences


def read_marked(line: str, person: str = "") -> Labelled:
    text, labels = "", set[Label]()
    for piece in re.split(r"(\[[^|\]]+\|[A-Z_]+\])", line):
        if match := re.fullmatch(r"\[([^|\]]+)\|([A-Z_]+)\]", piece):
            labels.add((len(text), len(text) + len(match[1]), match[2]))
            piece = match[1]
        text += piece
    return Labelled(text, frozenset(labels), person)


def conll(path: Path, groups: Mapping[str, str]) -> list[Labelled]:
    """Sentences of a token-a-line file, the tokens joined by spaces. A label goes on while `I-` of the same type follows."""
    sentences: list[Labelled] = []
    for block in path.read_text(encoding="utf-8").replace("\r", "").split("\n\n"):
        text, labels, before = "", list[Label](), "O"
        for line in block.splitlines():
            token, tag = line.split("\t") if "\t" in line else line.rsplit(" ", 1)
            start = len(text) + bool(text)
            text = f"{text} {token}" if text else token
            kind = groups.get(tag[2:], tag[2:])
            if tag != "O" and tag[0] == "I" and before != "O" and labels[-1][2] == kind:
                labels[-1] = (labels[-1][0], len(text), kind)
            elif tag != "O":
                labels.append((start, len(text), kind))
            before = tag
        if text:
            sentences.append(Labelled(text, frozenset(labels)))
    return sentences
