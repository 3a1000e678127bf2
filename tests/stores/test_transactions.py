"""Rows name the request or run that wrote them, without anybody handing it on."""

from __future__ import annotations

from sqlalchemy import Connection, text

from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.stores.changes import put_change, transaction_id
from lpm_kernel.stores.conversations import append_message
from lpm_kernel.stores.documents import put_document
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.tables import Tables
from tests.embedded.fixtures import EngineHome
from tests.samples import NOON, make_document, make_message
from tests.social.said import say_something


def written_by(connection: Connection, table: str) -> str | None:
    return connection.execute(text(f"select transaction_id from {table}")).scalar_one()


def test_what_a_request_writes_names_it_and_what_came_of_it_later_too(stores: Stores, user_id: str) -> None:
    with within_request(RequestContext("asked-17", frozenset({user_id}))), stores.tables.transaction(user_id) as connection:
        put_document(connection, make_document(user_id))
        put_change(connection, user_id, "graph", "delete_documents", {"sha256s": []}, at=NOON)
    with stores.tables.transaction(user_id) as connection:
        assert [written_by(connection, table) for table in ("document", "change")] == ["asked-17"] * 2
        append_message(connection, make_message(user_id, 1))
        assert written_by(connection, "chat_message") is None, "what nobody asked for names nobody"


def test_what_was_said_on_telegram_and_x_names_the_run_that_stored_it_last(stores: Stores, user_id: str) -> None:
    for run, words in (("run-1", "It is red."), ("run-2", "It is blue.")):
        with within_request(RequestContext(run, frozenset({user_id}))), stores.tables.transaction(user_id) as connection:
            say_something(connection, user_id, words)
        with stores.tables.transaction(user_id) as connection:
            assert [written_by(connection, table) for table in ("social_message", "social_document")] == [run] * 2
            assert written_by(connection, "social_account") == "run-1"


def test_a_run_is_named_where_no_request_is_under_way(stores: Stores, engine_home: EngineHome, user_id: str) -> None:
    url = engine_home.environment[engine_home.settings.stores.database_url]
    tables = Tables(url, pool_size=1, run_id="4a0d7f1e-run")
    try:
        with tables.transaction(user_id) as connection:
            put_document(connection, make_document(user_id))
            assert (written_by(connection, "document"), transaction_id(connection)) == ("4a0d7f1e-run",) * 2
        with tables.operator_transaction() as connection:
            assert transaction_id(connection) == "4a0d7f1e-run"
        with within_request(RequestContext("asked-17")), tables.transaction(user_id) as connection:
            assert transaction_id(connection) == "asked-17", "a request within a run is the nearer of the two"
    finally:
        tables.close()


def test_a_transaction_of_nobody_gets_an_id_when_it_needs_one_and_keeps_it(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        made = transaction_id(connection)
        assert transaction_id(connection) == made
        put_document(connection, make_document(user_id))
        assert written_by(connection, "document") == made
    with stores.tables.transaction(user_id) as connection:
        assert transaction_id(connection) != made
