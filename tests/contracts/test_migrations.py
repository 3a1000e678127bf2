"""Migrations: forwards at once, backwards to nothing, and over rows that an older version left."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, make_url, text

from lpm_kernel.stores.tables import pending_migrations, upgrade_tables
from tests.contracts.conftest import Database


@pytest.fixture
def empty_schema(database: Database) -> Iterator[str]:
    """The owner's URL of a schema without tables, beside the one in use."""
    name = f"empty_{uuid.uuid4().hex}"
    with database.as_owner() as connection:
        connection.execute(text(f"create schema {name}"))
        # pgvector by its short names, without a view on the tables of `public`
        for type_name in ("vector", "halfvec"):
            connection.execute(text(f"create domain {name}.{type_name} as public.{type_name}"))
        connection.execute(
            text(
                f"create function {name}.vector_dims(public.vector) returns integer immutable language sql "
                "return public.vector_dims($1)"
            )
        )
    url = make_url(database.owner_url).update_query_dict({"options": f"-csearch_path={name}"})
    yield url.render_as_string(hide_password=False)
    with database.as_owner() as connection:
        connection.execute(text(f"drop schema {name} cascade"))


def test_two_upgrades_at_once_make_the_tables_once(empty_schema: str) -> None:
    together = threading.Barrier(2)

    def upgrade() -> None:
        together.wait()
        upgrade_tables(empty_schema)

    assert pending_migrations(empty_schema)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(upgrade) for _ in range(2)]:
            done.result()
    assert not pending_migrations(empty_schema)
    upgrade_tables(empty_schema)
    assert not pending_migrations(empty_schema)


def test_a_downgrade_takes_everything_back(empty_schema: str) -> None:
    from alembic import command

    from lpm_kernel.stores.tables import _alembic_config

    left = text("select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'S')")
    upgrade_tables(empty_schema)
    engine = create_engine(empty_schema)
    try:
        with engine.begin() as connection:
            command.downgrade(_alembic_config(connection), "base")
        with engine.begin() as connection:
            assert list(connection.execute(left).scalars()) == ["alembic_version"]
    finally:
        engine.dispose()
    upgrade_tables(empty_schema)
    assert not pending_migrations(empty_schema)


def test_an_upgrade_from_before_generations_has_every_document_built_anew(empty_schema: str) -> None:
    """Releases of that time name no memory: they could not be read any more, and no new one could be published beside them."""
    from alembic import command

    from lpm_kernel.stores.tables import _alembic_config

    engine = create_engine(empty_schema)
    try:
        with engine.begin() as connection:
            command.upgrade(_alembic_config(connection), "0002")
            connection.execute(text("set local app.user_id = 'ada'"))
            connection.execute(text("insert into app_user (user_id) values ('ada')"))
            connection.execute(
                text(
                    "insert into document (user_id, sha256, filename, mime, size_bytes, source, created_by, created_at, "
                    "status, pending, change_id) select 'ada', status, status, 'text/plain', 1, 'upload', 'user', now(), "
                    "status, false, 'c' from unnest(array['read', 'refused', 'replaced']) status"
                )
            )
            connection.execute(
                text(
                    "insert into release (user_id, release_id, status, manifest, created_at) "
                    "values ('ada', 'r', 'live', '{}', now())"
                )
            )
        upgrade_tables(empty_schema)
        with engine.begin() as connection:
            connection.execute(text("set local app.user_id = 'ada'"))
            assert list(connection.execute(text("select status from document where pending")).scalars()) == ["read"]
            assert connection.execute(text("select count(*) from release")).scalar_one() == 0
            forced = text("select relforcerowsecurity from pg_class where oid = 'document'::regclass")
            assert connection.execute(forced).scalar_one()
    finally:
        engine.dispose()


