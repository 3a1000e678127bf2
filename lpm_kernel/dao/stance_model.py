"""From a line of somebody's notes to how likely it says that they are for a proposal, against it, neither, or nothing of it.

Belongs here: what is measured of a line, the one linear rule over it, and how lines add up. Pure: opens nothing, asks no model.
Does not belong here: finding lines (`evidence.py`), likelihoods (`stance.py`) and what is done with a stance
(`twin_ballots.py`).

The weights are fitted by `python -m bench fit_stance` on invented people and their proposals (`data/stance/people.yaml`), never
on those whom the stance is tested with, and copied here by hand.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.reported import is_told
from lpm_kernel.dao.stance_cues import Question, is_of_another, read_cues
from lpm_kernel.stores.stems import stems_of

Verdict = Literal["for", "against", "abstain", "none"]
MOST_NATS = 4.0
"""Of a line's likelihoods no more than this counts: a single odd line decides nothing."""


@dataclass(frozen=True, slots=True)
class Read:
    """One sentence of a line, as measured. Cosines are to the proposal; `lean` is how much likelier the model finds "for"
    than "against" after the line than after none, in nats, of the thing that is proposed or that is to be ended."""

    sentence: str
    line: str
    sentence_cosine: float
    line_cosine: float
    lean: float
    own: str | None = None
    """Of the sentence, what is its writer's own (`reported.py`); None: all of it."""
    heading: str | None = None
    headed_cosine: float | None = None
    """Of the sentence under its heading; None: it has none."""

    @property
    def nearest(self) -> float:
        return self.sentence_cosine if self.headed_cosine is None else max(self.sentence_cosine, self.headed_cosine)

    @property
    def said(self) -> str:
        return self.sentence if self.own is None else self.own


@dataclass(frozen=True, slots=True)
class Signs:
    """Whether a sentence speaks of the proposal at all: `speaks`, each with its weight, apart for sentences that say something
    outright (`cue`) and for those that do not. And for what: `side` and `lean`, over 0 for what is proposed. `abstains`: it
    says so."""

    speaks: Mapping[str, float]
    side: float
    lean: float
    abstains: bool
    elsewhere: bool = False
    """Whether it names another proposal than the one that is asked about, or another time: then it says nothing of this."""


def read_signs(question: Question, read: Read) -> Signs:
    cues, told = read_cues(read.said), is_told(read.sentence, read.said)
    past = told or cues.once  # neither is anybody's will now
    said = (cues.for_ or cues.against or cues.abstain) and not cues.once
    side = float(cues.for_) - float(cues.against)
    side *= question.sign * (-1 if cues.of_a_ban and not question.bans else 1)
    lean = question.sign * max(-MOST_NATS, min(MOST_NATS, read.lean)) / MOST_NATS
    about = {
        "near": read.nearest,
        "line_near": read.line_cosine,
        "words": _share(question.title_stems, read.sentence),
        "line_words": _share(question.title_stems, read.line),
        "all_words": _share(question.stems, read.line),
        "any_words": float(bool(question.title_stems & set(stems_of(read.line)))),
    }
    speaks = {
        "cue": float(said),
        "once": float(cues.once),
        "mine": float(cues.mine),
        "asks": float(cues.asks),
        "told": float(told),
        "lean_size": 0.0 if said or past else abs(lean),
        **about,
        **{f"cue_{name}": said * value for name, value in about.items()},
    }
    elsewhere = is_of_another(question, read.sentence, read.heading, read.line)
    return Signs(speaks, 0.0 if cues.once else side, lean, cues.abstain and not cues.once, elsewhere or cues.once)


def _share(stems: Collection[str], text: str) -> float:
    """Of these words, how many the text has."""
    return len(set(stems) & set(stems_of(text))) / max(1, len(stems))


@dataclass(frozen=True, slots=True)
class Rule:
    """Two logistic rules. `speaks` and `bias`: that a sentence says anything of its writer's will in this. `side` and `lean`:
    that it is for, of those that do; without a bias, so that neither side is preferred."""

    speaks: Mapping[str, float]
    bias: float
    side: float
    lean: float


