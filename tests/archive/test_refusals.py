"""Archives that are not to be trusted: each is refused by name, before anything of it is written."""

from __future__ import annotations

import io
import json
import random
import resource
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from lpm_kernel.archive import table_child
from lpm_kernel.archive.check import MAX_LINE_BYTES, MAX_RECORD_BYTES, open_archive
from lpm_kernel.archive.restore import import_user
from lpm_kernel.archive.tables import check_table
from lpm_kernel.archive.write import open_export
from lpm_kernel.errors import EngineError, UserInputError
from lpm_kernel.layout import tenant_prefix
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.open import Stores
from tests.forgetful_twin import CAT, Twin
from tests.gguf_adapters import matrices, write_adapter
from tests.samples import make_message

Parts = dict[str, bytes]
VICTIM = "somebody-else"


def random_bytes(size: int) -> bytes:
    return random.Random(7).randbytes(size)


@pytest.fixture(scope="module")
def parts(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Of a sound archive."""
    twin = Twin(stores, "archive-refusals", tmp_path_factory.mktemp("archive") / "adapters")
    twin.send("cats.md", CAT)
    twin.build()
    with stores.tables.transaction(twin.user_id) as connection:
        append_message(connection, make_message(twin.user_id, 1))
    packed = io.BytesIO(b"".join(open_export(stores, twin.user_id).pieces()))
    with zipfile.ZipFile(packed) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def packed(parts: Parts, *, manifest: bool = True, **changed: Any) -> bytes:
    """A zip file of these parts, with a manifest that fits them, or with these fields of it changed."""
    parts = dict(parts)
    told = json.loads(parts.pop("manifest.json"))
    told["entries"] = [{"path": n, "size_bytes": len(d), "sha256": sha256_hex(d)} for n, d in parts.items()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
        if manifest:
            archive.writestr("manifest.json", json.dumps({**told, **changed}))
    return buffer.getvalue()


def refusal(stores: Stores, user_id: str, archive: bytes) -> str:
    """The code; whatever it is, nothing was written for the user."""
    with pytest.raises(UserInputError) as caught:
        import_user(stores, user_id, io.BytesIO(archive))
    assert list(stores.blobs.list_keys(tenant_prefix(user_id))) == []
    assert "Pilchard" not in caught.value.message
    return caught.value.code


def test_the_parts_of_these_tests_are_a_sound_archive(stores: Stores, user_id: str, parts: Parts) -> None:
    """Else the tests below would prove nothing."""
    assert import_user(stores, user_id, io.BytesIO(packed(parts))).counts["document"] == 1


@pytest.mark.parametrize("data", [b"", b"no zip at all", b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + bytes(60)])
def test_what_is_no_archive_of_ours_is_foreign(stores: Stores, user_id: str, data: bytes) -> None:
    assert refusal(stores, user_id, data) == "archive_foreign"


def test_an_archive_that_broke_off_or_has_no_manifest_is_foreign(stores: Stores, user_id: str, parts: Parts) -> None:
    whole = packed(parts)
    assert refusal(stores, user_id, whole[: len(whole) // 2]) == "archive_foreign"
    assert refusal(stores, user_id, packed(parts, manifest=False)) == "archive_foreign"


@pytest.mark.parametrize(
    "changed", [{"version": 2}, {"format": "another"}, {"user_id": "../x"}, {"entries": "none"}, {"counts": None}]
)
def test_a_manifest_of_another_form_is_foreign(stores: Stores, user_id: str, parts: Parts, changed: dict[str, Any]) -> None:
    assert refusal(stores, user_id, packed(parts, **changed)) == "archive_foreign"


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "blobs/../../other/raw/x", "blobs/raw/../../x", "..\\x", "C:\\x", "blobs/raw/..\\x"],
)
def test_a_name_that_leads_out_of_its_place_is_refused(stores: Stores, user_id: str, parts: Parts, name: str) -> None:
    assert refusal(stores, user_id, packed({**parts, name: b"x"})) == "archive_path"


@pytest.mark.parametrize(
    "name", ["blobs/staging/x", "blobs/import.json", "blobs/raw/.hidden", "blobs/other/x", "x", "rows/x/y.jsonl"]
)
def test_a_part_that_no_export_has_is_foreign(stores: Stores, user_id: str, parts: Parts, name: str) -> None:
    assert refusal(stores, user_id, packed({**parts, name: b"x"})) == "archive_foreign"


def test_rows_of_a_table_that_is_not_exported_are_foreign(stores: Stores, user_id: str, parts: Parts) -> None:
    for name in ("rows/memory.jsonl", "rows/deletion.jsonl", "rows/alembic_version.jsonl"):
        assert refusal(stores, user_id, packed({**parts, name: b"{}\n"})) == "archive_foreign"


def test_a_changed_bit_is_found_wherever_it_is(stores: Stores, user_id: str, parts: Parts) -> None:
    raw = f"blobs/raw/{sha256_hex(CAT.encode())}"
    told = json.loads(packed_manifest(parts))
    sound = packed(parts)
    for name in (raw, "rows/chat_message.jsonl", "memories.jsonl"):
        assert (
            refusal(stores, user_id, packed({**parts, name: parts[name] + b" "}, entries=told["entries"])) == "archive_damaged"
        )
    place = sound.index(b"rows/chat_message.jsonl") + len(b"rows/chat_message.jsonl") + 5
    broken = sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :]
    assert refusal(stores, user_id, broken) == "archive_damaged"


def packed_manifest(parts: Parts) -> bytes:
    with zipfile.ZipFile(io.BytesIO(packed(parts))) as opened:
        return opened.read("manifest.json")


def test_bytes_under_the_hash_of_others_are_damaged_though_the_manifest_fits(
    stores: Stores, user_id: str, parts: Parts
) -> None:
    raw = f"blobs/raw/{sha256_hex(CAT.encode())}"
    assert refusal(stores, user_id, packed({**parts, raw: CAT.replace("cat", "dog").encode()})) == "archive_damaged"
    gguf = next(name for name in parts if name.endswith(".gguf"))
    assert refusal(stores, user_id, packed({**parts, gguf: b"other weights"})) == "archive_damaged"


def test_a_part_that_is_missing_or_there_twice_is_damaged(stores: Stores, user_id: str, parts: Parts) -> None:
    raw = f"blobs/raw/{sha256_hex(CAT.encode())}"
    assert refusal(stores, user_id, packed({name: data for name, data in parts.items() if name != raw})) == "archive_damaged"
    buffer = io.BytesIO(packed(parts))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(raw, b"another")
    assert refusal(stores, user_id, buffer.getvalue()) == "archive_damaged"


def change_row(parts: Parts, table: str, **changed: Any) -> Parts:
    name = f"rows/{table}.jsonl"
    rows = [{**json.loads(line), **changed} for line in parts[name].splitlines()]
    return {**parts, name: b"".join(json.dumps(row).encode() + b"\n" for row in rows)}


@pytest.mark.parametrize(
    ("table", "changed", "code"),
    [
        ("document", {"size_bytes": 1}, "archive_damaged"),
        ("document", {"created_at": "yesterday"}, "archive_damaged"),
        ("document", {"filename": "../x"}, "archive_damaged"),
        ("document", {"sha256": "0" * 64}, "archive_damaged"),
        ("document", {"unknown": 1}, "archive_foreign"),
        ("document", {"user_id": VICTIM}, "archive_foreign"),
        ("chat_message", {"content": "half \ud800"}, "archive_damaged"),
    ],
)
def test_a_row_that_may_not_be_is_refused_before_anything_is_written(
    stores: Stores, user_id: str, parts: Parts, table: str, changed: dict[str, Any], code: str
) -> None:
    assert refusal(stores, user_id, packed(change_row(parts, table, **changed))) == code


@pytest.mark.parametrize(
    ("table", "changed"),
    [
        ("document", {"status": "nonsense"}),
        ("chat_message", {"sender": "nobody"}),
        ("chat_message", {"content": None}),
        ("chat_message", {"content": "a\x00b"}),
        ("release", {"manifest": {"old": "form"}}),
        ("release", {"status": 7}),
    ],
)
def test_a_row_that_the_tables_refuse_is_the_archives_fault(
    stores: Stores, user_id: str, parts: Parts, table: str, changed: dict[str, Any]
) -> None:
    with pytest.raises(UserInputError) as caught:
        import_user(stores, user_id, io.BytesIO(packed(change_row(parts, table, **changed))))
    assert caught.value.code == "archive_damaged"
    with stores.tables.transaction(user_id) as connection:
        from lpm_kernel.stores.documents import list_documents

        assert list_documents(connection, user_id) == []


def test_a_release_that_leads_to_the_files_of_another_is_refused(stores: Stores, user_id: str, parts: Parts) -> None:
    manifest = json.loads(parts["rows/release.jsonl"].splitlines()[0])["manifest"]
    stolen = {**manifest, "gguf_key": f"tenant/{VICTIM}/lora/x.gguf"}
    with pytest.raises(UserInputError) as caught:
        import_user(stores, user_id, io.BytesIO(packed(change_row(parts, "release", manifest=stolen))))
    assert caught.value.code == "archive_damaged"


LEADS_AWAY = "../cache/base"


@pytest.mark.parametrize("field", ["gguf_sha256", "adapter_sha256", "communities_sha256"])
@pytest.mark.parametrize("named", [LEADS_AWAY, "A" * 64, "", 7, ["0" * 64]], ids=str)
def test_a_release_that_names_files_by_what_is_no_hash_is_refused(
    stores: Stores, user_id: str, parts: Parts, field: str, named: Any
) -> None:
    """A copy is looked for, and removed, under that name in the folder of all copies: `../cache/base` was everybody's base."""
    manifest = json.loads(parts["rows/release.jsonl"].splitlines()[0])["manifest"]
    strange = change_row(parts, "release", manifest={**manifest, field: named})
    assert refusal(stores, user_id, packed(strange)) == "archive_damaged"


def test_a_document_of_no_hash_is_refused(stores: Stores, user_id: str, parts: Parts) -> None:
    strange = change_row(parts, "document", sha256=LEADS_AWAY, status="refused")
    assert refusal(stores, user_id, packed(strange)) == "archive_damaged"


def with_adapter(parts: Parts, data: bytes) -> Parts:
    """With these bytes in place of the adapter, under their own hash."""
    old = next(name for name in parts if name.endswith(".gguf"))
    return {**{name: part for name, part in parts.items() if name != old}, f"blobs/lora/{sha256_hex(data)}.gguf": data}


def test_an_adapter_that_no_engine_would_be_given_is_refused(
    stores: Stores, user_id: str, parts: Parts, tmp_path: Path
) -> None:
    whole_numbers = write_adapter(tmp_path / "a.gguf", matrices(kind=np.int32)).read_bytes()
    for data in (b"no adapter at all", whole_numbers):
        assert refusal(stores, user_id, packed(with_adapter(parts, data))) == "archive_damaged"


def test_parts_with_more_or_longer_lines_than_any_export_has_are_refused(
    stores: Stores, user_id: str, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lpm_kernel.archive.check.MAX_LINES", 50)
    for name in ("rows/memory_write.jsonl", "memories.jsonl", "blobs/assets/chunks.jsonl"):
        assert refusal(stores, user_id, packed({**parts, name: parts.get(name, b"") + b"{}\n" * 60})) == "archive_too_large"
    long = b'"' + random_bytes(2 * MAX_LINE_BYTES).replace(b"\n", b"") + b'"\n'
    assert refusal(stores, user_id, packed({**parts, "facts.jsonl": long})) == "archive_too_large"
    record = {**parts, "blobs/assets/report.json": random_bytes(MAX_RECORD_BYTES + 1)}
    assert refusal(stores, user_id, packed(record)) == "archive_too_large"


def test_a_small_archive_of_very_many_rows_takes_little_memory(stores: Stores, user_id: str, parts: Parts) -> None:
    """All rows were held at once: 70 kB sent took 400 MB, and ten such ended the process."""
    many = packed({**parts, "rows/memory_write.jsonl": b"{}\n" * 100_000 + b"[]\n"})
    refusal(stores, user_id, packed({**parts, "rows/memory_write.jsonl": b"[]\n"}))  # imports what it needs
    tracemalloc.start()
    try:
        code = refusal(stores, user_id, many)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (code, most < 5_000_000) == ("archive_damaged", True), most


def test_memories_and_facts_of_another_are_refused(stores: Stores, user_id: str, parts: Parts) -> None:
    for name in ("memories.jsonl", "facts.jsonl"):
        rows = [{**json.loads(line), "user_id": VICTIM} for line in parts[name].splitlines()]
        planted = {**parts, name: b"".join(json.dumps(row).encode() + b"\n" for row in rows)}
        assert refusal(stores, user_id, packed(planted)) == "archive_damaged"


def test_an_archive_that_is_larger_than_it_looks_is_refused_unread(parts: Parts) -> None:
    bomb = packed({**parts, "blobs/written/x": bytes(30_000_000)})
    with pytest.raises(UserInputError) as caught:
        open_archive(io.BytesIO(bomb), max_mb=4000)
    assert caught.value.code == "archive_bomb"
    with pytest.raises(UserInputError) as caught:
        open_archive(io.BytesIO(packed({**parts, "blobs/lora/x": random_bytes(2_000_000)})), max_mb=1)
    assert caught.value.code == "archive_too_large"


def test_more_documents_than_may_be_here_are_refused(
    stores: Stores, new_user: Callable[[], str], parts: Parts, tmp_path: Path
) -> None:
    from dataclasses import replace

    limits = stores.settings.limits.model_copy(update={"documents_per_user": 1})
    tight = replace(stores, settings=stores.settings.model_copy(update={"limits": limits}))
    twin = Twin(stores, new_user(), tmp_path / "adapters")
    twin.send("a.md", "One note.")
    twin.send("b.md", "Two notes.")
    archive = b"".join(open_export(stores, twin.user_id).pieces())
    assert refusal(tight, new_user(), archive) == "document_limit"


def test_an_archive_that_is_locked_is_foreign(stores: Stores, user_id: str, parts: Parts) -> None:
    sound = bytearray(packed(parts))
    place = sound.index(b"PK\x01\x02")
    sound[place + 8] |= 1
    assert refusal(stores, user_id, bytes(sound)) == "archive_foreign"


def parquet(columns: dict[str, Any], **metadata: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer, compression="zstd")
    return buffer.getvalue()


def one_long_vector() -> bytes:
    """160 MB of zeros in 1 kB."""
    import pyarrow as pa

    vectors = pa.array([np.zeros(40_000_000, np.float32)], type=pa.list_(pa.float32()))
    return parquet({"chunk_id": ["a"], "input_sha256": ["b"], "vector": vectors}, dim="40000000", fingerprint="f")


def one_long_word() -> bytes:
    """A word of 10 MB, 100,000 times, in 1 kB."""
    import pyarrow as pa

    words = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), ["x" * 10_000_000])
    return parquet({"chunk_id": words})


