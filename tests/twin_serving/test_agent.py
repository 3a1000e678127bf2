"""The agent: the kernel's steps in their order, compiled once, telling nobody else of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from lpm_kernel.chat import begin_turn, stream_turn
from lpm_kernel.errors import LlmError, UserInputError
from lpm_kernel.records import Fact, GraphEntity
from lpm_kernel.stores.conversations import last_messages
from lpm_kernel.stores.open import Stores
from lpm_kernel.turn import Turn
from tests.fakes import FakeLlm
from tests.rules.sources import ROOT
from tests.samples import NOON
from twin_serving.agent.graph import Work, compiled, run_turn
from twin_serving.agent.narrow import Narrow


@pytest.fixture
def work(stores: Stores, llm: FakeLlm, twin: str, tmp_path: Path) -> Callable[..., Work]:
    def make(question: str, **others) -> Work:
        quiet = (lambda turn: None, lambda piece: None, lambda: False)
        given = Work(stores, llm, tmp_path, twin, question, "s", None, "a" * 32, *quiet, Narrow(2, 5.0))
        return replace(given, **others)

    return make


def test_a_turn_of_the_agent_is_the_turn_of_the_command_line(
    stores: Stores, llm: FakeLlm, twin: str, work: Callable[..., Work], tmp_path: Path
) -> None:
    llm.answers.extend(["My cat is Pilchard."] * 2)
    begun: list[Turn] = []
    said: list[str] = []
    reply = run_turn(work("What is your cat called?", begun=begun.append, say=said.append))
    plain = stream_turn(stores, llm, begin_turn(stores, llm, twin, "What is your cat called?", "other"), tmp_path)
    assert ("".join(said), reply.text) == ("My cat is Pilchard.", "".join(plain))
    assert llm.calls[0].messages == llm.calls[1].messages
    assert [turn.answer_id for turn in begun] == ["a" * 32]
    assert (reply.turn.route, reply.turn.evidence) == ("own_memory", plain.turn.evidence)


def test_the_graph_is_compiled_once() -> None:
    assert compiled() is compiled()


@pytest.mark.parametrize(
    ("question", "route"),
    [("Which proposal did Nora write about?", "shared_graph"), ("How would you vote on proposal P-12?", "act")],
)
def test_what_people_decide_together_is_looked_for_wider(
    stores: Stores, llm: FakeLlm, twin: str, work: Callable[..., Work], question: str, route: str
) -> None:
    llm.answers.append("## VOTE: for\nProposal: P-12\nReason: benches")
    began = NOON - timedelta(days=4000)
    text = "Nora wrote about the proposal P-12"
    fact = Fact(twin, GraphEntity("User", twin), "AUTHORED", GraphEntity("Proposal", "P-12"), text, began, began)
    stores.graph.write_facts(twin, [fact])
    reply = run_turn(work(question))
    assert reply.turn.route == route
    assert text in llm.calls[0].messages[0].content
    assert [kept.draft.proposal for kept in reply.drafts] == ["P-12"]


def test_an_error_comes_out_as_it_is_and_the_question_is_kept(
    stores: Stores, llm: FakeLlm, twin: str, work: Callable[..., Work]
) -> None:
    llm.answers.append(LlmError("model_loading", "told to"))
    with pytest.raises(LlmError) as caught:
        run_turn(work("What is your cat called?"))
    assert caught.value.code == "model_loading"
    with pytest.raises(UserInputError):
        run_turn(work("  "))
    with stores.tables.transaction(twin) as connection:
        assert [message.content for message in last_messages(connection, twin, "s", 9)] == ["What is your cat called?"]


def test_a_turn_that_is_left_stops_at_the_next_word(llm: FakeLlm, work: Callable[..., Work]) -> None:
    llm.answers.append("one two three")
    said: list[str] = []
    reply = run_turn(work("Count, please.", say=said.append, is_left=lambda: len(said) == 2))
    assert said == ["one", " two"]
    assert reply.message is not None
    assert (reply.message.content, reply.message.cut_off) == ("one two", True)


TRACE = """
from langsmith import tracing_context, utils
from langchain_core.tracers.context import _tracing_v2_is_enabled
from twin_serving.agent import graph
seen = []
class Graph:
    def invoke(self, *a, **k):
        seen.append(bool(_tracing_v2_is_enabled()))
        return {"reply": None}
graph.compiled = lambda: Graph()
assert _tracing_v2_is_enabled(), "the environment switches it on"
graph.run_turn(None)
assert seen == [False], seen
"""


def test_no_tracing_service_hears_of_a_turn_whatever_the_environment_says() -> None:
    environment = {**os.environ, "LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": "k", "LANGCHAIN_TRACING_V2": "true"}
    run = subprocess.run([sys.executable, "-c", TRACE], env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr


def test_of_a_crowd_few_search_at_a_time_and_who_has_waited_long_goes_all_the_same() -> None:
    narrow, inside, most, let_out = Narrow(2, 2.0), [], [], threading.Event()

    def search(patient: bool) -> None:
        with narrow.through():
            inside.append(1)
            most.append(len(inside))
            if patient:
                let_out.wait(30)
            inside.pop()

    hanging = [threading.Thread(target=search, args=(True,)) for _ in range(2)]
    for thread in hanging:
        thread.start()
    while len(inside) < 2:
        time.sleep(0.001)
    began = time.monotonic()
    search(patient=False)
    assert time.monotonic() - began >= 2.0
    let_out.set()
    for thread in hanging:
        thread.join(30)
    began = time.monotonic()
    search(patient=False)
    assert time.monotonic() - began < 2.0
    assert most == [1, 2, 3, 1]
