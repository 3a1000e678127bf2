"""Neo4j under the temporal graph: a group is a property, and a lock.

Belongs here: its connections, indexes and the words of its Cypher.
Does not belong here: anything the other server has too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.graph_servers import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, IN_TIME, Rows, server_errors

if TYPE_CHECKING:
    from graphiti_core.driver.driver import GraphDriver

    from lpm_kernel.stores.addresses import GraphAddress

INDEX_WAIT_S = 120
RETRY_S = 2.0
VECTOR_INDEX = "twin_fact_embedding"


class Neo4jServer:
    """Neo4j 5.26 or newer. All groups lie in one database, told apart by `group_id` in each query."""

    # Neo4j scores a cosine as (1 + cosine) / 2, in the index and in the function alike
    vector_call = (
        f"CALL db.index.vector.queryRelationships('{VECTOR_INDEX}', $fetch, $vector) "
        "YIELD relationship AS e, score WITH e, 2 * score - 1 AS cosine"
    )
    cosine = "2 * vector.similarity.cosine(e.fact_embedding, $vector) - 1"
    in_window = f"e.group_id = $group AND {IN_TIME}"
    words_call = (
        "CALL db.index.fulltext.queryRelationships('edge_name_and_fact', $words) YIELD relationship AS e, score "
        f"WITH e, score WHERE {in_window}"
    )

    def __init__(self, address: GraphAddress) -> None:
        self._address = address
        self._driver: Any = None
        self._prepared: int | None = None

    async def driver(self, group: str) -> GraphDriver:
        import asyncio

        if self._driver is None:
            built = await asyncio.to_thread(self._build)
            if self._driver is not None:  # another call was faster
                await built.close()
                return self._driver
            self._driver, patient = built, built.client
            # graphiti's own client takes no settings, and tries a server that is not there for 30 seconds
            built.client = self._client()
            await patient.close()
        return self._driver

    def _build(self) -> Any:
        from graphiti_core.driver.neo4j_driver import Neo4jDriver

        return Neo4jDriver(self._address.url, self._address.username, self._address.password, self._address.database)

    def _client(self) -> Any:
        from neo4j import AsyncGraphDatabase

        return AsyncGraphDatabase.driver(
            self._address.url,
            auth=(self._address.username, self._address.password),
            connection_timeout=CONNECT_TIMEOUT_S,
            connection_acquisition_timeout=ANSWER_TIMEOUT_S,
            max_transaction_retry_time=RETRY_S,
        )

    async def prepare(self, group: str, dim: int) -> None:
        if self._prepared == dim:
            return
        driver = await self.driver(group)
        options = f"{{indexConfig: {{`vector.dimensions`: {dim}, `vector.similarity_function`: 'cosine'}}}}"
        with server_errors():
            await driver.build_indices_and_constraints()
            for query in (
                "CREATE CONSTRAINT twin_group IF NOT EXISTS FOR (g:TwinGroup) REQUIRE g.group_id IS UNIQUE",
                "CREATE INDEX twin_group_began IF NOT EXISTS FOR ()-[e:RELATES_TO]-() ON (e.group_id, e.began)",
                f"CREATE VECTOR INDEX {VECTOR_INDEX} IF NOT EXISTS FOR ()-[e:RELATES_TO]-() ON (e.fact_embedding) "
                f"OPTIONS {options}",
                f"CALL db.awaitIndexes({INDEX_WAIT_S})",
            ):
                await driver.execute_query(query)
            shown = await driver.execute_query(
                "SHOW VECTOR INDEXES YIELD name, options WHERE name = $name RETURN options.indexConfig AS config",
                params={"name": VECTOR_INDEX},
            )
        # IF NOT EXISTS keeps an index of other vectors without a word, and those of `dim` would never be found in it
        made = int(shown.records[0]["config"]["vector.dimensions"]) if shown.records else None
        if made != dim:
            raise StoreError(
                "graph_index_of_another_model",
                f"the vector index {VECTOR_INDEX} is for {made} dimensions and the embedder has {dim}: drop one of the same "
                "property, and facts are written again with the next run",
                retryable=False,
            )
        self._prepared = dim

    async def read(self, group: str, query: str, /, **values: Any) -> Rows:
        driver = await self.driver(group)
        with server_errors():
            found = await driver.execute_query(query, params=values, routing_="r")
        return [dict(record) for record in found.records]

    async def write(self, group: str, work: Callable[[Any, GraphDriver], Awaitable[None]]) -> None:
        driver = await self.driver(group)

        async def alone(transaction: Any) -> None:
            # The constraint makes it one node, and its lock is held until the end: two writers at once would each end the
            # facts that they can see.
            await transaction.run("MERGE (g:TwinGroup {group_id: $group}) SET g.writing = true REMOVE g.writing", group=group)
            await work(transaction, driver)

        with server_errors():
            async with cast("Any", driver.session()) as session:
                await session.execute_write(alone)

    def word_query(self, group: str, words: list[str]) -> str:
        # lower case: AND, OR, NOT and TO are Lucene's; the group in front spares a search of everybody's facts
        return f'group_id:"{group}" AND ({" OR ".join(words)})'

    async def check(self) -> None:
        with server_errors():
            async with self._client() as client:
                await client.verify_connectivity()

    async def groups(self, prefix: str) -> list[str]:
        rows = await self.read(
            prefix, "MATCH (g:TwinGroup) WHERE g.group_id STARTS WITH $prefix RETURN g.group_id AS name", prefix=prefix
        )
        return [row["name"] for row in rows]

    async def drop(self, group: str) -> None:
        driver = await self.driver(group)
        with server_errors():
            await driver.execute_query("MATCH (n:Entity {group_id: $group}) DETACH DELETE n", params={"group": group})
            await driver.execute_query("MATCH (g:TwinGroup {group_id: $group}) DELETE g", params={"group": group})

    async def close(self) -> None:
        if self._driver is not None:
            await self._driver.close()
