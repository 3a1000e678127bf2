"""Checks of the evaluation fail on what they are there to find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lpm_kernel.L2.records import ARMS, Evaluation, LeakCount, Measure, Score
from tests.twin_assets.workbench import Workbench
from twin_assets import checks


def make_evaluation(base: int, adapter: int, in_pack: int, questions: int = 10, source: Any = "golden") -> Evaluation:
    correct = dict.fromkeys(ARMS, 0) | {"base+retrieval": base, "adapter+retrieval": adapter}
    return Evaluation(source, questions, correct, in_pack, 0, dict.fromkeys(ARMS, 0), (), "g", "gguf", "base", 1.0)


def test_a_twin_that_knows_less_than_the_base_with_the_same_lines_is_found(bench: Workbench) -> None:
    def better(report: Evaluation) -> bool:
        return bench.passes(checks.release_beats_base_with_retrieval, stores=False, evaluation=report)

    assert better(make_evaluation(3, 5, 9))
    assert not better(make_evaluation(5, 3, 9))
    assert not better(make_evaluation(0, 0, 0, questions=0)), "nothing was asked, so nothing is shown"


def test_lines_that_hold_too_few_facts_are_found(bench: Workbench) -> None:
    def rich(report: Evaluation) -> bool:
        return bench.passes(checks.pack_holds_nine_facts_of_ten, stores=False, evaluation=report)

    assert rich(make_evaluation(0, 0, 9))
    assert not rich(make_evaluation(0, 0, 8))
    assert rich(make_evaluation(0, 0, 0, source="held_out"))


def scored(measure: Measure, right: int, asked: int, source: Any = "golden") -> Evaluation:
    score = Score(measure, "adapter+retrieval", right, asked, 0.0, 1.0)
    return replace(make_evaluation(0, 0, 0, source=source), scores=(score,))


def passes(bench: Workbench, check: Any, report: Evaluation) -> bool:
    return bench.passes(check, stores=False, evaluation=report)


def test_a_fact_or_a_line_of_another_person_is_a_leak(bench: Workbench) -> None:
    def tight(*leaks: LeakCount) -> bool:
        return passes(bench, checks.no_leak_between_tenants, replace(make_evaluation(0, 0, 0), leaks=leaks))

    assert tight()
    assert tight(LeakCount("foreign_lines", 96, 0, 0.0, 1.0), LeakCount("foreign_facts", 12, 1, 0.6, 0.46))
    assert not tight(LeakCount("foreign_lines", 96, 1, 0.0, 0.0))
    assert not tight(LeakCount("foreign_facts", 12, 6, 0.6, 1e-5))
    assert tight(LeakCount("foreign_numbers", 12, 12, 1.5, 1e-9)), "numbers are another claim's"


def test_a_number_that_should_not_be_known_is_found_and_a_learnt_one_is_no_fault(bench: Workbench) -> None:
    def tight(*leaks: LeakCount) -> bool:
        return passes(bench, checks.no_canary_is_repeated, replace(make_evaluation(0, 0, 0), leaks=leaks))

    assert tight(LeakCount("trained_numbers", 16, 16, 2.0, 1e-12), LeakCount("foreign_numbers", 16, 4, 2.0, 0.13))
    assert not tight(LeakCount("foreign_numbers", 16, 14, 2.0, 1e-9))
    assert not tight(LeakCount("held_out_numbers", 16, 14, 2.0, 1e-9))


def test_a_voice_that_is_not_nearer_in_nine_of_ten_answers_is_told(bench: Workbench) -> None:
    def near(report: Evaluation) -> bool:
        return passes(bench, checks.voice_is_nearer_than_the_base, report)

    assert near(scored("voice", 9, 10))
    assert not near(scored("voice", 8, 10))
    assert not near(make_evaluation(0, 0, 0)), "not measured is not shown"


def test_too_few_refusals_are_told(bench: Workbench) -> None:
    def modest(report: Evaluation) -> bool:
        return passes(bench, checks.unanswerable_are_declined, report)

    assert modest(scored("refusal", 8, 10))
    assert not modest(scored("refusal", 7, 10))
    assert not modest(make_evaluation(0, 0, 0)), "a golden file without a refusal measured is told"
    assert modest(make_evaluation(0, 0, 0, source="held_out")), "which ones those are is not known"
