"""A DAO of its own for each test: a database that no other test's users are in, as many members as a test names, and a clock
that it moves.

Belongs here: fixtures of the tests of the DAO's routes; a test file imports those it asks for.
Does not belong here: tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from lpm_kernel.dao.service import Dao
from lpm_kernel.embedded.home import locate_home
from lpm_kernel.embedded.postgres import superuser_parameters
from lpm_kernel.embedded.state import read_state
from lpm_kernel.records import User
from lpm_kernel.settings import DaoSettings
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.tables import Tables, upgrade_tables
from lpm_kernel.stores.users import add_user, remove_user
from tests.embedded.fixtures import EngineHome
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import services_over
from tests.twin_serving.issuer import Issuer
from twin_serving.app import create_app

_NUMBERS = itertools.count(1)


class Clock:
    """Now, and as much later as a test says."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def move(self, **span: float) -> None:
        self.ahead += timedelta(**span)


@pytest.fixture(scope="module")
def dao_tables(engine_home: EngineHome) -> Iterator[Tables]:
    """A database beside the one of all other tests: whoever has a row in it is a member."""
    state, name = read_state(locate_home(engine_home.path)), f"dao_{next(_NUMBERS)}"
    with psycopg.connect(**superuser_parameters(state), autocommit=True) as connection:  # type: ignore[arg-type]
        known = {row[0] for row in connection.execute("select datname from pg_database")}
        name = next(each for each in (f"{name}_{number}" for number in itertools.count()) if each not in known)
        connection.execute(SQL("create database {} owner twin_owner").format(Identifier(name)))
    with psycopg.connect(**superuser_parameters(state, name)) as connection:  # type: ignore[arg-type]
        connection.execute("create extension vector")
        connection.execute("alter schema public owner to twin_owner")
        connection.execute("grant usage on schema public to twin_app, twin_operator")
    names = engine_home.settings.stores
    owner, app = (
        make_url(engine_home.environment[each]).set(database=name).render_as_string(hide_password=False)
        for each in (names.migration_database_url, names.database_url)
    )
    upgrade_tables(owner)
    tables = Tables(app)
    yield tables
    tables.close()


class Town:
    """Members, and apps over their DAO. `rules`: settings of `dao`."""

    def __init__(self, stores: Stores, folder: Path, issuer: Issuer, open_clients: ExitStack) -> None:
        self.stores, self.issuer = stores, issuer
        self.clock, self.llm = Clock(), FakeLlm(["An answer."] * 1000)
        self._folder, self._open_clients = folder, open_clients

    def settle(self, *members: str) -> None:
        """These are the members, and nobody else; no delegation of an earlier test holds."""
        dao = Dao(self.stores.tables, self.stores.settings.dao)
        for each in dao.delegations():
            if each.revoked_at is None:
                dao.revoke(each.delegator, each.delegation_id)
        for gone in dao.members():
            if gone not in members:
                with self.stores.tables.transaction(gone) as connection:
                    remove_user(connection, gone)
        for member in members:
            with self.stores.tables.transaction(member) as connection:
                add_user(connection, User(member, member.title()))

    def app(self, *, tokens: bool = False, serving: dict[str, Any] | None = None, **rules: Any) -> FastAPI:
        """Its services are open once it is served; then `dao` of it goes by the town's clock."""
        changed = DaoSettings(**{**self.stores.settings.dao.model_dump(), **PLAIN, **rules})
        settings = self.issuer.settings(requests_per_minute=0, **(serving or {})) if tokens else self.stores.settings
        cold = settings.serving.model_copy(update={"warm_model": False})
        settings = settings.model_copy(update={"dao": changed, "serving": cold})
        stores = replace(self.stores, settings=settings)

        def opened():
            services = services_over(stores, self.llm, self._folder)
            services.dao_side.dao.clock = self.clock
            return services

        return create_app(opened, settings)

    def client(self, **settings: Any) -> TestClient:
        return self._open_clients.enter_context(TestClient(self.app(**settings), raise_server_exceptions=False))


PLAIN = {"worker_poll_s": 0}
"""Time passes when a test says so."""


@pytest.fixture
def town(stores: Stores, dao_tables: Tables, tmp_path: Path, issuer: Issuer) -> Iterator[Town]:
    """Ada, Bo and Cy."""
    with ExitStack() as open_clients:
        town = Town(replace(stores, tables=dao_tables), tmp_path, issuer, open_clients)
        town.settle("ada", "bo", "cy")
        yield town


def propose(client: TestClient, proposer: str = "ada", **more: Any) -> str:
    body = {"title": "Plant trees", "text": "Ten oaks by the river.", "proposer": proposer, **more}
    answer = client.post("/proposals", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["proposal_id"]


def vote(client: TestClient, proposal: str, voter: str, choice: str = "for", **more: Any) -> dict[str, Any]:
    answer = client.post("/vote", json={"proposal": proposal, "voter": voter, "choice": choice, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()
