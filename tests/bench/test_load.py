"""When the load benchmark may say that its goals were met."""

from __future__ import annotations

from typing import Any

import pytest

from bench.load.run import CHATTED, READS, SENT, missed

NAMES = [f"GET {path.format(twin='{user_id}')}" for path in READS]
PLAN: dict[str, Any] = {"reads": [(path, name) for path, name in zip(READS, NAMES, strict=True)], "writers": 5}


def rows(**changed: dict[str, Any]) -> list[dict[str, Any]]:
    about = {"requests": 9, "failures": 0, "told_to_wait": 0, "p95_ms": 20.0}
    return [{"name": name, **about, **changed.get(name, {})} for name in (*NAMES, *CHATTED, SENT)]


def test_goals_are_met_where_everything_was_asked_and_nothing_failed() -> None:
    assert missed(PLAN, rows(), "") == []
    assert missed(PLAN, rows(**{CHATTED[0]: {"p95_ms": 9000.0}}), "") == [], "what generates may take its time"


def test_without_a_row_no_goal_is_met() -> None:
    """A run that asked nothing was called a success."""
    assert len(missed(PLAN, [], "")) == len(rows())


@pytest.mark.parametrize(
    ("name", "what", "said"),
    [
        (SENT, {"failures": 1}, "1 errors"),
        (NAMES[0], {"p95_ms": 50.0}, "p95 50 ms"),
        (CHATTED[1], {"told_to_wait": 9}, "no answer"),
        (NAMES[-1], {"requests": 0}, "no answer"),
    ],
)
def test_each_route_may_miss_them(name: str, what: dict[str, Any], said: str) -> None:
    assert missed(PLAN, rows(**{name: what}), "") == [f"{name}: {said}"]


def test_a_traceback_in_the_log_misses_them() -> None:
    assert missed(PLAN, rows(), "Traceback (most recent call last)") == ["1 tracebacks in the log of the API"]


def test_health_is_a_small_part_of_what_readers_ask() -> None:
    assert READS["/healthz"] + READS["/readyz"] <= sum(READS.values()) / 8
