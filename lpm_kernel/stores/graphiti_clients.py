"""graphiti-core without a language model: its quiet import, the clients it insists on, and our records in its own form.

Belongs here: what graphiti wants to be given, and `Fact` to `EntityEdge` and back.
Does not belong here: queries (`graph_search.py`) and connections (`graph_servers.py`).
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import LlmError, UserInputError
from lpm_kernel.records import Fact, GraphEntity, content_id

if TYPE_CHECKING:
    from graphiti_core import Graphiti
    from graphiti_core.driver.driver import GraphDriver
    from graphiti_core.edges import EntityEdge
    from graphiti_core.nodes import EntityNode

    from lpm_kernel.stores.embedder import Embedder

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER = 2**53
_IMPORT = threading.Lock()


def import_graphiti(dim: int) -> None:
    """Import graphiti as a library should be: no telemetry, no `.env` file read, vectors of `dim`.

    Why here: it reads all three at its first import, and an `.env` of the working directory would change the whole process.
    """
    with _IMPORT, _environment({"EMBEDDING_DIM": str(dim), "PYTHON_DOTENV_DISABLED": "1"}):
        os.environ["GRAPHITI_TELEMETRY_ENABLED"] = "false"  # asked again at each of its clients
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Support for class-based `config`", DeprecationWarning)  # its own, of pydantic
            import graphiti_core  # noqa: F401

        for driver in ("falkordb_driver", "neo4j_driver"):  # they log a failed query with its values: what a person wrote
            logging.getLogger(f"graphiti_core.driver.{driver}").setLevel(logging.CRITICAL)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def build_graphiti(driver: GraphDriver, embedder: Embedder) -> Graphiti:
    """graphiti's own interface on this driver. Whatever of it would ask a language model raises LlmError `llm_not_used`."""
    import asyncio

    from graphiti_core import Graphiti
    from graphiti_core.cross_encoder.client import CrossEncoderClient
    from graphiti_core.embedder.client import EmbedderClient
    from graphiti_core.llm_client.client import LLMClient
    from graphiti_core.llm_client.config import LLMConfig

    class NoLlm(LLMClient):
        async def _generate_response(self, *args: Any, **kwargs: Any) -> Any:
            raise LlmError("llm_not_used", "the graph is written without a language model", retryable=False)

    class OwnEmbedder(EmbedderClient):
        async def create(self, input_data: Any) -> list[float]:
            texts = [input_data] if isinstance(input_data, str) else list(input_data)
            return (await self.create_batch(texts[:1]))[0]

        async def create_batch(self, input_data_list: list[str]) -> list[list[float]]:
            return (await asyncio.to_thread(embedder.embed, input_data_list)).tolist()

    class CosineOrder(CrossEncoderClient):
        async def rank(self, query: str, passages: list[str]) -> list[tuple[str, float]]:
            vectors = await asyncio.to_thread(embedder.embed, [query, *passages])
            scores = (vectors[1:] @ vectors[0]).tolist()
            return sorted(zip(passages, scores, strict=True), key=lambda pair: -pair[1])

    return Graphiti(
        graph_driver=driver,
        llm_client=NoLlm(LLMConfig(api_key="none", model="none")),
        embedder=OwnEmbedder(),
        cross_encoder=CosineOrder(),
    )


def fact_id(fact: Fact) -> str:
    """Equal for one statement, however often it is learned: what was said, of whom, and from when."""
    who = (fact.user_id, fact.subject.kind, fact.subject.name, fact.relation, fact.object.kind, fact.object.name)
    return content_id(*who, fact.text, in_utc(fact.valid_at).isoformat())


def in_utc(moment: datetime) -> datetime:
    """Raises: UserInputError `time_without_zone`: a moment without a zone is an hour somebody else would guess."""
    if moment.tzinfo is None:
        raise UserInputError("time_without_zone", f"{moment.isoformat()} has no time zone: give it one")
    return moment.astimezone(UTC)


def microseconds(moment: datetime) -> int:
    """Since 1970. What is filtered by: FalkorDB's range index does not order texts, which is how it keeps graphiti's times, and
    gives every fact of a graph for `valid_at <= '2026'`. Exact to the year 2255, where a double no longer holds each of them.
    """
    return (in_utc(moment) - EPOCH) // timedelta(microseconds=1)


def entity_uuid(group: str, entity: GraphEntity) -> str:
    return content_id(group, entity.kind, entity.name)


def edge_uuid(group: str, fact: Fact) -> str:
    return content_id(group, fact_id(fact))


def to_node(
    group: str, entity: GraphEntity, created_at: datetime, vector: list[float], writer: str | None = None
) -> EntityNode:
    from graphiti_core.nodes import EntityNode

    return EntityNode(
        uuid=entity_uuid(group, entity),
        name=entity.name,
        group_id=group,
        labels=[entity.kind],
        created_at=in_utc(created_at),
        name_embedding=vector,
        attributes=_written_by(writer),
    )


def to_edge(group: str, fact: Fact, vector: list[float], writer: str | None = None) -> EntityEdge:
    from graphiti_core.edges import EntityEdge

    ends = {"subject_kind": fact.subject.kind, "subject": fact.subject.name}
    ends |= {"object_kind": fact.object.kind, "object": fact.object.name}
    # The stated end is kept beside the end in force, which a newer fact may bring forward.
    stated: dict[str, Any] = {"stated_invalid_at": in_utc(fact.invalid_at)} if fact.invalid_at else {}
    end = microseconds(fact.invalid_at) if fact.invalid_at else FOREVER
    stated |= {"began": microseconds(fact.valid_at), "ended": end, "stated_end": end}
    return EntityEdge(
        uuid=edge_uuid(group, fact),
        group_id=group,
        source_node_uuid=entity_uuid(group, fact.subject),
        target_node_uuid=entity_uuid(group, fact.object),
        name=fact.relation,
        fact=fact.text,
        fact_embedding=vector,
        created_at=in_utc(fact.created_at),
        valid_at=in_utc(fact.valid_at),
        invalid_at=in_utc(fact.invalid_at) if fact.invalid_at else None,
        expired_at=in_utc(fact.expired_at) if fact.expired_at else None,
        attributes={**ends, **stated, **_written_by(writer)},
    )


def _written_by(writer: str | None) -> dict[str, Any]:
    """The request or run, beside what was learned: no fact is another one for it."""
    return {"transaction_id": writer} if writer else {}


FACT_COLUMNS = (
    "e.uuid AS uuid, e.name AS relation, e.fact AS text, e.subject_kind AS subject_kind, e.subject AS subject, "
    "e.object_kind AS object_kind, e.object AS object, e.valid_at AS valid_at, e.invalid_at AS invalid_at, "
    "e.created_at AS created_at, e.expired_at AS expired_at"
)


def to_fact(user_id: str, row: Mapping[str, Any]) -> Fact:
    """A row of `FACT_COLUMNS`. Both servers give times back as the same moments, in UTC."""
    from graphiti_core.helpers import parse_db_date

    times = {name: parse_db_date(row[name]) for name in ("valid_at", "invalid_at", "created_at", "expired_at")}
    return Fact(
        user_id=user_id,
        subject=GraphEntity(row["subject_kind"], row["subject"]),
        relation=row["relation"],
        object=GraphEntity(row["object_kind"], row["object"]),
        text=row["text"],
        **{name: in_utc(moment) if moment else moment for name, moment in times.items()},  # type: ignore[arg-type]
    )
