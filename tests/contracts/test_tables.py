"""What the relational store guarantees: one user's transaction sees and writes that user's rows, whatever the query says."""

from __future__ import annotations

import json
import traceback
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import make_url, text

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.records import User
from lpm_kernel.stores.ballot_drafts import keep_drafts
from lpm_kernel.stores.calibration import put_pairs
from lpm_kernel.stores.changes import put_change
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.dao_consent import Consent, set_consent
from lpm_kernel.stores.dao_plans import PgPlans
from lpm_kernel.stores.dao_twin_turns import take_turn
from lpm_kernel.stores.dao_words import keep_words
from lpm_kernel.stores.dead_letters import put_dead_letter
from lpm_kernel.stores.deletions import begin_deletion, end_deletion
from lpm_kernel.stores.documents import clear_pending, list_waiting, pending_change, put_document
from lpm_kernel.stores.feedback import keep_feedback
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.releases import promote_release
from lpm_kernel.stores.schema import metadata
from lpm_kernel.stores.session_summaries import mark_summed
from lpm_kernel.stores.tables import MORE, Tables, upgrade_tables
from lpm_kernel.stores.users import add_user
from lpm_kernel.stores.vectors import PgVectors
from tests.contracts.conftest import Database
from tests.fakes import FakeEmbedder
from tests.samples import (
    NOON,
    RANKING,
    hold_fence,
    make_document,
    make_entries,
    make_letter,
    make_memory_of,
    make_message,
    make_pair,
    make_plan,
    make_release,
)
from tests.social.said import say_something

SEEN_IN_PART = {
    "document",
    "deletion",
    "change",
    "dead_letter",
    "release",
    "chat_message",
    "dao_plan",
    "app_user",
    "dao_ballot_words",
    "dao_consent",
    "dao_twin_turn",
    "social_account",
    "social_document",
}
"""Tables of which the operator sees some columns of some rows; the DAO's own, in which nobody has a row of theirs, are tried in
`tests/stores/test_dao_ledger.py`."""


@pytest.fixture(scope="module")
def two_users(database: Database) -> Iterator[tuple[str, str]]:
    """Two users with a row in every table."""
    embedder = FakeEmbedder()
    users = (f"tables-{uuid.uuid4().hex}", f"tables-{uuid.uuid4().hex}")
    memories = Mem0Memories(database.tables.engine.url, embedder, RANKING)
    for user_id in users:
        with database.tables.transaction(user_id) as connection:
            add_user(connection, User(user_id, "Nora"))
            put_document(connection, make_document(user_id))
            append_message(connection, make_message(user_id, 1, sender="twin"))
            keep_feedback(connection, user_id, "m1", truth=1, created_at=NOON)
            hold_fence(connection, user_id)
            put_change(
                connection,
                user_id,
                "memories",
                "correct_memory",
                {"memory_id": "m", "words_sha256": "0", "by": "user"},
                at=NOON,
                words="My cat is red.",
            )
            keep_drafts(connection, make_message(user_id, 1), [BallotDraft("P-1", "for", None)])
            promote_release(connection, make_release(user_id))
            put_dead_letter(connection, make_letter(user_id))
            begin_deletion(connection, user_id, NOON)
            end_deletion(connection, user_id, NOON)  # of somebody who had this id before
            put_pairs(connection, user_id, [make_pair("p1")])
            mark_summed(connection, user_id, "s", 1, NOON)
            keep_words(connection, user_id, "The park needs its benches back.")
            set_consent(connection, Consent(user_id), NOON)
            say_something(connection, user_id, "My cat is red.")
            take_turn(connection, user_id, "P-1", "basis", NOON, NOON)
        plan, started, line = make_plan(user_id)
        plans = PgPlans(database.tables)
        plans.begin(plan, started)
        plans.keep_lines(user_id, plan.plan_id, user_id, [line])
        PgVectors(database.tables).sync(user_id, "g", make_entries(user_id, ["red cat"], embedder), embedder.fingerprint)
        memories.add_batch(user_id, [make_memory_of(user_id, "My cat is red.")])
    memories.close()
    yield users
    for user_id in users:
        with database.tables.transaction(user_id) as connection:
            connection.execute(text("delete from fence"))
            connection.execute(text("delete from app_user"))
            connection.execute(text("delete from deletion"))


