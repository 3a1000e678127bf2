"""Intervals hold what they promise: tried on thousands of made-up examinations with a known truth."""

from __future__ import annotations

import numpy as np
import pytest

from lpm_kernel.L2.intervals import chance_of_so_many, paired_difference, share_interval


@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_the_interval_of_a_share_is_wilsons(right: int, asked: int, low: float, high: float) -> None:
    """81/263 and 15/148 are the examples of Newcombe's paper of 1998 on single proportions."""
    assert share_interval(right, asked) == pytest.approx((low, high), abs=5e-4)


def test_nothing_asked_is_nothing_known() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference([True], [True, False])


@pytest.mark.parametrize(
    ("asked", "one", "other", "together"),
    [(50, 0.6, 0.3, 0.25), (50, 0.42, 0.24, 0.2), (10, 0.5, 0.5, 0.4), (14, 0.9, 0.1, 0.1)],
)
def test_a_paired_interval_holds_the_true_difference_nineteen_times_of_twenty(
    asked: int, one: float, other: float, together: float
) -> None:
    """`together` is how often both arms are right on one question."""
    chance = np.random.default_rng(11)
    cells = [together, one - together, other - together, 1 - one - other + together]
    covered = 0
    for counts in chance.multinomial(asked, cells, size=2000):
        both, first, second, neither = map(int, counts)
        right = [True] * both + [True] * first + [False] * second + [False] * neither
        against = [True] * both + [False] * first + [True] * second + [False] * neither
        _, low, high = paired_difference(right, against)
        covered += low <= one - other <= high
    assert covered / 2000 >= 0.93


def test_answers_that_go_together_make_the_difference_surer() -> None:
    alike = paired_difference([True] * 15 + [False] * 15, [True] * 10 + [False] * 20)
    unlike = paired_difference([True] * 15 + [False] * 15, [False] * 20 + [True] * 10)
    assert alike[0] == unlike[0] == pytest.approx(1 / 6)
    assert alike[2] - alike[1] < unlike[2] - unlike[1]
    assert alike[1] > 0 > unlike[1]


def test_the_odds_of_chance_are_the_binomials() -> None:
    assert chance_of_so_many(0, 16, 0.125) == 1.0
    assert chance_of_so_many(2, 2, 0.5) == pytest.approx(0.25)
    assert chance_of_so_many(8, 16, 1 / 8) == pytest.approx(0.00033, rel=0.1)
    assert chance_of_so_many(1, 96, 0.0) == 0.0
