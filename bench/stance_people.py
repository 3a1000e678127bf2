"""The invented people that the weights of a stance are fitted on, and the proposals that it is tested with.

Belongs here: reading both files. Does not belong here: fitting (`fit_stance.py`) and testing (`stance.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from bench.people import DATA
from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.stance_model import Verdict

SWAPPED: dict[Verdict, Verdict] = {"for": "against", "against": "for", "abstain": "abstain", "none": "none"}


@dataclass(frozen=True)
class Put:
    """A proposal. `stance`: what its voter is known to want; None where nothing is."""

    title: str
    text: str
    stance: Choice | None = None
    name: str = ""


@dataclass(frozen=True)
class Case:
    """A proposal, and every line of one person with what it says of that proposal."""

    person: str
    put: Put
    lines: tuple[tuple[str, Verdict], ...]


def fitted_on() -> list[Case]:
    """Each proposal as it stands and as its opposite."""
    cases: list[Case] = []
    for about in yaml.safe_load((DATA / "stance" / "people.yaml").read_bytes()):
        proposals: list[dict[str, Any]] = about["proposals"]
        others: list[str] = about["other"]
        for proposal in proposals:
            lines: list[tuple[str, Verdict]] = []
            for other in proposals:
                for line in other["lines"]:
                    ((verdict, text),) = line.items()
                    said: Verdict = verdict if other is proposal else "none"
                    lines.append((text, said))
            lines.extend((text, "none") for text in others)
            stance = None if proposal["stance"] == "unknown" else proposal["stance"]
            cases.append(Case(about["person"], Put(proposal["title"], proposal["text"], stance), tuple(lines)))
            opposite = proposal["negated"]
            swapped: tuple[tuple[str, Verdict], ...] = tuple((text, SWAPPED[verdict]) for text, verdict in lines)
            put = Put(opposite["title"], opposite["text"], None if stance is None else _swapped(stance))
            cases.append(Case(about["person"], put, swapped))
    return cases


def _swapped(choice: Choice) -> Choice:
    return "against" if choice == "for" else "for" if choice == "against" else choice


def tested_with(stances: dict[str, Choice]) -> Iterator[tuple[str, Put]]:
    """Sets by name. `stances`: of one person, by proposal."""
    known = yaml.safe_load((DATA / "golden" / "proposals.yaml").read_bytes())
    for item in known["put"]:
        name, stance = item["proposal"], stances[item["proposal"]]
        forms = {"as put": item, "reworded": item["reworded"], "negated": item["negated"]}
        for form, words in forms.items():
            wanted = _swapped(stance) if form == "negated" else stance
            yield form, Put(words["title"], words["text"], wanted, name)
            yield f"{form}, title only", Put(words["title"], "", wanted, name)
    for kind in ("unknown", "near"):
        for item in known[kind]:
            yield kind, Put(item["title"], item["text"])
