"""Rows of plans: each step's state in one transaction with what is told of it, so that a plan goes on where it was killed.

Belongs here: the Protocol, its class for PostgreSQL, and queries on `dao_plan`, `dao_plan_event` and `dao_plan_line`.
Does not belong here: what a step does (`dao/planner/run.py`).

A plan is its asker's. Words in it are rows of whose words they are: they go with their document, and with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lpm_kernel.dao.planner.records import Line, Plan, PlanEvent, PlanState
from lpm_kernel.stores.tables import Tables


class Plans(Protocol):
    def begin(self, plan: Plan, events: Sequence[PlanEvent]) -> Plan:
        """Keep a new plan; where the asker has one under this key already, that one. Raises: VoteError `key_reused`."""
        ...

    def get(self, asker: str, plan_id: str) -> Plan:
        """Raises: VoteError `plan_unknown`: there is none, or it is another's."""
        ...

    def newest(self, asker: str, limit: int = 50) -> list[Plan]: ...

    def running(self, limit: int = 50) -> list[tuple[str, str]]:
        """Asker and id of plans that are not done, of everybody, oldest first."""
        ...

    def save(self, plan: Plan, state: PlanState, events: Sequence[PlanEvent]) -> Plan:
        """The plan one step on, with what is told of it, or neither.

        Raises: VoteError `plan_moved_on`: somebody else took this step meanwhile.
        """
        ...

    def events_after(self, asker: str, plan_id: str, number: int = 0) -> list[PlanEvent]: ...

    def keep_lines(self, asker: str, plan_id: str, member: str, lines: Sequence[Line]) -> None:
        """Idempotent."""
        ...

    def lines(self, asker: str, plan_id: str) -> dict[str, Line]:
        """By id; without those of a document that was deleted or made private since."""
        ...


class PgPlans:
    def __init__(self, tables: Tables) -> None:
        self.tables = tables
