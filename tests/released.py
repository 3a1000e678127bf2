"""A twin with releases whose adapters lie in the blob store, over the real stores.

Belongs here: putting them there. Does not belong here: assertions.
"""

from __future__ import annotations

from dataclasses import replace

from lpm_kernel.L0.embed import embed_chunks, generation_of, vector_entries
from lpm_kernel.records import Release, User, sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.stores.users import add_user
from tests.fakes import no_progress
from tests.samples import make_items, make_release

NOTE = "My cat is called Pilchard."


def remember(stores: Stores, user_id: str, text: str = NOTE) -> str:
    """Make a memory of one note; its generation."""
    items = make_items(user_id, {"cats.md": text})
    table, _ = embed_chunks(items, stores.embedder, None, no_progress)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    return generation_of(table)


def put_release(stores: Stores, user_id: str, number: int, generation: str, base_sha256: str) -> Release:
    """The live one from now on; the higher the number, the later it was made."""
    adapter = f"adapter {number} of {user_id}".encode()
    made = replace(
        make_release(user_id, number),
        memory_generation=generation,
        embedding_fingerprint=stores.embedder.fingerprint,
        gguf_key=f"tenant/{user_id}/lora/{sha256_hex(adapter)}.gguf",
        gguf_sha256=sha256_hex(adapter),
        base_sha256=base_sha256,
    )
    TenantBlobs(stores.blobs, user_id).put(made.gguf_key, adapter)
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id, "Nora"))
        promote_release(connection, made)
    return made


def damage(stores: Stores, release: Release) -> None:
    """Other bytes lie where its adapter was."""
    TenantBlobs(stores.blobs, release.user_id).put(release.gguf_key, b"something else")
