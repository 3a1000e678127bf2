"""Deleting a user on real stores: everywhere, also when a store fails on the way, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.dao.records import Scope
from lpm_kernel.dao.service import Dao
from lpm_kernel.erase import delete_user, sweep_after_deletion
from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.staging import promise_upload
from lpm_kernel.layout import raw_key, tenant_prefix
from lpm_kernel.records import sha256_hex
from lpm_kernel.social.records import Chat
from lpm_kernel.social.store import store_page
from lpm_kernel.status import read_status
from lpm_kernel.stores.ballot_drafts import keep_drafts
from lpm_kernel.stores.calibration import put_pairs
from lpm_kernel.stores.changes import put_change
from lpm_kernel.stores.conversations import append_message, last_messages
from lpm_kernel.stores.dao_consent import Consent, set_consent
from lpm_kernel.stores.dao_plans import PgPlans
from lpm_kernel.stores.dao_twin_turns import take_turn
from lpm_kernel.stores.dao_words import keep_words
from lpm_kernel.stores.dead_letters import put_dead_letter
from lpm_kernel.stores.deletions import find_deletion, list_deletions
from lpm_kernel.stores.feedback import keep_feedback
from lpm_kernel.stores.memory_writes import put_memory_write
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.schema import metadata
from lpm_kernel.stores.session_summaries import mark_summed
from lpm_kernel.stores.social_accounts import add_account
from lpm_kernel.stores.social_cursors import Cursor, read_cursor
from tests.forgetful_twin import BOAT, CAT, EVERYWHERE, Twin
from tests.samples import NOON, hold_fence, make_letter, make_message, make_pair, make_plan
from tests.social.said import account_of, say_something


class Away:
    """A store of which these calls fail as long as it is away."""

    def __init__(self, store: Any, *calls: str) -> None:
        self._store, self._calls, self.away = store, calls, True

    def __getattr__(self, name: str) -> Any:
        if self.away and name in self._calls:
            raise StoreError("told_to", "the store did not answer: told to")
        return getattr(self._store, name)


@pytest.fixture
def new_twin(stores: Stores, new_user: Callable[[], str], tmp_path: Path) -> Callable[[], Twin]:
    """Somebody who is in every store and has a row in every table."""

    def make() -> Twin:
        twin = Twin(stores, new_user(), tmp_path / f"adapters-{len(list(tmp_path.iterdir()))}")
        twin.send("cats.md", CAT)
        twin.send("boat.txt", BOAT)
        twin.build()
        promise_upload(stores, twin.user_id, "large.pdf", 10)
        twin.send("late.md", "A late note, not read yet.")
        with stores.tables.transaction(twin.user_id) as connection:
            append_message(connection, make_message(twin.user_id, 1))
            append_message(connection, make_message(twin.user_id, 2, sender="twin"))
            keep_feedback(connection, twin.user_id, "m2", truth=1, created_at=NOON)
            put_dead_letter(connection, make_letter(twin.user_id))
            put_memory_write(connection, make_message(twin.user_id, 1), 1)
            hold_fence(connection, twin.user_id)
            put_change(
                connection,
                twin.user_id,
                "memories",
                "correct_memory",
                {"memory_id": "m", "words_sha256": "0", "by": "user"},
                at=NOON,
                words="It is red.",
            )
            keep_drafts(connection, make_message(twin.user_id, 2), [BallotDraft("P-1", "for", None)])
            put_pairs(connection, twin.user_id, [make_pair("p1")])
            mark_summed(connection, twin.user_id, "s", 1, NOON)
            keep_words(connection, twin.user_id, "The park needs its benches back.")
            set_consent(connection, Consent(twin.user_id), NOON)
            say_something(connection, twin.user_id, "It is red.")
            take_turn(connection, twin.user_id, "P-1", "basis", NOON, NOON)
        plan, started, line = make_plan(twin.user_id)
        plans = PgPlans(stores.tables)
        plans.begin(plan, started)
        plans.keep_lines(twin.user_id, plan.plan_id, twin.user_id, [line])
        return twin

    return make


@pytest.fixture
def twin(new_twin: Callable[[], Twin]) -> Twin:
    return new_twin()


def left(twin: Twin) -> dict[str, int]:
    """What any store still holds, by its name."""
    stores, user_id = twin.stores, twin.user_id
    with stores.tables.transaction(user_id) as connection:
        tables = [table.name for table in metadata.sorted_tables if "user_id" in table.c and table.name != "deletion"]
        rows = {name: connection.execute(text(f"select count(*) from {name}")).scalar_one() for name in tables}
    held = {
        "blobs": len(list(stores.blobs.list_keys(tenant_prefix(user_id)))),
        "vectors": stores.vectors.count(user_id),
        "memories": len(stores.memories.every(user_id)),
        "facts": stores.graph.count(user_id).facts,
        "adapters": len(list(twin.adapters.iterdir())) if twin.adapters.exists() else 0,
    }
    return {name: count for name, count in (rows | held).items() if count}


def test_the_twin_of_these_tests_is_in_every_store_and_table(twin: Twin) -> None:
    """Else the tests below would prove nothing."""
    tables = {table.name for table in metadata.sorted_tables if "user_id" in table.c} - {"deletion"}
    assert set(left(twin)) == tables | {"blobs", "vectors", "memories", "facts", "adapters"}


def test_a_user_goes_from_every_store_and_nobody_else_does(twin: Twin, new_twin: Callable[[], Twin]) -> None:
    other = new_twin()
    before = left(other)
    done = delete_user(twin.stores, twin.user_id, twin.adapters)
    assert done.existed
    assert done.blobs > 5
    assert left(twin) == {}
    with pytest.raises(UserInputError) as caught:
        read_status(twin.stores, twin.user_id)
    assert caught.value.code == "twin_not_found"
    assert left(other) == before
    assert other.traces(sha256_hex(CAT.encode())) == EVERYWHERE


def test_who_goes_leaves_the_dao_and_their_delegations_end(twin: Twin, new_twin: Callable[[], Twin]) -> None:
    # whoever came to these tests before has a voice too
    everybody = twin.stores.settings.dao.model_copy(update={"max_members": 100_000})
    other, dao = new_twin().user_id, Dao(twin.stores.tables, everybody)
    given = [
        dao.delegate(twin.user_id, other, Scope("topic", "parks")),
        dao.delegate(other, twin.user_id, Scope("topic", "roads")),
    ]
    kept = dao.events_after(0, 10_000)
    delete_user(twin.stores, twin.user_id, twin.adapters)
    assert twin.user_id not in dao.members()
    ended = {each.delegation_id for each in dao.delegations(twin.user_id) if each.revoked_at is not None}
    assert ended == {each.delegation_id for each in given}
    assert dao.events_after(0, 10_000)[: len(kept)] == kept, "what happened has happened"


def test_what_somebody_said_to_others_twins_goes_with_them(twin: Twin, new_twin: Callable[[], Twin]) -> None:
    """It stayed for ever, and whoever had that id next found it in their own talk with that twin."""
    other = new_twin()
    asked = replace(make_message(other.user_id, 7, "Whose cat is it?"), asker=twin.user_id)
    kept = replace(make_message(other.user_id, 8, "And the boat?"), asker="erase-somebody-else")
    with twin.stores.tables.transaction(other.user_id) as connection:
        append_message(connection, asked)
        append_message(connection, kept)
    delete_user(twin.stores, twin.user_id, twin.adapters)
    with twin.stores.tables.transaction(other.user_id) as connection:
        assert last_messages(connection, other.user_id, asked.session_id, 9, asker=twin.user_id) == []
        assert last_messages(connection, other.user_id, kept.session_id, 9, asker="erase-somebody-else") == [kept]
        assert last_messages(connection, other.user_id, kept.session_id, 9), "the person's own talk"


def test_who_has_no_twin_takes_along_what_they_said_to_others(twin: Twin) -> None:
    """Of somebody who had sent nothing there was nothing to delete, and their talks with others' twins stayed."""
    asked = replace(make_message(twin.user_id, 7, "Whose cat is it?"), asker="erase-only-asks")
    with twin.stores.tables.transaction(twin.user_id) as connection:
        append_message(connection, asked)
    assert not delete_user(twin.stores, "erase-only-asks", twin.adapters).existed
    with twin.stores.tables.transaction(twin.user_id) as connection:
        assert last_messages(connection, twin.user_id, asked.session_id, 9, asker="erase-only-asks") == []


