"""Promotion: whether a new twin may take the place of the one that serves.

Belongs here: judging an evaluation gate by gate. Pure: opens nothing.
Does not belong here: measuring (`evaluate.py`) and the rows of releases (`stores/releases.py`).

A gate compares the adapter with retrieval to the base with the same retrieval, on the same questions. The adapter has the
burden of proof: a measured loss is accepted only when its interval rules out one of more than `worse_by`. With fewer than
`min_questions` an interval that holds both gain and loss says nothing, and the gate stays undecided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lpm_kernel.L2.records import Arm, Comparison, Evaluation, Measure
from lpm_kernel.settings import ReleaseSettings

ARM: Arm = "adapter+retrieval"
AGAINST: Arm = "base+retrieval"

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
    compared = {item.measure: item for item in evaluation.comparisons if item.arm == ARM and item.against == AGAINST}
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
