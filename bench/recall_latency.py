"""What a whole recall takes, embedding of the question included, over many memories and facts; and that users do not meet."""

from __future__ import annotations

import random
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np

from bench.graph import FACTS, PLACES, SUBJECTS, VERBS, make_facts
from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.layout import text_key
from lpm_kernel.recall.plan import recall_lines
from lpm_kernel.records import Document, Memory, User, sha256_hex
from lpm_kernel.stores.memories import make_memory
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import add_user

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SIZES = (1_000, 10_000)
CLIENTS = (1, 8)
QUESTIONS, WARM = 200, 10
NOTES = 300
PROBES = 1_000
BATCH = 1_000


def make_user(stores: Stores, user_id: str, rnd: random.Random) -> str:
    """A user with some notes; the generation of them."""
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id))
    text = "\n\n".join(f"On day {number} I {sentence(rnd)} and then went home for tea." for number in range(NOTES))
    sha = sha256_hex(text.encode())
    document = Document(
        user_id, sha, "notes.md", "text/markdown", len(text), "upload", "user", NOW, "read", text_size_bytes=len(text.encode())
    )
    chunks = chunk_document(document, text, stores.settings.chunking)
    items = chunk_texts(chunks, {sha: text.encode()})
    assert chunks[0].text_key == text_key(user_id, sha)
    table, _ = embed_chunks(items, stores.embedder, None, lambda share, words: None)
    stores.vectors.sync(user_id, generation_of(table), vector_entries(items, table), table.fingerprint)
    return generation_of(table)


def sentence(rnd: random.Random) -> str:
    return f"{rnd.choice(VERBS)} {rnd.choice(SUBJECTS)} {rnd.choice(PLACES)}"


def remember(stores: Stores, user_id: str, count: int, rnd: random.Random) -> None:
    already = len(stores.memories.current(user_id, as_of=NOW))
    made: list[Memory] = []
    for number in range(already, count):
        text = f"I {sentence(rnd)} with {rnd.choice(('Ann', 'Bo', 'Cy', 'Di'))} on day {number}."
        spoken = NOW - timedelta(days=400) + timedelta(minutes=number)
        about = {"domain": "chat", "source": "chat", "importance": 0.5}
        made.append(
            make_memory(user_id, "turn", text, created_at=spoken, session_id=f"s{number // 12}", turn=number % 12, **about)
        )
    for first in range(0, len(made), BATCH):
        stores.memories.add_batch(user_id, made[first : first + BATCH])


def run(stores: Stores) -> None:
    rnd = random.Random(0)
    user_id = "bench-latency"
    generation = make_user(stores, user_id, rnd)
    stores.graph.delete_user(user_id)
    stores.graph.write_facts(user_id, make_facts(rnd, user_id))
    print(f"  whole recalls with the question's embedding: {NOTES} notes, {FACTS} facts, milliseconds")
    print(f"  {'memories':>10} {'clients':>8} {'p50':>8} {'p95':>8} {'p99':>8} {'recalls/s':>10} {'this process':>14}")
    for size in SIZES:
        remember(stores, user_id, size, rnd)
        for clients in CLIENTS:
            questions = [f"Who {sentence(rnd)} on day {rnd.randrange(size)}?" for _ in range(QUESTIONS + WARM)]
            times_ms, elapsed_s = measure(stores, user_id, generation, questions, clients)
            p50, p95, p99 = np.percentile(times_ms, [50, 95, 99])
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
            rate = len(times_ms) / elapsed_s
            print(f"  {size:>10} {clients:>8} {p50:8.1f} {p95:8.1f} {p99:8.1f} {rate:10.1f} {peak_mb:11.0f} MB")
    probe(stores, rnd)


def measure(stores: Stores, user_id: str, generation: str, questions: list[str], clients: int) -> tuple[list[float], float]:
    def ask(question: str) -> float:
        began = time.perf_counter()
        found = recall_lines(stores, user_id, generation, question, now=NOW)
        took = 1000 * (time.perf_counter() - began)
        if found.degraded:
            raise RuntimeError(f"a store failed while it was measured: {found.degraded}")
        return took

    for question in questions[:WARM]:
        ask(question)
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times_ms = list(pool.map(ask, questions[WARM:]))
    return times_ms, time.perf_counter() - began


def probe(stores: Stores, rnd: random.Random) -> None:
    """Each user holds a word of their own in a note, a memory and a fact; everybody asks for the others'."""
    users = {f"bench-probe-{number}": f"zq{number}xv" for number in range(10)}
    generations: dict[str, str] = {}
    for user_id, word in users.items():
        with stores.tables.transaction(user_id) as connection:
            add_user(connection, User(user_id))
        said = make_memory(
            user_id,
            "turn",
            f"My word is {word}.",
            domain="chat",
            source="chat",
            importance=0.5,
            created_at=NOW - timedelta(days=1),
        )
        stores.memories.add_batch(user_id, [said])
        facts = make_facts(rnd, user_id)[:1]
        stores.graph.write_facts(user_id, facts)
        generations[user_id] = make_user(stores, user_id, rnd)
    hits = 0
    for _ in range(PROBES):
        asker, owner = rnd.sample(sorted(users), 2)
        generation = generations[rnd.choice((asker, owner))]  # another's generation must not open their memory either
        try:
            found = recall_lines(stores, asker, generation, f"My word is {users[owner]}", now=NOW)
        except Exception as error:
            if getattr(error, "code", "") != "memory_empty":
                raise
            continue
        own = {line.memory.user_id for line in found.lines if line.memory} | {
            line.fact.user_id for line in found.lines if line.fact
        }
        hits += users[owner] in " ".join(line.text for line in found.lines) or bool(own - {asker})
    print(f"  {PROBES} questions for another user's words: {hits} hits")
