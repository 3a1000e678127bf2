"""Which questions become rows: so many of each kind, topics in turn, what counts more first.

Belongs here: order and choice among questions, and how many of each kind there may be.
Does not belong here: turning a sentence into a question (`questions.py`) and a question into a row (`drafts.py`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.records import ChunkSalience
from lpm_kernel.L2.records import RowKind
from lpm_kernel.records import Citation, Topic
from lpm_kernel.settings import MixSettings, TrainingSettings


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, its answer, and the chunk that the answer's first sentence stands in."""

    question: str
    answer: str
    """Of a `refusal`: none, for no note says it."""
    item: ChunkText
    kind: RowKind = "self_qa"
    cited: tuple[Citation, ...] = ()
    """The exact bytes of the sentences in the answer; none of a refusal."""
    beside: tuple[ChunkText, ...] = ()
    """The chunks of its other sentences."""
    comes_first: bool = False
    """Chosen before all others of its kind, whatever its topic."""


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
    first = [ask for ask in asks if ask.comes_first]
    asks = [ask for ask in asks if not ask.comes_first]
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
    return [*first, *chosen][:limit]


def share_out(mix: MixSettings, rows: int) -> dict[RowKind, int]:
    """How many rows each kind may have, `rows` in all: the largest remainders are rounded up."""
    shares: dict[RowKind, float] = {
        "self_qa": mix.self_qa,
        "preference": mix.preference,
        "diversity": mix.diversity,
        "context_enhance": mix.context_enhance,
        "context_critic": mix.context_critic,
        "refusal": mix.refusal,
    }
    whole = sum(shares.values())
    exact: dict[RowKind, float] = {kind: rows * share / whole for kind, share in shares.items()}
    counts: dict[RowKind, int] = {kind: int(number) for kind, number in exact.items()}
    for kind in sorted(exact, key=lambda kind: counts[kind] - exact[kind])[: rows - sum(counts.values())]:
        counts[kind] += 1
    return counts


def evenly(share: float) -> Iterator[bool]:
    """True for this share of the turns, spread evenly: no draw, so that few rows have it too."""
    turn = 0
    while True:
        yield int((turn + 1) * share + 0.5) > int(turn * share + 0.5)
        turn += 1


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