RULE = Rule(
    speaks={
        "cue": 0.37,
        "once": 0.52,
        "mine": 0.22,
        "asks": -1.69,
        "told": -1.97,
        "lean_size": 0.24,
        "near": 3.61,
        "line_near": 4.41,
        "words": -0.84,
        "line_words": 0.28,
        "all_words": -0.76,
        "any_words": 0.18,
        "cue_near": -1.17,
        "cue_line_near": 2.47,
        "cue_words": 1.69,
        "cue_line_words": 0.94,
        "cue_all_words": 1.31,
        "cue_any_words": 0.78,
    },
    bias=-5.33,
    side=1.37,
    lean=0.54,
)
MOST_SURE = 0.98
"""That a sentence says what it seems to say: no turn of phrase is understood without fail."""
TEMPERATURE = 0.55
"""Of the stance: by how much its shares are drawn apart or together, so that they are right as often as they say."""
DOUBT = 0.1
"""Of evidence for each choice that is always there: a single weak line is no certainty."""
MOST_ODDS = 20.0
"""That a single sentence counts for: one that says it outright is worth more than many that may."""


def verdict_of(signs: Signs, rule: Rule = RULE) -> dict[Verdict, float]:
    """Units: 0 to 1, together 1."""
    if signs.elsewhere:
        return {"for": 0.0, "against": 0.0, "abstain": 0.0, "none": 1.0}
    strength = _logistic(rule.bias + sum(weight * signs.speaks[name] for name, weight in rule.speaks.items()))
    if signs.abstains:
        for_ = against = (1 - MOST_SURE) / 2
    else:
        for_ = min(MOST_SURE, max(1 - MOST_SURE, _logistic(rule.side * signs.side + rule.lean * signs.lean)))
        against = 1 - for_
    abstain = MOST_SURE if signs.abstains else 0.0
    return {"for": strength * for_, "against": strength * against, "abstain": strength * abstain, "none": 1 - strength}


def _logistic(total: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def strength_of(verdict: Mapping[Verdict, float]) -> float:
    """How likely a sentence says anything of its writer's will in this."""
    return 1 - verdict["none"]


@dataclass(frozen=True, slots=True)
class Weighed:
    """`outright`: whether the sentence says it in so many words, in the first person."""

    verdict: Mapping[Verdict, float]
    outright: bool


def weigh_line(question: Question, reads: Sequence[Read], rule: Rule = RULE) -> tuple[Weighed, str]:
    """By that sentence of it which says most; the sentence too."""
    found = [(read_signs(question, read), read.sentence) for read in reads]
    return best_of([(signs, sentence) for signs, sentence in found], rule)


def best_of(sentences: Sequence[tuple[Signs, str]], rule: Rule = RULE) -> tuple[Weighed, str]:
    weighed = [(Weighed(verdict_of(signs, rule), signs.speaks["cue"] > 0), said) for signs, said in sentences]
    return max(weighed, key=lambda pair: strength_of(pair[0].verdict))


def that_decide(lines: Sequence[Weighed], min_evidence: float) -> list[Weighed]:
    """What is said outright, where anything is; else whatever leans to a side. Why: lines that only lean are
    many, and a command in a document is one of them; together they must not overrule the one in which the person speaks."""
    outright = [line for line in lines if line.outright and strength_of(line.verdict) >= min_evidence]
    return outright or list(lines)


def add_up(verdicts: Sequence[Mapping[Verdict, float]], temperature: float = TEMPERATURE) -> dict[Choice, float]:
    """Of all sentences together. Order does not matter, and more lines never make a choice unlikelier that they speak for."""
    mass: dict[Choice, float] = {
        choice: DOUBT + sum(_odds(verdict[choice]) for verdict in verdicts) for choice in ("for", "against", "abstain")
    }
    drawn: dict[Choice, float] = {choice: value ** (1 / temperature) for choice, value in mass.items()}
    whole = sum(drawn.values())
    return {choice: value / whole for choice, value in drawn.items()}


def _odds(share: float) -> float:
    return min(MOST_ODDS, share / max(1e-9, 1 - share))
