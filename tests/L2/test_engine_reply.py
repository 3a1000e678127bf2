"""A turn on a real engine: an adapter it refuses is answered for by the base, and a listener who leaves frees its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lpm_kernel.chat import begin_turn, stream_turn
from lpm_kernel.L0.embed import embed_chunks, generation_of, vector_entries
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.records import User, sha256_hex
from lpm_kernel.reply import Reply
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.conversations import find_message
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.stores.users import add_user
from tests.fakes import no_progress
from tests.samples import make_items, make_release

DAMAGED = b"GGUF and then nothing that an adapter would begin with"


@pytest.fixture
def engine(tiny_base: BaseModel) -> Iterator[LlamaCpp]:
    engine = LlamaCpp(tiny_base, slots=1, context_tokens=512)
    yield engine
    engine.close()


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], tiny_base: BaseModel) -> str:
    """One note, and a live release whose adapter is damaged, with a hash that agrees."""
    user_id = new_user()
    items = make_items(user_id, {"cats.md": "My cat is called Pilchard."})
    table, _ = embed_chunks(items, stores.embedder, None, no_progress)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    sha256 = sha256_hex(DAMAGED)
    made = replace(
        make_release(user_id),
        memory_generation=generation_of(table),
        embedding_fingerprint=stores.embedder.fingerprint,
        gguf_key=f"tenant/{user_id}/lora/{sha256}.gguf",
        gguf_sha256=sha256,
        base_sha256=tiny_base.sha256,
    )
    TenantBlobs(stores.blobs, user_id).put(made.gguf_key, DAMAGED)
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id, "Nora"))
        promote_release(connection, made)
    return user_id


def test_a_damaged_adapter_is_answered_for_by_the_base_and_a_listener_who_leaves_frees_its_place(
    stores: Stores, twin: str, engine: LlamaCpp, tmp_path: Path
) -> None:
    def begin() -> Reply:
        return stream_turn(stores, engine, begin_turn(stores, engine, twin, "Tell me of the cat, please."), tmp_path)

    reply = begin()
    heard = [next(reply), next(reply)]
    reply.close()
    assert [name for name in reply.turn.degraded if name in ("adapter", "base")] == ["adapter"]
    with stores.tables.transaction(twin) as connection:
        message = find_message(connection, twin, reply.turn.answer_id)
    assert message is not None
    assert (message.content, message.cut_off) == ("".join(heard), True)
    again = begin()
    assert [next(again), next(again)] == heard, "the only place is free, and greedy words are the same"
    again.close()
