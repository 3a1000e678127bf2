"""How many threads a lone answer takes, on a clock that is told what each number would take."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from lpm_kernel.L2.llama_threads import TRIAL_SHARE, ThreadChoice


def work(choice: ThreadChoice, decodes: int, one: float, two: float) -> tuple[list[int], float]:
    """The threads that were chosen, and the seconds that it took."""
    chosen: list[int] = []
    for _ in range(decodes):
        threads = choice.choose("writing")
        choice.measured("writing", threads, 1.0, one if threads == 1 else two)
        chosen.append(threads)
    return chosen, sum(one if threads == 1 else two for threads in chosen)


def test_a_lone_answer_takes_all_threads_where_they_are_faster() -> None:
    choice = ThreadChoice(2)
    with choice.at_work():
        chosen, seconds = work(choice, 1000, one=0.04, two=0.02)
    assert chosen.count(2) > 950
    assert seconds < 1000 * 0.02 * 1.06


@pytest.mark.parametrize("times_slower", [1.5, 100])
def test_where_they_are_slower_finding_out_costs_little(times_slower: float) -> None:
    choice = ThreadChoice(2)
    with choice.at_work():
        _, seconds = work(choice, 5000, one=0.04, two=0.04 * times_slower)
    assert seconds < 5000 * 0.04 * (1 + 1.3 * TRIAL_SHARE) + 0.04 * times_slower


def test_a_neighbour_who_comes_and_goes_is_noticed_both_times() -> None:
    choice = ThreadChoice(2)
    with choice.at_work():
        work(choice, 200, one=0.04, two=0.02)
        chosen, _ = work(choice, 200, one=0.05, two=1.0)
        assert chosen.count(2) <= 5
        chosen, _ = work(choice, 2000, one=0.04, two=0.02)
        assert chosen[-200:].count(2) > 180


def test_several_answers_have_one_thread_each_and_teach_nothing() -> None:
    choice = ThreadChoice(2)
    with ExitStack() as stack:
        stack.enter_context(choice.at_work())
        work(choice, 50, one=0.04, two=0.02)
        with choice.at_work():
            chosen, _ = work(choice, 50, one=9.0, two=9.0)
            assert set(chosen) == {1}
        assert choice.choose("writing") == 2


def test_one_slot_has_one_thread() -> None:
    choice = ThreadChoice(1)
    with choice.at_work():
        assert set(work(choice, 50, one=1.0, two=0.1)[0]) == {1}
