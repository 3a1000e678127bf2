"""The tree of errors: each class has a category of its own, and each way back that its docstring names has a test."""

from __future__ import annotations

import ast
import re

import pytest

from lpm_kernel import errors
from lpm_kernel.errors import LlmError, TwinError, UserInputError
from tests.rules.sources import ROOT

WAYS_BACK = {
    "INGESTION_ERROR": [
        (
            "tests/twin_assets/test_failures.py",
            "test_an_error_that_a_retry_can_help_asks_for_one_with_growing_pauses",
        ),
        (
            "tests/twin_assets/test_dead_letters.py",
            "test_after_the_last_attempt_there_is_one_letter_with_its_cause_and_a_mark_on_the_asset",
        ),
        (
            "tests/L0/test_quarantine.py",
            "test_a_file_that_cannot_be_read_moves_to_quarantine_with_the_reason",
        ),
    ],
    "RETRIEVAL_ERROR": [
        (
            "tests/recall/test_plan.py",
            "test_documents_that_cannot_be_read_are_degraded_while_something_else_is_known_and_an_error_else",
        ),
    ],
    "LLM_ERROR": [
        (
            "tests/twin_serving/test_admission.py",
            "test_a_user_has_two_at_work_and_the_place_left_goes_to_another",
        ),
        (
            "tests/test_reply.py",
            "test_an_adapter_that_is_refused_is_answered_for_by_the_base",
        ),
    ],
    "VOTE_ERROR": [
        (
            "tests/twin_assets/test_dao_sensor.py",
            "test_a_step_that_a_run_did_not_get_done_rests_longer_each_time_and_never_for_good",
        ),
        (
            "tests/twin_assets/test_dao.py",
            "test_the_clock_can_be_turned_by_hand",
        ),
        (
            "tests/twin_serving/test_vote_alerts.py",
            "test_a_vote_that_fails_is_told_once_and_keeps_no_other_waiting",
        ),
    ],
    "SYNC_ERROR": [
        (
            "tests/reconcile/test_stores.py",
            "test_missing_vectors_are_written_again_from_the_embeddings",
        ),
    ],
    "NER_ERROR": [("tests/stores/test_fallback_ner.py", "test_each_text_is_read_by_the_first_that_can")],
}
"""By category: tests of its way back, each by file and name."""


def classes() -> list[type[TwinError]]:
    return [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, TwinError)]


def test_each_class_is_a_category_of_its_own() -> None:
    categories = [found.category for found in classes()]
    assert len(set(categories)) == len(categories) > 10
    assert all(re.fullmatch(r"[A-Z]+_ERROR", category) for category in categories)


def test_the_tree_of_the_docstring_is_the_tree() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn == {found.__name__ for found in classes()} - {"TwinError"}


def test_an_object_has_the_category_of_its_class_whatever_its_code() -> None:
    assert LlmError("model_loading", "soon").category == "LLM_ERROR"
    assert UserInputError("user_id_invalid", "no").category == "INPUT_ERROR"
    assert str(LlmError("model_loading", "soon")) == "model_loading: soon"


@pytest.mark.parametrize("category", sorted(WAYS_BACK))
def test_each_way_back_is_told_and_tested(category: str) -> None:
    assert f"    {category} " in (errors.__doc__ or "")
    for file, name in WAYS_BACK[category]:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in tests, f"{file} has no {name}"
