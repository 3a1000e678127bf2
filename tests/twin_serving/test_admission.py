"""Whose turn it is: places, queues, fairness between users, who is told to come back and when, and who leaves."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import LlmError
from lpm_kernel.stores.llm import tenant_of
from twin_serving.engine.admission import Admission, Ticket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def admission_of(**changed) -> Admission:
    return Admission(**{"places": 2, "per_user": 2, "waiting_per_user": 4, "waiting": 100, "wait_s": 5.0} | changed)


def at_work(tickets: list[Ticket]) -> list[str]:
    return [ticket.user_id for ticket in tickets if ticket.begun_at is not None]


def refusal(admission: Admission, user_id: str) -> LlmError:
    with pytest.raises(LlmError) as caught:
        admission.ask(user_id)
    with pytest.raises(LlmError) as early:
        admission.refuse_if_full(user_id)
    assert early.value.code == caught.value.code
    return caught.value


def test_a_user_has_two_at_work_and_the_place_left_goes_to_another() -> None:
    admission = admission_of(places=4)
    mine = [admission.ask("mabel") for _ in range(4)]
    assert len(at_work(mine)) == 2
    other = admission.ask("ravi")
    assert other.ready.is_set()
    admission.leave(mine[0])
    assert at_work(mine) == ["mabel", "mabel"]
    assert mine[2].ready.is_set()
    assert not mine[3].ready.is_set()


def test_a_full_queue_is_refused_with_a_time_to_come_back_that_follows_from_how_long_turns_take() -> None:
    clock = Clock()
    admission = admission_of(places=1, clock=clock)
    for _ in range(20):
        ticket = admission.ask("before")
        clock.now += 6.0
        admission.leave(ticket)
    for _ in range(5):
        admission.ask("mabel")
    error = refusal(admission, "mabel")
    assert (error.code, error.retryable) == ("too_many_requests", True)
    assert error.retry_after_s == pytest.approx(6.0, rel=0.05), "one turn of hers"
    for user_id in ("ravi", "ines"):
        admission.ask(user_id)
    assert refusal(admission, "mabel").retry_after_s == pytest.approx(18.0, rel=0.05), "and one of each who waits beside her"


def test_who_asks_many_twins_waits_in_one_queue_of_all_of_them() -> None:
    """They alone could fill everybody's, four questions a twin."""
    admission = admission_of(waiting=6)
    for number in range(6):
        admission.ask(tenant_of(f"twin{number}", "mallory"))
    assert refusal(admission, tenant_of("twin7", "mallory")).code == "too_many_requests"
    admission.ask("mabel")
    admission.ask(tenant_of("twin1", "ravi"))
    assert admission.waiting() == 6


def test_when_too_many_wait_in_all_the_next_is_told_that_the_engine_is_busy() -> None:
    admission = admission_of(places=1, waiting=3)
    for number in range(4):
        admission.ask(f"user-{number}")
    error = refusal(admission, "late")
    assert (error.code, error.retryable) == ("engine_busy", True)
    assert error.retry_after_s


def test_without_a_queue_a_free_place_is_still_given() -> None:
    admission = admission_of(waiting_per_user=0, waiting=0)
    first = admission.ask("mabel")
    admission.ask("mabel")
    assert refusal(admission, "mabel").code == "too_many_requests"
    admission.leave(first)
    assert admission.ask("mabel").ready.is_set()


def test_who_comes_first_does_not_keep_the_place_from_who_comes_later() -> None:
    admission = admission_of(places=1)
    greedy = [admission.ask("greedy") for _ in range(5)]
    modest = admission.ask("modest")
    admission.leave(greedy[0])
    assert modest.ready.is_set()
    assert not greedy[1].ready.is_set()


def test_who_is_booked_is_counted_and_keeps_nobody_from_a_place() -> None:
    """The early look took no ticket: of sixteen questions at once all were stored, and ten of them refused afterwards."""
    admission = admission_of()
    mine = [admission.book("mabel") for _ in range(6)]
    assert refusal(admission, "mabel").code == "too_many_requests"
    assert (admission.booked(), admission.waiting(), admission.at_work()) == (6, 0, 0)
    other = admission.ask("ravi")
    assert other.ready.is_set(), "no booking of hers asks for its place yet"
    admission.wait(mine[0])
    assert (admission.booked(), admission.at_work()) == (5, 2)
    for ticket in mine:
        admission.leave(ticket)
    admission.leave(other)
    assert (admission.booked(), admission.waiting(), admission.at_work()) == (0, 0, 0)


def test_a_turn_that_rests_asks_for_its_next_place_without_being_refused() -> None:
    admission = admission_of(places=1, waiting_per_user=0)
    ticket = admission.book("mabel")
    admission.wait(ticket)
    admission.rest(ticket)
    admission.rest(ticket)
    assert (admission.booked(), admission.at_work()) == (1, 0)
    assert refusal(admission, "mabel").code == "too_many_requests", "its place is its own meanwhile"
    admission.wait(ticket)
    assert admission.at_work() == 1
    admission.leave(ticket)
    admission.rest(ticket)
    assert (admission.booked(), admission.at_work()) == (0, 0)


