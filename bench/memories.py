"""Memories: a search of ours beside Mem0's own on the same rows, what a chat asks besides, and the nightly purge."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import text

from bench.graph import PLACES, SUBJECTS, VERBS, PhraseEmbedder
from lpm_kernel.records import Memory, User
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.memories import MemoryHit, make_memory, to_payload
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import add_user

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SIZES, OTHERS, QUESTIONS, K = (1000, 10_000), 2, 60, 5
VACUUM_WAIT_S = 150


def run(stores: Stores) -> None:
    embedder = PhraseEmbedder(stores.embedder)
    memories = Mem0Memories(stores.tables.engine.url, embedder, stores.settings.memory_ranking)
    rnd = random.Random(0)
    questions = [f"Who {rnd.choice(VERBS)} {rnd.choice(SUBJECTS)} {rnd.choice(PLACES)}?" for _ in range(QUESTIONS)]
    vectors = embedder.embed(questions)
    try:
        print(f"  {'memories of the user':20}  {'way':32} {'p50 ms':>8} {'p95 ms':>8} {'of the 5 nearest':>17}")
        for size in SIZES:
            users = [f"bench-{size}", *(f"bench-{size}-{i}" for i in range(OTHERS))]
            for number, user_id in enumerate(users):
                _fill(stores, memories, embedder, user_id, size, number)
            _await_vacuum(stores)
            _measure(memories, embedder, users[0], size, list(zip(questions, vectors, strict=True)))
            for user_id in users:
                memories.delete_all(user_id)
    finally:
        memories.close()


def _fill(stores: Stores, memories: Mem0Memories, embedder: PhraseEmbedder, user_id: str, size: int, seed: int) -> None:
    """By Mem0's own insert; one in a hundred is a preference, one in ten has expired."""
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id))
    rnd = random.Random(seed)
    said = [_memory(user_id, i, size, rnd) for i in range(size)]
    vectors = embedder.embed([memory.text for memory in said])
    vectors = vectors + np.random.default_rng(seed).normal(0, 0.02, vectors.shape)  # or most were equally near
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with memories._transaction(user_id):
        payloads = [to_payload(memory, embedder.fingerprint) for memory in said]
        memories._store.insert(vectors.tolist(), payloads, [memory.memory_id for memory in said])


def _await_vacuum(stores: Stores) -> None:
    """The server's own, which comes by once a minute: in use, a table is filled over weeks and not in one."""
    query = text("select n_ins_since_vacuum < 0.02 * n_live_tup from pg_stat_user_tables where relname = 'memory'")
    deadline = time.monotonic() + VACUUM_WAIT_S
    while time.monotonic() < deadline:
        with stores.tables.operator_transaction() as connection:
            if connection.execute(query).scalar_one():
                return
        time.sleep(2)
    print("  the server has not vacuumed: a search looks at rows beside the index")


def _memory(user_id: str, number: int, size: int, rnd: random.Random) -> Memory:
    return make_memory(
        user_id,
        "turn" if number % 100 else "preference",
        f"I {rnd.choice(VERBS)} {rnd.choice(SUBJECTS)} {rnd.choice(PLACES)}, and told them so ({number})",
        domain="chat",
        source="chat",
        importance=0.5,
        created_at=NOW - timedelta(days=1, minutes=size - number),
        session_id="s",
        turn=number,
        expiration_date=(NOW + timedelta(days=-1 if number % 10 == 0 else 60)).date() if number % 100 else None,
    )


def _measure(
    memories: Mem0Memories, embedder: PhraseEmbedder, user_id: str, size: int, asked: list[tuple[str, np.ndarray]]
) -> None:
    window = {"from_s": {"lte": NOW.timestamp()}, "until_s": {"gt": NOW.timestamp()}, "fingerprint": embedder.fingerprint}

    def mem0(question: str, vector: np.ndarray) -> list[str]:
        with memories._transaction(user_id):
            found = memories._store.search("", vector.tolist(), top_k=K, filters={"user_id": user_id, **window})
        return [str(item.id) for item in found]

    def ours(question: str, vector: np.ndarray) -> list[str]:
        hits: list[MemoryHit] = memories.search(user_id, question, K, as_of=NOW, vector=vector)
        return [hit.memory.memory_id for hit in hits]

    nearest = [set(mem0(*item)) for item in asked]  # it is exact
    for way, ask in {"Mem0's own": mem0, "ours": ours}.items():
        found, times_ms = _timed(ask, asked)
        same = sum(len(near & set(ids)) for near, ids in zip(nearest, found, strict=True))
        _print(size, way, times_ms, f"{same / sum(map(len, nearest)):>17.0%}")
    _, times_ms = _timed(lambda *_: memories.current(user_id, as_of=NOW, kinds=("preference", "voice")), asked)
    _print(size, "all preferences that hold", times_ms)
    began = time.perf_counter()
    gone = memories.purge_expired(user_id, NOW.date())
    _print(size, f"purge of {gone}", [1000 * (time.perf_counter() - began)])


def _timed(ask: Callable[..., Any], asked: list[tuple[str, np.ndarray]]) -> tuple[list[Any], list[float]]:
    for item in asked[:5]:  # to warm up
        ask(*item)
    found, times_ms = [], []
    for item in asked:
        began = time.perf_counter()
        found.append(ask(*item))
        times_ms.append(1000 * (time.perf_counter() - began))
    return found, times_ms


def _print(size: int, way: str, times_ms: list[float], more: str = "") -> None:
    p50, p95 = statistics.median(times_ms), (statistics.quantiles(times_ms, n=20) if len(times_ms) > 1 else times_ms)[-1]
    print(f"  {size:20}  {way:32} {p50:8.1f} {p95:8.1f} {more}")
