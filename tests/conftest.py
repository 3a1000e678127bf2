"""Fixtures that any test folder may ask for: running engines, the stores upon them, and a fresh user.

Belongs here: what at least two folders need.
Does not belong here: test doubles (`fakes.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
from typing import TYPE_CHECKING

import hypothesis
import pytest

from lpm_kernel.records import User
from lpm_kernel.settings import Settings, load_settings
from lpm_kernel.stores import breaker_board, graph, graph_falkordb
from lpm_kernel.stores.blobs import S3Blobs
from lpm_kernel.stores.breaker import Breakers
from lpm_kernel.stores.breaker_board import RedisBoard
from lpm_kernel.stores.open import Stores, open_stores
from lpm_kernel.stores.tables import upgrade_tables
from lpm_kernel.stores.users import add_user

from .embedded.fixtures import EngineHome, engine_home
from .modal_server import TOKEN, ModalServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["engine_home", "free_port", "modal_server", "new_user", "settings", "stores", "user_id"]

# The same examples on each run, and no time limit: the machine is shared.
hypothesis.settings.register_profile("twin", derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.load_profile("twin")

PATIENCE_S = 30.0
"""For what answers in time on a quiet machine."""
TRIPPED_BY_A_SLOW_DISK = {"locks"}
"""Redis writes to the disk before it answers, and who takes a lease leaves it alone after a single half second."""
_USER_NUMBERS = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: begun last, one of them would keep the other processes waiting for it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="session")
def stores(engine_home: EngineHome) -> Iterator[Stores]:
    """Real stores with their tables made. Shared by the session: every test has a user of its own.

    They are waited for longer than a person would: the import of a library makes none that is away.
    """
    names = engine_home.settings.stores
    upgrade_tables(engine_home.environment[names.migration_database_url])
    recall = engine_home.settings.recall.model_copy(update={"store_timeout_s": PATIENCE_S})
    opened = open_stores(engine_home.settings.model_copy(update={"recall": recall}), engine_home.environment)
    try:
        yield opened
    finally:
        opened.close()
        assert isinstance(opened.blobs, S3Blobs)
        opened.blobs.client.close()


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that a slow disk holds up is none that is away."""
    if "engine_home" in request.fixturenames:
        monkeypatch.setattr(graph, "SEARCH_TIMEOUT_S", PATIENCE_S)
        monkeypatch.setattr(graph_falkordb, "CONNECT_TIMEOUT_S", PATIENCE_S)


@pytest.fixture(scope="session")
def told_circuits(engine_home: EngineHome) -> Iterator[RedisBoard]:
    """What the processes that use the session's engines tell each other of them."""
    with contextlib.closing(RedisBoard(engine_home.redis_url, read_each_s=0.0)) as board:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(breaker_board, "TIMEOUT_S", PATIENCE_S)
            board.read()  # which makes the connection, with this limit
        yield board


@pytest.fixture(autouse=True)
def no_circuit_is_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """It would be told to all later tests; the one that opened it is to be found."""
    if "engine_home" not in request.fixturenames:
        yield
        return
    board: RedisBoard = request.getfixturevalue("told_circuits")
    breakers = request.getfixturevalue("stores").breakers if "stores" in request.fixturenames else Breakers()
    close_circuits(board, breakers)  # of tests that came to the engines by another way
    yield
    assert close_circuits(board, breakers) <= TRIPPED_BY_A_SLOW_DISK


def close_circuits(board: RedisBoard, breakers: Breakers) -> set[str]:
    """Those that were open."""
    held = dict(breakers._held)
    found = {name for name, posted in board.read().items() if posted.circuit.state != "closed"}
    found |= {name for name, breaker in held.items() if breaker.circuit().state != "closed"}
    for breaker in held.values():
        breaker.succeeded()
    for name in found:
        board.close_circuit(name)
    return found


@pytest.fixture
def new_user(stores: Stores, request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes users that no other test has, named after the test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:50]

    def make() -> str:
        user_id = f"{name}-{next(_USER_NUMBERS)}"
        with stores.tables.transaction(user_id) as connection:
            add_user(connection, User(user_id))
        return user_id

    return make


@pytest.fixture
def user_id(new_user: Callable[[], str]) -> str:
    return new_user()


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def modal_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModalServer]:
    """Modal's client of this process meets the stand-in."""
    import modal

    with ModalServer() as server:
        monkeypatch.setenv("MODAL_SERVER_URL", server.url)
        monkeypatch.setenv("MODAL_TOKEN_ID", TOKEN[0])
        monkeypatch.setenv("MODAL_TOKEN_SECRET", TOKEN[1])
        yield server
        monkeypatch.setenv("MODAL_SERVER_URL", server.url)  # a test may have changed these
        monkeypatch.setenv("MODAL_TOKEN_ID", TOKEN[0])
        monkeypatch.setenv("MODAL_TOKEN_SECRET", TOKEN[1])
        modal.Client.from_env().close()
