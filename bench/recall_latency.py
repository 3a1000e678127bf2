"""What a whole recall takes, embedding of the question included, over many memories and facts; and that users do not meet."""

from __future__ import annotations

import random
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np

from bench.graph import FACTS, PLACES, SUBJECTS, VERBS, make_facts
from lpm_kernel.errors import RetrievalError
from lpm_kernel.L0.chunk import chunk_document
from lpm_kernel.L0.embed import chunk_texts, embed_chunks, generation_of, vector_entries
from lpm_kernel.layout import text_key
from lpm_kernel.recall.plan import Part, recall_lines
from lpm_kernel.records import Document, Fact, GraphEntity, Memory, User, sha256_hex
from lpm_kernel.stores.memories import make_memory
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import add_user

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SIZES = (1_000, 10_000)
CLIENTS = (1, 8)
QUESTIONS, WARM = 200, 10
COLD = 10
NOTES = 300
PROBES = 1_000
PROBED_USERS = 10
BATCH = 1_000


def make_user(stores: Stores, user_id: str, rnd: random.Random, *, notes: int = NOTES, first: str = "I keep notes.") -> str:
    """A user with some notes; the generation of them."""
    with stores.tables.transaction(user_id) as connection:
        add_user(connection, User(user_id))
    days = (f"On day {number} I {sentence(rnd)} and then went home for tea." for number in range(notes))
    text = "\n\n".join([first, *days])
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
        show_cold(stores, user_id, generation, size, rnd)
        for clients in CLIENTS:
            questions = [f"Who {sentence(rnd)} on day {rnd.randrange(size)}?" for _ in range(QUESTIONS + WARM)]
            times_ms, elapsed_s = measure(stores, user_id, generation, questions, clients)
            p50, p95, p99 = np.percentile(times_ms, [50, 95, 99])
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
            rate = len(times_ms) / elapsed_s
            print(f"  {size:>10} {clients:>8} {p50:8.1f} {p95:8.1f} {p99:8.1f} {rate:10.1f} {peak_mb:11.0f} MB")
    probe(stores, rnd)


def show_cold(stores: Stores, user_id: str, generation: str, size: int, rnd: random.Random) -> None:
    """The first recall of a user in a process, and recalls each after one more memory, which is what a chat meets."""

    def ask() -> float:
        began = time.perf_counter()
        recall_lines(stores, user_id, generation, f"Who {sentence(rnd)}?", now=NOW)
        return 1000 * (time.perf_counter() - began)

    first = ask()
    after: list[float] = []
    for number in range(COLD):
        said = f"I {sentence(rnd)} once more, number {number} of {size}."
        spoken = NOW - timedelta(minutes=number + 1)
        more = make_memory(user_id, "turn", said, domain="chat", source="chat", importance=0.5, created_at=spoken)
        stores.memories.add_batch(user_id, [more])
        after.append(ask())
    print(f"  {size:>10} memories: the first recall {first:.0f} ms, one after each new memory p50 {np.median(after):.1f} ms")


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
    users = {f"bench-probe-{number}": f"zq{number}xv" for number in range(PROBED_USERS)}
    generations = {user_id: make_owner(stores, user_id, word, rnd) for user_id, word in users.items()}

    def found_in(asker: str, generation: str, word: str) -> set[str]:
        """The parts in which a word is found."""
        try:
            found = recall_lines(stores, asker, generation, f"Where did I write my word {word}?", now=NOW)
        except RetrievalError:  # a generation of somebody else: the asker's notes are empty, their memories and facts are not
            others: tuple[Part, ...] = ("memories", "preferences", "facts")
            found = recall_lines(stores, asker, generation, f"Where did I write my word {word}?", now=NOW, parts=others)
        lines = [line for line in found.lines if word in line.text]
        return {"note" if line.evidence else "memory" if line.memory else "fact" for line in lines}

    for user_id, word in users.items():
        own = found_in(user_id, generations[user_id], word)
        if own != {"note", "memory", "fact"}:
            raise RuntimeError(f"{user_id} finds their own word in {sorted(own)} only: the probe would prove nothing")
    hits = 0
    for _ in range(PROBES):
        asker, owner = rnd.sample(sorted(users), 2)
        # every other time with the owner's generation, which must not open their notes either
        hits += bool(found_in(asker, generations[rnd.choice((asker, owner))], users[owner]))
    print(f"  {PROBES} questions for another user's word in notes, memories and facts: {hits} hits (for one's own: all three)")


def make_owner(stores: Stores, user_id: str, word: str, rnd: random.Random) -> str:
    generation = make_user(stores, user_id, rnd, notes=20, first=f"I wrote my word {word} into this note.")
    spoken = NOW - timedelta(days=1)
    text = f"I wrote my word {word} down for myself."
    said = make_memory(user_id, "turn", text, domain="chat", source="chat", importance=0.5, created_at=spoken)
    stores.memories.add_batch(user_id, [said])
    person, topic = GraphEntity("User", user_id), GraphEntity("PolicyTopic", word)
    stores.graph.delete_user(user_id)
    stores.graph.write_facts(
        user_id, [Fact(user_id, person, "MENTIONS", topic, f"Somebody wrote my word {word}", spoken, spoken)]
    )
    return generation
