"""A plan as a LangGraph: the same steps as `run_plan`, each stored in our own table before the next.

Belongs here: which step follows which.
Does not belong here: what a step does (`lpm_kernel/dao/planner`), and events on the wire.
"""

from __future__ import annotations

from collections.abc import Callable

from lpm_kernel.dao.planner.records import Plan, PlanEvent
from lpm_kernel.dao.planner.run import Desk


def run_planner(
    desk: Desk,
    asker: str,
    plan_id: str,
    progress: Callable[[PlanEvent], None] | None = None,
    is_left: Callable[[], bool] = lambda: False,
) -> Plan:
    """As `run_plan`, and raises the same."""
    raise NotImplementedError
