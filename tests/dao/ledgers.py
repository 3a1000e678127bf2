"""A ledger of its own for a test: the tables in a schema beside those that all other tests share, and only its own members.

Belongs here: making and emptying it, and a clock that tests move.
Does not belong here: tests.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, create_engine, event, make_url, text

from lpm_kernel.dao.service import Dao
from lpm_kernel.records import User
from lpm_kernel.settings import DaoSettings
from lpm_kernel.stores.tables import Tables, upgrade_tables
from lpm_kernel.stores.users import add_user
from tests.embedded.fixtures import EngineHome

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EMPTIED = "dao_event, dao_resolution, dao_proposal, dao_projection, dao_ballot_words, deletion, app_user"


class Clock:
    """Stands still until a test moves it."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def moves(self, **by: float) -> datetime:
        self.at += timedelta(**by)
        return self.at


@dataclass(frozen=True, slots=True)
class Ledger:
    app_url: str
    owner_url: str
    tables: Tables
    settings: DaoSettings

    def dao(self, clock: Clock | None = None, **settings: Any) -> Dao:
        """A DAO that has read nothing yet; on the real clock where none is given."""
        changed = self.settings.model_copy(update=settings)
        return Dao(self.tables, changed, clock) if clock else Dao(self.tables, changed)

    def join(self, *members: str) -> list[str]:
        for member in members:
            with self.tables.transaction(member) as connection:
                add_user(connection, User(member))
        return list(members)

    @contextmanager
    def as_owner(self) -> Iterator[Connection]:
        engine = create_engine(self.owner_url)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def tampers(self, statement: str, **values: Any) -> int:
        """What only the owner of the tables can do, who first puts the guards away. How many rows it changed."""
        tables = [name.strip() for name in EMPTIED.split(",") if name.strip().startswith("dao_")]
        with self.as_owner() as connection:
            for name in tables:
                connection.execute(text(f"alter table {name} disable trigger user"))
                connection.execute(text(f"alter table {name} no force row level security"))
            changed = connection.execute(text(statement), values).rowcount
            for name in tables:
                connection.execute(text(f"alter table {name} force row level security"))
            for trigger in ("only_grows", "follows"):
                connection.execute(text(f"alter table dao_event enable always trigger {trigger}"))
        return changed

    def empty(self) -> None:
        self.tampers(f"truncate {EMPTIED} cascade")


@contextmanager
def rows_read(ledger: Ledger) -> Iterator[list[int]]:
    """How many rows each query brought."""
    counts: list[int] = []

    def heard(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().lower().startswith("select"):
            counts.append(max(0, cursor.rowcount))

    event.listen(ledger.tables.engine, "after_cursor_execute", heard)
    try:
        yield counts
    finally:
        event.remove(ledger.tables.engine, "after_cursor_execute", heard)


@contextmanager
def own_ledger(home: EngineHome) -> Iterator[Ledger]:
    names = home.settings.stores
    owner_url, app_url = (home.environment[name] for name in (names.migration_database_url, names.database_url))
    upgrade_tables(owner_url)
    schema = f"dao_{uuid.uuid4().hex}"
    admin = create_engine(owner_url)
    with admin.begin() as connection:
        connection.execute(text(f"create schema {schema}"))
        connection.execute(text(f"grant usage on schema {schema} to twin_app, twin_operator"))
        # pgvector by its short names, without a view on the tables of `public`
        for type_name in ("vector", "halfvec"):
            connection.execute(text(f"create domain {schema}.{type_name} as public.{type_name}"))
        connection.execute(
            text(
                f"create function {schema}.vector_dims(public.vector) returns integer immutable language sql "
                "return public.vector_dims($1)"
            )
        )
    in_schema = {"options": f"-csearch_path={schema}"}
    owner, app = (
        make_url(url).update_query_dict(in_schema).render_as_string(hide_password=False) for url in (owner_url, app_url)
    )
    upgrade_tables(owner)
    tables = Tables(app)
    try:
        yield Ledger(app, owner, tables, home.settings.dao)
    finally:
        tables.close()
        with admin.begin() as connection:
            connection.execute(text(f"drop schema {schema} cascade"))
        admin.dispose()
