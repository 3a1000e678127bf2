"""Rows of documents, and the marks by which the pipeline takes up each change exactly as far as it has read."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import text

from lpm_kernel.records import Refusal, sha256_hex
from lpm_kernel.stores.documents import (
    add_name,
    clear_pending,
    list_documents,
    list_quarantined,
    list_waiting,
    lock_documents,
    mark_read,
    mark_refused,
    mark_replaced,
    pending_change,
    put_document,
)
from lpm_kernel.stores.open import Stores
from tests.samples import make_document


def test_a_row_comes_back_as_it_was_put(stores: Stores, user_id: str) -> None:
    plain = make_document(user_id)
    refused = replace(
        make_document(user_id, "a.pdf", b"%PDF-", "refused"),
        refusal=Refusal("pdf_broken", "it cannot be read"),
        source="telegram",
        also_named=("b.pdf", '{c}, "d".pdf'),
    )
    with stores.tables.transaction(user_id) as connection:
        put_document(connection, plain)
        put_document(connection, refused)
        assert list_documents(connection, user_id) == [refused, plain]


def test_a_document_that_is_put_again_is_one_row(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        put_document(connection, replace(make_document(user_id, status="refused"), refusal=Refusal("document_limit", "full")))
        put_document(connection, make_document(user_id, "renamed.md"))
        assert list_documents(connection, user_id) == [make_document(user_id, "renamed.md")]


def test_reading_and_refusing_touch_only_what_waits_to_be_read(stores: Stores, user_id: str) -> None:
    """A file replaced while it was being read must stay replaced."""
    read, replaced, broken = (make_document(user_id, name, name.encode()) for name in ("a.md", "b.md", "c.md"))
    with stores.tables.transaction(user_id) as connection:
        for record in (read, replaced, broken):
            put_document(connection, record)
        mark_replaced(connection, user_id, "b.md", by_sha256="newer", since=datetime.now(UTC), pending=True)
        found = mark_read(connection, user_id, read.sha256, 7, "cp1252", "reader")
        assert found == replace(read, status="read", text_size_bytes=7, encoding="cp1252")
        assert mark_read(connection, user_id, replaced.sha256, 7, None, "reader") is None
        refusal = Refusal("no_text", "nothing in it")
        assert mark_refused(connection, user_id, broken.sha256, refusal, reader="reader", quarantined=True)
        assert not mark_refused(connection, user_id, read.sha256, refusal, reader="reader", quarantined=True)
        kept = [(item.document.filename, item.reader) for item in list_quarantined(connection, user_id)]
        assert kept == [("c.md", "reader")]
        rows = {row.filename: row for row in list_documents(connection, user_id)}
    assert (rows["a.md"].status, rows["a.md"].text_size_bytes, rows["a.md"].refusal) == ("read", 7, None)
    assert (rows["b.md"].status, rows["b.md"].text_size_bytes) == ("replaced", None)
    assert (rows["c.md"].status, rows["c.md"].refusal) == ("refused", Refusal("no_text", "nothing in it"))


def test_replacing_touches_the_live_contents_of_one_name(stores: Stores, user_id: str) -> None:
    refused = replace(make_document(user_id, "a.md", b"refused", "refused"), refusal=Refusal("no_text", ""))
    with stores.tables.transaction(user_id) as connection:
        for record in (refused, make_document(user_id, "a.md", b"one"), make_document(user_id, "b.md", b"other")):
            put_document(connection, record)
        mark_replaced(connection, user_id, "a.md", by_sha256="newer", since=datetime.now(UTC), pending=True)
        found = {row.sha256: row.status for row in list_documents(connection, user_id)}
    assert found == {sha256_hex(b"refused"): "refused", sha256_hex(b"one"): "replaced", sha256_hex(b"other"): "received"}


def test_a_content_that_loses_one_name_lives_on_under_the_next(stores: Stores, user_id: str) -> None:
    """Two files with the same bytes were one row with one name: the other file left the twin when the first was edited."""
    with stores.tables.transaction(user_id) as connection:
        put_document(connection, replace(make_document(user_id, "a.md", status="read"), also_named=("b.md", "c.md")))
        clear_pending(connection, user_id, pending_change(connection, user_id) or "")
        steps = []
        for name in ("c.md", "a.md", "b.md"):
            mark_replaced(connection, user_id, name, by_sha256="newer", since=datetime.now(UTC), pending=True)
            (row,) = list_documents(connection, user_id)
            steps.append((row.names, row.status, pending_change(connection, user_id) is not None))
    # without its last name nothing changes for the pipeline: chunks carry the first
    assert steps == [(("a.md", "b.md"), "read", False), (("b.md",), "read", True), (("b.md",), "replaced", True)]


def test_a_name_is_added_behind_the_others_and_changes_nothing_to_take_up(stores: Stores, user_id: str) -> None:
    record = make_document(user_id, "a.md")
    with stores.tables.transaction(user_id) as connection:
        put_document(connection, record)
        change = pending_change(connection, user_id)
        for name in ("b.md", "c.md"):
            add_name(connection, user_id, record.sha256, name)
        assert [row.names for row in list_documents(connection, user_id)] == [("a.md", "b.md", "c.md")]
        assert pending_change(connection, user_id) == change


def test_a_waiting_set_has_a_name_until_it_changes(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        assert pending_change(connection, user_id) is None
        put_document(connection, make_document(user_id))
        first = pending_change(connection, user_id)
        assert first is not None
        assert pending_change(connection, user_id) == first
        put_document(connection, make_document(user_id, "b.md", b"more"))
        assert pending_change(connection, user_id) != first


def test_the_same_file_uploaded_again_is_a_new_change(stores: Stores, user_id: str) -> None:
    """The sensor asks once a change: a file that failed and is sent again must get a run of its own."""
    names = set()
    with stores.tables.transaction(user_id) as connection:
        for _ in range(3):
            put_document(connection, make_document(user_id))
            names.add(pending_change(connection, user_id))
    assert len(names) == 3


def test_a_file_refused_at_the_door_waits_for_nobody(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        put_document(connection, replace(make_document(user_id, status="refused"), refusal=Refusal("document_empty", "")))
        assert pending_change(connection, user_id) is None


def test_only_the_set_that_was_taken_up_is_cleared(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        put_document(connection, make_document(user_id))
        taken_up = pending_change(connection, user_id) or ""
        put_document(connection, make_document(user_id, "b.md", b"arrived while the first was read"))
        assert not clear_pending(connection, user_id, taken_up)
        both = pending_change(connection, user_id) or ""
        assert clear_pending(connection, user_id, both)
        assert pending_change(connection, user_id) is None
        assert not clear_pending(connection, user_id, both)


def test_the_operator_learns_each_waiting_user_once(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        put_document(connection, make_document(user_id))
        put_document(connection, make_document(user_id, "b.md", b"more"))
        change = pending_change(connection, user_id)
    with stores.tables.operator_transaction() as connection:
        mine = [item for item in list_waiting(connection) if item.user_id == user_id]
    assert [item.change for item in mine] == [change]
    with stores.tables.transaction(user_id) as connection:
        clear_pending(connection, user_id, change or "")
    with stores.tables.operator_transaction() as connection:
        assert user_id not in {item.user_id for item in list_waiting(connection)}


def test_one_transaction_at_a_time_decides_on_a_users_documents(stores: Stores, user_id: str) -> None:
    order: list[str] = []
    locked, released = threading.Event(), threading.Event()

    def first() -> None:
        with stores.tables.transaction(user_id) as connection:
            lock_documents(connection, user_id)
            locked.set()
            released.wait(20)
            order.append("first")

    def second() -> None:
        locked.wait(20)
        with stores.tables.transaction(user_id) as connection:
            lock_documents(connection, user_id)
            order.append("second")

    def somebody_waits() -> bool:
        with stores.tables.engine.begin() as connection:
            return bool(
                connection.execute(text("select count(*) from pg_locks where locktype = 'advisory' and not granted")).scalar()
            )

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(first), pool.submit(second)]
        try:
            assert any(somebody_waits() or time.sleep(0.01) for _ in range(2000))
        finally:
            released.set()
        for done in running:
            done.result()
    assert order == ["first", "second"]