def lying_table() -> bytes:
    return parquet({"chunk_id": ["a"] * 2000})[:-200] + random_bytes(200)


@pytest.mark.parametrize(
    ("table", "code"),
    [
        (one_long_vector, "archive_bomb"),
        (one_long_word, "archive_bomb"),
        (lying_table, "archive_damaged"),
        (lambda: b"", "archive_damaged"),
    ],
)
def test_a_table_that_becomes_far_more_than_it_is_is_decoded_by_nobody(
    stores: Stores, user_id: str, parts: Parts, table: Callable[[], bytes], code: str
) -> None:
    """Embeddings were decoded whole, whatever they became: a kilobyte took all memory of the API."""
    archive = packed({**parts, "blobs/assets/embeddings.parquet": table()})
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(stores, user_id, archive) == code
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held < 100_000, "kB, in this process"


@pytest.mark.parametrize("start", ["sys.modules['pyarrow'] = None", "__import__('os').kill(__import__('os').getpid(), 9)"])
def test_a_reader_that_cannot_begin_is_not_told_as_a_fault_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """Where pyarrow was missing, or a process could not be had, a sound archive was refused for good as a bomb."""
    sound = tmp_path / "sound.parquet"
    sound.write_bytes(parquet({"chunk_id": ["a"]}))
    check_table(sound)
    child = tmp_path / "table_child.py"
    child.write_text(Path(str(table_child.__file__)).read_text().replace("import sys\n", f"import sys\n{start}\n", 1))
    monkeypatch.setattr(table_child, "__file__", str(child))
    with pytest.raises(EngineError) as caught:
        check_table(sound)
    assert (caught.value.code, caught.value.retryable) == ("table_reader_not_started", True)


