"""A server that is stopped, not gone: whoever asks it is told so."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.bounded_connection import bound_statements
from lpm_kernel.stores.tables import database_errors
from tests.embedded.fixtures import EngineHome


def test_a_statement_that_is_not_answered_is_given_up_and_the_next_one_has_another_connection(engine_home: EngineHome) -> None:
    """With PostgreSQL stopped by a signal, chats waited until it went on: no keepalive notices it."""
    engine = create_engine(engine_home.environment[engine_home.settings.stores.database_url], pool_pre_ping=True)
    bound_statements(engine, answer_s=2.0)
    try:
        began = time.monotonic()
        with pytest.raises(StoreError) as raised, database_errors(), engine.begin() as connection:
            connection.execute(text("select pg_sleep(20)"))
        assert (raised.value.code, raised.value.retryable) == ("tables_unavailable", True)
        assert time.monotonic() - began < 10
        with engine.begin() as connection:
            assert connection.execute(text("select 1")).scalar_one() == 1
    finally:
        engine.dispose()


def test_what_is_answered_in_time_is_untouched(engine_home: EngineHome) -> None:
    engine = create_engine(engine_home.environment[engine_home.settings.stores.database_url])
    bound_statements(engine, answer_s=20)
    try:
        with engine.begin() as connection:
            assert connection.execute(text("select pg_sleep(0.1), 7")).one()[1] == 7
        with pytest.raises(OperationalError), engine.begin() as connection:
            connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))
    finally:
        engine.dispose()
