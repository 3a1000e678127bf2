"""The learning rate of a step: from nothing up, and down again, by the step alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.L2.train_schedule import Schedule, rate_share

schedules: st.SearchStrategy[Schedule] = st.sampled_from(("linear", "cosine", "constant"))


@given(schedules, st.integers(1, 500), st.floats(0, 1))
def test_the_rate_is_never_nothing_and_never_more_than_set(schedule: Schedule, steps: int, warmup_share: float) -> None:
    shares = [rate_share(schedule, step, steps, warmup_share) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)


def test_it_rises_over_the_warm_up_and_falls_after_it() -> None:
    linear = [rate_share("linear", step, 40, 0.1) for step in range(40)]
    assert linear[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert linear[4:] == sorted(linear[4:], reverse=True)
    assert linear[22] == pytest.approx(0.5)
    assert linear[39] == pytest.approx(1 / 36)


def test_cosine_stays_high_for_longer_and_constant_stays() -> None:
    assert rate_share("cosine", 12, 40, 0.1) > rate_share("linear", 12, 40, 0.1)
    assert rate_share("cosine", 34, 40, 0.1) < rate_share("linear", 34, 40, 0.1)
    assert {rate_share("constant", step, 40, 0.1) for step in range(4, 40)} == {1.0}
