"""What happens to documents reaches the assets by the sensor: the first, a new one, an edited one, a deleted one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from sqlalchemy import text

from lpm_kernel.forget import delete_document
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.recall.retention import purge_users
from lpm_kernel.recall.write_gate import remember_turn
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.conversations import append_message, find_message
from lpm_kernel.stores.documents import mark_taken_up
from lpm_kernel.stores.open import Stores
from tests.samples import NOON, make_memory_of, make_message
from twin_assets.partitions import users
from twin_assets.sensors import build_users_sensor

SEEN = tuple[bool, str | None]
"""Whether the user got a partition, and the key of the run that was asked for."""


@pytest.fixture
def look(stores: Stores, user_id: str) -> Iterator[Callable[[], SEEN]]:
    """A tick of the sensor over the real tables; what it asks for is taken up as `raw_documents` does."""
    sensor = build_users_sensor(load_settings())
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> SEEN:
            context = dg.build_sensor_context(instance=instance, resources={"stores": SimpleNamespace(stores=stores)})
            result = sensor(context)
            if isinstance(result, dg.SkipReason):
                return False, None
            assert isinstance(result, dg.SensorResult)
            added = {key for request in result.dynamic_partitions_requests or () for key in request.partition_keys}
            instance.add_dynamic_partitions(users.name or "", sorted(added))
            own = [request for request in result.run_requests or () if request.partition_key == user_id]
            assert len(own) <= 1
            assert all(request.asset_selection == [dg.AssetKey("raw_documents")] for request in own)
            with stores.tables.transaction(user_id) as connection:
                mark_taken_up(connection, user_id)
                connection.execute(text("update document set status = 'read' where status = 'received'"))
            return user_id in added, own[0].run_key if own else None

        yield tick


def send(stores: Stores, user_id: str, name: str, text: str) -> None:
    assert receive_document(stores.tables, stores.blobs, stores.settings.limits, user_id, name, text.encode()).sha256


def test_a_new_user_brings_a_partition_and_each_change_another_run(
    stores: Stores, user_id: str, look: Callable[[], SEEN], tmp_path: Path
) -> None:
    assert look() == (True, None), "whoever has no document yet has a partition, and no run"
    send(stores, user_id, "cat.md", "My cat is called Pilchard.")
    _, first = look()
    assert look() == (False, None), "taken up"
    send(stores, user_id, "cat.md", "My cat is called Pilchard.")
    assert look() == (False, None), "the same bytes under the same name are no change"
    send(stores, user_id, "cat.md", "My cat is called Herring.")
    _, edited = look()
    send(stores, user_id, "sea.md", "The sea was cold.")
    _, another = look()
    delete_document(stores, user_id, "sea.md", tmp_path)
    _, deleted = look()
    keys = [first, edited, another, deleted]
    assert None not in keys
    assert len(set(keys)) == 4, "each change is a run of its own"
    assert look() == (False, None)


def test_after_ninety_days_a_turn_is_trimmed_from_memory_and_stays_said(stores: Stores, user_id: str) -> None:
    """Turns are memories of low importance. What was distilled from talk is kept, and so is the talk itself."""
    settings = load_settings()
    assert settings.gate.turn_days == 90
    message = make_message(user_id, 1, "The ferry to Lundy leaves at nine on Tuesdays.")
    with stores.tables.transaction(user_id) as connection:
        append_message(connection, message)
    turn = remember_turn(stores.memories, message, 1, [], settings.gate)
    assert turn.outcome == "written"
    assert turn.memory.importance <= 0.5
    stores.memories.add_batch(user_id, [make_memory_of(user_id, "I never eat fish.", kind="preference", importance=0.9)])
    last = NOON.date() + timedelta(days=90)

    def kept() -> set[str]:
        return {memory.kind for memory in stores.memories.every(user_id)}

    purge_users(stores.memories, [user_id], last)
    assert kept() == {"turn", "preference"}
    purge_users(stores.memories, [user_id], last + timedelta(days=1))
    assert kept() == {"preference"}
    with stores.tables.transaction(user_id) as connection:
        said = find_message(connection, user_id, message.message_id)
    assert said is not None
    assert said.content == message.content
    assert stores.memories.current(user_id, as_of=datetime.now(UTC)) != []
