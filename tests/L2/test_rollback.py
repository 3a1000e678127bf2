"""Which release serves: candidates that wait, the way back, and releases that can serve no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lpm_kernel.errors import TrainingError, UserInputError
from lpm_kernel.L2.promotion import Verdict
from lpm_kernel.L2.release import offer_release, promote_again, roll_back
from lpm_kernel.records import Release
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.documents import put_document
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import list_releases, live_release, mark_stale, served_model
from tests.fakes import FakeEmbedder
from tests.samples import make_document, make_entries, make_release

PASSED = Verdict(passed=True, proven=True, gates=(), reasons=())
FAILED = Verdict(passed=False, proven=False, gates=(), reasons=("refusal: worse",))
EMBEDDER = FakeEmbedder()


def offer(stores: Stores, user_id: str, number: int, verdict: Verdict = PASSED, **fields: object) -> Release:
    """A release with everything that it names."""
    made = replace(make_release(user_id, number), gguf_key=f"tenant/{user_id}/lora/{number}.gguf", **fields)  # type: ignore[arg-type]
    TenantBlobs(stores.blobs, user_id).put(made.gguf_key, b"adapter")
    stores.vectors.sync(
        user_id, made.memory_generation, make_entries(user_id, [f"note {number}"], EMBEDDER), EMBEDDER.fingerprint
    )
    return offer_release(stores.tables, stores.vectors, made, verdict)


def states(stores: Stores, user_id: str) -> dict[str, str]:
    with stores.tables.transaction(user_id) as connection:
        return {release.release_id.removeprefix("release-"): release.status for release in list_releases(connection, user_id)}


def model(stores: Stores, user_id: str) -> tuple[str | None, bool]:
    with stores.tables.transaction(user_id) as connection:
        found = served_model(connection, user_id)
    return found.lora_path, found.model_ready


def stale(stores: Stores, user_id: str, *sha256s: str) -> list[str]:
    with stores.tables.transaction(user_id) as connection:
        return mark_stale(connection, user_id, sha256s, "a document was deleted")


def test_one_that_fails_its_gates_waits_with_its_reasons_and_the_live_one_serves_on(stores: Stores, user_id: str) -> None:
    offer(stores, user_id, 1)
    kept = offer(stores, user_id, 2, FAILED)
    assert (kept.status, kept.reasons) == ("candidate", ("refusal: worse",))
    assert states(stores, user_id) == {"1": "live", "2": "candidate"}
    assert model(stores, user_id) == (f"tenant/{user_id}/lora/1.gguf", True)
    with stores.tables.transaction(user_id) as connection:
        assert list_releases(connection, user_id)[0] == kept
    assert stores.vectors.count(user_id, "generation-2") == 1, "its memory is kept: a person may promote it"


@pytest.mark.parametrize("serves", [True, False])
def test_where_nobody_serves_the_setting_decides_on_one_that_failed(stores: Stores, user_id: str, serves: bool) -> None:
    made = replace(make_release(user_id, 1), gguf_key="k")
    offered = offer_release(stores.tables, stores.vectors, made, FAILED, first_serves=serves)
    assert offered.status == ("live" if serves else "candidate")
    assert offered.reasons == ("refusal: worse",), "the reasons are shown either way"
    assert model(stores, user_id) == (("k", True) if serves else (None, False))


def test_the_one_that_serves_goes_on_when_it_is_measured_again_and_fails(stores: Stores, user_id: str) -> None:
    offer(stores, user_id, 1)
    assert offer(stores, user_id, 1, FAILED).status == "live"


def test_the_way_back_goes_one_release_further_each_time_and_passes_candidates_by(stores: Stores, user_id: str) -> None:
    for number, verdict in ((1, PASSED), (2, FAILED), (3, PASSED), (4, PASSED)):
        offer(stores, user_id, number, verdict)
    back = [roll_back(stores.tables, stores.blobs, stores.vectors, user_id).release_id for _ in range(2)]
    assert back == ["release-3", "release-1"]
    assert states(stores, user_id) == {"4": "retired", "3": "retired", "2": "candidate", "1": "live"}
    assert model(stores, user_id) == (f"tenant/{user_id}/lora/1.gguf", True)
    with pytest.raises(UserInputError, match="release_unknown"):
        roll_back(stores.tables, stores.blobs, stores.vectors, user_id)


def test_a_person_may_promote_a_candidate_by_the_beginning_of_its_id(stores: Stores, user_id: str) -> None:
    offer(stores, user_id, 1)
    offer(stores, user_id, 2, FAILED)
    assert promote_again(stores.tables, stores.blobs, stores.vectors, user_id, "release-2").status == "live"
    for unclear in ("release-", "nothing", ""):
        with pytest.raises(UserInputError, match="release_unknown"):
            promote_again(stores.tables, stores.blobs, stores.vectors, user_id, unclear)
    assert states(stores, user_id) == {"1": "retired", "2": "live"}


@pytest.mark.parametrize("what", ["adapter", "memory"])
def test_a_release_that_is_not_whole_is_refused_and_nothing_changes(stores: Stores, user_id: str, what: str) -> None:
    for number in (1, 2):
        offer(stores, user_id, number)
    if what == "adapter":
        stores.blobs.delete(f"tenant/{user_id}/lora/1.gguf")
    else:
        stores.vectors.sync(user_id, "generation-1", [], EMBEDDER.fingerprint)
    for way in (
        lambda: roll_back(stores.tables, stores.blobs, stores.vectors, user_id),
        lambda: promote_again(stores.tables, stores.blobs, stores.vectors, user_id, "release-1"),
    ):
        with pytest.raises(UserInputError) as caught:
            way()
        assert caught.value.code == "release_incomplete"
    assert states(stores, user_id) == {"1": "retired", "2": "live"}


def test_a_stale_release_is_refused_and_the_way_back_passes_it_by(stores: Stores, user_id: str) -> None:
    documents = [make_document(user_id, name, name.encode(), "read") for name in ("a.md", "b.md")]
    with stores.tables.transaction(user_id) as connection:
        for document in documents:
            put_document(connection, document)
    shas = [document.sha256 for document in documents]
    offer(stores, user_id, 1, documents=(shas[0],))
    offer(stores, user_id, 2, documents=tuple(shas))
    offer(stores, user_id, 3, documents=(shas[0],))
    assert stale(stores, user_id, shas[1]) == ["release-2"]
    with pytest.raises(UserInputError) as caught:
        promote_again(stores.tables, stores.blobs, stores.vectors, user_id, "release-2")
    assert caught.value.code == "release_stale"
    assert roll_back(stores.tables, stores.blobs, stores.vectors, user_id).release_id == "release-1"


def test_a_manifest_that_names_no_documents_is_stale_by_any_deletion(stores: Stores, user_id: str) -> None:
    offer(stores, user_id, 1)
    assert stale(stores, user_id, "0" * 64) == ["release-1"]
    assert stale(stores, user_id, "0" * 64) == [], "it is stale already"


@pytest.mark.parametrize("serves", [True, False])
def test_a_live_release_that_is_stale_ends_with_the_next_one_whatever_its_gates_say(
    stores: Stores, user_id: str, serves: bool
) -> None:
    """The twin that knew a deleted document would have served for ever: the one without it scored a little less."""
    offer(stores, user_id, 1)
    stale(stores, user_id, "0" * 64)
    made = replace(make_release(user_id, 2), documents=())
    offered = offer_release(stores.tables, stores.vectors, made, FAILED, first_serves=serves)
    assert states(stores, user_id) == {"1": "retired", "2": offered.status}
    assert offered.status == ("live" if serves else "candidate")
    assert model(stores, user_id)[1] is serves


def test_a_release_of_a_document_that_was_deleted_meanwhile_is_not_put_on_record(stores: Stores, user_id: str) -> None:
    with pytest.raises(TrainingError) as caught:
        offer(stores, user_id, 1, documents=("0" * 64,))
    assert caught.value.code == "document_deleted"
    assert states(stores, user_id) == {}


def test_a_stale_release_that_is_made_anew_of_documents_that_are_there_is_stale_no_longer(stores: Stores, user_id: str) -> None:
    offer(stores, user_id, 1)
    stale(stores, user_id, "0" * 64)
    offer(stores, user_id, 1)
    with stores.tables.transaction(user_id) as connection:
        live = live_release(connection, user_id)
    assert live is not None
    assert live.stale_reason is None
