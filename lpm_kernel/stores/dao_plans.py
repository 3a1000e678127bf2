"""Rows of plans: each step's state in one transaction with what is told of it, so that a plan goes on where it was killed.

Belongs here: the Protocol, its class for PostgreSQL, and queries on `dao_plan`, `dao_plan_event` and `dao_plan_line`.
Does not belong here: what a step does (`dao/planner/steps.py`).

A plan is its asker's. Words in it are rows of whose words they are: they go with their document, and with them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from lpm_kernel.artefacts import decode_record, encode_record
from lpm_kernel.dao.planner.records import Line, Order, Plan, PlanEvent, PlanFailure, PlanState, PlanStatus
from lpm_kernel.errors import VoteError
from lpm_kernel.stores.dao_plan_schema import dao_plan, dao_plan_event, dao_plan_line
from lpm_kernel.stores.documents import deleted_documents, lock_documents, private_documents
from lpm_kernel.stores.schema import WRITTEN_NOW
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

MOST_UNFINISHED = 1000


class Plans(Protocol):
    def begin(self, plan: Plan, started: PlanEvent, most: int = MOST_UNFINISHED) -> Plan:
        """Keep a new plan; where the asker has one under this key already, that one.

        Raises: VoteError `key_reused`; `plans_busy` where `most` of the asker's are under way.
        """
        ...

    def get(self, asker: str, plan_id: str) -> Plan:
        """Raises: VoteError `plan_unknown`: there is none, or it is another's."""
        ...

    def newest(self, asker: str, limit: int = 50) -> list[Plan]: ...

    def running(self, limit: int = 50) -> list[tuple[str, str]]:
        """Asker and id of plans that are under way and that nobody works on, of everybody, oldest first."""
        ...

    def lease(self, asker: str, plan_id: str, worker: str, for_s: float) -> bool:
        """Let one worker alone work on a plan, for so long; again, where it has it. False: it is another's, or it has ended."""
        ...

    def leave(self, asker: str, plan_id: str, worker: str) -> None:
        """To whoever comes next. Idempotent."""
        ...

    def fail(self, plan: Plan, failure: PlanFailure) -> Plan:
        """End it where it is, with what is told of it; what it has come to is kept. Raises: as `save`."""
        ...

    def save(self, plan: Plan, state: PlanState, events: Sequence[PlanEvent]) -> Plan:
        """The plan one step on, with what is told of it, or neither.

        Raises: VoteError `plan_moved_on`: somebody else took this step meanwhile; `plan_unknown`.
        """
        ...

    def events_after(self, asker: str, plan_id: str, number: int = 0) -> list[PlanEvent]: ...

    def keep_lines(self, asker: str, plan_id: str, member: str, lines: Sequence[Line]) -> None:
        """Idempotent. Those of a document that was deleted or made private a moment ago are not kept."""
        ...

    def lines(self, asker: str, plan_id: str) -> dict[str, Line]:
        """By id; what was forgotten since is not there."""
        ...


def plan_unknown(plan_id: str) -> VoteError:
    return VoteError("plan_unknown", f"there is no plan {plan_id[:80]!r} of yours")


def plan_moved_on(plan: Plan) -> VoteError:
    return VoteError(
        "plan_moved_on", f"plan {plan.plan_id} was taken past step {plan.state.number} by somebody else: it goes on there"
    )


def plans_busy(asker: str, most: int) -> VoteError:
    return VoteError(
        "plans_busy", f"{most} plans of {asker} are under way, and no more may be: wait for one of them, or ask for less"
    )


def failed_event(plan: Plan, failure: PlanFailure) -> PlanEvent:
    content = {"code": failure.code, "step": failure.step}
    return PlanEvent(plan.state.told + 1, failure.at, "failed", content)


def same_order(kept: Plan, plan: Plan) -> Plan:
    """The kept one. Raises: VoteError `key_reused` where it is for something else."""
    if kept.order != plan.order:
        raise VoteError("key_reused", "this key stands for a plan with another order: use a new key for a new plan")
    return kept


