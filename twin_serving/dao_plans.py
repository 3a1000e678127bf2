"""The thread that works on plans, one after another, from where each was left: by this process or by one that ended.

Belongs here: which plan is next, what happens when it fails, and that it ends with the API.
Does not belong here: the steps of a plan (`agent/planner_graph.py`, `lpm_kernel/dao/planner`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from anyio import to_thread
from sse_starlette import ServerSentEvent

from lpm_kernel.dao.planner.run import fail_plan
from lpm_kernel.errors import TwinError, UserInputError
from lpm_kernel.stores.dao_plans import PgPlans

if TYPE_CHECKING:
    from lpm_kernel.dao.planner.records import PlanEvent
    from lpm_kernel.dao.planner.run import Desk
    from lpm_kernel.dao.service import Dao
    from lpm_kernel.stores.dao_plans import Plans
    from lpm_kernel.stores.llm import Llm
    from lpm_kernel.stores.open import Stores

_LOG = logging.getLogger(__name__)
CLOSE_S = 10.0
LOOK_S = 5.0
"""How often it looks for plans that another process has left."""
AGAIN_S = 5.0
MOST_AGAIN_S = 300.0
"""Between two tries at a plan that fails: twice as long each time, up to this."""
MOST_INTERNAL = 5
"""Tries at a plan that fails of what nobody foresaw; then it has failed."""
LEASE_S = 120.0
"""For which a plan is this process's, from its last step on; a process that was killed leaves it to others after as long."""
HEAR_S = 0.5
"""How often a listener looks for what another process has told."""


class PlanWorker:
    """One thread of its own, in no request's context: a plan opens what all who are consulted share."""

    def __init__(self, stores: Stores, dao: Dao, llm: Callable[[], Llm]) -> None:
        self._stores, self._dao, self._llm = stores, dao, llm
        self.plans: Plans = PgPlans(stores.tables)
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: dict[str, tuple[int, float, TwinError]] = {}
        self._name = uuid.uuid4().hex

    def desk(self) -> Desk:
        """Raises: LlmError while the model is not there."""
        from lpm_kernel.dao.planner.run import open_desk

        return open_desk(self._stores, self._llm(), self._dao)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="plan-worker", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look now: there is a new plan."""
        self._wake.set()

    def failure(self, plan_id: str) -> TwinError | None:
        """Why the last try of this process failed; another will follow."""
        found = self._failed.get(plan_id)
        return found[2] if found else None

    def stop(self) -> None:
        """End after the step under way."""
        self._closed.set()
        self._wake.set()

    def close(self) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def work(self) -> int:
        """Work on every plan under way that no other process has and whose time has come; how many. Raises: StoreError."""
        worked = 0
        for asker, plan_id in self.plans.running():
            tries, again_at, _ = self._failed.get(plan_id, (0, 0.0, None))
            if self._closed.is_set():
                break
            if time.monotonic() < again_at or not self.plans.lease(asker, plan_id, self._name, LEASE_S):
                continue
            worked += 1
            try:
                self._work_on(asker, plan_id)
                self._failed.pop(plan_id, None)
            except TwinError as error:
                if error.code in ("plan_moved_on", "plan_unknown"):  # somebody else works on it, or its asker has gone
                    continue
                self._put_off(asker, plan_id, tries, error, hopeless=not error.retryable)
            except Exception as error:  # those behind it would never come to their turn
                _LOG.error("plan %s failed", plan_id, exc_info=error)
                internal = TwinError("internal", "the server's log says why")
                self._put_off(asker, plan_id, tries, internal, hopeless=tries + 1 >= MOST_INTERNAL)
            finally:
                self.plans.leave(asker, plan_id, self._name)
        return worked

    def _put_off(self, asker: str, plan_id: str, tries: int, error: TwinError, *, hopeless: bool) -> None:
        if hopeless:
            try:
                fail_plan(self.plans, asker, plan_id, error, self._dao.clock())
                self._failed.pop(plan_id, None)
                _LOG.warning("plan %s has failed: %s", plan_id, error.code)
                return
            except TwinError as again:
                _LOG.warning("that plan %s has failed could not be stored: %s", plan_id, again.code)
        self._rest(plan_id, tries, error)

    def _rest(self, plan_id: str, tries: int, error: TwinError) -> None:
        wait_s = min(MOST_AGAIN_S, AGAIN_S * 2**tries)
        self._failed[plan_id] = tries + 1, time.monotonic() + wait_s, error
        _LOG.warning("plan %s is tried again in %.0f s: %s", plan_id, wait_s, error)

    def _work_on(self, asker: str, plan_id: str) -> None:
        from twin_serving.agent.planner_graph import run_planner

        def is_left() -> bool:
            """After each step: whether this ends, or the plan has become another's while a step took too long."""
            return self._closed.is_set() or not self.plans.lease(asker, plan_id, self._name, LEASE_S)

        run_planner(self.desk(), asker, plan_id, is_left=is_left)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.clear()
            try:
                self.work()
            except TwinError as error:
                _LOG.warning("plans could not be looked for: %s", error)
            except Exception as error:
                _LOG.error("the worker of plans goes on after a failure", exc_info=error)
            self._wake.wait(LOOK_S)


async def plan_events(
    plans: Plans, asker: str, plan_id: str, number: int, life_s: float, ending: Callable[[], bool]
) -> AsyncIterator[ServerSentEvent]:
    """What is told of a plan after this number, until it is done or has failed, `life_s` is over, or all is ending."""
    until = time.monotonic() + life_s
    while not ending():
        events: Sequence[PlanEvent] = await to_thread.run_sync(plans.events_after, asker, plan_id, number)
        for event in events:
            number = event.number
            yield encoded(event)
        if (events and events[-1].name in ("done", "failed")) or time.monotonic() >= until:
            return
        await asyncio.sleep(HEAR_S)


def encoded(event: PlanEvent) -> ServerSentEvent:
    content = {"number": event.number, "at": event.at.isoformat(), **event.content}
    return ServerSentEvent(json.dumps(content, ensure_ascii=False), event=event.name, id=str(event.number))


def number_of(last_event_id: str | None) -> int:
    """Raises: UserInputError `event_id_invalid`."""
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 9):
        raise UserInputError("event_id_invalid", "Last-Event-ID is the id of an event as it came: its number in the plan")
    return int(last_event_id)
