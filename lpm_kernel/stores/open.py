"""The ports, opened from settings and environment: the one place that chooses classes.

Belongs here: which class stands behind each port in each profile.
Does not belong here: the classes themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from lpm_kernel.L0.preference_head import PreferenceHead
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import read_addresses, read_graph_address
from lpm_kernel.stores.blobs import Blobs, open_s3
from lpm_kernel.stores.embedder import Embedder, MiniLmEmbedder
from lpm_kernel.stores.graph import Graph, GraphitiGraph
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.memories import Memories
from lpm_kernel.stores.ner import Ner
from lpm_kernel.stores.open_ner import open_ner
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.vectors import PgVectors, Vectors

EMBEDDERS: dict[str, Callable[[], Embedder]] = {"all-MiniLM-L6-v2-int8": MiniLmEmbedder}


@dataclass(frozen=True, slots=True)
class Stores:
    """Every store of one process. Clients are safe to share between threads; `close()` ends the connections."""

    settings: Settings
    tables: Tables
    blobs: Blobs
    vectors: Vectors
    embedder: Embedder
    memories: Memories
    ner: Ner
    graph: Graph
    preference_head: PreferenceHead

    def close(self) -> None:
        self.graph.close()
        self.memories.close()
        self.tables.close()


def open_stores(settings: Settings, environ: Mapping[str, str] | None = None) -> Stores:
    """Connections are made at first use. Raises: SettingsError `address_missing`."""
    addresses = read_addresses(settings, environ)
    return build_stores(settings, Tables(addresses.database_url), open_s3(addresses), environ)


def build_stores(settings: Settings, tables: Tables, blobs: Blobs, environ: Mapping[str, str] | None = None) -> Stores:
    """The graph's address is looked for at its first use."""
    embedder = EMBEDDERS[settings.models.embedder]()
    return Stores(
        settings,
        tables,
        blobs,
        PgVectors(tables),
        embedder,
        memories=Mem0Memories(tables.engine.url, embedder, settings.memory_ranking),
        ner=open_ner(settings, environ),
        preference_head=PreferenceHead(embedder),
        graph=GraphitiGraph(partial(read_graph_address, settings, environ), embedder),
    )
