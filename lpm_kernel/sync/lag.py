"""How far the stores are behind PostgreSQL: for metrics, and for whoever asks whether all has arrived.

Belongs here: counting what waits, of every kind that goes the way of `worker.py`.
Does not belong here: showing it (`twin_serving/change_metrics.py`, `twin_assets/changes.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.stores.changes import lag
from lpm_kernel.stores.dao_projections import list_ledger_lags, stage_of

if TYPE_CHECKING:
    from lpm_kernel.stores.tables import Tables


@dataclass(frozen=True, slots=True)
class Backlog:
    """`target`: of changes, or `graph/ledger` and the like of the DAO's. `oldest_s`: for how long the oldest of the `undone`
    has waited, 0 where none does. `given_up`: what waits for a person alone."""

    target: str
    undone: int
    oldest_s: float
    given_up: int


def list_backlogs(tables: Tables, now: datetime) -> list[Backlog]:
    """Of everybody, one a target. Raises: StoreError."""
    with tables.operator_transaction() as connection:
        changes, ledgers = lag(connection), list_ledger_lags(connection)
    told = [Backlog(item.target, item.undone, item.age_s(now), item.given_up) for item in changes]
    for target, undone, oldest_at in ledgers:
        oldest_s = max(0.0, (now - oldest_at).total_seconds()) if oldest_at else 0.0
        told.append(Backlog(stage_of(target), undone, oldest_s, 0))
    return told
