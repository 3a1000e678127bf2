"""Five members and their first question: what tests of the DAO's service begin with.

Belongs here: short ways to ask it, and what they look at.
Does not belong here: ledgers and clocks (`ledgers.py`).
"""

from __future__ import annotations

import pytest

from lpm_kernel.dao.events import kind_of
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import TwinError

FIVE = ("ada", "ben", "cleo", "dan", "eve")


def benches(dao: Dao, **asked: object) -> str:
    return dao.propose("ada", "Benches", "The park needs its benches back.", **asked).proposal_id  # type: ignore[arg-type]


def kinds(dao: Dao) -> list[str]:
    return [kind_of(event.happening) for event in dao.events_after(0)]


def code_of(error: pytest.ExceptionInfo[TwinError]) -> str:
    return error.value.code
