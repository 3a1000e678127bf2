"""Fixtures of the DAO's tests: a ledger of their own, emptied for each test, and a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dao.ledgers import Clock, Ledger, own_ledger
from tests.embedded.fixtures import EngineHome


@pytest.fixture(scope="module")
def module_ledger(engine_home: EngineHome) -> Iterator[Ledger]:
    with own_ledger(engine_home) as made:
        yield made


@pytest.fixture
def ledger(module_ledger: Ledger) -> Ledger:
    module_ledger.empty()
    return module_ledger


@pytest.fixture
def clock() -> Clock:
    return Clock()
