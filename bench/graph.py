"""Graph: 5 facts of the last 90 days out of 5,000, through our indexes, beside graphiti's own search on the same facts."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from lpm_kernel.records import Fact, GraphEntity
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.graph import GraphitiGraph
from lpm_kernel.stores.open import Stores

USER = "bench"
FACTS, QUESTIONS, K = 5000, 60, 5
NOW = datetime(2026, 6, 1, tzinfo=UTC)
WINDOW, SPAN_DAYS = timedelta(days=90), 400
VERBS = ("argued for", "argued against", "wrote about", "asked about", "planned", "repaired")
SUBJECTS = (
    *("the kiln", "a laser cutter", "night lighting", "the bell tower", "rainwater", "the tram line", "bread prices"),
    *("a metal printer", "the allotment", "solar panels", "the library", "harbour dredging", "the youth band", "the clock"),
)
PLACES = ("in the workshop", "at the assembly", "by the harbour", "at school", "on the square", "in the valley", "at the depot")


class PhraseEmbedder:
    """The mean of its phrases' real vectors: 5,000 facts are embedded in a second, and lie about as real ones do."""

    def __init__(self, embedder: Embedder) -> None:
        self.dim, self.fingerprint, self._embedder = embedder.dim, f"phrases/{embedder.fingerprint}", embedder
        phrases = [*VERBS, *SUBJECTS, *PLACES]
        self._known = dict(zip(phrases, embedder.embed(phrases), strict=True))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row += sum((vector for phrase, vector in self._known.items() if phrase in text), np.float32(1e-3))
            row /= np.linalg.norm(row)
        return vectors

    def tokens_read(self, texts: Sequence[str]) -> list[int]:
        return self._embedder.tokens_read(texts)


def make_facts(rnd: random.Random, user_id: str = USER) -> list[Fact]:
    facts: list[Fact] = []
    for number in range(FACTS):
        speaker = GraphEntity("User", f"person-{rnd.randrange(200)}")
        topic = GraphEntity("PolicyTopic", rnd.choice(SUBJECTS))
        words = f"{speaker.name} {rnd.choice(VERBS)} {topic.name} {rnd.choice(PLACES)} ({number})"
        began = NOW - timedelta(days=rnd.uniform(0, SPAN_DAYS))
        facts.append(Fact(user_id, speaker, "MENTIONS", topic, words, began, began))
    return facts


def run(stores: Stores) -> None:
    embedder = PhraseEmbedder(stores.embedder)
    assert isinstance(stores.graph, GraphitiGraph)
    graph = GraphitiGraph(stores.graph.address, embedder)
    try:
        graph.delete_user(USER)
        rnd = random.Random(0)
        facts = make_facts(rnd)
        began = time.perf_counter()
        graph.write_facts(USER, facts)
        print(f"  {FACTS} facts written in {time.perf_counter() - began:.1f} s; 5 of the last 90 days, milliseconds a search")
        questions = [f"Who {rnd.choice(VERBS)} {rnd.choice(SUBJECTS)} {rnd.choice(PLACES)}?" for _ in range(QUESTIONS)]
        _measure(stores, graph, embedder, facts, questions)
    finally:
        graph.delete_user(USER)
        graph.close()


def _measure(
    stores: Stores, graph: GraphitiGraph, embedder: PhraseEmbedder, facts: Sequence[Fact], questions: Sequence[str]
) -> None:
    from graphiti_core.search.search_filters import ComparisonOperator, DateFilter, SearchFilters

    from lpm_kernel.stores.graphiti_clients import build_graphiti

    recent = [fact for fact in facts if fact.valid_at >= NOW - WINDOW]
    vectors = embedder.embed([fact.text for fact in recent])
    group = graph.group_of(USER)
    stock = build_graphiti(graph._loop.run(graph.server.driver(group)), embedder)
    since = DateFilter(date=NOW - WINDOW, comparison_operator=ComparisonOperator.greater_than_equal)
    filters = SearchFilters(valid_at=[[since]])

    def ours(question: str, vector: np.ndarray, keyword_weight: float) -> list[str]:
        hits = graph.search_facts(USER, question, vector, since=NOW - WINDOW, at=NOW, k=K, keyword_weight=keyword_weight)
        return [hit.fact.text for hit in hits]

    def theirs(question: str, vector: np.ndarray) -> list[str]:
        found = graph._loop.run(stock.search(question, group_ids=[group], num_results=K, search_filter=filters))
        return [edge.fact for edge in found]

    weight = stores.settings.recall.keyword_weight
    ways = {
        "graphiti's own": theirs,
        "ours, meaning only": lambda question, vector: ours(question, vector, 0.0),
        "ours, words too": lambda question, vector: ours(question, vector, weight),
    }
    print(f"  {'way':20} {'p50 ms':>8} {'p95 ms':>8} {'facts of 5':>11} {'of the 5 nearest':>17}")
    for way, ask in ways.items():
        times_ms, given, near = [], 0, 0
        for number, question in enumerate(questions[:3] + list(questions)):
            vector = embedder.embed([question])[0]
            began = time.perf_counter()
            found = ask(question, vector)
            if number < 3:  # to warm up
                continue
            times_ms.append(1000 * (time.perf_counter() - began))
            cosines = vectors @ vector
            fifth = np.sort(cosines)[-K] - 1e-5
            nearest = {fact.text for fact, cosine in zip(recent, cosines, strict=True) if cosine >= fifth}
            given += len(found)
            near += len(nearest & set(found))
        p50, p95 = statistics.median(times_ms), statistics.quantiles(times_ms, n=20)[-1]
        total = len(questions)
        print(f"  {way:20} {p50:8.1f} {p95:8.1f} {given / total:11.2f} {near / (K * total):>17.0%}")
    times_ms = []
    for question in questions:
        began = time.perf_counter()
        stores.embedder.embed([question])
        times_ms.append(1000 * (time.perf_counter() - began))
    print(f"  a question's embedding comes to it: p50 {statistics.median(times_ms):.1f} ms")