def test_an_upgrade_keeps_what_memory_had_yet_to_take_in(empty_schema: str) -> None:
    """Under the id that the code gives it: what is put again of the same message is the same change."""
    from alembic import command

    from lpm_kernel.stores.changes import id_of_change
    from lpm_kernel.stores.tables import _alembic_config

    engine = create_engine(empty_schema)
    names = ("m1", 'a "quoted" name', "m-é")
    try:
        with engine.begin() as connection:
            command.upgrade(_alembic_config(connection), "0023")
            connection.execute(text("set local app.user_id = 'ada'"))
            connection.execute(text("insert into app_user (user_id) values ('ada')"))
            for name in names:
                connection.execute(
                    text(
                        "insert into chat_message (user_id, message_id, session_id, sender, ts, content) "
                        "values ('ada', :name, 's', 'user', now(), 'hello')"
                    ),
                    {"name": name},
                )
            connection.execute(
                text(
                    "insert into memory_write (user_id, message_id, turn, state, attempts, due_at, code, reason, created_at, "
                    "request_id) select 'ada', message_id, 3, case when message_id = 'm1' then 'failed' else 'waiting' end, 2, "
                    "now(), 'c', 'r', now(), case when message_id = 'm1' then 'asked-17' end from chat_message"
                )
            )
        upgrade_tables(empty_schema)
        with engine.begin() as connection:
            connection.execute(text("set local app.user_id = 'ada'"))
            rows = connection.execute(text("select * from change order by seq")).all()
            assert {row.change_id for row in rows} == {
                id_of_change("ada", "memories", "remember_message", {"message_id": name, "turn": 3}) for name in names
            }
            assert sorted(row.seq for row in rows) == [1, 2, 3]
            [failed] = [row for row in rows if row.given_up_at is not None]
            assert (failed.reference["message_id"], failed.transaction_id, failed.attempts) == ("m1", "asked-17", 2)
        with engine.begin() as connection:
            command.downgrade(_alembic_config(connection), "0023")
            connection.execute(text("set local app.user_id = 'ada'"))
            states = connection.execute(text("select message_id, state, turn from memory_write order by state")).all()
            assert tuple(states[0]) == ("m1", "failed", 3)
            assert len(states) == 3
    finally:
        engine.dispose()


def test_an_upgrade_leaves_room_between_versions_of_posts_for_the_whole_of_a_long_one(empty_schema: str) -> None:
    """A stored edit counted as the whole text of what was before it, so that the beginning of an older one passed for newer."""
    from alembic import command

    from lpm_kernel.stores.tables import _alembic_config

    engine = create_engine(empty_schema)
    open_up = text("alter table social_message no force row level security")
    versions = text("select network, message_id, version from social_message order by network, message_id")
    stored = [("telegram", 1, 3), ("x", 1, 0), ("x", 2, 1), ("x", 3, 4)]
    try:
        with engine.begin() as connection:
            command.upgrade(_alembic_config(connection), "0025")
            connection.execute(text("set local app.user_id = 'ada'"))
            connection.execute(text("insert into app_user (user_id) values ('ada')"))
            connection.execute(open_up)
            for network, message_id, version in stored:
                connection.execute(
                    text(
                        "insert into social_message (user_id, network, chat_id, message_id, version, account_id, sent_at, "
                        "part, text, content_sha256, stored_at) values ('ada', :network, 'c', :id, :version, '1', now(), "
                        "'p', 'words', 'h', now())"
                    ),
                    {"network": network, "id": message_id, "version": version},
                )
            connection.execute(text("alter table social_message force row level security"))
        upgrade_tables(empty_schema)
        with engine.begin() as connection:
            forced = text("select relforcerowsecurity from pg_class where oid = 'social_message'::regclass")
            assert connection.execute(forced).scalar_one()
            connection.execute(open_up)
            new = [tuple(row) for row in connection.execute(versions)]
            assert new == [("telegram", 1, 3), ("x", 1, 0), ("x", 2, 2), ("x", 3, 8)]
            connection.execute(text("alter table social_message force row level security"))
            command.downgrade(_alembic_config(connection), "0025")
            connection.execute(open_up)
            assert [tuple(row) for row in connection.execute(versions)] == stored
    finally:
        engine.dispose()
