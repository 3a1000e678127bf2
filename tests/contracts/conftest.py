"""The databases that the suites of the relational store run against."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, create_engine, text

from lpm_kernel.stores.tables import Tables, upgrade_tables
from tests.contracts.vector_stores import cloud_tables, new_tenant, tenant, vectors, weaviate_server, weaviate_stand_in

__all__ = ["cloud_tables", "database", "new_tenant", "tenant", "vectors", "weaviate_server", "weaviate_stand_in"]

CLOUD = ["cloud"] if os.environ.get("DATABASE_URL") and os.environ.get("MIGRATION_DATABASE_URL") else []


@dataclass(frozen=True, slots=True)
class Database:
    app_url: str
    owner_url: str
    tables: Tables

    @contextmanager
    def as_owner(self) -> Iterator[Connection]:
        engine = create_engine(self.owner_url)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def fenced_tables(self) -> list[str]:
        """Every table that has a user_id, by the catalog: a new one is tested without being named here."""
        with self.as_owner() as connection:
            rows = connection.execute(
                text(
                    "select relname from pg_class join pg_attribute on attrelid = pg_class.oid "
                    "where attname = 'user_id' and not attisdropped and relkind in ('r', 'p') "
                    "and relnamespace = 'public'::regnamespace order by relname"
                )
            )
            return [row.relname for row in rows]


@pytest.fixture(scope="module", params=["embedded", *CLOUD])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    environment = os.environ if request.param == "cloud" else request.getfixturevalue("engine_home").environment
    app_url, owner_url = environment["DATABASE_URL"], environment["MIGRATION_DATABASE_URL"]
    upgrade_tables(owner_url)
    tables = Tables(app_url)
    yield Database(app_url, owner_url, tables)
    tables.close()
