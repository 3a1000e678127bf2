"""The vector stores that `test_vectors.py` runs against, and users that each of them knows.

Belongs here: opening each store, real or stand-in.
Does not belong here: tests.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from lpm_kernel.records import User
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.addresses import WeaviateAddress, read_weaviate_address
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.tables import Tables, upgrade_tables
from lpm_kernel.stores.users import add_user
from lpm_kernel.stores.vectors import PgVectors, Vectors
from lpm_kernel.stores.weaviate_client import WeaviateConnection
from lpm_kernel.stores.weaviate_vectors import WeaviateVectors
from tests.fakes import FakeEmbedder, MemoryVectors

CLOUD = ["cloud"] if os.environ.get("DATABASE_URL") and os.environ.get("MIGRATION_DATABASE_URL") else []
WEAVIATE = ["weaviate"] if os.environ.get("WEAVIATE_URL") else []
OWN_FORMULA = ["embedded", "fake", *CLOUD]
"""Stores whose ranking is ours to the last digit; a server that ranks by itself has its own constants and ranges."""
EMBEDDER = FakeEmbedder()
G = "g"


@pytest.fixture(scope="session")
def cloud_tables() -> Iterator[Tables]:
    upgrade_tables(os.environ["MIGRATION_DATABASE_URL"])
    tables = Tables(os.environ["DATABASE_URL"])
    yield tables
    tables.close()


@pytest.fixture(scope="session")
def weaviate_stand_in() -> Iterator[WeaviateConnection]:
    from tests.weaviate_server import WeaviateServer  # slow to import, and most suites of this folder need none

    with WeaviateServer() as server:
        connection = WeaviateConnection(WeaviateAddress(server.url, server.grpc_url, server.api_key))
        yield connection
        connection.close()


@pytest.fixture(scope="session")
def weaviate_server() -> Iterator[WeaviateConnection]:
    connection = WeaviateConnection(read_weaviate_address(load_settings()))
    yield connection
    connection.close()


@pytest.fixture(params=[*OWN_FORMULA, "weaviate stand-in", *WEAVIATE])
def vectors(request: pytest.FixtureRequest) -> Vectors:
    if request.param.startswith("weaviate"):
        opened = request.getfixturevalue("weaviate_stand_in" if "stand-in" in request.param else "weaviate_server")
        return WeaviateVectors(opened, request.getfixturevalue("stores").tables)
    if request.param == "fake":
        return MemoryVectors()
    if request.param == "cloud":
        return PgVectors(request.getfixturevalue("cloud_tables"))
    stores: Stores = request.getfixturevalue("stores")
    return PgVectors(stores.tables)


@pytest.fixture
def new_tenant(vectors: Vectors) -> Iterator[Callable[[], str]]:
    """Makes users that this store knows; what they hold is deleted at the end."""
    made: list[str] = []

    def make() -> str:
        made.append(f"vectors-{uuid.uuid4().hex}")
        if isinstance(vectors, PgVectors | WeaviateVectors):
            with vectors._tables.transaction(made[-1]) as connection:
                add_user(connection, User(made[-1]))
        return made[-1]

    yield make
    for tenant in made:
        vectors.sync(tenant, G, [], EMBEDDER.fingerprint)


@pytest.fixture
def tenant(new_tenant: Callable[[], str]) -> str:
    return new_tenant()
