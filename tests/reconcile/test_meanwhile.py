"""What happens between a look and its repair, and what nobody foresaw: nothing that went comes back, and no pass ends by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.erase import delete_user
from lpm_kernel.errors import StoreError
from lpm_kernel.forget import delete_document
from lpm_kernel.layout import raw_key, text_key
from lpm_kernel.reconcile import repair as repairing
from lpm_kernel.reconcile import run as reconciling
from lpm_kernel.reconcile.findings import out_of_step
from lpm_kernel.reconcile.run import reconcile_all, reconcile_user
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores
from tests.forgetful_twin import BOAT, CAT
from tests.reconcile.whole_twin import WholeTwin

CAT_SHA, BOAT_SHA = sha256_hex(CAT.encode()), sha256_hex(BOAT.encode())


@pytest.mark.parametrize("store", ["blobs", "vectors", "memories", "graph"])
def test_what_is_deleted_between_look_and_repair_is_not_written_again(
    twin: WholeTwin, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The truth was read before the repair, and nothing between them asked again: what the person had deleted meanwhile came
    back, in a store where no answer looks, until the next hour."""
    others = {"blobs", "vectors", "memories", "graph"} - {store}
    if store == "blobs":
        twin.own.delete(text_key(twin.user_id, CAT_SHA))
    elif store == "vectors":
        twin.stores.vectors.forget_documents(twin.user_id, [CAT_SHA])
    elif store == "memories":
        cited = [each for each in twin.stores.memories.every(twin.user_id) if (each.citation or "").startswith(CAT_SHA)]
        twin.stores.memories.delete(twin.user_id, [each.memory_id for each in cited])
    else:
        facts = twin.stores.graph.list_facts(twin.user_id)
        twin.stores.graph.forget_facts(twin.user_id, [fact for fact in facts if fact.object.name == CAT_SHA])
    real, mended = reconciling.repair, list[str]()

    def deleted_just_before(place: Any, finding: Any) -> None:
        if not mended:
            delete_document(twin.stores, twin.user_id, CAT_SHA, twin.adapters)
        mended.append(finding.store)
        real(place, finding)

    monkeypatch.setattr(reconciling, "repair", deleted_just_before)
    twin.reconcile()
    assert mended == [store], f"nothing is wrong with {others}"
    assert twin.traces(CAT_SHA) == dict.fromkeys(("blobs", "vectors", "memories", "graph"), False)
    assert all(twin.traces(BOAT_SHA).values())


