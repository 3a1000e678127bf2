"""The asset that learns from ratings and edits: only when asked for, and honest when there is nothing to learn from."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from lpm_kernel.artefacts import decode_record, decode_records, encode_record, encode_records
from lpm_kernel.L2.records import Adapter, PreferencePair, PreferenceTraining
from lpm_kernel.L2.train import TARGETS
from lpm_kernel.layout import asset_key
from lpm_kernel.records import User
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.calibration import keep_pick, put_pairs
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.feedback import keep_feedback
from lpm_kernel.stores.users import add_user
from tests.samples import NOON, make_chunk, make_message, make_pair
from tests.twin_assets.conftest import Workshop, figures
from twin_assets.definitions import build_defs
from twin_assets.people import register_user

START = Adapter("a" * 64, "k", "c", 1, "b" * 64, "r", 4, 8, TARGETS, 1, 7, (1.0,), 1.0, 1.0)


def materialize(workshop: Workshop, user_id: str) -> dict[str, Any]:
    job = build_defs(workshop.settings).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=workshop.instance, partition_key=user_id, asset_selection=[dg.AssetKey("dpo")])
    return figures(result, "dpo")


@pytest.fixture
def talker(workshop: Workshop) -> str:
    """Somebody with an adapter and one reply of their twin, on a line that is there."""
    user_id = "dpo-ada"
    register_user(workshop.stores, workshop.instance, User(user_id, "Ada"))
    own = TenantBlobs(workshop.stores.blobs, user_id)
    chunk = make_chunk(user_id, "Our cat is called Pilchard.")
    own.put(chunk.text_key, b"Our cat is called Pilchard.")
    own.put(asset_key(user_id, "chunks", "jsonl"), encode_records([chunk]))
    own.put(asset_key(user_id, "lora_adapter", "json"), encode_record(START))
    with workshop.stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id, "Ada"))
        append_message(connection, make_message(user_id, 1, "How is your cat called?"))
        append_message(connection, make_message(user_id, 2, "Admiral.", sender="twin"))
    return user_id


def test_without_feedback_and_with_feedback_that_makes_no_pair_there_is_a_reason_and_no_adapter(
    workshop: Workshop, talker: str
) -> None:
    assert materialize(workshop, talker)["skipped"] == "nobody rated or edited a reply yet"
    with workshop.stores.tables.transaction(talker) as connection:
        keep_feedback(connection, talker, "m2", truth=-1, created_at=NOON)
        put_pairs(connection, talker, [make_pair("p1")])
        keep_pick(connection, talker, "p1", "neither", NOON)
    told = materialize(workshop, talker)
    assert told["pairs"] == 0
    assert set(told["refused"]) == {"source_gone", "no_side_taken"}, "ratings and picks are both read"
    own = TenantBlobs(workshop.stores.blobs, talker)
    made = decode_record(own.get(asset_key(talker, "dpo", "json")), PreferenceTraining)
    assert (made.adapter, told["skipped"]) == (None, made.skipped)
    assert list(made.refused.values()) == [1, 1]
    assert list(own.list_keys(f"{own.prefix}dpo/")) == []
    assert decode_records(own.get(asset_key(talker, "preference_pairs", "jsonl")), PreferencePair) == []
