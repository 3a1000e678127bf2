"""The one translation from the kernel's errors to Dagster's."""

from __future__ import annotations

import dagster as dg
import pytest

from lpm_kernel.errors import IngestionError, StoreError
from lpm_kernel.settings import load_settings
from twin_assets.failures import dagster_failures

RETRIES = load_settings().retries.model_copy(update={"max_retries": 3, "delay_s": 2.0})


def test_an_error_that_a_retry_can_help_asks_for_one_with_growing_pauses() -> None:
    pauses = []
    for attempt in range(3):
        with pytest.raises(dg.RetryRequested) as raised, dagster_failures(attempt, RETRIES):
            raise StoreError("tables_unavailable", "PostgreSQL did not answer")
        pauses.append(raised.value.seconds_to_wait)
    assert pauses == [2.0, 4.0, 8.0]


def test_after_the_last_retry_it_fails_for_good_and_says_how_often_it_was_tried() -> None:
    with pytest.raises(dg.Failure) as raised, dagster_failures(3, RETRIES):
        raise StoreError("tables_unavailable", "PostgreSQL did not answer")
    assert raised.value.allow_retries is False
    assert raised.value.metadata["tries"].value == 4


def test_an_error_that_no_retry_can_help_fails_at_once() -> None:
    with pytest.raises(dg.Failure) as raised, dagster_failures(0, RETRIES):
        raise IngestionError("no_documents", "user 1 has no document that can be read")
    assert raised.value.allow_retries is False
    assert raised.value.metadata["code"].value == "no_documents"


def test_an_error_nobody_foresaw_passes_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), dagster_failures(0, RETRIES):
        _ = 1 / 0
