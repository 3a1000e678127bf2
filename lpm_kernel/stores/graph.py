"""Graph: facts between entities, each with the time it held and the time it was known, one group a user.

Belongs here: the Protocol and its class on graphiti-core, which writes without a language model; which fact ends which.
Does not belong here: servers (`graph_servers.py`), the queries of a search (`graph_search.py`), and where facts come from.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lpm_kernel.errors import StoreError
from lpm_kernel.records import Fact, GraphEntity, check_user_id, sha256_hex
from lpm_kernel.request_context import transaction_of
from lpm_kernel.stores import graphiti_clients as form
from lpm_kernel.stores.background_loop import BackgroundLoop
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.graph_search import Window, search_rows
from lpm_kernel.stores.graph_servers import GraphServer, open_server, server_errors

if TYPE_CHECKING:
    import numpy as np

    from lpm_kernel.stores.addresses import GraphAddress
    from lpm_kernel.stores.embedder import Embedder

SINGLE_VALUED = frozenset({"HAS_TWIN", "ON"})
"""Of these a subject has one at a time, and a newer ends the one before: a user has one twin, and a vote stands once on its
proposal, so that a ballot cast again is a newer ON of the same Vote."""
SHARED = "_shared"
"""In the place of a user: what members did in front of all others. No user can be named so: names begin with a letter or digit.
"""
Answer = TypeVar("Answer")
BATCH = 500
SEARCH_TIMEOUT_S = 3.0
BREAKER = 3, 2.0
"""Of calls in a row, and how long the server is then left alone: meanwhile answers are without facts, and do not wait."""


@dataclass(frozen=True, slots=True)
class FactHit:
    """`score` is the fused one, 0 to 1 within this search."""

    fact: Fact
    score: float
    cosine: float


@dataclass(frozen=True, slots=True)
class GraphCount:
    entities: int
    facts: int


@dataclass(frozen=True, slots=True)
class WriteCount:
    written: int
    kept: int


class Graph(Protocol):
    """What a graph guarantees: a user's facts are seen by that user alone, and the same facts give the same graph whatever the
    order and however often they are written."""

    def write_entities(self, user_id: str, entities: Sequence[GraphEntity], created_at: datetime) -> WriteCount: ...

    def write_facts(self, user_id: str, facts: Sequence[Fact]) -> WriteCount:
        """Facts with their entities. One that is stored already is kept as it is. Of a single-valued relation, each fact ends
        where the next one of the same subject begins, by `valid_at`, and is known to have ended since that one is known.

        Raises: UserInputError `time_without_zone`; StoreError `graph_unavailable` (retryable) or `graph_refused`.
        """
        ...

    def forget_facts(self, user_id: str, facts: Collection[Fact]) -> int:
        """Remove them and the entities they leave alone; what they had ended holds again. How many were there."""
        ...

    def list_facts(self, user_id: str, relations: Collection[str] | None = None) -> list[Fact]:
        """All of them, ended ones too, in order of `valid_at`."""
        ...

    def search_facts(
        self,
        user_id: str,
        text: str,
        vector: np.ndarray,
        *,
        since: datetime,
        at: datetime,
        k: int,
        keyword_weight: float,
        allowed: Callable[[Fact], bool] | None = None,
    ) -> list[FactHit]:
        """The best `k` of those that began at `since` or later and held at `at`; fewer only where there are no more. With
        `allowed` what is not is left out before anything is ranked; then there may be fewer."""
        ...

    def check(self) -> None:
        """Raises: StoreError when the server does not answer."""
        ...

    def count(self, user_id: str) -> GraphCount: ...

    def delete_user(self, user_id: str) -> None:
        """Everything of the user, by whichever model it was embedded."""
        ...

    def close(self) -> None: ...


class GraphitiGraph:
    """graphiti's nodes and edges on FalkorDB or Neo4j. Connects at first use; safe to share between threads.

    Why a group a user and model: vectors of two models are never compared. Another model finds an empty group beside the old
    one, which the next run fills.
    """

    def __init__(
        self, address: Callable[[], GraphAddress], embedder: Embedder, breaker: Breaker | None = None, run_id: str | None = None
    ) -> None:
        """`run_id`: the name of what is written where no request is under way."""
        self.address = address
        self._run_id = run_id
        self._embedder = embedder
        self._loop = BackgroundLoop("graph")
        self._lock = threading.Lock()
        self._opened: GraphServer | None = None
        self._imported = False
        self._prepared: set[str] = set()
        self._breaker = breaker or Breaker(*BREAKER)

    def group_of(self, user_id: str) -> str:
        """The model's part has one length, so that no user's groups can be another's."""
        whose = user_id if user_id == SHARED else check_user_id(user_id)
        return f"memory-{whose}-{sha256_hex(self._embedder.fingerprint.encode())[:8]}"

    @property
    def server(self) -> GraphServer:
        if not self._imported:
            form.import_graphiti(self._embedder.dim)
            self._imported = True
        return self._reached()

    def _reached(self) -> GraphServer:
        """Without graphiti, whose import takes seconds: enough to ask whether it is there."""
        with self._lock:
            if self._opened is None:
                self._opened = open_server(self.address())
            return self._opened

    def write_entities(self, user_id: str, entities: Sequence[GraphEntity], created_at: datetime) -> WriteCount:
        written = self._write(user_id, dict.fromkeys(entities, form.in_utc(created_at)), [])
        return WriteCount(written, len(set(entities)) - written)

    def write_facts(self, user_id: str, facts: Sequence[Fact]) -> WriteCount:
        first = {form.fact_id(fact): fact for fact in reversed(facts)}
        entities: dict[GraphEntity, datetime] = {}
        for fact in first.values():
            for entity in (fact.subject, fact.object):
                entities[entity] = min(entities.get(entity, fact.created_at), fact.created_at)
        group = self.group_of(user_id)
        known = self._known(
            group,
            "MATCH ()-[e:RELATES_TO]->() WHERE e.uuid IN $uuids RETURN e.uuid AS uuid",
            [form.edge_uuid(group, fact) for fact in first.values()],
        )
        fresh = [fact for fact in first.values() if form.edge_uuid(group, fact) not in known]
        self._write(user_id, entities, fresh, [*first.values()])
        return WriteCount(len(fresh), len(first) - len(fresh))

    def _write(
        self, user_id: str, entities: dict[GraphEntity, datetime], fresh: Sequence[Fact], named: Sequence[Fact] = ()
    ) -> int:
        """Chains of all facts `named` are made anew, not of the fresh alone: a writer that was killed may have left them."""
        group, server = self.group_of(user_id), self.server
        if group not in self._prepared:
            self._asked(lambda: server.prepare(group, self._embedder.dim))
            self._prepared.add(group)
        uuids = [form.entity_uuid(group, entity) for entity in entities]
        known = self._known(group, "MATCH (n:Entity) WHERE n.uuid IN $uuids RETURN n.uuid AS uuid", uuids)
        new = [entity for entity, uuid in zip(entities, uuids, strict=True) if uuid not in known]
        texts = [*(f"{entity.kind} {entity.name}" for entity in new), *(fact.text for fact in fresh)]
        distinct = list(dict.fromkeys(texts))  # a person meets one twin in many sessions
        vectors = dict(zip(distinct, self._embedder.embed(distinct).tolist(), strict=True))
        rows = [vectors[text] for text in texts]
        writer = transaction_of(self._run_id)
        nodes = [form.to_node(group, entity, entities[entity], row, writer) for entity, row in zip(new, rows, strict=False)]
        edges = [form.to_edge(group, fact, row, writer) for fact, row in zip(fresh, rows[len(new) :], strict=True)]
        chains = _chains(group, named)

        async def work(transaction: Any, driver: Any) -> None:
            from graphiti_core.utils.bulk_utils import add_nodes_and_edges_bulk_tx

            embedder: Any = None  # asked only for what has no vector yet
            for first in range(0, len(nodes), BATCH):
                batch = nodes[first : first + BATCH]
                await add_nodes_and_edges_bulk_tx(transaction, [], [], batch, [], embedder, driver=driver)
            for first in range(0, len(edges), BATCH):
                batch = edges[first : first + BATCH]
                await add_nodes_and_edges_bulk_tx(transaction, [], [], [], batch, embedder, driver=driver)
            if chains:
                await transaction.run(_END_BY_THE_NEXT, chains=chains)

        if nodes or edges or chains:
            self._asked(lambda: server.write(group, work))
        return len(nodes)

    def _known(self, group: str, query: str, uuids: Sequence[str]) -> set[str]:
        return {row["uuid"] for row in self._read(group, query, uuids=list(uuids))}

    def _read(self, group: str, query: str, /, **values: Any) -> list[dict[str, Any]]:
        return self._asked(lambda: self.server.read(group, query, **values))

    def _asked(self, question: Callable[[], Coroutine[Any, Any, Answer]], timeout_s: float | None = None) -> Answer:
        """Its answer, unless the server gave none a moment ago. Raises: StoreError `graph_unavailable`, `graph_refused`."""
        with self._breaker.guarding(_resting, lambda error: error.code == "graph_unavailable"), server_errors():
            return self._loop.run(question(), timeout_s)

    def forget_facts(self, user_id: str, facts: Collection[Fact]) -> int:
        group = self.group_of(user_id)
        uuids = [form.edge_uuid(group, fact) for fact in facts]
        known = self._known(group, "MATCH ()-[e:RELATES_TO]->() WHERE e.uuid IN $uuids RETURN e.uuid AS uuid", uuids)
        if not known:
            return 0
        ends = sorted({form.entity_uuid(group, entity) for fact in facts for entity in (fact.subject, fact.object)})
        chains = _chains(group, facts)

        async def work(transaction: Any, driver: Any) -> None:
            await transaction.run("MATCH ()-[e:RELATES_TO]->() WHERE e.uuid IN $uuids DELETE e", uuids=sorted(known))
            if chains:
                await transaction.run(_END_BY_THE_NEXT, chains=chains)
            await transaction.run("MATCH (n:Entity) WHERE n.uuid IN $ends AND NOT (n)--() DELETE n", ends=ends)

        self._asked(lambda: self.server.write(group, work))
        return len(known)

    def list_facts(self, user_id: str, relations: Collection[str] | None = None) -> list[Fact]:
        among = "" if relations is None else " AND e.name IN $relations"
        rows = self._read(
            self.group_of(user_id),
            f"MATCH ()-[e:RELATES_TO]->() WHERE e.group_id = $group{among} RETURN {form.FACT_COLUMNS} ORDER BY valid_at, uuid",
            group=self.group_of(user_id),
            relations=sorted(relations or ()),
        )
        return [form.to_fact(user_id, row) for row in rows]

    def search_facts(
        self,
        user_id: str,
        text: str,
        vector: np.ndarray,
        *,
        since: datetime,
        at: datetime,
        k: int,
        keyword_weight: float,
        allowed: Callable[[Fact], bool] | None = None,
    ) -> list[FactHit]:
        group, window = self.group_of(user_id), Window(form.in_utc(since), form.in_utc(at))
        keep = (lambda row: allowed(form.to_fact(user_id, row))) if allowed else None
        # somebody waits for an answer: a server that hangs is one that is not there
        found = self._asked(
            lambda: search_rows(self.server, group, text, vector.tolist(), window, k, keyword_weight, keep), SEARCH_TIMEOUT_S
        )
        return [FactHit(form.to_fact(user_id, hit.row), hit.score, hit.cosine) for hit in found]

    def check(self) -> None:
        self._asked(lambda: self._reached().check(), SEARCH_TIMEOUT_S)

    def count(self, user_id: str) -> GraphCount:
        group = self.group_of(user_id)
        (nodes,) = self._read(group, "MATCH (n:Entity {group_id: $group}) RETURN count(n) AS n", group=group) or [{"n": 0}]
        edges_query = "MATCH ()-[e:RELATES_TO]->() WHERE e.group_id = $group RETURN count(e) AS n"
        (edges,) = self._read(group, edges_query, group=group) or [{"n": 0}]
        return GraphCount(nodes["n"], edges["n"])

    def delete_user(self, user_id: str) -> None:
        prefix = f"memory-{check_user_id(user_id)}-"
        for group in self._loop.run(self.server.groups(prefix)):
            if re.fullmatch(re.escape(prefix) + "[0-9a-f]{8}", group):
                self._loop.run(self.server.drop(group))
                self._prepared.discard(group)

    def close(self) -> None:
        """Idempotent; the next use opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
            self._prepared.clear()
        if opened is not None:
            self._loop.run(opened.close())
        self._loop.close()


def _resting() -> StoreError:
    return StoreError("graph_unavailable", "the graph server did not answer a moment ago")


def _chains(group: str, facts: Collection[Fact]) -> list[dict[str, str]]:
    wanted = {(form.entity_uuid(group, fact.subject), fact.relation) for fact in facts if fact.relation in SINGLE_VALUED}
    return [{"subject": subject, "relation": relation} for subject, relation in sorted(wanted)]


# One query, made from all facts of the chain and not from those at hand: any order of arrival ends in the same ends, and two
# writers cannot each overlook the other's. A fact keeps its own stated end where that comes first.
_END_BY_THE_NEXT = """
UNWIND $chains AS chain
MATCH (s:Entity {uuid: chain.subject})-[e:RELATES_TO]->()
WHERE e.name = chain.relation
WITH chain, e ORDER BY e.began, e.created_at, e.uuid
WITH chain, collect(e) AS links
UNWIND range(0, size(links) - 1) AS i
WITH links[i] AS e, links[i + 1] AS later
WITH e, later, later IS NOT NULL AND later.began <= e.stated_end AS passed
SET e.invalid_at = CASE WHEN passed THEN later.valid_at ELSE e.stated_invalid_at END,
    e.ended = CASE WHEN passed THEN later.began ELSE e.stated_end END,
    e.expired_at = CASE WHEN NOT passed THEN NULL WHEN later.created_at > e.created_at THEN later.created_at
                        ELSE e.created_at END
"""