def refusal_of(database: Database, user_id: str, statement: str, **values: Any) -> StoreError:
    with pytest.raises(StoreError) as caught, database.tables.transaction(user_id) as connection:
        connection.execute(text(statement), values)
    assert not caught.value.retryable
    return caught.value


def test_every_table_with_a_user_id_is_fenced_and_its_owner_too(database: Database) -> None:
    fenced = database.fenced_tables()
    assert fenced == sorted(name for name, table in metadata.tables.items() if "user_id" in table.c)
    shared = sorted(set(metadata.tables) - set(fenced))
    with database.as_owner() as connection:
        rows = connection.execute(
            text("select relname, relrowsecurity, relforcerowsecurity from pg_class where relname = any(:names)"),
            {"names": [*fenced, *shared]},
        ).all()
    assert {tuple(row) for row in rows} == {(name, True, True) for name in (*fenced, *shared)}


def test_without_a_user_no_row_of_any_table_is_seen(database: Database, two_users: tuple[str, str]) -> None:
    with database.tables.engine.begin() as connection:
        for table in metadata.tables:
            assert connection.execute(text(f"select count(*) from {table}")).scalar_one() == 0, table


def test_not_even_the_owner_of_the_tables_sees_a_row(database: Database, two_users: tuple[str, str]) -> None:
    with database.as_owner() as connection:
        for table in database.fenced_tables():
            assert connection.execute(text(f"select count(*) from {table}")).scalar_one() == 0, table


def test_a_user_sees_the_own_rows_of_every_table_and_no_other(database: Database, two_users: tuple[str, str]) -> None:
    for user_id in two_users:
        with database.tables.transaction(user_id) as connection:
            for table in database.fenced_tables():
                owners = set(connection.execute(text(f"select user_id from {table}")).scalars())
                assert owners == {user_id}, f"{table}: give both users a row of it"


def test_rows_of_another_user_can_be_neither_changed_nor_deleted(database: Database, two_users: tuple[str, str]) -> None:
    one, two = two_users
    with database.tables.transaction(two) as connection:
        for table in database.fenced_tables():
            for statement in (f"update {table} set user_id = user_id", f"delete from {table}"):
                done = connection.execute(text(f"{statement} where user_id = :one"), {"one": one})
                assert done.rowcount == 0, statement
    with database.tables.transaction(one) as connection:
        for table in database.fenced_tables():
            assert connection.execute(text(f"select count(*) from {table}")).scalar_one() == 1, table


GIVEN_COLUMNS = """
select string_agg(quote_ident(attname), ', ') from pg_attribute
where attrelid = cast(:table as regclass) and attnum > 0 and not attisdropped and attgenerated = ''
"""


def test_no_row_can_be_written_in_the_name_of_another_user(database: Database, two_users: tuple[str, str]) -> None:
    one, two = two_users
    for table in database.fenced_tables():
        with database.tables.transaction(one) as connection:
            row = connection.execute(text(f"select to_jsonb({table}) from {table}")).scalar_one()
            given = connection.execute(text(GIVEN_COLUMNS), {"table": table}).scalar_one()
        copy = f"insert into {table} ({given}) select {given} from jsonb_populate_record(null::{table}, cast(:row as jsonb))"
        for statement in (copy, f"{copy} on conflict do nothing"):
            error = refusal_of(database, two, statement, row=json.dumps(row))
            assert "row-level security" in error.message, table
        error = refusal_of(database, two, f"update {table} set user_id = :one", one=one)
        assert "row-level security" in error.message, table


