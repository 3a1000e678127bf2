"""A graph in memory: the test double of the port, which passes the same contract suite.

Belongs here: the fake, and an embedder as wide as the real one.
Does not belong here: tests; they are in `contracts/test_graph.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from lpm_kernel.records import Fact, GraphEntity
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.graph import SINGLE_VALUED, FactHit, GraphCount, WriteCount
from lpm_kernel.stores.graph_search import fuse, words_of
from lpm_kernel.stores.graphiti_clients import fact_id, in_utc
from tests.fakes import FakeEmbedder


class WideFakeEmbedder(FakeEmbedder):
    dim = 384

    def __init__(self, fingerprint: str = "fake/384/l2") -> None:
        super().__init__(fingerprint)


class MemoryGraph:
    """Facts in dictionaries; ends are worked out when they are asked for."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._facts: dict[str, dict[str, Fact]] = {}
        self._entities: dict[str, set[GraphEntity]] = {}

    def write_entities(self, user_id: str, entities: Sequence[GraphEntity], created_at: datetime) -> WriteCount:
        held = self._entities.setdefault(user_id, set())
        fresh = set(entities) - held
        held |= fresh
        return WriteCount(len(fresh), len(set(entities)) - len(fresh))

    def write_facts(self, user_id: str, facts: Sequence[Fact]) -> WriteCount:
        given = {fact_id(fact): fact for fact in reversed(facts)}
        held = self._facts.setdefault(user_id, {})
        fresh = {key: fact for key, fact in given.items() if key not in held}
        held |= fresh
        for fact in fresh.values():
            self.write_entities(user_id, [fact.subject, fact.object], fact.created_at)
        return WriteCount(len(fresh), len(given) - len(fresh))

    def forget_facts(self, user_id: str, facts: Collection[Fact]) -> int:
        held = self._facts.get(user_id, {})
        gone = [held.pop(key) for key in {fact_id(fact) for fact in facts} if key in held]
        left = {entity for fact in held.values() for entity in (fact.subject, fact.object)}
        self._entities.get(user_id, set()).difference_update({e for f in gone for e in (f.subject, f.object)} - left)
        return len(gone)

    def list_facts(self, user_id: str, relations: Collection[str] | None = None) -> list[Fact]:
        held = sorted(self._facts.get(user_id, {}).values(), key=lambda f: (in_utc(f.valid_at), f.created_at, fact_id(f)))
        return [self._ended(fact, held) for fact in held if relations is None or fact.relation in relations]

    @staticmethod
    def _ended(fact: Fact, held: Sequence[Fact]) -> Fact:
        chain = [other for other in held if (other.subject, other.relation) == (fact.subject, fact.relation)]
        later = chain[chain.index(fact) + 1 :][:1] if fact.relation in SINGLE_VALUED else []
        if not later or (fact.invalid_at and fact.invalid_at < later[0].valid_at):
            return fact
        return replace(fact, invalid_at=later[0].valid_at, expired_at=max(fact.created_at, later[0].created_at))

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
        rows = []
        facts = [fact for fact in self.list_facts(user_id) if allowed is None or allowed(fact)]
        spread = Counter(word for fact in facts for word in set(words_of(fact.text)))
        for fact in facts:
            if in_utc(since) <= fact.valid_at <= in_utc(at) and (fact.invalid_at is None or fact.invalid_at > at):
                asked, own = set(words_of(text)), words_of(fact.text)
                words = sum(math.log(1 + len(facts) / spread[word]) for word in own if word in asked)
                cosine = float(self._embedder.embed([fact.text])[0] @ vector)
                rows.append({"uuid": fact_id(fact), "fact": fact, "cosine": cosine, "words": words})
        ranked = fuse(rows, rows, keyword_weight)[:k]
        return [FactHit(hit.row["fact"], hit.score, hit.cosine) for hit in ranked]

    def check(self) -> None:
        pass

    def count(self, user_id: str) -> GraphCount:
        return GraphCount(len(self._entities.get(user_id, ())), len(self._facts.get(user_id, ())))

    def delete_user(self, user_id: str) -> None:
        self._facts.pop(user_id, None)
        self._entities.pop(user_id, None)

    def close(self) -> None:
        pass
