"""How a twin stands, as likelihoods of three fixed words after lines that are quoted: nobody is asked for free text.

Belongs here: the port, what limits how far others' words move a twin, and which choice an opinion is.
Does not belong here: the model and its prompt (`llm_weigher.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lpm_kernel.dao.ballot_draft import CHOICES, Choice
from lpm_kernel.dao.planner.records import Opinion

LEAST = 1e-6
"""Under which no likelihood goes, so that its logarithm is a number."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What the twins are asked about."""

    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One twin's: its own lines, the foremost first, and those of others that are put to it; as they are quoted. `before`: how
    it stands by its own lines alone, where others' are put to it."""

    own: tuple[str, ...]
    heard: tuple[str, ...] = ()
    before: Opinion | None = None


@dataclass(frozen=True, slots=True)
class Weighed:
    """`tokens`: that the model had to read for it."""

    opinion: Opinion
    tokens: int


class Weigher(Protocol):
    def weigh(self, subject: Subject, cases: Sequence[Case]) -> list[Weighed]:
        """Of each case, in order; equal cases are asked about once. Raises: LlmError."""
        ...


def opinion_of(for_: float, against: float, abstain: float) -> Opinion:
    """Of three likelihoods of whatever sum."""
    values = [max(LEAST, value) for value in (for_, against, abstain)]
    total = sum(values)
    return Opinion(*(value / total for value in values))


def choice_of(opinion: Opinion | None, min_confidence: float) -> Choice | None:
    """None without an opinion; one that is not sure enough abstains."""
    if opinion is None:
        return None
    best = max(CHOICES, key=opinion.of)
    return best if opinion.of(best) >= min_confidence else "abstain"


def shifted(opinion: Opinion, nats: float) -> Opinion:
    """With other odds of for to against, and the same likelihood of abstaining."""
    side = max(-30.0, min(30.0, math.log(opinion.for_ / opinion.against) + nats))
    rest = 1 - opinion.abstain
    return Opinion(rest / (1 + math.exp(-side)), rest / (1 + math.exp(side)), opinion.abstain)


def swayed(own: Opinion, after: Opinion, most: float) -> Opinion:
    """The opinion after others were heard, no further from the twin's own than `most`.

    Units: nats, of the odds of for to against, and of the odds of abstaining to either. Whatever others' words do to a model,
    an order to it or the best argument, they do no more than this.
    """
    side = _near(math.log(own.for_ / own.against), math.log(after.for_ / after.against), most)
    apart = _near(math.log(own.abstain / (1 - own.abstain)), math.log(after.abstain / (1 - after.abstain)), most)
    rest = 1 / (1 + math.exp(apart))
    return Opinion(rest / (1 + math.exp(-side)), rest / (1 + math.exp(side)), 1 / (1 + math.exp(-apart)))


def _near(own: float, after: float, most: float) -> float:
    return min(max(after, own - most), own + most)
