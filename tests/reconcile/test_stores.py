"""Each store broken on purpose, on the real engines: the right finding, the right repair, and nothing at the next look."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from lpm_kernel.errors import StoreError
from lpm_kernel.L2.adapter_files import local_copy
from lpm_kernel.layout import gguf_key, quarantine_key, raw_key, text_key
from lpm_kernel.reconcile.run import reconcile_user
from lpm_kernel.records import Fact, GraphEntity, sha256_hex
from lpm_kernel.stores.documents import mark_deleted
from tests.forgetful_twin import BOAT, CAT, FAILED
from tests.gguf_adapters import adapter_bytes
from tests.reconcile.whole_twin import WholeTwin
from tests.samples import NOON, make_memory_of

CAT_SHA, BOAT_SHA = sha256_hex(CAT.encode()), sha256_hex(BOAT.encode())


def nothing_is_found(twin: WholeTwin) -> bool:
    return twin.findings() == []


def test_where_every_store_agrees_nothing_is_found_and_all_is_counted(twin: WholeTwin) -> None:
    report = twin.reconcile()
    assert report.findings == ()
    counts = report.counts
    assert (counts["documents"], counts["releases"], counts["vectors"], counts["memories"], counts["facts"]) == (2, 1, 2, 2, 2)
    assert counts["objects"] == len(list(twin.own.list_keys())) - 1, "what was written by this very look is counted next time"


def test_a_missing_text_is_read_again_from_the_raw_file(twin: WholeTwin) -> None:
    twin.own.delete(text_key(twin.user_id, CAT_SHA))
    assert twin.findings() == [("blobs", "lacking", "stored texts", "repaired")]
    assert twin.own.get(text_key(twin.user_id, CAT_SHA)) == CAT.encode()
    assert nothing_is_found(twin)


def test_a_text_that_was_changed_where_it_lies_is_found_by_its_etag_and_read_again(twin: WholeTwin) -> None:
    assert nothing_is_found(twin)
    twin.own.put(text_key(twin.user_id, CAT_SHA), CAT.upper().encode())
    assert twin.findings() == [("blobs", "damaged", "stored texts", "repaired")]
    assert twin.own.get(text_key(twin.user_id, CAT_SHA)) == CAT.encode()
    assert nothing_is_found(twin)


def test_a_missing_raw_file_is_reported_since_nothing_can_give_it_back(twin: WholeTwin) -> None:
    twin.own.delete(raw_key(twin.user_id, CAT_SHA))
    (finding,) = twin.reconcile().findings
    assert (finding.kind, finding.what, finding.explained_by, finding.outcome) == (
        "lacking",
        "raw documents",
        "lost",
        "reported",
    )
    assert finding.items == (raw_key(twin.user_id, CAT_SHA),)
    assert twin.own.exists(text_key(twin.user_id, CAT_SHA)), "its text is left as it is"


def test_a_missing_adapter_comes_back_from_the_local_copy_and_is_reported_without_one(twin: WholeTwin) -> None:
    key, copy = gguf_key(twin.user_id, sha := sha256_hex(adapter_bytes(1))), local_copy(twin.adapters, twin.user_id, sha)
    twin.own.delete(key)
    copy.write_bytes(b"something else")
    assert twin.findings() == [("blobs", "lacking", "adapters that releases serve", "reported")]
    copy.write_bytes(adapter_bytes(1))
    assert twin.findings() == [("blobs", "lacking", "adapters that releases serve", "repaired")]
    assert twin.own.get(key) == adapter_bytes(1)
    assert nothing_is_found(twin)


def test_an_object_that_nothing_names_is_reported_and_stays(twin: WholeTwin) -> None:
    strange = f"{twin.own.prefix}somewhere/else.bin"
    twin.own.put(strange, b"?")
    (finding,) = twin.reconcile().findings
    assert (finding.kind, finding.explained_by, finding.outcome, finding.items) == (
        "surplus",
        "unexplained",
        "reported",
        (strange,),
    )
    assert twin.own.get(strange) == b"?"


def test_bytes_without_a_row_are_an_upload_for_an_hour_and_then_one_that_broke_off(twin: WholeTwin) -> None:
    """An upload puts its bytes before its row; one that was killed between the two left them for good."""
    key = raw_key(twin.user_id, sha256_hex(b"bytes of an upload"))
    twin.own.put(key, b"bytes of an upload")
    assert twin.findings() == [("blobs", "surplus", "bytes without a document", "waits")]
    assert twin.findings(datetime.now(UTC) + timedelta(hours=2)) == [("blobs", "surplus", "bytes without a document", "kept")]
    assert twin.own.exists(key)


def test_a_copy_of_a_refused_file_goes(twin: WholeTwin) -> None:
    twin.own.put(raw_key(twin.user_id, CAT_SHA), CAT.encode())
    with twin.stores.tables.transaction(twin.user_id) as connection:
        connection.execute(
            text("update document set status = 'refused', refusal_code = 'x', refusal_reason = 'x', quarantined = true "
                 "where sha256 = :sha256"), {"sha256": CAT_SHA}
        )  # fmt: skip
    twin.own.put(quarantine_key(twin.user_id, CAT_SHA), CAT.encode())
    repaired = [each for each in twin.findings() if each[0] == "blobs"]
    assert repaired == [("blobs", "surplus", "copies of refused files", "repaired")]
    assert not twin.own.exists(raw_key(twin.user_id, CAT_SHA))
    assert twin.own.exists(quarantine_key(twin.user_id, CAT_SHA))


def test_missing_vectors_are_written_again_from_the_embeddings(twin: WholeTwin) -> None:
    before = twin.stores.vectors.list_entries(twin.user_id)
    twin.stores.vectors.forget_documents(twin.user_id, [CAT_SHA])
    assert twin.findings() == [("vectors", "lacking", "vectors of a generation", "repaired")]
    assert twin.stores.vectors.list_entries(twin.user_id) == before
    assert "cats.md" in twin.shown("What is your cat called?")
    assert nothing_is_found(twin)


def test_a_vector_whose_words_were_changed_is_written_again(twin: WholeTwin) -> None:
    before = twin.stores.vectors.list_entries(twin.user_id)
    with twin.stores.tables.transaction(twin.user_id) as connection:
        connection.execute(
            text("update chunk_vector set input_sha256 = 'x', text = 'y', entry_id = 'z' where filename = 'cats.md'")
        )
    assert twin.findings() == [("vectors", "damaged", "vectors of a generation", "repaired")]
    assert twin.stores.vectors.list_entries(twin.user_id) == before
    assert nothing_is_found(twin)


def test_an_orphan_among_the_vectors_is_reported_and_stays(twin: WholeTwin) -> None:
    (entry, _) = twin.stores.vectors.list_entries(twin.user_id)
    with twin.stores.tables.transaction(twin.user_id) as connection:
        columns = (
            "user_id, generations, fingerprint, filename, byte_start, byte_end, text, lexemes, own_lexemes, near_lexemes, "
            "input_sha256, embedding"
        )
        connection.execute(
            text(
                f"insert into chunk_vector (entry_id, chunk_id, document_sha256, {columns}) "
                f"select 'orphan', 'orphan', 'nobody', {columns} from chunk_vector where chunk_id = :chunk_id"
            ),
            {"chunk_id": entry.chunk_id},
        )
    assert twin.findings() == [("vectors", "surplus", "vectors of documents that nobody knows", "reported")]
    assert twin.stores.vectors.count(twin.user_id) == 3


def test_a_memory_that_was_dropped_is_written_again(twin: WholeTwin) -> None:
    (memory,) = [each for each in twin.stores.memories.every(twin.user_id) if (each.citation or "").startswith(CAT_SHA)]
    twin.stores.memories.delete(twin.user_id, [memory.memory_id])
    assert twin.findings() == [("memories", "lacking", "memories of documents", "repaired")]
    assert memory in twin.stores.memories.every(twin.user_id)
    assert nothing_is_found(twin)


def test_a_memory_that_its_person_had_forgotten_does_not_come_back(twin: WholeTwin) -> None:
    (memory,) = [each for each in twin.stores.memories.every(twin.user_id) if (each.citation or "").startswith(CAT_SHA)]
    twin.stores.memories.forget(twin.user_id, memory.memory_id)
    assert nothing_is_found(twin)
    assert memory not in twin.stores.memories.every(twin.user_id)


def test_what_expired_long_ago_goes_and_what_expired_last_night_is_left_to_the_night(twin: WholeTwin) -> None:
    today = datetime.now(UTC).date()
    for days, words in ((1, "it rained"), (9, "it snowed")):
        expired = make_memory_of(twin.user_id, words, days, expiration_date=today - timedelta(days=days))
        twin.stores.memories.add_batch(twin.user_id, [expired])
    assert twin.findings() == [("memories", "expired", "memories", "repaired")]
    assert nothing_is_found(twin)
    left = [memory.text for memory in twin.stores.memories.every(twin.user_id) if memory.expiration_date]
    assert left == ["it rained"]


def test_what_is_past_its_day_by_a_clock_alone_is_kept(twin: WholeTwin) -> None:
    """A host that came up months ahead: within the hour all that anybody had said was past its days, and removed for good."""
    expiring = make_memory_of(twin.user_id, "it rained", 1, expiration_date=datetime.now(UTC).date() + timedelta(days=80))
    twin.stores.memories.add_batch(twin.user_id, [expiring])
    ahead = datetime.now(UTC) + timedelta(days=200)
    for purged_on in (None, datetime.now(UTC).date()):
        reconcile_user(twin.stores, twin.user_id, twin.adapters, clock=lambda: ahead, purged_on=purged_on)
    assert [memory.text for memory in twin.stores.memories.every(twin.user_id) if memory.expiration_date] == ["it rained"]


def test_a_memory_of_a_talk_that_never_was_is_reported_and_stays(twin: WholeTwin) -> None:
    twin.stores.memories.add_batch(twin.user_id, [make_memory_of(twin.user_id, "we said it", session_id="no-such-session")])
    assert twin.findings() == [("memories", "surplus", "memories of talks that nobody knows", "reported")]
    assert len(twin.stores.memories.every(twin.user_id)) == 3


def test_memories_without_a_count_of_their_versions_are_counted(twin: WholeTwin) -> None:
    with twin.stores.tables.transaction(twin.user_id) as connection:
        connection.execute(text("delete from memory_version"))
    assert twin.findings() == [("memories", "lacking", "version", "repaired")]
    assert nothing_is_found(twin)


def test_a_fact_that_was_removed_from_the_graph_is_told_again(twin: WholeTwin) -> None:
    facts = twin.stores.graph.list_facts(twin.user_id)
    twin.stores.graph.forget_facts(twin.user_id, [fact for fact in facts if fact.object.name == CAT_SHA])
    assert twin.findings() == [("graph", "lacking", "facts", "repaired")]
    assert twin.stores.graph.list_facts(twin.user_id) == facts
    assert nothing_is_found(twin)


def test_a_fact_about_a_document_that_nobody_knows_is_reported_and_stays(twin: WholeTwin) -> None:
    who, what = GraphEntity("User", twin.user_id), GraphEntity("Document", "f" * 64)
    twin.stores.graph.write_facts(twin.user_id, [Fact(twin.user_id, who, "AUTHORED", what, "x", NOON, NOON)])
    assert twin.findings() == [("graph", "surplus", "facts about documents that nobody knows", "reported")]
    assert len(twin.stores.graph.list_facts(twin.user_id)) == 3


def test_a_deletion_that_broke_off_goes_on_in_every_store(twin: WholeTwin) -> None:
    """On record, and nothing else of it done: as a kill right behind the first transaction would leave it."""
    with twin.stores.tables.transaction(twin.user_id) as connection:
        mark_deleted(connection, twin.user_id, [CAT_SHA], pending=True)
    found = twin.reconcile().findings
    assert {(each.store, each.explained_by, each.outcome) for each in found} == {
        (store, "deletion", "repaired") for store in ("blobs", "vectors", "memories", "graph")
    }
    assert not any(twin.traces(CAT_SHA).values())
    assert all(twin.traces(BOAT_SHA).values())


def test_a_store_that_is_away_is_told_and_keeps_none_of_the_others(twin: WholeTwin) -> None:
    class Away:
        def __getattr__(self, name: str) -> Any:
            raise StoreError("graph_unavailable", "told to")

    twin.own.delete(text_key(twin.user_id, CAT_SHA))
    away = replace(twin.stores, graph=Away())  # type: ignore[arg-type]
    found = reconcile_user(away, twin.user_id, twin.adapters).findings
    assert {(each.store, each.kind, each.outcome) for each in found} == {
        ("blobs", "lacking", "repaired"),
        ("graph", "away", "waits"),
    }


def test_a_user_with_a_run_under_way_is_skipped_and_that_is_said(twin: WholeTwin) -> None:
    twin.own.delete(text_key(twin.user_id, CAT_SHA))
    report = reconcile_user(twin.stores, twin.user_id, twin.adapters, busy=lambda user_id: f"a run of {user_id}")
    assert (report.skipped, report.findings) == (f"a run of {twin.user_id}", ())
    assert not twin.own.exists(text_key(twin.user_id, CAT_SHA))


def test_what_arrives_between_two_looks_is_no_difference(twin: WholeTwin) -> None:
    class Slow:
        """The text comes into view at the second listing."""

        def __init__(self) -> None:
            self.listings = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(twin.stores.blobs, name)

        def list_objects(self, prefix: str) -> Any:
            self.listings += 1
            hidden = text_key(twin.user_id, CAT_SHA) if self.listings == 1 else ""
            return (item for item in twin.stores.blobs.list_objects(prefix) if item.key != hidden)

    slow = replace(twin.stores, blobs=Slow())  # type: ignore[arg-type]
    assert reconcile_user(slow, twin.user_id, twin.adapters).findings == ()


def test_a_user_whom_somebody_else_changes_is_left_alone_and_that_is_said(twin: WholeTwin) -> None:
    """A repair between two steps of an import would mend what is only not there yet."""
    twin.stores.vectors.forget_documents(twin.user_id, [CAT_SHA])
    with twin.stores.locks.hold(twin.user_id):
        report = twin.reconcile()
    assert (report.findings, report.skipped) == ((), "somebody else changes every store of the user")
    assert twin.findings() == [("vectors", "lacking", "vectors of a generation", "repaired")]


def test_a_missing_vector_of_an_older_build_that_serves_is_found(twin: WholeTwin) -> None:
    """With another build behind it, it was compared by its name alone, and with a deletion on record by nothing at all."""
    twin.send("late.md", "The late note says that the kettle broke.")
    twin.build(FAILED)
    assert nothing_is_found(twin)
    with twin.stores.tables.transaction(twin.user_id) as connection:
        mark_deleted(connection, twin.user_id, ["a" * 64], pending=False)
        live = "select manifest->>'memory_generation' from release where status = 'live'"
        gone = f"update chunk_vector set generations = array_remove(generations, ({live})) where filename = 'cats.md'"
        connection.execute(text(gone))
    (finding,) = twin.reconcile().findings
    assert (finding.store, finding.kind, finding.items, finding.outcome) == ("vectors", "lacking", (CAT_SHA,), "reported")
