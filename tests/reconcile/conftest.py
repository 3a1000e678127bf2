"""A whole twin of two documents, in every store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lpm_kernel.stores.open import Stores
from tests.forgetful_twin import BOAT, CAT
from tests.reconcile.whole_twin import WholeTwin


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], tmp_path: Path) -> WholeTwin:
    made = WholeTwin(stores, new_user(), tmp_path / "adapters")
    made.send("cats.md", CAT)
    made.send("boat.txt", BOAT)
    made.build()
    return made
