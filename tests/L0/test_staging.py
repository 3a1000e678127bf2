"""Large files by way of the blob store, on a real one: what is promised, sent, taken in and cleared away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FuturesTimeout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from lpm_kernel.artefacts import decode_record
from lpm_kernel.errors import AccessError, StoreError, TwinError, UserInputError
from lpm_kernel.L0 import intake, staging
from lpm_kernel.L0.staging import (
    MAX_OPEN,
    OPEN_TIMES,
    PromisedUpload,
    StagedUpload,
    promise_upload,
    sweep_every_staging,
    sweep_staging,
    take_in_upload,
)
from lpm_kernel.layout import raw_key, staging_key, staging_prefix, staging_record_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores
from tests.fakes import MemoryBlobs

WORDS = b"# Notes\n\nThe kettle is blue.\n"


def send(promised: PromisedUpload, data: bytes) -> int:
    return httpx.post(promised.form.url, data=promised.form.fields, files={"file": data}, trust_env=False).status_code


def staged(stores: Stores, user_id: str) -> list[str]:
    return list(TenantBlobs(stores.blobs, user_id).list_keys(staging_prefix(user_id)))


def test_a_file_that_was_sent_to_the_store_is_taken_in_like_any_other(stores: Stores, user_id: str) -> None:
    promised = promise_upload(stores, user_id, "folder/notes.md", len(WORDS), sha256_hex(WORDS))
    assert send(promised, WORDS) < 300
    result = take_in_upload(stores, user_id, promised.upload_id)
    assert (result.filename, result.status, result.sha256) == ("notes.md", "stored", sha256_hex(WORDS))
    assert stores.blobs.get(raw_key(user_id, sha256_hex(WORDS))) == WORDS
    assert not stores.blobs.exists(staging_key(user_id, promised.upload_id))
    assert take_in_upload(stores, user_id, promised.upload_id) == result, "asked again"
    again = promise_upload(stores, user_id, "notes.md", len(WORDS))
    send(again, WORDS)
    assert take_in_upload(stores, user_id, again.upload_id).status == "duplicate"


def test_a_file_that_was_never_sent_is_told_so_and_may_still_be_sent(stores: Stores, user_id: str) -> None:
    promised = promise_upload(stores, user_id, "notes.md", len(WORDS))
    with pytest.raises(UserInputError) as caught:
        take_in_upload(stores, user_id, promised.upload_id)
    assert caught.value.code == "upload_missing"
    send(promised, WORDS)
    assert take_in_upload(stores, user_id, promised.upload_id).status == "stored"


class HeldUp(TenantBlobs):
    """Whoever downloads a file waits there: `came` says so, until `go_on`."""

    came, go_on = threading.Event(), threading.Event()

    def get_file(self, key: str, path: Path) -> None:
        super().get_file(key, path)
        self.came.set()
        assert self.go_on.wait(60)


def test_two_that_finish_one_upload_at_once_hear_the_same(
    stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one was told that nothing had been sent, or that it was a duplicate, though the file had been taken in."""
    promised = promise_upload(stores, user_id, "notes.md", len(WORDS))
    send(promised, WORDS)
    HeldUp.came.clear()
    HeldUp.go_on.clear()
    monkeypatch.setattr(staging, "TenantBlobs", HeldUp)
    monkeypatch.setattr(staging, "WAIT_S", 60.0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(take_in_upload, stores, user_id, promised.upload_id)
        try:
            assert HeldUp.came.wait(60)
            second = pool.submit(take_in_upload, stores, user_id, promised.upload_id)
            with pytest.raises(FuturesTimeout):
                second.result(0.3)
        finally:
            HeldUp.go_on.set()
        assert first.result() == second.result()
    assert first.result().status == "stored"


def test_one_who_was_overtaken_while_taking_in_puts_no_answer_over_the_first(
    stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download of more than half a minute lost the lease, a second caller took the file in as well, and the first put its
    own answer over theirs."""
    promised = promise_upload(stores, user_id, "notes.md", len(WORDS))
    send(promised, WORDS)
    left_s: list[float] = []
    real = staging.receive_file

    def overtaken(*given: Any) -> Any:
        with stores.tables.transaction(user_id) as connection:
            lease = "update fence set token = nextval('fence_token') returning extract(epoch from until - clock_timestamp())"
            left_s.append(float(connection.execute(text(lease)).scalar_one()))
        return real(*given)

    monkeypatch.setattr(staging, "receive_file", overtaken)
    with pytest.raises(StoreError) as caught:
        take_in_upload(stores, user_id, promised.upload_id)
    assert caught.value.code == "lease_lost"
    assert left_s[0] > 300, "the largest file over a slow line"
    record = stores.blobs.get(staging_record_key(user_id, promised.upload_id))
    assert decode_record(record, StagedUpload).result is None
    with stores.tables.transaction(user_id) as connection:
        connection.execute(text("delete from fence"))


def test_what_is_sent_again_with_a_form_whose_upload_was_taken_in_does_not_stay(stores: Stores, user_id: str) -> None:
    """It lay there for a day, as often as somebody liked: no store takes a form back."""
    promised = promise_upload(stores, user_id, "notes.md", len(WORDS))
    key = staging_key(user_id, promised.upload_id)
    send(promised, WORDS)
    result = take_in_upload(stores, user_id, promised.upload_id)
    for clear in (
        lambda: take_in_upload(stores, user_id, promised.upload_id),
        lambda: promise_upload(stores, user_id, "more.md", 5),
        lambda: sweep_staging(stores, user_id),
    ):
        assert send(promised, WORDS[::-1]) < 300, "S3 has begun to take forms back, and the rest is needless"
        assert stores.blobs.exists(key)
        clear()
        assert not stores.blobs.exists(key)
    assert take_in_upload(stores, user_id, promised.upload_id) == result
    with stores.tables.transaction(user_id) as connection:
        assert [row.sha256 for row in list_documents(connection, user_id)] == [sha256_hex(WORDS)]


def test_other_bytes_than_were_promised_are_removed(stores: Stores, user_id: str) -> None:
    promised = promise_upload(stores, user_id, "notes.md", len(WORDS), sha256_hex(WORDS))
    send(promised, WORDS[:-1])
    with pytest.raises(UserInputError) as caught:
        take_in_upload(stores, user_id, promised.upload_id)
    assert caught.value.code == "upload_damaged"
    assert not stores.blobs.exists(staging_key(user_id, promised.upload_id))
    with stores.tables.transaction(user_id) as connection:
        assert list_documents(connection, user_id) == []
    send(promised, WORDS)
    assert take_in_upload(stores, user_id, promised.upload_id).status == "stored"


def test_what_the_reader_would_not_take_is_refused_with_a_row_as_at_the_door(stores: Stores, user_id: str) -> None:
    tight = replace(stores, settings=stores.settings.model_copy(update={"limits": limits_of(stores, documents_per_user=1)}))
    for name, status in (("a.txt", "stored"), ("b.txt", "refused")):
        promised = promise_upload(tight, user_id, name, 9)
        send(promised, name.encode())
        assert take_in_upload(tight, user_id, promised.upload_id).status == status
    with stores.tables.transaction(user_id) as connection:
        rows = {row.filename: row.refusal.code if row.refusal else None for row in list_documents(connection, user_id)}
    assert rows == {"a.txt": None, "b.txt": "document_limit"}


def limits_of(stores: Stores, **changed: int):
    return stores.settings.limits.model_copy(update=changed)


@pytest.mark.parametrize(
    ("filename", "size_bytes", "sha256", "code"),
    [
        ("notes.md", 0, None, "document_empty"),
        ("notes.md", -4, None, "document_empty"),
        ("notes.md", 200_000_001, None, "document_too_large"),
        ("program.exe", 5, None, "type_unknown"),
        ("", 5, None, "filename_invalid"),
        ("notes.md", 5, "A" * 64, "sha256_invalid"),
    ],
)
def test_what_the_door_refuses_is_refused_before_anything_is_sent(
    stores: Stores, user_id: str, filename: str, size_bytes: int, sha256: str | None, code: str
) -> None:
    with pytest.raises(TwinError) as caught:
        promise_upload(stores, user_id, filename, size_bytes, sha256)
    assert caught.value.code == code
    assert staged(stores, user_id) == []


def test_a_file_that_is_too_large_for_the_door_comes_by_way_of_the_store(
    stores: Stores, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was refused there too, for which there is this way; and it would have been held in memory whole."""
    monkeypatch.setattr(intake, "HELD_BYTES", 100_000)
    limits = limits_of(stores, document_size_mb=1)
    serving = stores.settings.serving.model_copy(update={"presigned_mb": 3})
    small = replace(stores, settings=stores.settings.model_copy(update={"limits": limits, "serving": serving}))
    large = b"word " * 500_000
    door = intake.receive_document(stores.tables, stores.blobs, limits, user_id, "door.txt", large)
    assert door.refusal is not None
    assert door.refusal.code == "document_too_large"
    promised = promise_upload(small, user_id, "notes.txt", len(large))
    assert send(promised, large) < 300
    result = take_in_upload(small, user_id, promised.upload_id)
    assert (result.status, result.size_bytes) == ("stored", len(large))
    assert stores.blobs.get(raw_key(user_id, sha256_hex(large))) == large
    with pytest.raises(TwinError) as caught:
        promise_upload(small, user_id, "notes.txt", 3_000_001)
    assert caught.value.code == "document_too_large"


@pytest.mark.parametrize("upload_id", ["", "../raw/x", "0" * 32, "0" * 31, "x.json"])
def test_what_was_not_promised_is_not_taken_in(stores: Stores, user_id: str, upload_id: str) -> None:
    with pytest.raises(UserInputError) as caught:
        take_in_upload(stores, user_id, upload_id)
    assert caught.value.code == "upload_unknown"


def test_nobody_finishes_the_upload_of_another(stores: Stores, user_id: str) -> None:
    promised = promise_upload(stores, user_id, "notes.md", len(WORDS))
    send(promised, WORDS)
    with pytest.raises(UserInputError) as caught:
        take_in_upload(stores, "staging-stranger", promised.upload_id)
    assert caught.value.code == "upload_unknown"


def test_uploads_that_nobody_came_back_for_are_removed_and_others_stay(stores: Stores, user_id: str) -> None:
    now = datetime.now(UTC)
    old = promise_upload(stores, user_id, "old.md", len(WORDS), now=now - timedelta(hours=25))
    send(old, WORDS)
    new = promise_upload(stores, user_id, "new.md", len(WORDS), now=now)
    assert {key.split("/")[-1].removesuffix(".json") for key in staged(stores, user_id)} == {new.upload_id}, (
        "at the next promise"
    )
    stray = staging_key(user_id, "f" * 32)
    stores.blobs.put(stray, b"its promise is gone")
    assert sweep_every_staging(stores, now) >= 1
    assert not stores.blobs.exists(stray)
    assert sweep_staging(stores, user_id, now + timedelta(hours=25)) == 0
    assert staged(stores, user_id) == []


def test_no_more_uploads_are_open_than_are_allowed(stores: Stores, user_id: str) -> None:
    for number in range(MAX_OPEN):
        promise_upload(stores, user_id, f"{number}.md", 5)
    with pytest.raises(AccessError) as caught:
        promise_upload(stores, user_id, "more.md", 5)
    assert caught.value.code == "uploads_open"
    hours = stores.settings.serving.staging_hours
    assert caught.value.retry_after_s is not None
    assert 3600 * (hours - 1) < caught.value.retry_after_s <= 3600 * hours, "when the oldest is given up"
    sweep_staging(stores, user_id, datetime.now(UTC) + timedelta(hours=25))
    largest = stores.settings.serving.presigned_mb * 1_000_000
    for number in range(OPEN_TIMES):
        promise_upload(stores, user_id, f"{number}.md", largest)
    with pytest.raises(AccessError) as caught:
        promise_upload(stores, user_id, "more.md", 5)
    assert caught.value.code == "uploads_open", "no room is left"
    sweep_staging(stores, user_id, datetime.now(UTC) + timedelta(hours=25))


def test_a_store_without_a_door_of_its_own_says_so(stores: Stores, user_id: str) -> None:
    with pytest.raises(StoreError) as caught:
        promise_upload(replace(stores, blobs=MemoryBlobs()), user_id, "notes.md", 5)
    assert caught.value.code == "direct_upload_unknown"
