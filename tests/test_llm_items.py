"""Many requests to a writer: ids, order, retries, the cache, and what a crash costs."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lpm_kernel.errors import LlmError, StoreError
from lpm_kernel.layout import tenant_prefix
from lpm_kernel.llm_items import CallCache, Dropped, Item, Written, write_items
from lpm_kernel.records import Message
from tests.fakes import FakeWriter, MemoryBlobs, no_progress


class Told(BaseModel):
    answer: str


def item(number: int, form: type[BaseModel] | None = None) -> Item:
    return Item(f"id-{number}", (Message("system", "Echo."), Message("user", str(number))), form)


def echo(messages: tuple[Message, ...]) -> str:
    return f"said {messages[-1].content}"


def run(
    items: list[Item], writer: FakeWriter, blobs: MemoryBlobs, user: str = "ada", **options: int
) -> list[Written | Dropped]:
    given = {"workers": 4, "retries": 2, "give_up_after": 10_000, **options}
    return write_items(items, writer, CallCache(blobs, user, "rows"), progress=no_progress, delay_s=0.0, **given)


class Flaky:
    """Fails the given numbers as often as told, in the way told, and is slower for some than for others."""

    def __init__(self, failures: dict[int, tuple[int, bool]]) -> None:
        self.left = {number: times for number, (times, _) in failures.items()}
        self.failures = failures
        self._lock = threading.Lock()

    def __call__(self, messages: tuple[Message, ...]) -> str:
        number = int(messages[-1].content)
        if number % 3 == 0:
            time.sleep(0.0005)
        with self._lock:
            failing = self.left.get(number, 0) > 0
            self.left[number] = self.left.get(number, 0) - 1
        if failing:
            raise LlmError("writer_unavailable", "told to fail", retryable=self.failures[number][1])
        return echo(messages)


@given(
    count=st.integers(0, 25),
    failures=st.dictionaries(st.integers(0, 24), st.tuples(st.integers(1, 5), st.booleans()), max_size=25),
    workers=st.integers(1, 8),
    retries=st.integers(0, 3),
)
def test_every_answer_stands_at_its_own_id_whatever_fails(
    count: int, failures: dict[int, tuple[int, bool]], workers: int, retries: int
) -> None:
    """A published pipeline paired each question with the answer of the one before it, once a single call had failed."""
    numbers = list(range(count))
    random.Random(count).shuffle(numbers)
    results = run([item(n) for n in numbers], FakeWriter(Flaky(failures)), MemoryBlobs(), workers=workers, retries=retries)
    assert [result.item_id for result in results] == [f"id-{n}" for n in numbers]
    for number, result in zip(numbers, results, strict=True):
        times, retryable = failures.get(number, (0, True))
        if times == 0 or (retryable and times <= retries):
            assert result == Written(f"id-{number}", f"said {number}", from_cache=False)
        else:
            assert isinstance(result, Dropped)
            assert (result.code, result.tries) == ("writer_unavailable", retries + 1 if retryable else 1)


def test_an_answer_is_asked_for_once_and_read_back_to_the_byte() -> None:
    blobs, words = MemoryBlobs(), "Zoë’s “cat”\r\n\t😀 costs £5 \u2028"
    first, second = FakeWriter(lambda messages: words), FakeWriter(echo)
    assert run([item(1)], first, blobs) == [Written("id-1", words, from_cache=False)]
    assert run([item(1)], second, blobs) == [Written("id-1", words, from_cache=True)]
    assert second.requests == []


def test_the_same_request_under_another_id_is_answered_from_the_cache_under_that_id() -> None:
    blobs, writer = MemoryBlobs(), FakeWriter(echo)
    run([item(1)], writer, blobs)
    other = Item("renamed", item(1).messages)
    assert run([other], writer, blobs) == [Written("renamed", "said 1", from_cache=True)]


@pytest.mark.parametrize(
    "other",
    [
        Item("id-1", (Message("system", "Echo!"), Message("user", "1"))),
        Item("id-1", (Message("system", "Echo."), Message("user", "1 "))),
        Item("id-1", (Message("user", "Echo."), Message("user", "1"))),
        Item("id-1", (Message("system", "Echo.user"), Message("user", "1"))),
        Item("id-1", item(1).messages, max_tokens=7),
        Item("id-1", item(1).messages, temperature=0.1),
    ],
    ids=["prompt", "input", "role", "where a message ends", "length", "temperature"],
)
def test_another_request_is_another_call(other: Item) -> None:
    blobs, writer = MemoryBlobs(), FakeWriter(echo)
    run([item(1)], writer, blobs)
    assert not getattr(run([other], writer, blobs)[0], "from_cache", True)


def test_another_model_or_form_is_another_call() -> None:
    blobs = MemoryBlobs()
    say = '{"answer": "yes"}'
    run([item(1)], FakeWriter(lambda messages: say), blobs)
    other_model, other_form = FakeWriter(lambda messages: say, "another"), FakeWriter(lambda messages: say)
    run([item(1)], other_model, blobs)
    run([item(1, Told)], other_form, blobs)
    assert (len(other_model.requests), len(other_form.requests)) == (1, 1)


def test_one_users_answers_are_never_anothers() -> None:
    blobs, writer = MemoryBlobs(), FakeWriter(echo)
    run([item(1)], writer, blobs, "ada")
    run([item(1)], writer, blobs, "bo")
    assert len(writer.requests) == 2
    assert sum(key.startswith(tenant_prefix("bo")) for key in blobs.objects) == 1


def test_a_crash_at_item_900_of_1000_repeats_one_call() -> None:
    class Killed(Exception):
        pass

    def dies(messages: tuple[Message, ...]) -> str:
        if messages[-1].content == "899":
            raise Killed
        return echo(messages)

    blobs, items = MemoryBlobs(), [item(n) for n in range(1000)]
    before, after = FakeWriter(dies), FakeWriter(echo)
    with pytest.raises(Killed):
        run(items, before, blobs, workers=1)
    results = run(items, after, blobs, workers=1)
    assert len(before.requests) + len(after.requests) == 1001
    assert [result.text for result in results if isinstance(result, Written)] == [f"said {n}" for n in range(1000)]


def test_no_more_requests_are_in_flight_than_there_are_workers() -> None:
    def slowly(messages: tuple[Message, ...]) -> str:
        time.sleep(0.02)
        return echo(messages)

    writer = FakeWriter(slowly)
    run([item(n) for n in range(30)], writer, MemoryBlobs(), workers=3)
    assert writer.most_at_once == 3


def test_an_answer_of_another_form_is_asked_for_again_and_never_kept() -> None:
    answers = iter(["not json", '{"other": 1}', '{"answer": "yes"}'])
    blobs = MemoryBlobs()
    (result,) = run([item(1, Told)], FakeWriter(lambda messages: next(answers)), blobs)
    assert result == Written("id-1", '{"answer": "yes"}', from_cache=False)
    (dropped,) = run([item(2, Told)], FakeWriter(lambda messages: "secret words"), blobs)
    assert isinstance(dropped, Dropped)
    assert (dropped.code, dropped.tries) == ("writer_unreadable", 3)
    assert "secret" not in dropped.reason
    assert len(blobs.objects) == 1


def test_a_damaged_answer_in_the_cache_is_asked_for_again() -> None:
    blobs = MemoryBlobs()
    writer = FakeWriter(lambda messages: '{"answer": "yes"}')
    run([item(1, Told)], writer, blobs)
    (key,) = blobs.objects
    for damaged in (b"{", b"\xff\xfe"):
        blobs.objects[key] = damaged
        assert run([item(1, Told)], writer, blobs) == [Written("id-1", '{"answer": "yes"}', from_cache=False)]


def test_a_writer_that_takes_nothing_is_given_up_at_its_first_answer() -> None:
    def closed(messages: tuple[Message, ...]) -> str:
        raise LlmError("writer_closed", "answered 401", retryable=False)

    writer = FakeWriter(closed)
    with pytest.raises(LlmError, match="writer_closed"):
        run([item(n) for n in range(100)], writer, MemoryBlobs(), workers=2)
    assert len(writer.requests) <= 4


def test_a_writer_that_fails_one_item_after_another_is_given_up_and_what_it_wrote_is_kept() -> None:
    def fails_late(messages: tuple[Message, ...]) -> str:
        if int(messages[-1].content) >= 20:
            raise LlmError("writer_unavailable", "answered 503")
        return echo(messages)

    blobs, writer = MemoryBlobs(), FakeWriter(fails_late)
    with pytest.raises(LlmError) as caught:
        run([item(n) for n in range(100)], writer, blobs, workers=1, retries=1, give_up_after=3)
    assert caught.value.retryable
    assert len(writer.requests) == 20 + 3 * 2
    assert len(blobs.objects) == 20


def test_items_that_are_refused_one_by_one_do_not_give_the_writer_up() -> None:
    def refuses(messages: tuple[Message, ...]) -> str:
        raise LlmError("writer_refused", "answered 400", retryable=False)

    results = run([item(n) for n in range(30)], FakeWriter(refuses), MemoryBlobs(), give_up_after=3)
    assert Counter(type(result) for result in results) == {Dropped: 30}


def test_a_cache_that_fails_is_no_reason_to_ask_and_pay_again() -> None:
    class Away(MemoryBlobs):
        def get(self, key: str) -> bytes:
            raise StoreError("blobs_unavailable", "told to")

    writer = FakeWriter(echo)
    with pytest.raises(StoreError):
        run([item(1)], writer, Away())
    assert writer.requests == []


def test_progress_counts_to_the_end_and_may_stop_it() -> None:
    said: list[float] = []

    def report(share: float, words: str) -> None:
        said.append(share)
        if len(said) == 3:
            raise KeyboardInterrupt

    def slowly(messages: tuple[Message, ...]) -> str:
        time.sleep(0.05)
        return echo(messages)

    cache = CallCache(MemoryBlobs(), "ada", "rows")
    writer = FakeWriter(slowly)
    items = [item(n) for n in range(200)]
    with pytest.raises(KeyboardInterrupt):
        write_items(items, writer, cache, workers=1, retries=0, progress=report)
    assert len(writer.requests) < 200
    said.clear()
    write_items(items[:2], writer, cache, workers=1, retries=0, progress=report)
    assert said == [0.5, 1.0]


def test_answers_that_nobody_asked_for_this_time_are_dropped_and_those_of_other_purposes_stay() -> None:
    blobs, writer = MemoryBlobs(), FakeWriter(echo)
    run([item(1), item(2)], writer, blobs)
    labels = CallCache(blobs, "ada", "topic-labels")
    write_items([item(3)], writer, labels, workers=1, retries=0, progress=no_progress)
    today = CallCache(blobs, "ada", "rows")
    write_items([item(2)], writer, today, workers=1, retries=0, progress=no_progress)
    assert today.drop_unused() == 1
    assert len(blobs.objects) == 2
    assert today.drop_unused() == 0
