"""Forgetting a document: out of every store, out of what a chat shows at once, and out of the weights with the next release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.forget import delete_document
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import read_documents
from lpm_kernel.L2.adapter_files import local_copy
from lpm_kernel.L2.release import find_unbuilt, promote_again
from lpm_kernel.layout import (
    asked_for_keys,
    document_keys,
    gguf_key,
)
from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.ballot_drafts import keep_twin_draft, list_drafts
from lpm_kernel.stores.dao_words import keep_words, words_of
from lpm_kernel.stores.documents import deleted_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import served_model
from tests.fakes import no_progress
from tests.forgetful_twin import BOAT, CAT, EVERYWHERE, FAILED, NOWHERE, Twin, UnreachableVectors
from tests.gguf_adapters import adapter_bytes
from tests.samples import NOON


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], tmp_path: Path) -> Twin:
    made = Twin(stores, new_user(), tmp_path / "adapters")
    made.send("cats.md", CAT)
    made.send("boat.txt", BOAT)
    made.build()
    return made


def test_the_document_is_gone_from_every_store_and_the_others_stay(twin: Twin) -> None:
    done = twin.delete("cats.md")
    assert [document.filename for document in done.documents] == ["cats.md"]
    assert twin.traces(sha256_hex(CAT.encode())) == NOWHERE
    assert twin.traces(sha256_hex(BOAT.encode())) == EVERYWHERE
    assert twin.names() == ["boat.txt"]


def test_the_stale_twin_serves_on_without_the_document_in_reach_until_another_is_built(twin: Twin) -> None:
    assert twin.shown("What is your cat called?") >= {"cats.md"}
    done = twin.delete("cats.md")
    assert (done.stale_releases, done.silent, done.waiting) == (("release-1",), False, True)
    assert twin.shown("What is your cat called?") == {"boat.txt"}
    live = twin.live()
    assert live is not None
    assert live.stale_reason
    assert twin.waits(), "a deletion is taken up as an upload is"
    twin.build()
    live = twin.live()
    assert (live.release_id, live.stale_reason) == ("release-2", None)
    assert not twin.waits()


def test_what_a_store_could_not_forget_is_shown_by_no_chat_and_forgotten_with_the_next_release(twin: Twin) -> None:
    away = replace(twin.stores, vectors=UnreachableVectors(twin.stores.vectors))  # type: ignore[type-var]
    with pytest.raises(StoreError):
        delete_document(away, twin.user_id, "cats.md", twin.adapters)
    assert twin.shown("What is your cat called?") == {"boat.txt"}
    twin.build()
    twin.clean()
    assert twin.traces(sha256_hex(CAT.encode())) == NOWHERE


def test_a_deletion_that_broke_off_is_finished_by_its_hash(twin: Twin) -> None:
    away = replace(twin.stores, vectors=UnreachableVectors(twin.stores.vectors))  # type: ignore[type-var]
    with pytest.raises(StoreError):
        delete_document(away, twin.user_id, "cats.md", twin.adapters)
    twin.delete(sha256_hex(CAT.encode())[:12])
    assert twin.traces(sha256_hex(CAT.encode())) == NOWHERE
    assert twin.waits(), "that it is to be taken up is not forgotten by it"


def test_weights_that_learned_it_are_removed_once_another_twin_serves_and_not_before(twin: Twin) -> None:
    lost = [sha256_hex(data) for data in (b"lora 1", adapter_bytes(1))]
    twin.own.put(f"{twin.own.prefix}checkpoints/run-1/step-8.safetensors", b"weights of a run that broke off")
    for number in (1, 2):
        twin.own.put(f"{twin.own.prefix}merged/{sha256_hex(b'lora %d' % number)}/base.gguf", b"weights")
    twin.own.put(f"{twin.own.prefix}written/questions/call.txt", b"What is Pilchard?")
    for key in asked_for_keys(twin.user_id):
        twin.own.put(key, b"a prompt with the line of the cat")
    twin.delete("cats.md")
    assert not any(twin.own.exists(key) for key in asked_for_keys(twin.user_id)), "nothing would make them anew without it"
    twin.clean()
    assert twin.keys("written") == set(), "what a model wrote about it goes at once"
    assert any(lost[0] in key for key in twin.keys("lora"))
    twin.build()
    removed = twin.clean()
    assert removed.documents == 1
    left = twin.keys("lora")
    assert not [key for key in left if lost[0] in key or lost[1] in key or "of-1" in key]
    assert len([key for key in left if sha256_hex(b"lora 2") in key]) == 2
    assert {f"{sha256_hex(adapter_bytes(2))}.gguf", "recipe-of-2.json"} <= left
    assert twin.keys("checkpoints") == set()
    assert [key for key in twin.own.list_keys(f"{twin.own.prefix}merged/") if sha256_hex(b"lora 2") not in key] == []
    assert twin.keys("merged") == {"base.gguf"}
    assert not local_copy(twin.adapters, twin.user_id, lost[1]).exists()
    assert local_copy(twin.adapters, twin.user_id, sha256_hex(adapter_bytes(2))).exists()
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert deleted_documents(connection, twin.user_id) == frozenset()
    assert twin.clean().documents == 0


def test_what_was_made_on_request_goes_at_once_since_no_run_would_make_it_anew(twin: Twin) -> None:
    """The lines of a deleted document stayed in `preference_pairs` for as long as nobody asked for new ones."""
    for name in ("preference_pairs.jsonl", "dpo.json", "merged_model.json"):
        twin.own.put(f"{twin.own.prefix}assets/{name}", CAT.encode())
    twin.delete("cats.md")
    assert twin.keys("assets") == {"lora_adapter.json"}, "what a run makes anew is left to the run"


def test_the_local_copy_of_an_adapter_that_was_never_released_goes_too(twin: Twin) -> None:
    """An evaluation fetches the adapter; where it or a check failed, no release ever named the copy."""
    never = sha256_hex(b"evaluated, and no more")
    twin.own.put(gguf_key(twin.user_id, never), b"gguf")
    local_copy(twin.adapters, twin.user_id, never).write_bytes(b"gguf")
    twin.delete("cats.md")
    twin.build()
    twin.clean()
    assert list(twin.adapters.iterdir()) == [local_copy(twin.adapters, twin.user_id, sha256_hex(adapter_bytes(2)))]


def test_a_twin_without_it_that_may_not_serve_is_enough_for_what_learned_it_to_go(twin: Twin) -> None:
    """With `first_release_serves` off nobody served after a failed gate, and the weights of the deleted stayed for good."""
    twin.delete("cats.md")
    twin.build(FAILED, first_serves=False)
    assert twin.live() is None
    assert twin.clean().documents == 0, "who asks for no release in particular gets none taken for it"
    assert twin.clean(built="release-2").documents == 1
    assert not [key for key in twin.keys("lora") if sha256_hex(b"lora 1") in key]
    assert [key for key in twin.keys("lora") if sha256_hex(b"lora 2") in key]


def test_a_deletion_that_needs_no_new_twin_leaves_one_that_does_on_record(twin: Twin) -> None:
    """Deleting a refused file forgot another deletion, whose weights were then never looked for."""
    late = twin.send("late.md", "A late note.")
    read_documents(twin.stores.tables, twin.stores.blobs, twin.stores.settings.limits, twin.user_id, no_progress)
    receive_document(
        twin.stores.tables, twin.stores.blobs, twin.stores.settings.limits, twin.user_id, "photo.png", b"not a text"
    )
    twin.delete("late.md")
    read_documents(twin.stores.tables, twin.stores.blobs, twin.stores.settings.limits, twin.user_id, no_progress)
    twin.delete("photo.png")
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert deleted_documents(connection, twin.user_id) == {late}


def test_an_older_release_that_knew_it_cannot_come_back(twin: Twin) -> None:
    twin.delete("cats.md")
    twin.build()
    with pytest.raises(UserInputError, match="release_stale"):
        promote_again(twin.stores.tables, twin.stores.blobs, twin.stores.vectors, twin.user_id, "release-1")


def test_what_a_content_was_before_goes_with_its_name(twin: Twin) -> None:
    later = twin.send("cats.md", CAT + " She is old.")
    twin.build()
    done = twin.delete("cats.md")
    assert {document.sha256 for document in done.documents} == {later, sha256_hex(CAT.encode())}
    assert sorted(done.stale_releases) == ["release-1", "release-2"]


def test_deleting_an_older_content_alone_leaves_the_live_twin_and_needs_no_other(twin: Twin) -> None:
    twin.send("cats.md", CAT + " She is old.")
    twin.build()
    done = twin.delete(sha256_hex(CAT.encode()))
    assert (done.stale_releases, done.waiting) == (("release-1",), False)
    assert not twin.waits()
    assert twin.live().release_id == "release-2"
    assert not [key for key in twin.keys("lora") if sha256_hex(b"lora 1") in key], "its weights went at once"


def test_a_content_that_waits_to_be_read_once_more_makes_stale_what_knew_it_before(twin: Twin) -> None:
    """Only read and replaced contents counted: the way back led to a twin that knew the deleted one."""
    twin.send("cats.md", CAT + " She is old.")
    twin.build()
    twin.send("old cats.md", CAT)
    done = twin.delete("old cats.md")
    assert [document.status for document in done.documents] == ["received"]
    assert done.stale_releases == ("release-1",)


def test_the_last_document_takes_the_twin_and_all_that_was_made_along(twin: Twin) -> None:
    twin.delete("cats.md")
    done = twin.delete("boat.txt")
    assert (done.silent, done.waiting, twin.waits()) == (True, False, False)
    assert twin.live() is None
    assert list(twin.own.list_keys()) == []
    assert list(twin.adapters.iterdir()) == []
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert not served_model(connection, twin.user_id).model_ready
        assert find_unbuilt(connection, twin.user_id) is None


def test_a_setting_silences_a_twin_that_learned_from_a_deleted_document(twin: Twin) -> None:
    settings = twin.stores.settings
    strict = settings.model_copy(update={"release": settings.release.model_copy(update={"stop_serving_deleted": True})})
    done = delete_document(replace(twin.stores, settings=strict), twin.user_id, "cats.md", twin.adapters)
    assert (done.silent, done.waiting) == (True, True)
    with pytest.raises(UserInputError, match="no_release"):
        twin.shown("What is your cat called?")


def test_a_deleted_document_that_is_sent_again_is_a_new_one_and_is_built_anew(twin: Twin) -> None:
    twin.delete("cats.md")
    twin.send("cats.md", CAT)
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert find_unbuilt(connection, twin.user_id) is not None
    twin.build()
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert find_unbuilt(connection, twin.user_id) is None
    assert twin.shown("What is your cat called?") >= {"cats.md"}
    twin.clean()
    assert twin.traces(sha256_hex(CAT.encode())) == EVERYWHERE


def test_what_names_no_document_deletes_nothing(twin: Twin) -> None:
    for named in ("dogs.md", "", "0" * 64, sha256_hex(CAT.encode())[:7], "../cats"):
        with pytest.raises(UserInputError) as caught:
            twin.delete(named)
        assert caught.value.code == "document_unknown"
    assert twin.names() == ["boat.txt", "cats.md"]


def test_a_refused_file_is_forgotten_too_and_makes_nothing_stale(twin: Twin) -> None:
    limits = twin.stores.settings.limits
    receive_document(twin.stores.tables, twin.stores.blobs, limits, twin.user_id, "photo.png", b"not a text")
    done = twin.delete("photo.png")
    assert (done.stale_releases, done.waiting, twin.names()) == ((), False, ["boat.txt", "cats.md"])
    assert not any(twin.own.exists(key) for key in document_keys(twin.user_id, sha256_hex(b"not a text")))


def test_nobody_elses_document_of_the_same_bytes_is_touched(twin: Twin, new_user: Callable[[], str], tmp_path: Path) -> None:
    other = Twin(twin.stores, new_user(), tmp_path / "others")
    other.send("cats.md", CAT)
    other.build()
    twin.delete("cats.md")
    assert other.traces(sha256_hex(CAT.encode())) == EVERYWHERE


def test_the_old_words_of_a_corrected_memory_go_with_their_document_and_the_persons_own_stay(twin: Twin) -> None:
    """What was superseded is found by no search, and was therefore left behind."""
    memories, user_id = twin.stores.memories, twin.user_id
    old = next(memory for memory in memories.every(user_id) if memory.text == "I like cats.md")
    memories.correct(user_id, old.memory_id, "I like dogs", by="ada", at=NOON)
    twin.delete("cats.md")
    assert [memory.text for memory in memories.every(user_id)] == ["I like boat.txt", "I like dogs"]


def test_words_in_votes_and_drafts_go_with_the_document_that_they_quote(twin: Twin) -> None:
    """Reasons of ballots and drafts outlived the document that they had quoted."""
    cat, boat = sha256_hex(CAT.encode()), sha256_hex(BOAT.encode())
    with twin.stores.tables.transaction(twin.user_id) as connection:
        for words, sha256 in ((CAT, cat), (BOAT, boat)):
            keep_words(connection, twin.user_id, words, [sha256])
            draft = BallotDraft(f"p-{sha256[:4]}", "for", words)
            places = [f"{sha256}:0-9", "memory:m1"]
            keep_twin_draft(connection, twin.user_id, draft, NOON, confidence=0.7, citations=places, why="draft_only")
    twin.delete("cats.md")
    with twin.stores.tables.transaction(twin.user_id) as connection:
        digests = [sha256_hex(words.encode()) for words in (CAT, BOAT)]
        assert set(words_of(connection, digests)) == {(twin.user_id, digests[1])}
        drafts = {kept.draft.proposal: kept for kept in list_drafts(connection, twin.user_id)}
    gone, left = drafts[f"p-{cat[:4]}"], drafts[f"p-{boat[:4]}"]
    assert (gone.draft.reason, gone.withdrawn, gone.citations) == (None, True, ("memory:m1",))
    assert (left.draft.reason, left.withdrawn, left.citations) == (BOAT, False, (f"{boat}:0-9", "memory:m1"))