def test_deleting_again_deletes_nothing_and_is_no_error(twin: Twin) -> None:
    delete_user(twin.stores, twin.user_id, twin.adapters)
    assert not delete_user(twin.stores, twin.user_id, twin.adapters).existed
    promise_upload(twin.stores, "erase-nobody", "large.pdf", 10)
    assert not delete_user(twin.stores, "erase-nobody", twin.adapters).existed
    assert list(twin.stores.blobs.list_keys(tenant_prefix("erase-nobody"))) == [], "a file that was promised and never sent"


@pytest.mark.parametrize(
    ("port", "call", "still"),
    [
        ("graph", "delete_user", "facts"),
        ("memories", "delete_all", "memories"),
        ("vectors", "delete_user", "vectors"),
        ("blobs", "delete", "blobs"),
    ],
)
def test_a_store_that_fails_keeps_no_other_and_the_next_call_goes_on(twin: Twin, port: str, call: str, still: str) -> None:
    store = Away(getattr(twin.stores, port), call)
    broken = replace(twin.stores, **{port: store})
    with pytest.raises(StoreError) as caught:
        delete_user(broken, twin.user_id, twin.adapters)
    assert (caught.value.code, caught.value.retryable) == ("deletion_incomplete", True)
    assert port in caught.value.message
    held = set(left(twin)) & {"blobs", "vectors", "memories", "facts", "adapters"}
    assert held == {still}, "the others are empty"
    with twin.stores.tables.operator_transaction() as connection:
        assert (twin.user_id, None) in {(item.user_id, item.done_at) for item in list_deletions(connection)}
    assert twin.live() is None, "nobody serves for them from the first moment"
    assert not twin.waits(), "and no run is asked for"
    for ask in (
        lambda: read_status(twin.stores, twin.user_id),
        lambda: twin.shown("What is your cat called?"),
        lambda: twin.send("new.md", "A new note."),
    ):
        with pytest.raises(UserInputError) as refused:
            ask()
        assert refused.value.code == "deletion_under_way"
    store.away = False
    assert delete_user(broken, twin.user_id, twin.adapters).existed
    assert left(twin) == {}