class PgPlans:
    """`Plans` in the application's PostgreSQL. Safe to share between threads.

    Raises, each call: StoreError; UserInputError `user_id_invalid`; AccessError `not_yours` within a request.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def begin(self, plan: Plan, started: PlanEvent, most: int = MOST_UNFINISHED) -> Plan:
        from sqlalchemy import func, select
        from sqlalchemy.dialects.postgresql import insert

        asker = plan.order.asker
        row = {
            "plan_id": plan.plan_id,
            "user_id": asker,
            "idempotency_key": plan.key,
            "plan_order": _json(plan.order),
            "status": plan.status,
            "state": _json(_opened(plan.state, started)),
            "created_at": plan.created_at,
        }
        same = dao_plan.c.plan_id == plan.plan_id
        if plan.key is not None:  # no key is nobody's: two plans without one are two
            same |= dao_plan.c.idempotency_key == plan.key
        known = select(dao_plan).where(dao_plan.c.user_id == asker, same)
        under_way = select(func.count()).where(dao_plan.c.user_id == asker, dao_plan.c.status == "running")
        with self._tables.transaction(asker) as connection:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"plans:{asker}"))))
            kept = connection.execute(known).first()
            if kept is None:
                if connection.execute(under_way).scalar_one() >= most:
                    raise plans_busy(asker, most)
                if connection.execute(insert(dao_plan).values(row).on_conflict_do_nothing()).rowcount:
                    _tell(connection, plan, [started])
                kept = connection.execute(known).first()
        if kept is None:
            raise plan_unknown(plan.plan_id)
        return same_order(_record(kept), plan)

    def get(self, asker: str, plan_id: str) -> Plan:
        from sqlalchemy import select

        with self._tables.transaction(asker) as connection:
            row = connection.execute(select(dao_plan).where(*_own(asker, plan_id))).first()
        if row is None:
            raise plan_unknown(plan_id)
        return _record(row)

    def newest(self, asker: str, limit: int = 50) -> list[Plan]:
        from sqlalchemy import select

        query = select(dao_plan).where(dao_plan.c.user_id == asker)
        with self._tables.transaction(asker) as connection:
            rows = connection.execute(query.order_by(dao_plan.c.created_at.desc(), dao_plan.c.plan_id).limit(limit)).all()
        return [_record(row) for row in rows]

    def running(self, limit: int = 50) -> list[tuple[str, str]]:
        from sqlalchemy import func, select

        free = dao_plan.c.leased_until.is_(None) | (dao_plan.c.leased_until <= func.now())
        query = select(dao_plan.c.user_id, dao_plan.c.plan_id).where(dao_plan.c.status == "running", free)
        with self._tables.operator_transaction() as connection:
            rows = connection.execute(query.order_by(dao_plan.c.created_at, dao_plan.c.plan_id).limit(limit)).all()
        return [(row.user_id, row.plan_id) for row in rows]

    def lease(self, asker: str, plan_id: str, worker: str, for_s: float) -> bool:
        from sqlalchemy import func, update

        # by the clock of the database: those of two machines differ
        until = func.now() + timedelta(seconds=for_s)
        mine = dao_plan.c.leased_until.is_(None) | (dao_plan.c.leased_until <= func.now()) | (dao_plan.c.worker == worker)
        taken = update(dao_plan).where(*_own(asker, plan_id), dao_plan.c.status == "running", mine)
        with self._tables.transaction(asker) as connection:
            return bool(connection.execute(taken.values(worker=worker, leased_until=until)).rowcount)

    def leave(self, asker: str, plan_id: str, worker: str) -> None:
        from sqlalchemy import update

        left = update(dao_plan).where(*_own(asker, plan_id), dao_plan.c.worker == worker)
        with self._tables.transaction(asker) as connection:
            connection.execute(left.values(worker=None, leased_until=None))

    def save(self, plan: Plan, state: PlanState, events: Sequence[PlanEvent]) -> Plan:
        status: PlanStatus = "running" if state.next else "done"
        self._change(plan, events, state=_json(state), status=status)
        return replace(plan, status=status, state=state)

    def fail(self, plan: Plan, failure: PlanFailure) -> Plan:
        told = failed_event(plan, failure)
        state = replace(plan.state, told=told.number)
        self._change(plan, [told], state=_json(state), status="failed", failure=_json(failure))
        return replace(plan, status="failed", state=state, failure=failure)

    def _change(self, plan: Plan, events: Sequence[PlanEvent], **values: Any) -> None:
        from sqlalchemy import select, update

        asker = plan.order.asker
        with self._tables.transaction(asker) as connection:
            locked = select(dao_plan).where(*_own(asker, plan.plan_id)).with_for_update()
            row = connection.execute(locked).first()
            if row is None:
                raise plan_unknown(plan.plan_id)
            if row.state["number"] != plan.state.number or row.status != "running":
                raise plan_moved_on(plan)
            connection.execute(update(dao_plan).where(*_own(asker, plan.plan_id)).values(values | WRITTEN_NOW))
            _tell(connection, plan, events)

    def events_after(self, asker: str, plan_id: str, number: int = 0) -> list[PlanEvent]:
        from sqlalchemy import select

        table = dao_plan_event
        query = select(table).where(table.c.user_id == asker, table.c.plan_id == plan_id, table.c.number > number)
        with self._tables.transaction(asker) as connection:
            rows = connection.execute(query.order_by(table.c.number)).all()
        return [PlanEvent(row.number, row.at, row.name, row.content) for row in rows]

    def keep_lines(self, asker: str, plan_id: str, member: str, lines: Sequence[Line]) -> None:
        from sqlalchemy.dialects.postgresql import insert

        rows = [
            {
                "plan_id": plan_id,
                "line_id": line.line_id,
                "user_id": member,
                "asker": asker,
                "document_sha256": line.citation.document_sha256,
                "line": _json(line),
            }
            for line in lines
        ]
        if rows:
            with self._tables.transaction(member) as connection:
                lock_documents(connection, member)  # a deletion that is under way finds these lines, or they find it
                withheld = deleted_documents(connection, member) | private_documents(connection, member)
                if shown := [row for row in rows if row["document_sha256"] not in withheld]:
                    connection.execute(insert(dao_plan_line).values(shown).on_conflict_do_nothing())

    def lines(self, asker: str, plan_id: str) -> dict[str, Line]:
        from sqlalchemy import select

        query = select(dao_plan_line).where(dao_plan_line.c.plan_id == plan_id, dao_plan_line.c.asker == asker)
        with self._tables.transaction(asker) as connection:
            rows = connection.execute(query.order_by(dao_plan_line.c.line_id)).all()
        return {row.line_id: decode_record(json.dumps(row.line).encode(), Line) for row in rows}


def forget_plan_lines(connection: Connection, user_id: str, sha256s: Collection[str]) -> None:
    """Lines out of these documents leave every plan, whoever asked for it. Belongs into the transaction that deletes a
    document, or makes it private."""
    from sqlalchemy import delete

    own = (dao_plan_line.c.user_id == user_id, dao_plan_line.c.document_sha256.in_(list(sha256s)))
    connection.execute(delete(dao_plan_line).where(*own))


def _own(asker: str, plan_id: str) -> tuple[Any, ...]:
    return dao_plan.c.user_id == asker, dao_plan.c.plan_id == plan_id


def _opened(state: PlanState, started: PlanEvent) -> PlanState:
    return replace(state, told=started.number)


def _tell(connection: Connection, plan: Plan, events: Sequence[PlanEvent]) -> None:
    from sqlalchemy.dialects.postgresql import insert

    rows = [
        {
            "plan_id": plan.plan_id,
            "number": event.number,
            "user_id": plan.order.asker,
            "at": event.at,
            "name": event.name,
            "content": dict(event.content),
        }
        for event in events
    ]
    if rows:
        connection.execute(insert(dao_plan_event).values(rows))


def _json(record: Any) -> Any:
    return json.loads(encode_record(record))


def _record(row: Row[Any]) -> Plan:
    # whose row it is asks, whatever stands in it
    order = replace(decode_record(json.dumps(row.plan_order).encode(), Order), asker=row.user_id)
    state = decode_record(json.dumps(row.state).encode(), PlanState)
    failure = None if row.failure is None else decode_record(json.dumps(row.failure).encode(), PlanFailure)
    return Plan(row.plan_id, order, row.created_at, row.status, state, row.idempotency_key, failure)
