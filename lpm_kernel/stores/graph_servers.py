"""What a graph server is to the temporal graph, and which class stands behind an address.

Belongs here: the Protocol, and the translation of the clients' errors.
Does not belong here: the servers themselves (`graph_falkordb.py`, `graph_neo4j.py`), what is asked (`graph_search.py`) and what
is written (`graph.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from lpm_kernel.errors import SettingsError, StoreError

if TYPE_CHECKING:
    from graphiti_core.driver.driver import GraphDriver

    from lpm_kernel.stores.addresses import GraphAddress

Rows = list[dict[str, Any]]
CONNECT_TIMEOUT_S = 3
ANSWER_TIMEOUT_S = 30


IN_TIME = "e.began >= $since AND e.began <= $at AND e.ended > $at"


class GraphServer(Protocol):
    """All of it runs in the store's one event loop."""

    vector_call: str
    """Yields `e` and `cosine` of the `$fetch` nearest facts by the vector index."""
    cosine: str
    """The cosine of `e` and `$vector`, computed."""
    in_window: str
    """Whether `e` is of `$group`, began between `$since` and `$at`, and holds at `$at`."""
    words_call: str
    """Yields `e` and `score` of the facts of the window with any of `$words`."""

    async def driver(self, group: str) -> GraphDriver: ...
    async def prepare(self, group: str, dim: int) -> None:
        """Indexes, there and filled when this returns. Idempotent."""
        ...

    async def read(self, group: str, query: str, /, **values: Any) -> Rows:
        """No rows where nothing was ever written."""
        ...

    async def write(self, group: str, work: Callable[[Any, GraphDriver], Awaitable[None]]) -> None:
        """One writer of a group at a time; `work` gets what graphiti calls a transaction."""
        ...

    def word_query(self, group: str, words: list[str]) -> object:
        """What `$words` is to be."""
        ...

    async def check(self) -> None:
        """Raises: StoreError when the server does not answer."""
        ...

    async def groups(self, prefix: str) -> list[str]: ...
    async def drop(self, group: str) -> None: ...
    async def close(self) -> None: ...


def open_server(address: GraphAddress) -> GraphServer:
    """The class by the URL's scheme. Nothing is connected yet. Raises: SettingsError `graph_url_unknown`."""
    from lpm_kernel.stores.graph_falkordb import FalkorServer
    from lpm_kernel.stores.graph_neo4j import Neo4jServer

    scheme = urlsplit(address.url).scheme
    if scheme in ("redis", "rediss", "falkor", "falkors"):
        return FalkorServer(address.url)
    if scheme.partition("+")[0] in ("neo4j", "bolt"):
        return Neo4jServer(address)
    raise SettingsError("graph_url_unknown", f"{scheme!r} is no graph server: use redis://, falkor://, neo4j:// or bolt://")


@contextmanager
def server_errors() -> Iterator[None]:
    """Turn a client's error into a StoreError; queries and their values stay out of the message."""
    import neo4j.exceptions as neo4j_errors
    import redis.exceptions as redis_errors

    try:
        yield
    except (redis_errors.AuthenticationError, neo4j_errors.AuthError) as error:
        raise StoreError("graph_refused", "the graph server refused the password", retryable=False) from error
    except (
        redis_errors.ConnectionError,
        redis_errors.TimeoutError,
        redis_errors.BusyLoadingError,
        neo4j_errors.ServiceUnavailable,
        neo4j_errors.SessionExpired,
        neo4j_errors.TransientError,
        OSError,
    ) as error:
        raise StoreError("graph_unavailable", f"the graph server did not answer: {type(error).__name__}") from error
    except (redis_errors.RedisError, neo4j_errors.DriverError, neo4j_errors.Neo4jError) as error:
        raise StoreError("graph_refused", f"the graph server refused: {type(error).__name__}", retryable=False) from error
