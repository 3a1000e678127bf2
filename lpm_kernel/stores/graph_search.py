"""Searching facts by index: by meaning and by words, within one group and one window of time.

Belongs here: the queries of a search, and how its two halves are fused.
Does not belong here: which facts reach a prompt (`recall/`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.stores.graphiti_clients import FACT_COLUMNS, microseconds

if TYPE_CHECKING:
    from lpm_kernel.stores.graph_servers import GraphServer

POOL_PER_HIT = 4
FETCH_PER_HIT = 20
KEPT_OF = 10
"""Rows that are read for each that is wanted, where most may have to be left out."""
MAX_WORDS = 32
# What a question is made of and says nothing of its subject; RediSearch would skip most of them, Lucene does not.
_STOP_WORDS = (
    "a about all am an and any are as at be because been but by can could did do does for from had has have he her his how i "
    "if in into is it its me my no not of on or our she should so some than that the their them then there these they this "
    "those to was we were what when where which who whom whose why will with would you your"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True, slots=True)
class Window:
    """Facts that began at `since` or later and held at `at`."""

    since: datetime
    at: datetime


@dataclass(frozen=True, slots=True)
class Ranked:
    row: Mapping[str, Any]
    score: float
    cosine: float


async def search_rows(
    server: GraphServer,
    group: str,
    question: str,
    vector: list[float],
    window: Window,
    k: int,
    keyword_weight: float,
    keep: Callable[[Mapping[str, Any]], bool] | None = None,
) -> list[Ranked]:
    """The `k` best facts of the window, by a min-max fusion of cosine and word score. What is not to `keep` goes before the
    fusion; of so many more rows a few should be left.

    Why a second query: both servers search the vector index first and filter what it gave, so a group or a window that is a
    small share of the index can come out short. What is short is asked for again through the range index, which is exact and
    reads only the window; what is not short was right, since the best of a whole that lie in a part are the best of the part.
    """
    values: dict[str, Any] = {"group": group, "since": microseconds(window.since), "at": microseconds(window.at)}
    wanted = k * KEPT_OF if keep else k
    values["limit"] = POOL_PER_HIT * wanted
    nearest = f"RETURN {FACT_COLUMNS}, cosine ORDER BY cosine DESC, uuid LIMIT $limit"
    words = words_of(question) if keyword_weight else []

    async def by_meaning() -> list[dict[str, Any]]:
        query = f"{server.vector_call} WHERE {server.in_window} {nearest}"
        rows = await server.read(group, query, **values, vector=vector, fetch=FETCH_PER_HIT * wanted)
        if len(rows) >= wanted:
            return rows
        exact = f"MATCH ()-[e:RELATES_TO]->() WHERE {server.in_window} WITH e, {server.cosine} AS cosine {nearest}"
        return await server.read(group, exact, **values, vector=vector)

    async def by_words() -> list[dict[str, Any]]:
        if not words:
            return []
        query = (
            f"{server.words_call} WITH e, score ORDER BY score DESC, e.uuid LIMIT $limit "
            f"RETURN {FACT_COLUMNS}, {server.cosine} AS cosine, score AS words"
        )
        return await server.read(group, query, **values, vector=vector, words=server.word_query(group, words))

    near, spoken = await asyncio.gather(by_meaning(), by_words())
    if keep:
        near, spoken = list(filter(keep, near)), list(filter(keep, spoken))
    return fuse(near, spoken, keyword_weight)[:k]


def words_of(question: str) -> list[str]:
    """Letters and digits only: both query languages give meaning to every other character."""
    found = dict.fromkeys(word for word in re.findall(r"[^\W_]+", question.lower()) if word not in STOP_WORDS)
    return list(found)[:MAX_WORDS]


def fuse(near: Sequence[Mapping[str, Any]], spoken: Sequence[Mapping[str, Any]], keyword_weight: float) -> list[Ranked]:
    """Best first, ties in id order. Each half is stretched to 0 to 1 over the candidates of both."""
    rows = {row["uuid"]: row for row in (*near, *spoken)}
    words = {row["uuid"]: float(row["words"]) for row in spoken}
    cosines = {uuid: float(row["cosine"]) for uuid, row in rows.items()}
    meaning = _stretched(cosines, when_equal=1.0)
    wording = _stretched({uuid: words.get(uuid, 0.0) for uuid in rows}, when_equal=0.0)
    ranked = [
        Ranked(row, (1 - keyword_weight) * meaning[uuid] + keyword_weight * wording[uuid], cosines[uuid])
        for uuid, row in rows.items()
    ]
    return sorted(ranked, key=lambda hit: (-hit.score, hit.row["uuid"]))


def _stretched(values: Mapping[str, float], when_equal: float) -> dict[str, float]:
    if not values:
        return {}
    low, high = min(values.values()), max(values.values())
    return {key: (value - low) / (high - low) if high > low else when_equal for key, value in values.items()}