def test_plans_of_an_older_archive_are_not_taken_in(stores: Stores, user_id: str, parts: Parts) -> None:
    """Whoever wrote one into an archive had it acted upon in the name that stood in it, by a worker who asks nobody."""
    order = {"goal": "Buy it.", "asker": VICTIM}
    plan = {"plan_id": "planted", "plan_order": order, "status": "running", "state": {"next": "act"}}
    older = {**parts, "rows/dao_plan.jsonl": json.dumps(plan).encode() + b"\n", "rows/dao_plan_line.jsonl": b"{}\n"}
    assert import_user(stores, user_id, io.BytesIO(packed(older))).counts["document"] == 1
    with stores.tables.transaction(user_id) as connection:
        assert connection.execute(text("select count(*) from dao_plan")).scalar_one() == 0


def test_words_that_are_not_those_of_their_hash_are_damaged(stores: Stores, user_id: str, parts: Parts) -> None:
    """Reasons that were exchanged after a vote made its ledger look broken to everybody."""
    row = {"reasons_sha256": sha256_hex(b"I am for it."), "words": "I was against it.", "document_sha256s": []}
    changed = {**parts, "rows/dao_ballot_words.jsonl": json.dumps(row).encode() + b"\n"}
    assert refusal(stores, user_id, packed(changed)) == "archive_damaged"
