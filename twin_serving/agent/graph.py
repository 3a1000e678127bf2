"""One turn as a LangGraph: hear, retrieve, think which, perhaps look wider, answer.

Belongs here: which step follows which. Each node calls one function of the kernel, and so does the command line, without a
graph, in the same order.
Does not belong here: what a step does, and events.

                                     ┌── own_memory ────────────────┐
    hear ──► retrieve ──► think ─────┤                              ├──► answer
                                     └── shared_graph, act ──► look ┘

Which way is a rule of the kernel and no question to a model (`recall/route.py` says why). `act` ends in the draft of a ballot,
which `answer` finds in the twin's own words; there is no node that casts one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from lpm_kernel.chat import TurnKey, compose_turn, open_turn, recall_turn, stream_turn, widen_turn
from lpm_kernel.recall.plan import Recalled
from lpm_kernel.recall.route import Route, choose_route
from lpm_kernel.reply import Reply
from lpm_kernel.stores.llm import Llm
from lpm_kernel.stores.open import Stores
from lpm_kernel.turn import Asked, Turn
from twin_serving.agent.narrow import Narrow

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Work:
    """What a turn works with and for: the same through all its steps."""

    stores: Stores
    llm: Llm
    adapters: Path
    user_id: str
    question: str
    session_id: str | None
    asker: str | None
    """Who asks, where it is not the person."""
    answer_id: str
    begun: Callable[[Turn], None]
    """Told once, when it is known what the answer may rest on."""
    say: Callable[[str], None]
    is_left: Callable[[], bool]
    """Asked after each piece: whether the rest need not be said."""
    narrow: Narrow
    """Through which it goes to the memory."""
    key: TurnKey | None = None
    """Of the question, where the client gave it one."""


class Talk(TypedDict):
    """What each step adds; a step reads only what an earlier one has added."""

    asked: Asked
    recalled: Recalled
    route: Route
    reply: Reply


def run_turn(work: Work) -> Reply:
    """The whole turn; its answer is stored when this returns, or raises.

    Why tracing is off whatever the environment says: LangSmith's variables in a shell would send a person's memory there.
    Raises: what `begin_turn` and `Reply` raise.
    """
    from langsmith import tracing_context

    with tracing_context(enabled=False):
        return compiled().invoke({}, context=work)["reply"]


@cache
def compiled() -> CompiledStateGraph[Any, Any, Any, Any]:
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(Talk, context_schema=Work)
    graph.add_node("hear", hear)
    graph.add_node("retrieve", retrieve)
    graph.add_node("think", think)
    graph.add_node("look", look)
    graph.add_node("answer", answer)
    graph.add_edge(START, "hear")
    graph.add_edge("hear", "retrieve")
    graph.add_edge("retrieve", "think")
    graph.add_conditional_edges("think", next_of, {"own_memory": "answer", "shared_graph": "look", "act": "look"})
    graph.add_edge("look", "answer")
    graph.add_edge("answer", END)
    return graph.compile(name="turn")


def hear(state: Talk, runtime: Runtime[Work]) -> dict[str, Any]:
    work = runtime.context
    told = {"answer_id": work.answer_id, "adapters": work.adapters, "asker": work.asker, "key": work.key}
    return {"asked": open_turn(work.stores, work.llm, work.user_id, work.question, work.session_id, **told)}


def retrieve(state: Talk, runtime: Runtime[Work]) -> dict[str, Any]:
    with runtime.context.narrow.through():
        return {"recalled": recall_turn(runtime.context.stores, state["asked"])}


def think(state: Talk, runtime: Runtime[Work]) -> dict[str, Any]:
    return {"route": choose_route(state["asked"].message.content, state["recalled"].lines)}


def next_of(state: Talk) -> Route:
    return state["route"]


def look(state: Talk, runtime: Runtime[Work]) -> dict[str, Any]:
    with runtime.context.narrow.through():
        return {"recalled": widen_turn(runtime.context.stores, state["asked"], state["recalled"])}


def answer(state: Talk, runtime: Runtime[Work]) -> dict[str, Any]:
    work = runtime.context
    turn = compose_turn(work.stores, work.llm, state["asked"], state["recalled"], state["route"])
    work.begun(turn)
    reply = stream_turn(work.stores, work.llm, turn, work.adapters)
    for piece in reply:
        work.say(piece)
        if work.is_left():
            reply.close()
    return {"reply": reply}
