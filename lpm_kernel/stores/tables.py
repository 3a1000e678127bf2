"""Tables: PostgreSQL, the source of truth, with row-level security.

Belongs here: the connection pool, the fence around one user's transaction, migrations, and the translation of database errors.
Does not belong here: queries; they lie beside it, one file a table (`users.py`, `documents.py`, and so on).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lpm_kernel.errors import StoreError
from lpm_kernel.records import check_user_id
from lpm_kernel.request_context import check_may_open, transaction_of
from lpm_kernel.stores.bounded_connection import bound_statements
from lpm_kernel.stores.breaker import Breaker

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection, Engine


_AS_USER = "select set_config('app.user_id', :user_id, true)"
_NOT_LONG = ", set_config('lock_timeout', :lock_ms, true)"
_NAMED = ", set_config('app.request_id', :request_id, true)"
_TOLD = ", set_config('application_name', 'twin ' || :request_id, true)"
MORE = 4
"""Connections beyond the pool's size, which are closed again after use."""
BREAKER = 3, 1.0
"""Connections in a row that could not be made or broke, and seconds for which the server is then left alone. Few: it is back a
second after it was killed."""
LOCK_S = 10.0
"""How long a statement may wait for each lock where people wait: less than it is given to be answered at all, after which the
server is taken for one that is gone (`bounded_connection.py`)."""
LOCKED = "55P03", "40P01"
"""SQLSTATE: a lock was not to be had in time, or two waited for each other. The server is well, and says so."""
POOL_TIMEOUT_S = 5
"""How long a caller waits for one of the connections."""
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""Of libpq; seconds and, the last, milliseconds. A server whose machine vanished says nothing: by default it is believed in for
two hours, and each who asks it waits."""


class Tables:
    """One connection pool, safe to share between threads. `close()` ends it.

    Connections are kept once they are open: a process that opens one beside its work, and PostgreSQL that forks and warms a
    backend for it, takes up to half a second where cores are busy. The last one used is the next: what a crowd opened rests.

    With a breaker it is one for people who wait: a server that vanished costs each caller a time limit, and while all threads
    wait nobody is told anything. Stages have none: they wait, and are tried again.
    """

    breaker: Breaker | None = None
    run_id: str | None = None

    def __init__(
        self, database_url: str, *, pool_size: int = 20, breaker: Breaker | None = None, run_id: str | None = None
    ) -> None:
        """`run_id`: the name of transactions where no request is under way. Where there is no run either each has one of its
        own: every row says by which it was written."""
        from sqlalchemy import create_engine

        self.breaker = breaker
        self.run_id = run_id
        self.engine: Engine = create_engine(
            database_url,
            pool_size=pool_size,
            max_overflow=MORE,
            pool_use_lifo=True,
            pool_pre_ping=True,
            pool_timeout=POOL_TIMEOUT_S,
            hide_parameters=True,  # a logged traceback shows the statement, never the document text it carried
            connect_args={"connect_timeout": 5, **KEEPALIVE},
        )
        if breaker is not None:
            bound_statements(self.engine)

    @contextmanager
    def transaction(self, user_id: str) -> Iterator[Connection]:
        """One transaction as one user: row-level security shows this user's rows and refuses to write any other's.

        Inside a request it may be only of those it was let in for; rows, and PostgreSQL's own log and views, name the request.
        Raises: UserInputError `user_id_invalid`; AccessError `not_yours`; StoreError `tables_unavailable` or `tables_locked`
        (retryable), or `tables_refused`.
        """
        from sqlalchemy import text

        check_user_id(user_id)
        check_may_open(user_id)
        more, values = self._bounds()
        with database_errors(), self._begun() as connection:
            connection.execute(text(_AS_USER + more), {"user_id": user_id, **values})
            yield connection

    @contextmanager
    def operator_transaction(self) -> Iterator[Connection]:
        """One transaction that belongs to no user and may read only who has documents waiting."""
        from sqlalchemy import text

        with database_errors(), self._begun() as connection:
            connection.execute(text("set local role twin_operator"))
            more, values = self._bounds()
            connection.execute(text("select" + more.removeprefix(",")), values)
            yield connection

    def _bounds(self) -> tuple[str, dict[str, str]]:
        """What is said of a transaction beside whose it is: how long it waits for a lock, where people wait, and its name.

        Why in each transaction: a pool between us and the server would not pass it on, or would keep it for others.
        """
        more, values = "", dict[str, str]()
        if self.breaker is not None:
            more, values["lock_ms"] = _NOT_LONG, str(round(1000 * LOCK_S))
        known = transaction_of(self.run_id)
        values["request_id"] = known or uuid.uuid4().hex
        return more + _NAMED + (_TOLD if known else ""), values

    def open_ahead(self, count: int) -> None:
        """Open so many connections now, rather than when a crowd asks. Raises: StoreError `tables_unavailable` (retryable)."""
        with ExitStack() as opened, database_errors():
            for _ in range(count):
                opened.enter_context(self.engine.connect())

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        """A transaction, and what its breaker learns of it: a connection that cannot be had or breaks is a failure of the
        server; a deadlock, a refusal or a pool that others use up is none."""
        from sqlalchemy.exc import DBAPIError

        if self.breaker is None:
            with self.engine.begin() as connection:
                yield connection
            return
        if not self.breaker.allows():
            raise StoreError("tables_unavailable", "PostgreSQL did not answer a moment ago")
        reached = False
        try:
            with self.engine.begin() as connection:
                reached = True
                self.breaker.succeeded()
                yield connection
        except DBAPIError as error:
            if error.connection_invalidated or not reached:
                self.breaker.failed()
            raise

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn a driver's error into a StoreError; the statement and its values stay out of the message."""
    from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
    from sqlalchemy.exc import TimeoutError as NoConnectionLeft

    try:
        yield
    except NoConnectionLeft as error:
        raise StoreError("tables_unavailable", f"all connections were in use for {POOL_TIMEOUT_S} s") from error
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) in LOCKED:
            raise StoreError("tables_locked", f"somebody else changes the same rows: {_reason(error)}; ask again") from error
        raise StoreError("tables_unavailable", f"PostgreSQL did not answer: {_reason(error)}") from error
    except DBAPIError as error:
        if error.connection_invalidated:  # some drivers tell a connection that was cut as an error of its use
            raise StoreError("tables_unavailable", f"PostgreSQL did not answer: {_reason(error)}") from error
        raise StoreError("tables_refused", f"PostgreSQL refused: {_reason(error)}", retryable=False) from error
    except SQLAlchemyError as error:
        raise StoreError("tables_refused", f"the query cannot be run: {type(error).__name__}", retryable=False) from error


def _reason(error: Exception) -> str:
    original = getattr(error, "orig", None)
    diagnosis = getattr(getattr(original, "diag", None), "message_primary", None)
    return diagnosis or type(original or error).__name__


def upgrade_tables(migration_database_url: str) -> None:
    """Bring the schema to its newest revision, as the owner of the tables. Idempotent; two at once wait for each other."""
    from alembic import command
    from sqlalchemy import create_engine, text

    engine = create_engine(migration_database_url)
    try:
        with database_errors(), engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(hashtext('twin.migrations'))"))
            command.upgrade(_alembic_config(connection), "head")
    finally:
        engine.dispose()


def pending_migrations(migration_database_url: str) -> bool:
    """Whether the schema is older than the code."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine

    engine = create_engine(migration_database_url)
    try:
        with database_errors(), engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_heads()
            newest = ScriptDirectory.from_config(_alembic_config(connection)).get_heads()
            return set(current) != set(newest)
    finally:
        engine.dispose()


def _alembic_config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
