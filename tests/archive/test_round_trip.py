"""Everything of a user as one file and back, on real stores: what comes out is what went in."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.archive.form import readdress
from lpm_kernel.archive.restore import import_user
from lpm_kernel.archive.write import open_export
from lpm_kernel.artefacts import encode_records, encode_table
from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.erase import delete_user
from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.L0.embed import chunk_texts, embed_chunks
from lpm_kernel.L0.library import chunk_documents, fetch_texts
from lpm_kernel.layout import asset_key, import_mark_key
from lpm_kernel.records import Citation, sha256_hex
from lpm_kernel.stores.ballot_drafts import keep_drafts, list_drafts
from lpm_kernel.stores.conversations import append_message, last_messages
from lpm_kernel.stores.documents import list_documents, list_waiting
from lpm_kernel.stores.feedback import keep_feedback, list_rated
from lpm_kernel.stores.open import Stores
from tests.fakes import no_progress
from tests.forgetful_twin import BOAT, CAT, Twin
from tests.samples import NOON, make_memory_of, make_message


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], tmp_path: Path) -> Twin:
    made = Twin(stores, new_user(), tmp_path / "adapters")
    made.send("cats.md", CAT)
    made.send("Boat Ö.txt", BOAT)
    made.build()
    user_id = made.user_id
    with stores.tables.transaction(user_id) as connection:
        documents = list_documents(connection, user_id)
        append_message(connection, make_message(user_id, 9, "first, though of a later time"))
        append_message(connection, make_message(user_id, 2, "second \u2028 tea 🍵", sender="twin"))
        keep_feedback(connection, user_id, "m2", voice=-1, edited="Less of it.", created_at=NOON)
    chunks, _ = chunk_documents(documents, stores.blobs, stores.settings.chunking, [])
    table, _ = embed_chunks(chunk_texts(chunks, fetch_texts(chunks, stores.blobs)), stores.embedder, None, no_progress)
    made.own.put(asset_key(user_id, "chunks", "jsonl"), encode_records(chunks))
    made.own.put(asset_key(user_id, "embeddings", "parquet"), encode_table(table))
    old = make_memory_of(user_id, "I live in Lisbon")
    stores.memories.add_batch(user_id, [old])
    stores.memories.correct(user_id, old.memory_id, "I live in Porto", by="ada", at=NOON + timedelta(minutes=1))
    return made


def test_what_others_said_to_the_twin_is_not_the_persons_to_take_along(twin: Twin, stores: Stores) -> None:
    before = content(exported(stores, twin.user_id))
    with stores.tables.transaction(twin.user_id) as connection:
        append_message(connection, replace(make_message(twin.user_id, 20, "A stranger's question."), asker="stranger"))
    assert content(exported(stores, twin.user_id)) == before


def exported(stores: Stores, user_id: str) -> bytes:
    return b"".join(open_export(stores, user_id).pieces())


def content(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def as_another(archive: bytes, new: str) -> dict[str, Any]:
    """The records of an archive with its user named as `new`, and the hashes of all that is not records."""
    parts = content(archive)
    old = json.loads(parts["manifest.json"])["user_id"]
    result: dict[str, Any] = {}
    for name, data in parts.items():
        if name == "manifest.json":
            result[name] = json.loads(data)["counts"]
        elif name.endswith(".jsonl"):
            lines = [readdress(json.loads(line), old, new) for line in data.splitlines()]
            result[name] = json.loads(json.dumps(lines).replace(f'"name": "{old}"', f'"name": "{new}"'))
        elif name.endswith(".json"):
            result[name] = readdress(json.loads(data), old, new)
        else:
            result[name] = sha256_hex(data)
    return result


def test_a_user_comes_back_as_another_one_equal_but_for_the_id(twin: Twin, new_user: Callable[[], str], tmp_path: Path) -> None:
    twin.own.put(f"{twin.own.prefix}checkpoints/run/00000008.safetensors", bytes(range(256)) * 40_000)  # of several pieces
    stores, archive = twin.stores, exported(twin.stores, twin.user_id)
    other = new_user()
    done = import_user(stores, other, io.BytesIO(archive))
    assert (done.was, done.serves) == (twin.user_id, True)
    assert done.counts["document"] == 2
    assert as_another(exported(stores, other), other) == as_another(archive, other)
    with stores.tables.transaction(other) as connection:
        said = [message.content for message in last_messages(connection, other, "s", 9)]
        assert said == ["first, though of a later time", "second \u2028 tea 🍵"], "as it was said, and not by the clock"
        assert [rated.edited for rated in list_rated(connection, other)] == ["Less of it."]
    assert [memory.text for memory in stores.memories.every(other) if memory.superseded_at] == ["I live in Lisbon"]
    here = Twin(stores, other, tmp_path / "others")
    assert here.shown("What is your cat called?") == twin.shown("What is your cat called?") != set()
    assert here.live().gguf_key.startswith(f"tenant/{other}/")
    for line in here.own.get(asset_key(other, "chunks", "jsonl")).splitlines():
        assert (json.loads(line)["user_id"], twin.user_id in str(line)) == (other, False), "and leads to no other's text"
    with stores.tables.operator_transaction() as connection:
        assert other in {item.user_id for item in list_waiting(connection)}, "this installation's pipeline looks at it"


def test_a_user_who_was_deleted_comes_back_as_they_were_byte_for_byte(twin: Twin) -> None:
    archive = exported(twin.stores, twin.user_id)
    assert exported(twin.stores, twin.user_id) == archive, "equal users give equal bytes"
    delete_user(twin.stores, twin.user_id, twin.adapters)
    import_user(twin.stores, twin.user_id, io.BytesIO(archive))
    assert exported(twin.stores, twin.user_id) == archive


def test_the_manifest_names_every_part_with_its_hash_and_no_part_is_of_another_user(
    twin: Twin, new_user: Callable[[], str]
) -> None:
    parts = content(exported(twin.stores, twin.user_id))
    manifest = json.loads(parts.pop("manifest.json"))
    assert {entry["path"]: (entry["size_bytes"], entry["sha256"]) for entry in manifest["entries"]} == {
        name: (len(data), sha256_hex(data)) for name, data in parts.items()
    }
    assert manifest["counts"]["chat_message"] == 2
    assert manifest["counts"]["blobs"] == sum(name.startswith("blobs/") for name in parts)
    assert parts[f"blobs/raw/{sha256_hex(CAT.encode())}"] == CAT.encode()
    assert parts[f"blobs/text/{sha256_hex(CAT.encode())}.txt"] == CAT.encode()
    assert not [name for name in parts if "staging" in name]


def test_without_the_memory_that_a_release_names_it_waits_to_be_built(twin: Twin, new_user: Callable[[], str]) -> None:
    twin.own.delete(asset_key(twin.user_id, "embeddings", "parquet"))
    archive, other = exported(twin.stores, twin.user_id), new_user()
    assert not import_user(twin.stores, other, io.BytesIO(archive)).serves
    assert Twin(twin.stores, other, twin.adapters).live() is None


class BreakingGraph:
    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def __getattr__(self, name: str) -> Any:
        if name == "write_facts":
            raise StoreError("graph_unavailable", "told to")
        return getattr(self._graph, name)


def test_an_import_that_broke_off_made_nothing_known_and_is_completed_by_the_same_archive(
    twin: Twin, new_user: Callable[[], str]
) -> None:
    archive, other = exported(twin.stores, twin.user_id), new_user()
    with pytest.raises(StoreError):
        import_user(replace(twin.stores, graph=BreakingGraph(twin.stores.graph)), other, io.BytesIO(archive))
    with twin.stores.tables.transaction(other) as connection:
        assert list_documents(connection, other) == []
    twin.send("more.md", "One more note.")
    with pytest.raises(UserInputError) as caught:
        import_user(twin.stores, other, io.BytesIO(exported(twin.stores, twin.user_id)))
    assert caught.value.code == "user_not_empty"
    import_user(twin.stores, other, io.BytesIO(archive))
    assert not twin.stores.blobs.exists(import_mark_key(other))
    assert as_another(exported(twin.stores, other), other) == as_another(archive, other)


def test_nobody_who_has_something_is_written_over(twin: Twin, new_user: Callable[[], str]) -> None:
    archive, other = exported(twin.stores, twin.user_id), Twin(twin.stores, new_user(), twin.adapters)
    other.send("own.md", "My own note.")
    before = exported(other.stores, other.user_id)
    for user_id in (other.user_id, twin.user_id):
        with pytest.raises(UserInputError) as caught:
            import_user(twin.stores, user_id, io.BytesIO(archive))
        assert caught.value.code == "user_not_empty"
    assert exported(other.stores, other.user_id) == before


def test_an_export_whose_blob_goes_on_the_way_is_no_archive(twin: Twin, new_user: Callable[[], str]) -> None:
    export = open_export(twin.stores, twin.user_id)
    twin.own.delete(export.keys[-1])
    given: list[bytes] = []
    with pytest.raises(StoreError):
        given.extend(export.pieces())
    with pytest.raises(UserInputError) as caught:
        import_user(twin.stores, new_user(), io.BytesIO(b"".join(given)))
    assert caught.value.code == "archive_foreign"


def test_drafts_of_an_older_archive_name_what_their_answers_quoted_and_go_with_it(
    twin: Twin, new_user: Callable[[], str]
) -> None:
    """Their reasons stayed when the document that they quote was deleted: the upgrade had named it for rows that it met."""
    there, gone = (Citation("chunk", sha256, "cats.md", 3, 9) for sha256 in (sha256_hex(CAT.encode()), "c" * 64))
    with twin.stores.tables.transaction(twin.user_id) as connection:
        for number, cited in ((30, (there,)), (31, (there, gone))):
            message = replace(make_message(twin.user_id, number, "I vote.", sender="twin"), citations=cited)
            append_message(connection, message)
            keep_drafts(connection, message, [BallotDraft(f"P-{number}", "for", "It has one eye.")])
        connection.execute(text("update ballot_draft set citations = '{}'"))
    archive, other = exported(twin.stores, twin.user_id), new_user()
    import_user(twin.stores, other, io.BytesIO(archive))

    def drafts() -> dict[str, tuple[Any, ...]]:
        with twin.stores.tables.transaction(other) as connection:
            kept = list_drafts(connection, other)
        return {each.draft.proposal: (each.draft.reason, each.citations, each.withdrawn) for each in kept}

    place = f"{there.document_sha256}:3-9"
    assert drafts() == {"P-30": ("It has one eye.", (place,), False), "P-31": (None, (place,), True)}
    Twin(twin.stores, other, twin.adapters).delete("cats.md")
    assert drafts() == {"P-30": (None, (), True), "P-31": (None, (), True)}
