"""Which questions become rows: topics in turn, what counts more first, and a few about what hangs together.

Belongs here: order and choice among questions.
Does not belong here: turning a sentence into a question (`questions.py`) and a question into a row (`synthesize.py`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.records import ChunkSalience, Community
from lpm_kernel.records import Topic
from lpm_kernel.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, the sentence that answers it, and the chunk that sentence stands in."""

    question: str
    answer: str
    item: ChunkText
    about: bool = False
    """Of a whole community, and not of one sentence."""


def choose_asks(
    asks: Sequence[Ask],
    topics: Sequence[Topic],
    training: TrainingSettings,
    salience: Mapping[str, float],
    limit: int,
) -> list[Ask]:
    """At most `limit`, one sentence once before any twice, topics in turn, so that a small interest is learnt too.

    Within a topic the order is a draw in which a chunk's chance grows with its salience, as far as `salience_weight` says.
    """
    order = random.Random(training.seed)
    topic_of = {chunk_id: topic.topic_id for topic in topics for chunk_id in topic.chunk_ids}
    by_sentence: dict[str, list[Ask]] = defaultdict(list)
    for ask in asks:
        by_sentence[ask.answer].append(ask)
    rounds: list[list[Ask]] = []
    for group in by_sentence.values():
        order.shuffle(group)
        for turn, ask in enumerate(group):
            while len(rounds) <= turn:
                rounds.append([])
            rounds[turn].append(ask)
    chosen: list[Ask] = []
    for turn in rounds:
        queues: dict[str, list[Ask]] = defaultdict(list)
        for ask in turn:
            queues[topic_of.get(ask.item.chunk.chunk_id, "")].append(ask)
        for queue in queues.values():
            order.shuffle(queue)
            if training.salience_weight and salience:
                _draw(queue, order, salience, training.salience_weight)
        while any(queues.values()):
            chosen.extend(queue.pop() for queue in queues.values() if queue)
    return chosen[:limit]


def about_asks(communities: Sequence[Community], items: Sequence[ChunkText], allowed: Collection[str], limit: int) -> list[Ask]:
    """At most one a community, those that count most first: what its most central line says of a thing it is most about."""
    by_id = {item.chunk.chunk_id: item for item in items}
    found: list[Ask] = []
    for community in sorted(communities, key=lambda c: (-c.salience * len(c.chunk_ids), c.community_id)):
        told = next(
            (
                Ask(f"What can you tell me about {name}?", line.text, by_id[line.citation.chunk_id], about=True)
                for line in community.lines
                for name in community.key_entities
                if line.citation.chunk_id in allowed and name in line.text
            ),
            None,
        )
        if told and told.question not in {ask.question for ask in found}:
            found.append(told)
    return found[:limit]


def usable_chunks(items: Sequence[ChunkText], scored: Sequence[ChunkSalience]) -> set[str]:
    """Chunks that may be learnt from and shown: neither written by the twin nor of weight 0. Without scores, all."""
    silent = {row.chunk_id for row in scored if row.trust * row.weight == 0}
    return {item.chunk.chunk_id for item in items} - silent


def _draw(queue: list[Ask], order: random.Random, salience: Mapping[str, float], share: float) -> None:
    """Order by u^(1/w), best last, which draws without replacement in proportion to w."""
    values = [salience.get(ask.item.chunk.chunk_id, 0.0) for ask in queue]
    mean = sum(values) / len(values) or 1.0
    weights = [max(1 - share + share * value / mean, 1e-9) for value in values]
    drawn = sorted(zip((order.random() ** (1 / weight) for weight in weights), range(len(queue)), strict=True))
    queue[:] = [queue[i] for _, i in drawn]