@pytest.mark.parametrize(
    "statement",
    [
        "alter table document disable row level security",
        "alter table document no force row level security",
        "drop policy tenant on document",
        "create policy all_rows on document using (true)",
        "truncate document",
        "set local role twin_owner",
        "create table loot (id int)",
        "alter role twin_app bypassrls",
        "alter table document owner to twin_app",
        "set local row_security = off; select * from document",
        "select * from alembic_version",
    ],
)
def test_the_application_cannot_open_the_fence(database: Database, two_users: tuple[str, str], statement: str) -> None:
    refusal_of(database, two_users[0], statement)


def test_the_application_is_no_superuser_and_owns_nothing(database: Database) -> None:
    with database.tables.engine.begin() as connection:
        role = connection.execute(
            text("select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb from pg_roles where rolname = current_user")
        ).one()
        owned = connection.execute(text("select count(*) from pg_class where relowner = current_user::regrole")).scalar_one()
    assert not any(role)
    assert owned == 0


def test_the_operator_sees_who_waits_and_nothing_else(database: Database, two_users: tuple[str, str]) -> None:
    """The policy once showed the ids of every document, waiting or not."""
    one, two = two_users
    with database.tables.transaction(two) as connection:
        change = pending_change(connection, two)
        assert change is not None
        clear_pending(connection, two, change)
    with database.tables.operator_transaction() as connection:
        seen = set(connection.execute(text("select user_id from document")).scalars())
        waiting = {item.user_id for item in list_waiting(connection)}
    assert one in seen
    assert one in waiting
    assert two not in seen | waiting


@pytest.mark.parametrize(
    "statement",
    [
        "select filename from document",
        "select * from document",
        "update document set pending = false",
        "delete from document",
        "select content from chat_message",
        "update chat_message set content = ''",
        "select manifest from release",
        "select stale_reason from release",
        "update release set status = 'live'",
        "delete from release",
        "update deletion set done_at = null",
        "delete from deletion",
        "select reference from change",
        "select change_id from change",
        "update change set due_at = now()",
        "delete from change",
        "delete from dead_letter",
        "select name from app_user",
        "update app_user set name = ''",
        "delete from app_user",
        "update dao_ballot_words set words = ''",
        "delete from dao_ballot_words",
        *(
            f"select 1 from {name}"
            for name, table in sorted(metadata.tables.items())
            if "user_id" in table.c and name not in SEEN_IN_PART
        ),
    ],
)
def test_the_operator_may_do_nothing_else(database: Database, two_users: tuple[str, str], statement: str) -> None:
    with pytest.raises(StoreError) as caught, database.tables.operator_transaction() as connection:
        connection.execute(text(statement))
    assert "permission denied" in caught.value.message


def test_user_and_role_end_with_their_transaction(database: Database, two_users: tuple[str, str]) -> None:
    """One pooled connection serves one user after another."""
    tables = Tables(database.app_url, pool_size=1)
    count = text("select count(*) from app_user")
    try:
        with tables.transaction(two_users[0]) as connection:
            backend = connection.execute(text("select pg_backend_pid()")).scalar_one()
            assert connection.execute(count).scalar_one() == 1
        with tables.engine.begin() as connection:
            assert connection.execute(text("select pg_backend_pid()")).scalar_one() == backend
            assert connection.execute(count).scalar_one() == 0
        with tables.operator_transaction() as connection:
            assert connection.execute(text("select current_user")).scalar_one() == "twin_operator"
        with tables.transaction(two_users[1]) as connection:
            assert connection.execute(text("select current_user")).scalar_one() == "twin_app"
            assert connection.execute(count).scalar_one() == 1
    finally:
        tables.close()


def test_a_failed_transaction_leaves_nothing(database: Database, two_users: tuple[str, str]) -> None:
    def write_and_fail() -> None:
        with database.tables.transaction(two_users[0]) as connection:
            append_message(connection, make_message(two_users[0], 99))
            raise RuntimeError("after the write")

    with pytest.raises(RuntimeError):
        write_and_fail()
    with database.tables.transaction(two_users[0]) as connection:
        assert connection.execute(text("select count(*) from chat_message")).scalar_one() == 1


