"""From messages to documents: the person's words by the door of every file, and out again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.forget import delete_document
from lpm_kernel.L0.library import read_documents
from lpm_kernel.records import Document
from lpm_kernel.social.documents import make_documents, make_every_document
from lpm_kernel.social.records import Chat
from lpm_kernel.social.store import unlink_account
from lpm_kernel.stores.deletions import begin_deletion
from lpm_kernel.stores.documents import list_documents, list_waiting, private_documents
from lpm_kernel.stores.open import Stores
from tests.fakes import no_progress
from tests.social.said import CHAT, NOON, Speaker, said

NAME = "telegram--1001234567-2026-03-04.txt"


@pytest.fixture
def ada(stores: Stores, new_user: Callable[[], str]) -> Speaker:
    return Speaker(stores, new_user())


def rows(speaker: Speaker) -> list[Document]:
    with speaker.stores.tables.transaction(speaker.user_id) as connection:
        return list_documents(connection, speaker.user_id)


def read(speaker: Speaker) -> dict[str, Document]:
    stores = speaker.stores
    documents, _ = read_documents(stores.tables, stores.blobs, stores.settings.limits, speaker.user_id, no_progress)
    return {document.filename: document for document in documents}


def test_a_day_becomes_a_document_of_the_persons_own_words(ada: Speaker) -> None:
    ada.says(
        *ada.words([(2, "With butter."), (1, "I like rye."), (3, "")]),
        said(4, "And I like wheat.", "77"),
        *ada.words([(5, "Good morning.")], sent_at=NOON + timedelta(days=1)),
    )
    assert ada.make().made == 2
    assert ada.documents() == {
        NAME: "# Telegram, Canteen, 2026-03-04\n\nI like rye.\n\nWith butter.\n",
        "telegram--1001234567-2026-03-05.txt": "# Telegram, Canteen, 2026-03-05\n\nGood morning.\n",
    }
    document = read(ada)[NAME]
    assert (document.source, document.created_by) == ("telegram", "user")
    assert document.created_at.date() == NOON.date(), "what is dated by it was written then"


def test_it_waits_for_the_pipeline_as_an_upload_does(ada: Speaker) -> None:
    ada.says(*ada.words([(1, "I like rye.")]))
    ada.make()
    with ada.stores.tables.operator_transaction() as connection:
        assert ada.user_id in {waiting.user_id for waiting in list_waiting(connection)}


def test_made_again_it_is_nothing_new(ada: Speaker) -> None:
    page = ada.words([(1, "I like rye.")])
    ada.says(*page)
    assert ada.make().made == 1
    ada.says(*page)
    again = ada.make()
    assert (again.made, again.unchanged) == (0, 0), "nothing was due"


def test_an_edit_replaces_the_document_and_leaves_one(ada: Speaker) -> None:
    ada.says(*ada.words([(1, "I like ray."), (2, "With butter.")]))
    ada.make()
    read(ada)
    ada.says(*ada.words([(1, "I like rye.")], version=1))
    assert ada.make().made == 1
    assert read(ada).keys() == {NAME}
    assert ada.documents()[NAME] == "# Telegram, Canteen, 2026-03-04\n\nI like rye.\n\nWith butter.\n"
    assert [row.status for row in rows(ada)] == ["replaced", "read"]


def test_an_edit_before_the_first_was_read_counts_too(ada: Speaker) -> None:
    """Both wait, and both are of one day: the later version must be the later document."""
    for version in range(6):
        ada.says(*ada.words([(1, f"Version {version}.")], version=version))
        assert ada.make().made == 1
    read(ada)
    assert ada.documents() == {NAME: "# Telegram, Canteen, 2026-03-04\n\nVersion 5.\n"}
    assert sorted(row.status for row in rows(ada)) == ["read", *["replaced"] * 5]


def test_an_edit_that_is_taken_back_brings_the_first_words_back(ada: Speaker) -> None:
    for version, text in enumerate(["I like rye.", "I like wheat.", "I like rye."]):
        ada.says(*ada.words([(1, text)], version=version))
        ada.make()
        read(ada)
    assert ada.documents() == {NAME: "# Telegram, Canteen, 2026-03-04\n\nI like rye.\n"}


def test_a_deletion_withdraws_every_content_that_ever_held_it(ada: Speaker) -> None:
    ada.says(*ada.words([(1, "My PIN is 4711."), (2, "Lunch?")]))
    ada.make()
    read(ada)
    ada.says(*ada.words([(3, "At twelve.")]))
    ada.make()
    read(ada)
    ada.says(deleted={ada.user_id: [1]})
    counts = ada.make()
    assert (counts.made, counts.withdrawn) == (1, 2)
    assert ada.documents() == {NAME: "# Telegram, Canteen, 2026-03-04\n\nLunch?\n\nAt twelve.\n"}
    assert len(rows(ada)) == 1, "of the others no name is left"
    read(ada)
    assert ada.make().withdrawn == 0


def test_the_last_word_that_is_deleted_takes_the_document_along(ada: Speaker) -> None:
    ada.says(*ada.words([(1, "Oops.")]))
    ada.make()
    read(ada)
    ada.says(deleted={ada.user_id: [1]})
    counts = ada.make()
    assert (counts.made, counts.emptied, counts.withdrawn) == (0, 1, 1)
    assert rows(ada) == []


def test_a_content_of_a_run_that_died_is_withdrawn_too(ada: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the document was taken in and before anybody had noted it."""
    from lpm_kernel.social import documents

    ada.says(*ada.words([(1, "My PIN is 4711."), (2, "Lunch?")]))

    def dies(*_: object) -> None:
        raise StoreError("tables_unavailable", "gone")

    with monkeypatch.context() as broken:
        broken.setattr(documents, "mark_made", dies)
        with pytest.raises(StoreError):
            ada.make()
    assert "4711" in ada.documents()[NAME]
    ada.says(deleted={ada.user_id: [1]})
    assert ada.make().withdrawn == 1
    assert ada.documents() == {NAME: "# Telegram, Canteen, 2026-03-04\n\nLunch?\n"}


