"""The ports, opened from settings and environment: the one place that chooses classes.

Belongs here: which class stands behind each port.
Does not belong here: the classes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from lpm_kernel.L0.preference_head import PreferenceHead
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import (
    connection_environment,
    read_addresses,
    read_graph_address,
    read_mem0_key,
    read_weaviate_address,
)
from lpm_kernel.stores.answerer import Answerer, open_answerer
from lpm_kernel.stores.blobs import Blobs, open_s3
from lpm_kernel.stores.breaker import Breakers
from lpm_kernel.stores.breaker_board import open_board
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.embedders import Embedders
from lpm_kernel.stores.graph import BREAKER as GRAPH_BREAKER
from lpm_kernel.stores.graph import Graph, GraphitiGraph
from lpm_kernel.stores.locks import BREAKER as LOCKS_BREAKER
from lpm_kernel.stores.locks import Locks, RedisLocks
from lpm_kernel.stores.mem0_cloud import BREAKER as MEM0_BREAKER
from lpm_kernel.stores.mem0_cloud import Mem0CloudMemories
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.memories import Memories
from lpm_kernel.stores.ner import Ner
from lpm_kernel.stores.open_ner import open_ner
from lpm_kernel.stores.tables import BREAKER as TABLES_BREAKER
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.vectors import PgVectors, Vectors
from lpm_kernel.stores.weaviate_client import BREAKER as WEAVIATE_BREAKER
from lpm_kernel.stores.weaviate_client import WeaviateConnection
from lpm_kernel.stores.weaviate_vectors import WeaviateVectors
from lpm_kernel.stores.writer import OpenAiWriter, open_writer


@dataclass(frozen=True, slots=True)
class Stores:
    """Every store of one process. Clients are safe to share between threads; `close()` ends the connections."""

    settings: Settings
    tables: Tables
    blobs: Blobs
    vectors: Vectors
    embedder: Embedder
    """Of the settings: what new vectors are made with."""
    embedders: Embedders
    memories: Memories
    ner: Ner
    graph: Graph
    preference_head: PreferenceHead
    locks: Locks
    weaviate: WeaviateConnection | None = None
    """Behind `vectors`, where they are in Weaviate."""
    writer: OpenAiWriter | None = None
    """None where the settings name none."""
    answerer: Answerer | None = None
    """None where the twin itself answers."""
    breakers: Breakers = field(default_factory=Breakers)
    """Of every server that these ask."""

    def embedder_of(self, fingerprint: str) -> Embedder:
        """The model that vectors of this fingerprint were made with: that of a live release may be another than `embedder`.

        Raises: LlmError `embedder_unknown`; SettingsError `address_missing`.
        """
        return self.embedder if fingerprint == self.embedder.fingerprint else self.embedders.of(fingerprint)

    def warm(self) -> None:
        """Load what the first question would wait for: the embedding model, libraries whose import takes seconds, and the head
        that finds preferences, which is fitted for ten.

        Raises: LlmError, StoreError, IngestionError.
        """
        self.embedder.embed(["warm"])
        self.graph.count("warm")
        self.preference_head.fit()

    def close(self) -> None:
        self.graph.close()
        self.memories.close()
        if self.weaviate is not None:
            self.weaviate.close()
        if self.writer is not None:
            self.writer.close()
        if self.answerer is not None:
            self.answerer.close()
        self.embedders.close()
        self.tables.close()
        self.locks.close()
        self.breakers.close()


def open_stores(settings: Settings, environ: Mapping[str, str] | None = None, *, prompt: bool = False) -> Stores:
    """Connections are made at first use. `prompt`: as an API needs them, which tells of a failure rather than waits it out.

    Raises: SettingsError `address_missing`.
    """
    addresses = read_addresses(settings, environ)
    breakers = Breakers(open_board(addresses.redis_url))
    tables = Tables(addresses.database_url, breaker=breakers.named("tables", *TABLES_BREAKER) if prompt else None)
    return build_stores(settings, tables, open_s3(addresses, prompt=prompt, breakers=breakers), environ, breakers)


def build_stores(
    settings: Settings,
    tables: Tables,
    blobs: Blobs,
    environ: Mapping[str, str] | None = None,
    breakers: Breakers | None = None,
) -> Stores:
    """The graph's address is looked for at its first use. Raises: SettingsError `address_missing` for the other ports."""
    if breakers is None:
        breakers = Breakers(open_board(connection_environment(environ).get(settings.stores.redis_url)))
    embedders = Embedders(settings, environ, breakers)
    embedder = embedders.named(settings.models.embedder)
    weaviate: WeaviateConnection | None = None
    vectors: Vectors = PgVectors(tables)
    if settings.stores_in.vectors == "weaviate":
        weaviate = WeaviateConnection(read_weaviate_address(settings, environ), breakers.named("weaviate", *WEAVIATE_BREAKER))
        vectors = WeaviateVectors(weaviate, tables)
    memories: Memories
    if settings.stores_in.memories == "mem0":
        mem0 = breakers.named("mem0", *MEM0_BREAKER)
        memories = Mem0CloudMemories(read_mem0_key(settings, environ), embedder, tables, breaker=mem0)
    else:
        memories = Mem0Memories(tables.engine.url, embedder, settings.memory_ranking, tables.run_id, tables.breaker)
    return Stores(
        settings,
        tables,
        blobs,
        vectors,
        embedder,
        embedders,
        memories,
        ner=open_ner(settings, environ, breakers),
        preference_head=PreferenceHead(embedder),
        locks=RedisLocks(
            tables, connection_environment(environ).get(settings.stores.redis_url), breakers.named("locks", *LOCKS_BREAKER)
        ),
        graph=GraphitiGraph(
            partial(read_graph_address, settings, environ), embedder, breakers.named("graph", *GRAPH_BREAKER), tables.run_id
        ),
        weaviate=weaviate,
        writer=open_writer(settings, environ, breakers),
        answerer=open_answerer(settings, environ, breakers),
        breakers=breakers,
    )