@pytest.mark.parametrize("user_id", ["../x", "", "A", "a b", "-a", "a" * 64, "1'; drop table document; --"])
def test_a_bad_user_id_opens_no_transaction(database: Database, user_id: str) -> None:
    with pytest.raises(UserInputError) as caught, database.tables.transaction(user_id):
        raise AssertionError("the transaction began")
    assert caught.value.code == "user_id_invalid"


def test_the_database_refuses_a_bad_user_id_itself(database: Database) -> None:
    error = refusal_of(
        database,
        "ok",
        "with moved as (select set_config('app.user_id', '../x', true)) "
        "insert into app_user (user_id) select '../x' from moved",
    )
    assert "check constraint" in error.message


def test_an_error_shows_no_document_text(database: Database, two_users: tuple[str, str]) -> None:
    """A traceback is logged with its causes, and the driver's error carried the values of the statement."""
    secret = "my bank card is 1234"
    with pytest.raises(StoreError) as caught, database.tables.transaction(two_users[0]) as connection:
        connection.execute(
            text("insert into chat_message (user_id, content) values (:user, :content, 1)"), {"user": "x", "content": secret}
        )
    shown = "".join(traceback.format_exception(caught.value))
    assert "insert into chat_message" in shown
    assert secret not in shown


def test_a_database_that_is_not_there_may_be_asked_again_later(database: Database, free_port: int) -> None:
    url = make_url(database.app_url).set(host="127.0.0.1", port=free_port)
    tables = Tables(url.render_as_string(hide_password=False))
    try:
        with pytest.raises(StoreError) as caught, tables.transaction("1"):
            raise AssertionError("the transaction began")
    finally:
        tables.close()
    assert (caught.value.code, caught.value.retryable) == ("tables_unavailable", True)
    assert url.password is not None
    assert url.password not in str(caught.value)


def test_a_caller_who_gets_no_connection_may_ask_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was waited for half a minute, and told as a query that can never be run."""
    monkeypatch.setattr("lpm_kernel.stores.tables.POOL_TIMEOUT_S", 0.05)
    tables = Tables(database.app_url, pool_size=1)
    with ExitStack() as held:
        for _ in range(1 + MORE):
            held.enter_context(tables.engine.connect())
        with pytest.raises(StoreError) as caught:
            held.enter_context(tables.operator_transaction())
    tables.close()
    assert (caught.value.code, caught.value.retryable) == ("tables_unavailable", True)


def test_the_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    def differs(context: Any, inspected: Any, column: Any, inspected_type: Any, column_type: Any) -> bool | None:
        return False if column.name == "embedding" else None  # SQLAlchemy cannot read pgvector's type back

    with database.as_owner() as connection, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Did not recognize type '(vector|halfvec)'")
        options = {"compare_type": differs, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        kind = connection.execute(
            text(
                "select format_type(atttypid, atttypmod) from pg_attribute "
                "where attname = 'embedding' and attrelid = 'chunk_vector'::regclass"
            )
        ).scalar_one()
    assert kind == "vector"


def test_the_application_cannot_upgrade_the_tables(database: Database) -> None:
    with pytest.raises(StoreError) as caught:
        upgrade_tables(database.app_url)
    assert (caught.value.code, caught.value.retryable) == ("tables_refused", False)


def test_a_wrong_password_is_in_no_message(database: Database) -> None:
    password = "not the password"
    with pytest.raises(StoreError) as caught:
        upgrade_tables(make_url(database.owner_url).set(password=password).render_as_string(hide_password=False))
    assert password not in "".join(traceback.format_exception(caught.value))


def test_connections_are_opened_ahead_and_stay(database: Database) -> None:
    tables = Tables(database.app_url, pool_size=3)
    tables.open_ahead(3)
    assert tables.engine.pool.checkedin() == 3  # type: ignore[attr-defined]
    tables.close()
