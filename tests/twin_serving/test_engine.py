"""The engine around a model: turns, cancellation, what is counted, and that chat code sees nothing but an `Llm`."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lpm_kernel.errors import LlmError
from lpm_kernel.records import Message
from lpm_kernel.settings import Settings
from lpm_kernel.stores.llm import AdapterFile, Llm
from tests.paced_llm import PacedLlm, wait_until
from twin_serving.engine.engine import ServingEngine
from twin_serving.engine.listener import listened_to
from twin_serving.engine.metrics import render_metrics

HELLO = (Message("user", "Hello?"),)


def adapter(name: str) -> AdapterFile:
    return AdapterFile(Path(f"{name}.gguf"), name, PacedLlm.base_sha256)


def engine_of(llm: PacedLlm, settings: Settings, **serving) -> ServingEngine:
    changed = settings.serving.model_copy(update=serving)
    models = settings.models.model_copy(update={"slots": 2})
    return ServingEngine(llm, settings.model_copy(update={"serving": changed, "models": models}))


def ask(engine: Llm, tenant: str = "mabel", name: str = "a") -> str:
    return "".join(engine.stream(HELLO, tenant=tenant, adapter=adapter(name), max_tokens=8))


def series(engine: ServingEngine) -> dict[str, float]:
    """Every sample by its name and labels."""
    found = text_string_to_metric_families(render_metrics(engine).decode())
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in found
        for sample in family.samples
    }


def test_an_answer_goes_through_and_the_place_is_given_back(settings: Settings) -> None:
    engine = engine_of(PacedLlm(), settings)
    assert ask(engine) == " a word word word"
    assert engine.answer_batch([HELLO, HELLO], tenant="mabel", adapter=adapter("b"), max_tokens=1) == [" b", " b"]
    assert engine.score([HELLO], ["yes", "never"], tenant="mabel") == [[-4.0, -6.0]]
    assert engine.admission.at_work() == 0
    assert engine.users_served() == {"mabel": "a"}


def test_no_more_are_at_work_than_there_are_places_and_no_more_than_two_of_one_user(settings: Settings) -> None:
    llm = PacedLlm(piece_s=0.002)
    engine = engine_of(llm, settings, waiting_per_user=20)
    with ThreadPoolExecutor(24) as pool:
        said = list(pool.map(lambda number: ask(engine, f"user-{number % 3}", str(number)), range(24)))
    assert said == [f" {number} word word word" for number in range(24)]
    assert llm.most_at_work == 2
    assert llm.most_of_one <= 2


@pytest.mark.parametrize(("where", "places"), [("local", 2), ("modal", 6)])
def test_on_modal_there_is_a_place_for_every_slot_of_all_containers(settings: Settings, where: str, places: int) -> None:
    """Two answers ran in all, however many containers were paid for."""
    llm = PacedLlm()
    llm.gate.clear()
    engine = engine_of(llm, settings, engine=where, modal_max_containers=3)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, engine, f"user-{number}") for number in range(8)]
        wait_until(lambda: engine.admission.waiting() == 8 - places)
        assert engine.admission.at_work() == places
        llm.gate.set()
        for done in asked:
            done.result()
    assert llm.most_at_work == places


def test_when_places_are_short_users_take_turns_however_many_questions_one_of_them_has(settings: Settings) -> None:
    llm = PacedLlm(piece_s=0.05)
    llm.gate.clear()
    engine = engine_of(llm, settings, waiting_per_user=20)
    with ThreadPoolExecutor(16) as pool:
        greedy = [pool.submit(ask, engine, "greedy") for _ in range(10)]
        wait_until(lambda: engine.admission.waiting() == 8)
        modest = [pool.submit(ask, engine, f"modest-{number}") for number in range(3)]
        wait_until(lambda: engine.admission.waiting() == 11)
        llm.gate.set()
        for done in (*greedy, *modest):
            done.result()
    order = [tenant for tenant, _ in llm.answered]
    assert order[:2] == ["greedy", "greedy"]
    # turns are given in order; of two that were given a moment apart, either thread may be heard of first
    assert {f"modest-{number}" for number in range(3)} <= set(order[2:6])


def test_the_question_too_many_is_refused_before_its_adapter_is_loaded(settings: Settings) -> None:
    llm = PacedLlm()
    llm.gate.clear()
    engine = engine_of(llm, settings, waiting_per_user=1)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, engine) for _ in range(3)]
        wait_until(lambda: engine.admission.waiting() == 1)
        with pytest.raises(LlmError) as caught:
            engine.stream(HELLO, tenant="mabel", adapter=adapter("late"), max_tokens=4)
        assert (caught.value.code, llm.checked["late"]) == ("too_many_requests", 0)
        assert caught.value.retry_after_s
        llm.gate.set()
        assert {done.result() for done in asked} == {" a word word word"}
    assert series(engine)["twin_engine_answers_total too_many_requests"] == 1


def test_a_closed_stream_frees_its_place_with_the_piece_being_written(settings: Settings) -> None:
    llm = PacedLlm(pieces=1000)
    engine = engine_of(llm, settings)
    stream = engine.stream(HELLO, tenant="mabel", max_tokens=1000)
    next(stream)
    assert engine.admission.at_work() == 1
    stream.close()  # type: ignore[attr-defined]
    assert (engine.admission.at_work(), llm.at_work.total()) == (0, 0)
    assert list(stream) == []


def test_a_stream_may_be_closed_by_another_thread_than_the_one_that_reads_it(settings: Settings) -> None:
    llm = PacedLlm(pieces=1000, piece_s=0.01)
    engine = engine_of(llm, settings)
    stream = engine.stream(HELLO, tenant="mabel", max_tokens=1000)
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(list, stream)
        wait_until(lambda: llm.at_work.total() == 1)
        time.sleep(0.03)
        stream.close()  # type: ignore[attr-defined]
        with pytest.raises(LlmError, match="listener_left"):
            reader.result(5)
    assert (engine.admission.at_work(), llm.at_work.total()) == (0, 0)
    assert series(engine)["twin_engine_answers_total left"] == 1


def test_who_leaves_while_waiting_is_out_of_the_queue_at_once(settings: Settings) -> None:
    llm = PacedLlm()
    llm.gate.clear()
    engine = engine_of(llm, settings)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, engine, "mabel") for _ in range(2)]
        wait_until(lambda: engine.admission.at_work() == 2)
        waiting = engine.stream(HELLO, tenant="ravi", max_tokens=4)
        left = pool.submit(lambda: list(waiting))
        wait_until(lambda: engine.admission.waiting() == 1)
        waiting.close()  # type: ignore[attr-defined]
        with pytest.raises(LlmError, match="listener_left"):
            left.result(5)
        assert engine.admission.waiting() == 0
        llm.gate.set()
        for done in asked:
            done.result()
    assert [tenant for tenant, _ in llm.answered] == ["mabel", "mabel"]


def test_a_turn_whose_listener_has_left_ends_while_it_waits_and_while_it_is_written(settings: Settings) -> None:
    llm = PacedLlm(pieces=1000)
    engine = engine_of(llm, settings, in_flight_per_user=1)
    left = threading.Event()

    read: list[str] = []

    def turn() -> None:
        with listened_to(left.is_set):
            read.extend(engine.stream(HELLO, tenant="mabel", max_tokens=1000))

    llm.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        turns = [pool.submit(turn), pool.submit(turn)]
        wait_until(lambda: (engine.admission.at_work(), engine.admission.waiting()) == (1, 1))
        left.set()
        wait_until(lambda: engine.admission.waiting() == 0)
        llm.gate.set()
        codes = [error.code for one in turns if isinstance(error := one.exception(5), LlmError)]
    assert (codes, len(read)) == (["listener_left"] * 2, 1)
    assert engine.admission.at_work() == 0


def test_a_stream_that_is_dropped_or_never_begun_holds_nothing(settings: Settings) -> None:
    engine = engine_of(PacedLlm(), settings)
    engine.stream(HELLO, tenant="mabel", max_tokens=4)
    begun = engine.stream(HELLO, tenant="mabel", max_tokens=4)
    next(begun)
    assert engine.admission.at_work() == 1
    del begun
    gc.collect()
    assert engine.admission.at_work() == 0


def test_an_answer_that_fails_gives_its_place_back_and_is_counted_by_its_code(settings: Settings) -> None:
    llm = PacedLlm()
    llm.refuses.add("bad")
    engine = engine_of(llm, settings)
    with pytest.raises(LlmError, match="adapter_refused"):
        ask(engine, name="bad")
    stream = engine.stream(HELLO, tenant="mabel", max_tokens=4)
    engine.close()
    with pytest.raises(LlmError, match="engine_closed"):
        next(stream)
    assert llm.closed
    assert series(engine)["twin_engine_answers_total engine_closed"] == 1


def test_what_is_counted_names_no_user(settings: Settings) -> None:
    engine = engine_of(PacedLlm(), settings)
    for tenant in ("mabel", "ravi"):
        ask(engine, tenant)
    found = series(engine)
    assert found["twin_engine_tokens_total"] == 8
    assert found["twin_engine_answers_total done"] == 2
    assert found["twin_engine_first_token_seconds_count"] == found["twin_engine_queue_seconds_count"] == 2
    assert found["twin_engine_in_flight"] == found["twin_engine_waiting"] == 0
    text = render_metrics(engine).decode()
    assert "mabel" not in text
    assert "ravi" not in text


def test_two_engines_count_apart_and_no_engine_counts_nothing(settings: Settings) -> None:
    one, other = engine_of(PacedLlm(), settings), engine_of(PacedLlm(), settings)
    ask(one)
    assert series(other)["twin_engine_tokens_total"] == 0
    assert render_metrics(None) == b""


def test_a_release_is_followed_for_its_person_whoever_asks_them(settings: Settings) -> None:
    """Another's talk has a tenant of its own; asked for its release, the tables know no such user, and the adapter of the
    person who was chatting was taken for retired.
    """
    engine = engine_of(PacedLlm(), settings)
    ask(engine, tenant="mabel~bob")
    assert engine.users_served() == {"mabel": "a"}