@pytest.mark.parametrize("store", ["vectors", "memories"])
def test_what_is_sent_again_between_look_and_repair_is_not_deleted(
    twin: WholeTwin, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken-off deletion was gone on with by the document's hash alone: sent again meanwhile, the upload that somebody had
    been told was taken went with it."""

    class Away:
        def __getattr__(self, name: str) -> Any:
            if name in ("forget_documents", "delete"):
                raise StoreError("store_away", "told to")
            return getattr(getattr(twin.stores, store), name)

    with pytest.raises(StoreError):
        delete_document(replace(twin.stores, **{store: Away()}), twin.user_id, CAT_SHA, twin.adapters)
    with twin.stores.tables.transaction(twin.user_id) as connection:  # what would explain it, and is not to be waited for
        connection.execute(text("update change set given_up_at = now() where done_at is null"))
    real, mended = reconciling.repair, list[str]()

    def sent_just_before(place: Any, finding: Any) -> None:
        if finding.repair == "go_on_deleting":
            twin.send("cats.md", CAT)
            mended.append(finding.store)
        real(place, finding)

    monkeypatch.setattr(reconciling, "repair", sent_just_before)
    twin.reconcile()
    assert mended == [store]
    with twin.stores.tables.transaction(twin.user_id) as connection:
        rows = {row.sha256: (row.status, row.names) for row in list_documents(connection, twin.user_id)}
    assert rows[CAT_SHA] == ("received", ("cats.md",))
    assert twin.own.exists(raw_key(twin.user_id, CAT_SHA))


def may_send(twin: WholeTwin) -> bool:
    """Whether whoever sends or deletes a document now waits for nobody."""
    with twin.stores.tables.transaction(twin.user_id) as connection:
        lock = "select pg_try_advisory_xact_lock(hashtext('documents:' || :user_id))"
        return connection.execute(text(lock), {"user_id": twin.user_id}).scalar_one()


def test_while_documents_are_read_again_nobody_waits_for_it(twin: WholeTwin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every missing text was read again under the one lock: a minute for each PDF, while uploads and chats waited ten seconds
    and were sent away."""
    free: list[bool] = []
    real = repairing.read_document

    def read(*given: Any) -> Any:
        free.append(may_send(twin))
        return real(*given)

    monkeypatch.setattr(repairing, "read_document", read)
    for sha256 in (CAT_SHA, BOAT_SHA):
        twin.own.delete(text_key(twin.user_id, sha256))
    assert [each.outcome for each in twin.reconcile().findings] == ["repaired"]
    assert free == [True, True]


def test_what_is_deleted_while_it_is_read_again_stays_gone(twin: WholeTwin, monkeypatch: pytest.MonkeyPatch) -> None:
    real, read = repairing.read_document, list[Any]()

    def deleted_meanwhile(*given: Any) -> Any:
        read.append(real(*given))
        if read[-1].text == CAT:
            delete_document(twin.stores, twin.user_id, CAT_SHA, twin.adapters)
        return read[-1]

    monkeypatch.setattr(repairing, "read_document", deleted_meanwhile)
    for sha256 in (CAT_SHA, BOAT_SHA):
        twin.own.delete(text_key(twin.user_id, sha256))
    twin.reconcile()
    assert len(read) == 2
    assert twin.traces(CAT_SHA) == dict.fromkeys(("blobs", "vectors", "memories", "graph"), False)
    assert twin.own.exists(text_key(twin.user_id, BOAT_SHA)), "and the other is mended all the same"


def test_vectors_and_facts_are_written_a_few_at_a_time_and_others_come_in_between(
    twin: WholeTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them were written under one lock, each fact after its embedding."""
    written: dict[str, list[int]] = {"sync": [], "write_facts": []}

    class Counting:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            real = getattr(self._store, name)
            if name not in written:
                return real

            def counted(*given: Any) -> Any:
                written[name].append(len(given[2 if name == "sync" else 1]))
                return real(*given)

            return counted

    monkeypatch.setattr(repairing, "AT_ONCE", 1, raising=False)
    monkeypatch.setattr(repairing, "VECTORS", 1, raising=False)
    before = twin.stores.vectors.list_entries(twin.user_id), twin.stores.graph.list_facts(twin.user_id)
    twin.stores.vectors.forget_documents(twin.user_id, [CAT_SHA, BOAT_SHA])
    twin.stores.graph.forget_facts(twin.user_id, before[1])
    stores: Any = replace(twin.stores, vectors=Counting(twin.stores.vectors), graph=Counting(twin.stores.graph))
    assert [each.outcome for each in reconcile_user(stores, twin.user_id, twin.adapters).findings] == ["repaired", "repaired"]
    assert written == {"sync": [1, 2], "write_facts": [1, 1]}, "a store of vectors is told all that is to be there"
    assert (twin.stores.vectors.list_entries(twin.user_id), twin.stores.graph.list_facts(twin.user_id)) == before


def test_the_second_look_and_the_repair_are_under_the_lease(twin: WholeTwin) -> None:
    """It was taken behind the look: an import that began and ended in between was judged by a truth from before it."""
    held: list[bool] = []

    class Seen:
        def __getattr__(self, name: str) -> Any:
            return getattr(twin.stores.graph, name)

        def list_facts(self, *args: Any) -> Any:
            with twin.stores.tables.transaction(twin.user_id) as connection:
                held.append(connection.execute(text("select count(*) from fence")).scalar_one() == 1)
            return twin.stores.graph.list_facts(*args)

    twin.stores.vectors.forget_documents(twin.user_id, [CAT_SHA])
    seen = replace(twin.stores, graph=Seen())  # type: ignore[arg-type]
    assert [each.outcome for each in reconcile_user(seen, twin.user_id, twin.adapters).findings] == ["repaired"]
    assert held == [False, True, False]


def test_what_nobody_foresaw_in_one_store_of_one_user_ends_no_pass(
    twin: WholeTwin, stores: Stores, new_user: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only errors of the project's own tree were caught: a row of an older form in one user's artefact ended the whole pass."""
    other = WholeTwin(stores, new_user(), twin.adapters)
    other.send("boat.txt", BOAT)
    other.build()
    real = reconciling.read_graph

    def fails(stores: Stores, truth: Any) -> Any:
        if truth.user_id == twin.user_id:
            raise KeyError("words of a document")
        return real(stores, truth)

    monkeypatch.setattr(reconciling, "read_graph", fails)
    monkeypatch.setattr(reconciling, "list_user_ids", lambda _: [twin.user_id, other.user_id])
    twin.own.delete(text_key(twin.user_id, CAT_SHA))
    other.own.delete(text_key(other.user_id, BOAT_SHA))
    first, second, _ = reconcile_all(stores, twin.adapters).users
    assert {(each.store, each.kind, each.outcome) for each in first.findings} == {
        ("blobs", "lacking", "repaired"),
        ("graph", "away", "reported"),
    }
    (told,) = [each for each in first.findings if each.kind == "away"]
    assert "KeyError" in told.by
    assert "words" not in told.by
    assert out_of_step([told]) is not None
    assert [each.outcome for each in second.findings] == ["repaired"]


def test_a_user_of_whom_nothing_can_be_read_is_told_and_the_pass_goes_on(twin: WholeTwin) -> None:
    def busy(_: str) -> str | None:
        raise RuntimeError("the pipeline's own tables")

    (finding,) = reconcile_user(twin.stores, twin.user_id, twin.adapters, busy=busy).findings
    assert (finding.store, finding.kind, finding.outcome) == ("outbox", "away", "reported")


def test_a_look_at_somebody_who_is_deleted_meanwhile_leaves_nothing_of_them(twin: WholeTwin) -> None:
    """It put down which bytes it had found right after the deletion had passed by: hashes of documents, of nobody."""

    class Deleting:
        def __getattr__(self, name: str) -> Any:
            return getattr(twin.stores.blobs, name)

        def get(self, key: str) -> bytes:
            data = twin.stores.blobs.get(key)
            if "/raw/" in key:
                read.append(key)
                delete_user(twin.stores, twin.user_id, twin.adapters)
            return data

    read: list[str] = []
    reconcile_user(replace(twin.stores, blobs=Deleting()), twin.user_id, twin.adapters)  # type: ignore[arg-type]
    assert read
    assert list(twin.stores.blobs.list_keys(twin.own.prefix)) == []
