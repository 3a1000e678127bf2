"""FalkorDB under the temporal graph: a group is a graph of its own.

Belongs here: its connections, indexes and the words of its Cypher.
Does not belong here: starting the engine (`embedded/falkordb.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lpm_kernel.stores.graph_servers import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, IN_TIME, Rows, server_errors

if TYPE_CHECKING:
    from graphiti_core.driver.driver import GraphDriver


class FalkorServer:
    vector_call = (
        "CALL db.idx.vector.queryRelationships('RELATES_TO', 'fact_embedding', $fetch, vecf32($vector)) "
        "YIELD relationship AS e, score WITH e, 1 - score AS cosine"
    )
    cosine = "1 - vec.cosineDistance(e.fact_embedding, vecf32($vector))"
    in_window = IN_TIME  # the graph is the group
    # Each word by itself and weighed by its rarity: of words joined by `|` the server scores a fact by the first it meets, and
    # "the kiln" would find whatever has the commoner word of the question. A word of every fourth fact tells none apart.
    # How many facts there are is kept by the server; counting them took a third of the search.
    words_call = (
        "CALL db.meta.stats() YIELD relTypes WITH relTypes.RELATES_TO AS facts UNWIND $words AS word "
        "CALL db.idx.fulltext.queryRelationships('RELATES_TO', word) YIELD relationship "
        "WITH facts, word, collect(relationship) AS hits WHERE size(hits) <= 100 OR 4 * size(hits) <= facts "
        "WITH hits, log(1.0 + facts / size(hits)) AS rarity "
        f"UNWIND hits AS e WITH e, rarity WHERE {IN_TIME} WITH e, sum(rarity) AS score"
    )

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None
        self._building = threading.Lock()
        self._drivers: dict[str, GraphDriver] = {}

    async def driver(self, group: str) -> GraphDriver:
        import asyncio

        if group not in self._drivers:
            # In a thread: built inside a loop, it starts to make indexes behind our back in a task that nobody awaits.
            with_client = await asyncio.to_thread(self._build, group)
            self._drivers.setdefault(group, with_client)
        return self._drivers[group]

    def _build(self, group: str) -> GraphDriver:
        from graphiti_core.driver.falkordb_driver import FalkorDriver

        # the two halves of a search come here at once; the client of the first would never be closed
        with server_errors(), self._building:
            if self._client is None:
                self._client = _open_client(self._url)
            return FalkorDriver(falkor_db=self._client, database=group)

    async def prepare(self, group: str, dim: int) -> None:
        driver = await self.driver(group)
        with server_errors():
            await driver.build_indices_and_constraints()
            await driver.execute_query("CREATE INDEX FOR ()-[e:RELATES_TO]-() ON (e.began, e.ended)")
            # efRuntime 200: at the server's own 10 one fact of fifteen nearest is missed
            await driver.execute_query(
                "CREATE VECTOR INDEX FOR ()-[e:RELATES_TO]->() ON (e.fact_embedding) OPTIONS "
                f"{{dimension: {dim}, similarityFunction: 'cosine', M: 32, efConstruction: 200, efRuntime: 200}}"
            )

    async def read(self, group: str, query: str, /, **values: Any) -> Rows:
        from redis.exceptions import ResponseError

        await self.driver(group)
        with server_errors():
            try:
                # Read-only: the other way of asking makes an empty graph of every name it is asked about. The server is told
                # when nobody waits any longer: it has two threads.
                found = await self._client.select_graph(group).ro_query(query, values, timeout=1000 * ANSWER_TIMEOUT_S)
            except ResponseError as error:
                if "empty key" in str(error):
                    return []
                raise
        names = [column[1] for column in found.header]
        return [dict(zip(names, row, strict=True)) for row in found.result_set]

    async def write(self, group: str, work: Callable[[Any, GraphDriver], Awaitable[None]]) -> None:
        driver = await self.driver(group)
        with server_errors():
            await driver.session().execute_write(work, driver)

    def word_query(self, group: str, words: list[str]) -> list[str]:
        return [f"@fact:{word}" for word in words]

    async def check(self) -> None:
        from redis.asyncio import from_url
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        limits = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": CONNECT_TIMEOUT_S}
        with server_errors():
            async with from_url(self._url, retry=Retry(NoBackoff(), 0), **limits) as client:
                await client.ping()

    async def groups(self, prefix: str) -> list[str]:
        await self.driver(prefix)
        with server_errors():
            return [name for name in await self._client.list_graphs() if name.startswith(prefix)]

    async def drop(self, group: str) -> None:
        await self.driver(group)
        with server_errors():
            await self._client.select_graph(group).delete()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.connection.aclose()
            # the pool came ready-made, so the client leaves it open
            await self._client.connection.connection_pool.aclose()


def _open_client(url: str) -> Any:
    """Why with limits of their own: the client asks the server what it is when it is made, four times over and each time for as
    long as an answer may take. A server that took connections and said nothing held whoever closed the graph for two minutes.
    """
    from falkordb.asyncio import FalkorDB
    from redis.asyncio import from_url
    from redis.backoff import ExponentialBackoff, NoBackoff
    from redis.retry import Retry

    limits = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": CONNECT_TIMEOUT_S}
    pool = from_url(url, decode_responses=True, **limits).connection_pool
    # enough for a connection that a restart has cut; the client's own tries go on for seconds, in which a chat would wait
    briefly = Retry(ExponentialBackoff(cap=0.4, base=0.1), 2)
    usual = {**pool.connection_kwargs, "socket_timeout": ANSWER_TIMEOUT_S, "retry": briefly}
    pool.connection_kwargs["retry"] = Retry(NoBackoff(), 0)  # of the plain client that asks; ours takes another kind
    client = FalkorDB(connection_pool=pool)
    pool.connection_kwargs.clear()
    pool.connection_kwargs.update(usual)
    return client
