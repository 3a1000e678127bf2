"""From a line of somebody's notes to how likely it says that they are for a proposal, against it, neither, or nothing of it.

Belongs here: what is measured of a line, the one linear rule over it, and how lines add up. Pure: opens nothing, asks no model.
Does not belong here: finding lines (`evidence.py`), likelihoods (`stance.py`) and what is done with a stance (`twin_ballots.py`).

The weights are fitted by `python -m bench fit_stance` on invented people and their proposals (`data/stance/people.yaml`), never
on those whom the stance is tested with, and copied here by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.stance_cues import Question, read_cues
from lpm_kernel.stores.stems import stems_of

Verdict = Literal["for", "against", "abstain", "none"]
MOST_NATS = 4.0
"""Of a line's likelihoods no more than this counts: a single odd line decides nothing."""


@dataclass(frozen=True, slots=True)
class Read:
    """One sentence of a line, as it was measured. Cosines are to the proposal; `lean` is how much likelier the model finds "for"
    than "against" after the line than after none, in nats, of the thing that is proposed or that is to be ended."""

    sentence: str
    line: str
    sentence_cosine: float
    line_cosine: float
    lean: float


@dataclass(frozen=True, slots=True)
class Signs:
    """The first are for (over 0) or against (under 0) what is proposed; the others tell whether a sentence speaks of it at all."""

    cue: float
    cue_near: float
    once: float
    lean: float
    lean_near: float
    any_cue: float
    any_cue_near: float
    abstains: float
    abstains_near: float
    near: float
    line_near: float
    words: float
    line_words: float
    mine: float
    asks: float
    was: float


ODD = ("cue", "cue_near", "once", "lean", "lean_near")
"""Of the signs, those whose sides change when for and against do."""


def read_signs(question: Question, read: Read) -> Signs:
    cues = read_cues(read.sentence)
    side = float(cues.for_) - float(cues.against)
    side *= question.sign * (-1 if cues.of_a_ban and question.sign < 0 else 1)
    lean = question.sign * max(-MOST_NATS, min(MOST_NATS, read.lean)) / MOST_NATS
    words, line_words = _share(question, read.sentence), _share(question, read.line)
    near = max(0.0, (read.sentence_cosine + read.line_cosine) / 2) + (words + line_words) / 2
    now = 0.0 if cues.once else 1.0
    return Signs(
        cue=side * now,
        cue_near=side * near * now,
        once=side * (1 - now),
        lean=lean,
        lean_near=lean * near,
        any_cue=abs(side) * now,
        any_cue_near=abs(side) * near * now,
        abstains=float(cues.abstain) * now,
        abstains_near=float(cues.abstain) * near * now,
        near=read.sentence_cosine,
        line_near=read.line_cosine,
        words=words,
        line_words=line_words,
        mine=float(cues.mine),
        asks=float(cues.asks),
        was=float(cues.once),
    )


def mirrored(signs: Signs) -> Signs:
    """The same sentence, had its writer been of the other opinion."""
    values = {each.name: getattr(signs, each.name) for each in fields(Signs)}
    return Signs(**{name: -value if name in ODD else value for name, value in values.items()})


def _share(question: Question, text: str) -> float:
    """Of the words of the title, how many the text has."""
    held = question.title_stems & set(stems_of(text))
    return len(held) / max(1, len(question.title_stems))


WEIGHTS: Mapping[str, Mapping[str, float]] = {"for": {}, "against": {}, "abstain": {}, "none": {}}
BIAS: Mapping[str, float] = {"for": 0.0, "against": 0.0, "abstain": 0.0, "none": 0.0}
TEMPERATURE = 1.0
"""Of the stance: by how much its shares are drawn apart or together, so that they are right as often as they say."""
DOUBT = 0.1
"""Of evidence for each choice that is always there: a single weak line is no certainty."""
SHARPNESS = 2.0
"""A sentence that says it is worth more than several that may."""


def verdict_of(
    signs: Signs, weights: Mapping[str, Mapping[str, float]] = WEIGHTS, bias: Mapping[str, float] = BIAS
) -> dict[Verdict, float]:
    """Units: 0 to 1, together 1."""
    totals = {
        name: bias[name] + sum(weight * getattr(signs, sign) for sign, weight in weights[name].items())
        for name in ("for", "against", "abstain", "none")
    }
    highest = max(totals.values())
    shares = {name: math.exp(total - highest) for name, total in totals.items()}
    whole = sum(shares.values())
    return {"for": shares["for"] / whole, "against": shares["against"] / whole, "abstain": shares["abstain"] / whole,
            "none": shares["none"] / whole}  # fmt: skip


def strength_of(verdict: Mapping[Verdict, float]) -> float:
    """How likely a sentence says anything of its writer's will in this."""
    return 1 - verdict["none"]


def add_up(verdicts: Sequence[Mapping[Verdict, float]], temperature: float = TEMPERATURE) -> dict[Choice, float]:
    """Of all sentences together. Order does not matter, and more lines never make a choice unlikelier that they speak for."""
    mass: dict[Choice, float] = {
        choice: DOUBT + sum(verdict[choice] ** SHARPNESS for verdict in verdicts) for choice in ("for", "against", "abstain")
    }
    drawn: dict[Choice, float] = {choice: value ** (1 / temperature) for choice, value in mass.items()}
    whole = sum(drawn.values())
    return {choice: value / whole for choice, value in drawn.items()}
