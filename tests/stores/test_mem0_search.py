"""The search over Mem0's collection: exact, one user's, by index; beside Mem0's own search of the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import text

from lpm_kernel.records import Memory
from lpm_kernel.stores.mem0_memories import Mem0Memories
from lpm_kernel.stores.mem0_statements import BY_HALF, BY_INDEX, SEARCH, among
from lpm_kernel.stores.memories import as_literal, to_payload
from lpm_kernel.stores.open import Stores
from tests.embedded.fixtures import EngineHome
from tests.fakes import FakeEmbedder
from tests.samples import NOON, RANKING, make_memory_of

LATER = NOON + timedelta(days=1)


class RandomEmbedder(FakeEmbedder):
    """A vector a text, far from and near to others by chance, as wide as it is told to be."""

    def __init__(self, dim: int) -> None:
        super().__init__(f"random/{dim}/l2")
        self.dim = dim

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = [np.random.default_rng(int.from_bytes(text.encode()[-4:])).normal(size=self.dim) for text in texts]
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), self.dim)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(params=[384, 1536])
def wide(request: pytest.FixtureRequest, stores: Stores) -> Iterator[Mem0Memories]:
    """Of vectors that fit the index, and of those that do not."""
    memories = Mem0Memories(stores.tables.engine.url, RandomEmbedder(request.param), RANKING)
    yield memories
    memories.close()


def many(user_id: str, count: int) -> list[Memory]:
    return [make_memory_of(user_id, f"memory {i:04}", i, kind="preference" if i % 10 == 0 else "turn") for i in range(count)]


def fill(stores: Stores, user_id: str, memories: Sequence[Memory], embedder: FakeEmbedder) -> None:
    """As `add_batch` would, without a decision on each."""
    vectors = embedder.embed([memory.text for memory in memories])
    rows = [
        {"id": m.memory_id, "vector": as_literal(v), "payload": json.dumps(to_payload(m, embedder.fingerprint))}
        for m, v in zip(memories, vectors, strict=True)
    ]
    statement = "insert into memory (id, vector, payload) values (:id, cast(:vector as vector), cast(:payload as jsonb))"
    with stores.tables.transaction(user_id) as connection:
        connection.execute(text(statement), rows)


@pytest.mark.parametrize("kinds", [(), ("preference", "voice")])
def test_a_search_gives_what_mem0s_own_gives_of_the_same_rows(
    wide: Mem0Memories, stores: Stores, new_user: Callable[[], str], kinds: Collection[str]
) -> None:
    """Half precision ranks candidates only; what is given is ordered and scored by the whole vectors."""
    mine, other = new_user(), new_user()
    for user_id in (mine, other):
        fill(stores, user_id, many(user_id, 300), wide._embedder)  # type: ignore[arg-type]
    filters = {"user_id": mine, **({"kind": {"in": list(kinds)}} if kinds else {})}
    for question in ("ask 0001", "ask 0002", "ask 0003", "memory 0010"):
        vector = wide._embedder.embed([question])[0]
        with wide._transaction(mine):
            stock = wide._store.search("", vector.tolist(), top_k=10, filters=filters)
        hits = wide.search(mine, question, 10, as_of=LATER, kinds=kinds)
        assert [hit.memory.memory_id for hit in hits] == [item.id for item in stock]
        assert [hit.score for hit in hits] == pytest.approx([item.score for item in stock], abs=1e-6)


def test_no_fewer_are_found_than_there_are(wide: Mem0Memories, stores: Stores, new_user: Callable[[], str]) -> None:
    """An approximate index behind a tenant's filter gave 2.4 of 5."""
    mine, other = new_user(), new_user()
    fill(stores, other, many(other, 300), wide._embedder)  # type: ignore[arg-type]
    fill(stores, mine, many(mine, 7), wide._embedder)  # type: ignore[arg-type]
    assert [len(wide.search(mine, "ask", k, as_of=LATER)) for k in (1, 5, 7, 20)] == [1, 5, 7, 7]


def analyse(home: EngineHome) -> None:
    """Let the planner know the table as it is: without figures of it all indexes cost it the same."""
    import psycopg

    with psycopg.connect(home.owner_dsn, autocommit=True) as connection:
        connection.execute("vacuum (analyze) memory")


def test_a_search_reads_the_index_and_only_the_rows_it_gives(stores: Stores, user_id: str, engine_home: EngineHome) -> None:
    """Every row of the user was read, with its JSON, for each question."""
    embedder = RandomEmbedder(384)
    fill(stores, user_id, many(user_id, 300), embedder)
    analyse(engine_home)
    condition, values = among(LATER, LATER, (), None)
    values |= {"vector": as_literal(embedder.embed(["ask"])[0]), "fingerprint": embedder.fingerprint, "k": 5, "candidates": 26}
    asked = "explain " + SEARCH.format(among=condition, order=BY_HALF)
    with stores.tables.transaction(user_id) as connection:
        connection.execute(text(BY_INDEX))
        plan = "\n".join(connection.execute(text(asked), values).scalars())
    assert "Index Only Scan using memory_search on memory" in plan, plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("select payload from memory where until_s > 1 and kind = any(array['voice', 'preference'])", "memory_kind"),
        ("select payload from memory where key = 'user home'", "memory_key"),
        ("delete from memory where until_s <= 1 and payload ->> 'expiration_date' < '2026-01-01'", "memory_until"),
    ],
)
def test_what_a_chat_asks_of_memory_each_time_has_an_index(
    stores: Stores, user_id: str, engine_home: EngineHome, query: str, index: str
) -> None:
    fill(stores, user_id, many(user_id, 300), FakeEmbedder())
    analyse(engine_home)
    with stores.tables.transaction(user_id) as connection:
        connection.execute(text(BY_INDEX))
        plan = "\n".join(connection.execute(text(f"explain {query}")).scalars())
    assert f"using {index} on memory" in plan, plan
    assert "Seq Scan" not in plan


def test_rows_from_before_the_index_are_found_by_it(stores: Stores, user_id: str) -> None:
    """The columns follow from the payload, whoever wrote it: Mem0 itself knows none of them."""
    memory = make_memory_of(user_id, "red cat", kind="preference", key="user cat")
    fill(stores, user_id, [memory], FakeEmbedder())
    with stores.tables.transaction(user_id) as connection:
        row = connection.execute(text("select kind, domain, key, fingerprint, from_s, until_s from memory")).one()
        connection.execute(text("""update memory set payload = payload || '{"kind": "voice"}'"""))
        assert connection.execute(text("select kind from memory")).scalar_one() == "voice"
    assert tuple(row)[:4] == ("preference", "life", "user cat", "fake/64/l2")
    assert row.from_s == NOON.timestamp() < row.until_s
