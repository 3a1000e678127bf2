"""The one rule of when what failed is tried again."""

from __future__ import annotations

import pytest

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.settings import ChangeSettings
from lpm_kernel.sync.retry import JITTER, Failure, failure_of, is_given_up, pause_after

RULES = ChangeSettings(attempts=3, delay_s=2, longest_pause_s=600, poll_s=1, kept_days=1)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 2), (2, 4), (3, 8), (9, 512), (10, 600), (1000, 600)])
def test_pauses_grow_up_to_the_longest_and_differ_a_little(attempts: int, seconds: float) -> None:
    drawn = [pause_after(attempts, RULES, f"change {number}").total_seconds() for number in range(200)]
    assert all((1 - JITTER) * seconds <= pause <= (1 + JITTER) * seconds for pause in drawn)
    assert max(drawn) - min(drawn) > JITTER * seconds, "what failed together would come back together"


def test_the_same_change_draws_the_same_pause() -> None:
    assert pause_after(4, RULES, "a") == pause_after(4, RULES, "a") != pause_after(4, RULES, "b")


def test_what_cannot_be_mended_by_waiting_is_given_up_at_once_and_the_rest_after_the_last_try() -> None:
    away, refused = StoreError("graph_unavailable", "it is away"), StoreError("graph_refused", "no", retryable=False)
    assert [is_given_up(failure_of(away), attempts, RULES) for attempts in (1, 2, 3, 4)] == [False, False, True, True]
    assert is_given_up(failure_of(refused), 1, RULES)


def test_what_nobody_foresaw_is_told_by_its_type_and_tried_again() -> None:
    assert failure_of(OSError("my diary")) == Failure("internal", "it failed with OSError; the log says where", True)
    assert failure_of(UserInputError("memory_unknown", "no such memory")).retryable is False
