"""A worker that is killed between the write into a store and its mark: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from lpm_kernel.layout import tenant_prefix
from lpm_kernel.records import ChatMessage
from lpm_kernel.stores.changes import Change, list_undone
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.memory_writes import put_memory_write
from lpm_kernel.stores.open import Stores
from lpm_kernel.sync.retry import LEASE_S
from lpm_kernel.sync.worker import work_changes_of
from tests.embedded.fixtures import EngineHome
from tests.forgetful_twin import CAT, Twin

ROOT = Path(__file__).parents[2]


def killed(engine_home: EngineHome, moment: str, user_id: str, adapters: Path) -> int:
    """How the process ended."""
    environment = {**os.environ, **engine_home.environment, "TWIN_HOME": str(engine_home.path)}
    command = [sys.executable, "-m", "tests.sync.killed", moment, user_id, str(adapters)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False).returncode


def undone(stores: Stores, user_id: str) -> list[Change]:
    with stores.tables.transaction(user_id) as connection:
        return list_undone(connection, user_id)


@pytest.mark.parametrize(("moment", "written"), [("before memories", 0), ("after memories", 1)])
def test_what_was_said_is_remembered_once_whenever_the_worker_died(
    engine_home: EngineHome, stores: Stores, user_id: str, tmp_path: Path, moment: str, written: int
) -> None:
    said_at = datetime.now(UTC) - timedelta(minutes=1)
    for number, words in enumerate(("I moved to Porto in May.", "My sister sails a red boat."), 1):
        message = ChatMessage(f"m{number}", user_id, "s", "user", said_at + timedelta(seconds=number), words)
        with stores.tables.transaction(user_id) as connection:
            append_message(connection, message)
            put_memory_write(connection, message, number)
    assert killed(engine_home, moment, user_id, tmp_path) == -9
    held = stores.memories.every(user_id)
    assert len(held) == written
    [first, second] = undone(stores, user_id)
    assert (first.attempts, second.attempts) == (1, 0), "it counts as a try, and nothing has overtaken it"
    later = datetime.now(UTC) + timedelta(seconds=LEASE_S)
    work_changes_of(stores, user_id, lambda: later)
    assert undone(stores, user_id) == []
    turns = [memory.text for memory in stores.memories.every(user_id) if memory.kind == "turn"]
    assert sorted(turns) == ["I moved to Porto in May.", "My sister sails a red boat."]
    assert {memory.memory_id for memory in held} <= {memory.memory_id for memory in stores.memories.every(user_id)}


def test_a_person_whose_deletion_was_killed_is_gone_when_the_worker_has_gone_on(
    engine_home: EngineHome, stores: Stores, user_id: str, tmp_path: Path
) -> None:
    twin = Twin(stores, user_id, tmp_path / "adapters")
    twin.send("cats.md", CAT)
    twin.build()
    assert killed(engine_home, "after vectors", user_id, twin.adapters) == -9
    assert {change.kind for change in undone(stores, user_id)} == {"delete_user"}
    later = datetime.now(UTC) + timedelta(seconds=LEASE_S)
    work_changes_of(stores, user_id, lambda: later)
    assert stores.vectors.count(user_id) == 0
    assert stores.memories.every(user_id) == []
    assert stores.graph.count(user_id).facts == 0
    assert list(stores.blobs.list_keys(tenant_prefix(user_id))) == []
    with stores.tables.transaction(user_id) as connection:
        assert connection.execute(text("select count(*) from app_user")).scalar_one() == 0
        assert connection.execute(text("select done_at is not null from deletion")).scalar_one()
