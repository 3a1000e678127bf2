"""Whether a new twin may take the place of the one that serves: gate by gate, and where chance would decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lpm_kernel.L2.promotion import describe_gates, judge_release
from lpm_kernel.L2.records import ARMS, Arm, Comparison, Evaluation, Measure, Score
from lpm_kernel.settings import ReleaseSettings, Settings

ADAPTER: Arm = "adapter+retrieval"
BASE: Arm = "base+retrieval"


@pytest.fixture
def rules(settings: Settings) -> ReleaseSettings:
    given = {"gates": ("memory_self", "refusal"), "worse_by": 0.05, "min_questions": 20, "promote_without_proof": True}
    return settings.release.model_copy(update=given)


def compared(measure: Measure, asked: int, difference: float, low: float, high: float) -> Comparison:
    return Comparison(measure, ADAPTER, BASE, asked, difference, low, high)


def measured(*comparisons: Comparison, **others: Any) -> Evaluation:
    nothing = dict.fromkeys(ARMS, 0)
    empty = Evaluation("golden", 0, nothing, 0, 0, nothing, (), "generation", "gguf", "base", 1.0)
    return replace(empty, comparisons=comparisons, **others)


BETTER = compared("memory_self", 50, 0.18, 0.04, 0.32)
LEVEL = compared("refusal", 40, 0.0, -0.1, 0.1)


def findings(evaluation: Evaluation, rules: ReleaseSettings) -> list[str]:
    return [gate.finding for gate in judge_release(evaluation, rules).gates]


def test_better_on_one_gate_and_not_worse_on_the_others_passes_without_a_word(rules: ReleaseSettings) -> None:
    verdict = judge_release(measured(BETTER, LEVEL), rules)
    assert (verdict.passed, verdict.proven, verdict.reasons) == (True, True, ())


def test_worse_on_one_gate_fails_whatever_the_others_show_and_says_by_how_much(rules: ReleaseSettings) -> None:
    verdict = judge_release(measured(BETTER, compared("refusal", 40, -0.2, -0.35, -0.05)), rules)
    assert not verdict.passed
    assert verdict.reasons == ("refusal: worse than base+retrieval by 0.20 of 40 questions (95 % from -0.35 to -0.05)",)


def test_with_questions_enough_it_must_be_better_somewhere(rules: ReleaseSettings) -> None:
    verdict = judge_release(measured(compared("memory_self", 50, 0.02, -0.06, 0.1), LEVEL), rules)
    assert not verdict.passed
    assert verdict.reasons == ("it is shown to be better on no gate",)


@pytest.mark.parametrize(
    ("difference", "low", "high", "asked", "finding"),
    [
        (0.1, 0.01, 0.2, 50, "better"),
        (0.1, 0.0, 0.2, 50, "not_worse"),
        (0.0, -0.4, 0.4, 50, "not_worse"),
        (-0.02, -0.05, 0.01, 50, "not_worse"),
        (-0.02, -0.06, 0.02, 50, "worse"),
        (-0.1, -0.4, 0.2, 19, "undecided"),
        (-0.5, -0.8, -0.2, 19, "worse"),
        (0.0, -1.0, 1.0, 0, "not_measured"),
    ],
)
def test_a_gate_is_judged_by_its_interval(
    rules: ReleaseSettings, difference: float, low: float, high: float, asked: int, finding: str
) -> None:
    assert findings(measured(compared("memory_self", asked, difference, low, high), LEVEL), rules) == [finding, "not_worse"]


@pytest.mark.parametrize("allowed", [True, False])
def test_with_few_questions_the_setting_decides_and_the_verdict_says_so(rules: ReleaseSettings, allowed: bool) -> None:
    few = measured(compared("memory_self", 3, 0.33, -0.4, 0.9), compared("refusal", 2, 0.0, -0.8, 0.8))
    verdict = judge_release(few, rules.model_copy(update={"promote_without_proof": allowed}))
    assert verdict.passed is allowed
    assert not verdict.proven
    assert verdict.reasons == ("no gate has 20 questions, so chance would decide",)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_gate_that_was_not_measured_is_named_and_never_passes_in_silence(rules: ReleaseSettings, allowed: bool) -> None:
    verdict = judge_release(measured(BETTER), rules.model_copy(update={"promote_without_proof": allowed}))
    assert verdict.passed is allowed
    assert verdict.reasons == ("refusal: not measured",)


def test_other_arms_and_other_measures_decide_nothing(rules: ReleaseSettings) -> None:
    others = [
        replace(BETTER, against="base"),
        replace(BETTER, arm="adapter"),
        compared("voice", 50, -0.9, -1.0, -0.8),
    ]
    assert findings(measured(BETTER, LEVEL, *others), rules) == ["better", "not_worse"]
    assert findings(measured(*others), rules) == ["not_measured", "not_measured"]


def test_an_evaluation_that_compared_nothing_proves_nothing(rules: ReleaseSettings) -> None:
    """Counts alone do not say which questions both arms answered, and so not how sure a difference is."""
    scores = [Score("memory_self", arm, right, 50, 0.0, 1.0) for arm, right in ((ADAPTER, 40), (BASE, 10))]
    assert findings(measured(scores=tuple(scores)), rules) == ["not_measured", "not_measured"]


def test_the_table_for_people_has_a_row_a_gate(rules: ReleaseSettings) -> None:
    table = describe_gates(judge_release(measured(BETTER, LEVEL), rules).gates).splitlines()
    assert table[2:] == [
        "| memory_self | 50 | +0.18 | +0.04 to +0.32 | better |",
        "| refusal | 40 | +0.00 | -0.10 to +0.10 | not_worse |",
    ]
