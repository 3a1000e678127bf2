"""Members of a bench's DAO, its rules, and how figures of seconds are printed."""

from __future__ import annotations

import resource
from collections.abc import Sequence

import numpy as np

from lpm_kernel.dao.service import open_dao
from lpm_kernel.records import User
from lpm_kernel.settings import DaoSettings
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import add_user


def make_members(stores: Stores, count: int) -> list[str]:
    """So many users, and nobody else: all users of a platform are members."""
    members = [f"voter-{number:03d}" for number in range(count)]
    for member in members:
        with stores.tables.transaction(member) as connection:
            add_user(connection, User(member))
    found = open_dao(stores).members()
    if found != members:
        raise RuntimeError(f"{len(found)} members where {count} are wanted: run it on engines that nobody has used")
    return members


def rules_with(settings: DaoSettings, **changed: object) -> DaoSettings:
    """The settings of the project with these put in their place; ballots of twins count at once."""
    return settings.model_copy(update={"veto_hours": 0, **changed})


def percentiles(values: Sequence[float]) -> str:
    p50, p95 = np.percentile(values, [50, 95])
    return f"{p50:8.2f} {p95:8.2f} {max(values):8.2f}"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
