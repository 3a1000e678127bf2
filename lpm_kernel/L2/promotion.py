"""Promotion: whether a new twin may take the place of the one that serves.

Belongs here: judging an evaluation gate by gate. Pure: opens nothing.
Does not belong here: measuring (`evaluate.py`) and the rows of releases (`stores/releases.py`).

A gate compares the adapter with retrieval to the base with the same retrieval, on the same questions. The adapter has the
burden of proof: a measured loss is accepted only when its interval rules out one of more than `worse_by`. With fewer than
`min_questions` an interval that holds both gain and loss says nothing, and the gate stays undecided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lpm_kernel.L2.records import Arm, Comparison, Evaluation, Measure
from lpm_kernel.settings import ReleaseSettings

ARM: Arm = "adapter+retrieval"
AGAINST: Arm = "base+retrieval"
Z95 = 1.96

Finding = Literal["better", "not_worse", "worse", "undecided", "not_measured"]


@dataclass(frozen=True, slots=True)
class Gate:
    """One measure, the difference of shares with its interval of 95 %, and what follows from it."""

    measure: Measure
    asked: int
    difference: float
    low: float
    high: float
    finding: Finding


@dataclass(frozen=True, slots=True)
class Verdict:
    """`passed`: it may take another one's place. `proven`: some gate shows that it is better. `reasons`: why not, or in spite
    of what."""

    passed: bool
    proven: bool
    gates: tuple[Gate, ...]
    reasons: tuple[str, ...]

    def as_figures(self) -> list[dict[str, Any]]:
        return [asdict(gate) for gate in self.gates]


def judge_release(evaluation: Evaluation, release: ReleaseSettings) -> Verdict:
    """Not worse on every gate and better on at least one; `release.promote_without_proof` decides where chance would."""
    compared = compare_arms(evaluation)
    gates = tuple(_judge(measure, compared.get(measure), release) for measure in release.gates)
    proven = any(gate.finding == "better" for gate in gates)
    few = all(gate.asked < release.min_questions for gate in gates)
    reasons = [_words(gate) for gate in gates if gate.finding == "worse"]
    passed = not reasons
    unproven: list[str] = []
    if not proven:
        unproven.append(
            f"no gate has {release.min_questions} questions, so chance would decide"
            if few
            else "it is shown to be better on no gate"
        )
    open_gates = [gate for gate in gates if gate.finding in ("undecided", "not_measured")]
    unproven += [_words(gate) for gate in open_gates]
    if not proven:
        passed = passed and few and release.promote_without_proof
    elif open_gates:
        passed = passed and release.promote_without_proof
    return Verdict(passed, proven, gates, tuple(reasons + unproven))


def compare_arms(evaluation: Evaluation) -> dict[Measure, Comparison]:
    """Of each measure, the two arms on the same questions: as the evaluation says, else from what it counted."""
    if evaluation.comparisons:
        return {item.measure: item for item in evaluation.comparisons if item.arm == ARM and item.against == AGAINST}
    found: dict[Measure, Comparison] = {}
    base = {score.measure: score for score in evaluation.scores if score.arm == AGAINST}
    for score in evaluation.scores:
        if score.arm == ARM and score.measure in base:
            found[score.measure] = from_counts(score.measure, score.right, base[score.measure].right, score.asked)
    if evaluation.scores:
        return found
    if evaluation.questions:
        found["memory_self"] = _paired(evaluation)
    if evaluation.unanswerable:
        declined = evaluation.declined
        found["refusal"] = from_counts("refusal", declined[ARM], declined[AGAINST], evaluation.unanswerable)
    return found


def from_counts(measure: Measure, right: int, base_right: int, asked: int) -> Comparison:
    """As wide as counts alone allow: the two arms are taken to have been right about different questions."""
    both = max(0, right + base_right - asked)
    return _interval(measure, asked, right - both, base_right - both)


def _paired(evaluation: Evaluation) -> Comparison:
    right = {(answer.question_id, answer.arm): answer.correct for answer in evaluation.answers}
    ids = {question_id for question_id, _ in right}
    pairs = [(right[i, ARM], right[i, AGAINST]) for i in ids if (i, ARM) in right and (i, AGAINST) in right]
    if len(pairs) != evaluation.questions:
        correct = evaluation.correct
        return from_counts("memory_self", correct[ARM], correct[AGAINST], evaluation.questions)
    won, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return _interval("memory_self", len(pairs), won, lost)


def _interval(measure: Measure, asked: int, won: int, lost: int) -> Comparison:
    """Source: the paired difference of shares after Agresti and Min: half a pair added to each of the four cells."""
    if not asked:
        return Comparison(measure, ARM, AGAINST, 0, 0.0, -1.0, 1.0)
    difference = (won - lost) / asked
    n, gain, loss = asked + 2, won + 0.5, lost + 0.5
    centre, spread = (gain - loss) / n, math.sqrt(gain + loss - (gain - loss) ** 2 / n) / n
    return Comparison(
        measure, ARM, AGAINST, asked, difference, max(-1.0, centre - Z95 * spread), min(1.0, centre + Z95 * spread)
    )


def _judge(measure: Measure, found: Comparison | None, release: ReleaseSettings) -> Gate:
    if found is None or not found.asked:
        return Gate(measure, 0, 0.0, -1.0, 1.0, "not_measured")
    finding: Finding
    if found.low > 0:
        finding = "better"
    elif found.difference >= 0 or found.low >= -release.worse_by:
        finding = "not_worse"
    elif found.asked < release.min_questions and found.high >= 0:
        finding = "undecided"
    else:
        finding = "worse"
    return Gate(measure, found.asked, found.difference, found.low, found.high, finding)


def _words(gate: Gate) -> str:
    if gate.finding == "not_measured":
        return f"{gate.measure}: not measured"
    what = "worse than base+retrieval" if gate.finding == "worse" else "worse, perhaps by chance"
    interval = f"95 % from {gate.low:+.2f} to {gate.high:+.2f}"
    return f"{gate.measure}: {what} by {-gate.difference:.2f} of {gate.asked} questions ({interval})"


def describe_gates(gates: Sequence[Gate]) -> str:
    """A table for people, in Markdown."""
    rows = [f"| {g.measure} | {g.asked} | {g.difference:+.2f} | {g.low:+.2f} to {g.high:+.2f} | {g.finding} |" for g in gates]
    return "\n".join(["| gate | questions | difference | 95 % | finding |", "|---|---|---|---|---|", *rows])
