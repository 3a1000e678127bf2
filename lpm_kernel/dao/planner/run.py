"""A plan from its order to its end, step by step; killed between any two, it goes on from the last that is stored.

Belongs here: which step follows which, and what they work with.
Does not belong here: what a step decides (`choose.py`, `rounds.py`, `agreement.py`, `amendments.py`, `outcome.py`).

    choose ─► state ─► critique ─► revise ─► judge ─┬─► amend ─► conclude ─► act
              (in batches)          (in batches)    └─► critique, for the next round
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.dao.planner.records import Order, Plan, PlanEvent
from lpm_kernel.stores.dao_plans import Plans

if TYPE_CHECKING:
    from lpm_kernel.dao.service import Dao
    from lpm_kernel.stores.llm import Llm
    from lpm_kernel.stores.open import Stores


@dataclass(frozen=True, slots=True)
class Desk:
    """What plans are worked on with."""

    plans: Plans
    clock: Callable[[], datetime]


def open_desk(stores: Stores, llm: Llm, dao: Dao) -> Desk:
    raise NotImplementedError


def start_plan(desk: Desk, order: Order, *, key: str | None = None) -> Plan:
    """Check the order and keep it; nothing is asked yet. The same key gives the same plan.

    Raises: VoteError `not_a_member`, `proposal_unknown`, `key_reused`; UserInputError `goal_empty`, `goal_invalid`,
    `goal_too_long`; StoreError.
    """
    raise NotImplementedError


def run_plan(
    desk: Desk,
    asker: str,
    plan_id: str,
    progress: Callable[[PlanEvent], None] | None = None,
    is_left: Callable[[], bool] = lambda: False,
) -> Plan:
    """Go on from the last stored step to the end, or until `is_left` after a step; `progress` is told each event once it is
    stored. Without a graph; `twin_serving/agent/planner_graph.py` takes the same steps as one. Run it outside of a request: it
    opens rows of all who are consulted, for what they share.

    Raises: VoteError `plan_unknown`, `plan_moved_on` (somebody else works on it); LlmError; StoreError.
    """
    raise NotImplementedError