def test_work_elsewhere_is_one_of_its_users_answers_and_takes_no_place() -> None:
    admission = admission_of(places=1, wait_s=0.01)
    away = [admission.book("mabel") for _ in range(3)]
    for ticket in away[:2]:
        admission.wait(ticket, elsewhere=True)
    assert admission.ask("ravi").ready.is_set()
    with pytest.raises(LlmError, match="engine_busy"):
        admission.wait(away[2], elsewhere=True)
    admission.wait(next_one := admission.book("ines"), elsewhere=True)
    assert admission.at_work() == 4
    admission.rest(away[0])
    assert admission.booked() == 1, "who waited in vain is out"
    for ticket in (*away, next_one):
        admission.leave(ticket)
    assert (admission.booked(), admission.at_work()) == (0, 1)


def test_bookings_of_all_count_for_everybodys_queue() -> None:
    admission = admission_of(places=2, waiting=3)
    for number in range(5):
        admission.book(f"user-{number}")
    assert refusal(admission, "late").code == "engine_busy"


def test_when_the_engine_closes_who_is_booked_gets_no_place() -> None:
    admission = admission_of()
    ticket = admission.book("mabel")
    admission.close()
    with pytest.raises(LlmError, match="engine_closed"):
        admission.wait(ticket)


USERS = st.sampled_from(["a", "b", "c", "d"])
DEEDS = st.lists(st.one_of(st.tuples(st.just("ask"), USERS), st.tuples(st.sampled_from(["end", "quit"]), st.integers(0, 9))))


@given(st.integers(1, 4), DEEDS)
def test_nobody_waits_while_another_gets_two_turns_in_a_row(places: int, deeds: list[tuple[str, str | int]]) -> None:
    admission = admission_of(places=places)
    waiting: list[Ticket] = []
    working: list[Ticket] = []
    last = ""

    def look() -> None:
        nonlocal last
        begun = [ticket for ticket in waiting if ticket.begun_at is not None]
        assert len(begun) <= 1, "each deed frees or asks for one place"
        for ticket in begun:
            at_work_now = Counter(other.user_id for other in working)
            able = {other.user_id for other in waiting if at_work_now[other.user_id] < 2}
            assert ticket.user_id != last or able == {ticket.user_id}
            assert ticket is next(other for other in waiting if other.user_id == ticket.user_id), "in order within a user"
            last = ticket.user_id
            waiting.remove(ticket)
            working.append(ticket)

    for deed, what in deeds:
        if deed == "ask":
            if sum(ticket.user_id == what for ticket in waiting) < 4:
                waiting.append(admission.ask(str(what)))
            else:
                assert refusal(admission, str(what)).code == "too_many_requests"
        elif deed == "end" and working:
            admission.leave(working.pop(int(what) % len(working)))
        elif deed == "quit" and waiting:
            admission.leave(waiting.pop(int(what) % len(waiting)))
        look()
        of_users = Counter(ticket.user_id for ticket in working)
        assert admission.at_work() == len(working) <= places
        assert admission.waiting() == len(waiting)
        assert max(of_users.values(), default=0) <= 2
        idle = places - len(working)
        assert not idle or all(of_users[ticket.user_id] == 2 for ticket in waiting), "no place stays empty"


def test_who_leaves_the_queue_is_taken_out_and_woken() -> None:
    admission = admission_of(places=1)
    working = admission.ask("mabel")
    leaving, next_one = admission.ask("ravi"), admission.ask("ines")
    codes: list[str] = []

    def wait() -> None:
        try:
            admission.wait(leaving)
        except LlmError as error:
            codes.append(error.code)

    thread = threading.Thread(target=wait)
    thread.start()
    admission.leave(leaving)
    admission.leave(leaving)
    thread.join(5)
    assert codes == ["listener_left"]
    admission.leave(working)
    assert next_one.ready.is_set()
    assert admission.waiting() == 0


def test_quitting_the_queue_leaves_who_is_at_work_alone() -> None:
    admission = admission_of()
    ticket = admission.ask("mabel")
    admission.quit_waiting(ticket)
    assert admission.at_work() == 1
    admission.wait(ticket)


def test_who_waits_too_long_is_told_and_holds_no_place_in_the_queue() -> None:
    admission = admission_of(places=1, wait_s=0.01)
    admission.ask("mabel")
    with pytest.raises(LlmError) as caught:
        admission.wait(admission.ask("ravi"))
    assert (caught.value.code, caught.value.retryable, admission.waiting()) == ("engine_busy", True, 0)


def test_when_the_engine_closes_who_waits_is_sent_away_and_who_works_goes_on() -> None:
    admission = admission_of(places=1)
    working, waiting = admission.ask("mabel"), admission.ask("ravi")
    admission.close()
    for ask in (lambda: admission.wait(waiting), lambda: admission.ask("ines")):
        with pytest.raises(LlmError, match="engine_closed"):
            ask()
    admission.wait(working)
    admission.leave(working)


def test_hundred_threads_get_their_turns_and_never_more_than_there_are_places() -> None:
    admission = admission_of(places=3, waiting_per_user=50)
    lock, together, most, done = threading.Lock(), Counter[str](), 0, 0

    def turn(user_id: str) -> None:
        nonlocal most, done
        ticket = admission.ask(user_id)
        admission.wait(ticket)
        with lock:
            together[user_id] += 1
            most = max(most, together.total())
            assert together[user_id] <= 2
        with lock:
            together[user_id] -= 1
            done += 1
        admission.leave(ticket)

    threads = [threading.Thread(target=turn, args=(f"user-{number % 7}",)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (done, admission.at_work(), admission.waiting()) == (100, 0, 0)
    assert most <= 3