def test_a_document_that_the_person_deletes_does_not_come_back_with_the_next_message(ada: Speaker) -> None:
    ada.says(*ada.words([(1, "My PIN is 4711.")]))
    ada.make()
    read(ada)
    delete_document(ada.stores, ada.user_id, NAME, ada.adapters)
    ada.says(*ada.words([(1, "My PIN is 4711."), (2, "Lunch?")]))
    ada.make()
    assert ada.documents() == {NAME: "# Telegram, Canteen, 2026-03-04\n\nLunch?\n"}


def test_two_short_days_with_the_same_words_are_two_documents(ada: Speaker) -> None:
    """One file for both would go with the deletion of either."""
    ada.says(*ada.words([(1, "Good morning.")]), *ada.words([(2, "Good morning.")], sent_at=NOON + timedelta(days=1)))
    ada.make()
    ada.says(deleted={ada.user_id: [1]})
    ada.make()
    assert list(ada.documents()) == ["telegram--1001234567-2026-03-05.txt"]


def test_what_is_said_in_private_stays_so_where_the_first_try_was_cut_off(
    ada: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The try had noted a version and sent none; the next took that for one that its person had let others hear."""

    def away(*_: object, **__: object) -> None:
        raise StoreError("blob_store", "told to be away")

    ada.says(*ada.words([(1, "I like rye.")]))
    with monkeypatch.context() as patched:
        patched.setattr("lpm_kernel.social.documents.receive_document", away)
        with pytest.raises(StoreError):
            ada.make()
    ada.make()
    (document,) = rows(ada)
    with ada.stores.tables.transaction(ada.user_id) as connection:
        assert private_documents(connection, ada.user_id) == {document.sha256}


@pytest.mark.parametrize("foreseen", [True, False])
def test_whose_documents_cannot_be_made_keeps_nobody_else_waiting(
    stores: Stores, new_user: Callable[[], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, foreseen: bool
) -> None:
    first, second = sorted((Speaker(stores, new_user()) for _ in range(2)), key=lambda speaker: speaker.user_id)
    for speaker in (first, second):
        speaker.says(*speaker.words([(1, "I like rye.")]))
    made = make_documents

    def fails_for_one(stores: Stores, user_id: str, *rest: Any) -> Any:
        if user_id == first.user_id:
            raise StoreError("blob_store", "told to be away") if foreseen else ValueError("told to")
        return made(stores, user_id, *rest)

    monkeypatch.setattr("lpm_kernel.social.documents.make_documents", fails_for_one)
    _, failed = make_every_document(stores, tmp_path, NOON + timedelta(days=30))
    assert failed[first.user_id] == ("blob_store" if foreseen else "ValueError")
    assert second.documents()
    assert first.documents() == {}


def test_what_is_said_in_private_is_kept_for_the_person_and_stays_as_they_set_it(ada: Speaker) -> None:
    from lpm_kernel.stores.documents import set_private

    open_chat = Chat("telegram", "-100999", "Open", public=True)
    ada.says(*ada.words([(1, "Between us.")]))
    ada.says(*ada.words([(1, "Hear, hear.")], chat=open_chat), chat=open_chat)
    ada.make()
    read(ada)
    by_name = {row.filename: row.sha256 for row in rows(ada)}
    with ada.stores.tables.transaction(ada.user_id) as connection:
        assert private_documents(connection, ada.user_id) == {by_name[NAME]}
        set_private(connection, ada.user_id, by_name[NAME], False)
    ada.says(*ada.words([(2, "You may tell.")]))
    ada.make()
    with ada.stores.tables.transaction(ada.user_id) as connection:
        assert private_documents(connection, ada.user_id) == frozenset()


def test_a_day_rests_before_it_is_made_and_a_deletion_does_not(ada: Speaker) -> None:
    ada.says(*ada.words([(1, "Morning."), (60, "Still here.")]))
    assert ada.make(NOON + timedelta(minutes=59)).made == 0
    assert ada.make(NOON + timedelta(minutes=60)).made == 1
    ada.says(deleted={ada.user_id: [1]})
    assert ada.make(NOON - timedelta(days=1)).withdrawn == 1


def test_every_user_with_something_due_is_served_and_one_who_leaves_holds_up_nobody(
    stores: Stores, new_user: Callable[[], str], ada: Speaker
) -> None:
    ben = Speaker(stores, new_user())
    for speaker in (ada, ben):
        speaker.says(*speaker.words([(1, "I like rye.")]))
    with stores.tables.transaction(ben.user_id) as connection:
        begin_deletion(connection, ben.user_id, NOON)
    _, failed = make_every_document(stores, ada.adapters, NOON + timedelta(days=2))
    assert failed[ben.user_id] == "deletion_under_way"
    assert NAME in ada.documents()
    with pytest.raises(UserInputError):
        make_documents(stores, ben.user_id, ben.adapters, NOON + timedelta(days=2))


def test_what_goes_beyond_the_limit_is_refused_by_name_and_uploads_keep_their_room(ada: Speaker) -> None:
    limits = ada.stores.settings.limits.model_copy(update={"social_documents_per_user": 1, "documents_per_user": 1})
    tight = replace(ada.stores, settings=ada.stores.settings.model_copy(update={"limits": limits}))
    for day in range(3):
        ada.says(*ada.words([(day, f"Day {day}.")], sent_at=NOON + timedelta(days=day)))
    counts = make_documents(tight, ada.user_id, ada.adapters, NOON + timedelta(days=9))
    assert (counts.made, counts.refused) == (1, {"document_limit": 2})
    from lpm_kernel.L0.intake import receive_document

    result = receive_document(tight.tables, tight.blobs, limits, ada.user_id, "own.txt", b"A file of mine.")
    assert result.status == "stored"
    assert {row.refusal.code for row in rows(ada) if row.refusal} == {"document_limit"}
    assert len(read(ada)) == 4, "with the limit as it is, quarantine lets them out"


def test_a_thread_is_one_document_whichever_of_its_posts_is_told_first(stores: Stores, new_user: Callable[[], str]) -> None:
    for order in ((3, 2, 1), (1, 2, 3), (2, 1, 3)):
        ada = Speaker(stores, new_user(), "x")
        chat = Chat("x", ada.account_id, "", public=True)
        posts = {
            1: ada.words([(1, "A thread:")], chat=chat)[0],
            2: ada.words([(2, "It goes on.")], chat=chat, thread_id=1)[0],
            3: ada.words([(3, "And ends.")], chat=chat, thread_id=1)[0],
        }
        for message_id in order:
            ada.says(posts[message_id], chat=chat)
            ada.make()
        ada.says(*ada.words([(4, "Alone.")], chat=chat), chat=chat)
        ada.make()
        assert ada.documents() == {
            f"x-{ada.account_id}-thread-1.txt": "# X, 2026-03-04\n\nA thread:\n\nIt goes on.\n\nAnd ends.\n",
            f"x-{ada.account_id}-2026-03-04.txt": "# X, 2026-03-04\n\nAlone.\n",
        }, order


def test_an_account_that_is_withdrawn_takes_its_documents_along(ada: Speaker) -> None:
    ada.says(*ada.words([(1, "Mine.")]), *ada.words([(2, "Too.")], sent_at=NOON + timedelta(days=1)))
    ada.make()
    read(ada)
    unlink_account(ada.stores.tables, ada.user_id, "telegram", ada.account_id, NOON, withdraw=True)
    assert ada.make().withdrawn == 2
    assert rows(ada) == []


def test_a_person_who_says_nothing_has_no_documents(ada: Speaker) -> None:
    assert ada.make().made == 0
    assert CHAT.chat_id in NAME