def test_a_table_that_fails_at_the_end_leaves_the_record_of_what_is_to_be_done(twin: Twin) -> None:
    from tests.fakes import FailingTables

    broken = replace(twin.stores, tables=FailingTables(twin.stores.tables, spared=1, before=False))
    with pytest.raises(StoreError):
        delete_user(broken, twin.user_id, twin.adapters)
    with twin.stores.tables.transaction(twin.user_id) as connection:
        found = find_deletion(connection, twin.user_id)
        assert found is not None
        assert found.done_at is None
    delete_user(twin.stores, twin.user_id, twin.adapters)
    assert left(twin) == {}


def test_an_upload_that_comes_while_somebody_is_deleted_leaves_no_bytes(twin: Twin) -> None:
    broken = replace(twin.stores, graph=Away(twin.stores.graph, "delete_user"))
    with pytest.raises(StoreError):
        delete_user(broken, twin.user_id, twin.adapters)
    with pytest.raises(UserInputError):
        receive_document(
            twin.stores.tables, twin.stores.blobs, twin.stores.settings.limits, twin.user_id, "late.md", b"A late note."
        )
    assert not twin.own.exists(raw_key(twin.user_id, sha256_hex(b"A late note.")))
    delete_user(twin.stores, twin.user_id, twin.adapters)


def test_the_same_id_begins_anew_afterwards(twin: Twin) -> None:
    delete_user(twin.stores, twin.user_id, twin.adapters)
    twin.send("boat.txt", BOAT)
    assert twin.names() == ["boat.txt"]
    status = read_status(twin.stores, twin.user_id)
    assert (status.documents["received"], status.messages, status.memories, status.live) == (1, 0, {}, None)
    twin.build()
    assert twin.shown("Who sails a boat?") == {"boat.txt"}
    assert delete_user(twin.stores, twin.user_id, twin.adapters).existed, "and may be deleted again"
    assert left(twin) == {}


def test_what_a_run_left_of_somebody_who_is_gone_is_swept_and_of_a_new_user_nothing(twin: Twin) -> None:
    delete_user(twin.stores, twin.user_id, twin.adapters)
    twin.own.put(f"{twin.own.prefix}assets/chunks.jsonl", b"a run wrote this meanwhile")
    assert sweep_after_deletion(twin.stores, twin.user_id, twin.adapters)
    assert left(twin) == {}
    twin.send("boat.txt", BOAT)
    before = left(twin)
    assert not sweep_after_deletion(twin.stores, twin.user_id, twin.adapters)
    assert left(twin) == before


def test_how_far_their_account_on_x_was_read_goes_with_them(twin: Twin) -> None:
    """No row of theirs, and it names an account of theirs: no key led from them to it."""
    number = account_of(twin.user_id, "x")
    with twin.stores.tables.transaction(twin.user_id) as connection:
        add_account(connection, twin.user_id, "x", number, NOON)
    chat = Chat("x", number, "", public=True)
    store_page(twin.stores.tables, chat, [], {}, NOON, cursor=Cursor("x", number), position={"since": 1})
    delete_user(twin.stores, twin.user_id, twin.adapters)
    with twin.stores.tables.operator_transaction() as connection:
        assert read_cursor(connection, "x", number) == Cursor("x", number), "as if it had never been read"
