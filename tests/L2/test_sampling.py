"""Which questions become rows: a small interest keeps its turn, what counts more comes first, the twin's words are in none."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

from lpm_kernel.L1.records import ChunkSalience, CitedLine, Community
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.row_gate import find_unsupported_rows, question_of, stored_texts
from lpm_kernel.L2.sampling import Ask, choose_asks, evenly, share_out, usable_chunks
from lpm_kernel.L2.synthesize import Memory, split_documents
from lpm_kernel.records import Topic
from lpm_kernel.settings import Settings, TrainingSettings
from tests.L2.notes import citation_of, entity, items, memory, notes_of, synthesize
from tests.samples import make_items

LARGE, SMALL = 40, 4


@pytest.fixture
def training(settings: Settings) -> TrainingSettings:
    return settings.training.model_copy(update={"max_rows": 60, "held_out_share": 0.2, "seed": 7})


CHUNKS = make_items("1", {f"n{i:02}.txt": f"I own thing {i}.\n" for i in range(LARGE + SMALL)}, 24)
ASKS = [Ask(f"What about {i}?", item.text, item) for i, item in enumerate(CHUNKS)]
TOPICS = [
    Topic("large", "", (), tuple(item.chunk.chunk_id for item in CHUNKS[:LARGE]), ()),
    Topic("small", "", (), tuple(item.chunk.chunk_id for item in CHUNKS[LARGE:]), ()),
]
VALUES = {item.chunk.chunk_id: 0.9 if i % 2 else 0.1 for i, item in enumerate(CHUNKS)}


def scored(values: dict[str, float], **others: float) -> list[ChunkSalience]:
    return [replace(ChunkSalience(c, None, 0.5, 0.5, 1.0, 1.0, value), **others) for c, value in values.items()]


def salient_share(chosen: list[Ask]) -> float:
    return sum(VALUES[ask.item.chunk.chunk_id] > 0.5 for ask in chosen) / len(chosen)


def test_what_counts_more_comes_first_and_the_small_interest_keeps_its_turn(training: TrainingSettings) -> None:
    shares: dict[float, list[float]] = {}
    for weight in (0.0, 0.5, 1.0):
        for seed in range(60):
            rules = training.model_copy(update={"salience_weight": weight, "seed": seed})
            chosen = choose_asks(ASKS, TOPICS, rules, VALUES, 8)
            assert sum(ask.item in CHUNKS[LARGE:] for ask in chosen) == SMALL, "topics in turn, whatever counts"
            shares.setdefault(weight, []).append(salient_share([ask for ask in chosen if ask.item in CHUNKS[:LARGE]]))
    means = [sum(values) / len(values) for values in shares.values()]
    assert means == sorted(means)
    assert means[0] + 0.1 < means[1] < means[2] - 0.1


def test_with_everything_chosen_nothing_is_left_out(training: TrainingSettings) -> None:
    chosen = choose_asks(ASKS, TOPICS, training, VALUES, 1000)
    assert sorted(ask.question for ask in chosen) == sorted(ask.question for ask in ASKS)


def test_switched_off_the_order_is_that_of_no_salience(training: TrainingSettings) -> None:
    off = training.model_copy(update={"salience_weight": 0.0})
    assert choose_asks(ASKS, TOPICS, off, VALUES, 20) == choose_asks(ASKS, TOPICS, off, {}, 20)
    assert choose_asks(ASKS, TOPICS, training, VALUES, 20) == choose_asks(ASKS, TOPICS, training, VALUES, 20)


def made_of(training: TrainingSettings, communities: list[Community], **known: object) -> list[TrainingRow]:
    full = memory()
    told = Memory(communities=communities, entities=full.entities, **known)  # type: ignore[arg-type]
    return synthesize(training, known=told)[0]


def community_of(number: int, key: str) -> Community:
    (told, *_) = [item for item in items() if f"near harbour {number}" in item.text]
    line = CitedLine(f"My brother Col lives in Nova Scotia near harbour {number}.", citation_of(told))
    return Community(f"c{number}", "", (key,), (told.chunk.chunk_id,), (line,), 0.5, (1.0,))


def test_what_a_community_is_most_about_is_asked_first_and_once(training: TrainingSettings) -> None:
    rows = made_of(training, [community_of(1, "Nova Scotia"), community_of(2, "Bath"), community_of(3, "Nobody")])
    about = [row for row in rows if row.kind == "diversity"]
    assert {question_of(row).split(" about ")[1].split("?")[0] for row in about} >= {"Nova Scotia", "Bath"}
    assert len({question_of(row) for row in about}) == len(about)
    assert find_unsupported_rows(rows, stored_texts(items())) == []
    for row in about:
        assert all(len(notes_of(row)) >= row.answer_sources for row in about)


def test_no_answer_is_made_of_a_train_and_a_held_out_sentence(training: TrainingSettings) -> None:
    splits = split_documents([item.chunk.document_sha256 for item in items()], training.held_out_share)
    assert entity("Col", "PERSON", "brother Col").mentions
    for row in made_of(training, []):
        assert len({splits[source.document_sha256] for source in row.sources[: row.answer_sources]}) <= 1


def test_shares_are_rounded_so_that_they_sum_to_the_rows(training: TrainingSettings) -> None:
    for rows in (0, 1, 2, 7, 16, 60, 160, 1000):
        counts = share_out(training.mix, rows)
        assert sum(counts.values()) == rows
        assert all(abs(counts[kind] - rows * getattr(training.mix, kind)) < 1 for kind in counts)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_a_share_of_turns_is_spread_evenly(share: float) -> None:
    turns = list(islice(evenly(share), 100))
    for size in (10, 50, 100):
        assert abs(sum(turns[:size]) - share * size) <= 1


@pytest.mark.parametrize("silenced", [{"trust": 0.0}, {"weight": 0.0}])
def test_what_the_twin_wrote_or_somebody_muted_is_in_no_row(training: TrainingSettings, silenced: dict[str, float]) -> None:
    """Shades and voice left the twin's own documents out, training rows did not: its answers would have become its memory."""
    twin = {item.chunk.chunk_id for item in items() if item.chunk.filename in ("note-1.md", "note-4.md")}
    rows = [
        row if row.chunk_id not in twin else replace(row, **silenced)
        for row in scored({i.chunk.chunk_id: 0.5 for i in items()})
    ]
    made = made_of(training, [community_of(1, "Col")], salience=rows, preferences=memory().preferences)
    assert made
    assert not twin & {chunk_id for row in made for chunk_id in row.source_chunk_ids}
    assert usable_chunks(items(), []) == {item.chunk.chunk_id for item in items()}
