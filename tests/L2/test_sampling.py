"""Which questions become rows: a small interest keeps its turn, what counts more comes first, the twin's words are in none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from lpm_kernel.L1.records import ChunkSalience, CitedLine, Community
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.sampling import Ask, choose_asks, usable_chunks
from lpm_kernel.L2.synthesize import find_unsupported_rows, question_of, split_documents, synthesize_rows
from lpm_kernel.records import Topic
from lpm_kernel.settings import Settings, TrainingSettings
from tests.fakes import FakeEmbedder, no_progress
from tests.L2.test_synthesize import NORA, citation_of, items, notes_of, recall_neighbours
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


def community_of(number: int, texts: list[int], name: str = "Nova Scotia", salience: float = 0.5) -> Community:
    """Of some of the notes about Nora's brother."""
    told = [item for item in items() if f"near harbour {texts[0]}" in item.text]
    line = f"My brother Col lives in Nova Scotia near harbour {texts[0]}."
    lines = (CitedLine(line, citation_of(told[0])),)
    ids = tuple(item.chunk.chunk_id for item in items() if any(f"note-{i}." in item.chunk.filename for i in texts))
    return Community(f"c{number}", "", (name,), ids, lines, salience, (1.0,))


def made_of(training: TrainingSettings, communities: list[Community], **options: object) -> list[TrainingRow]:
    return synthesize_rows(
        NORA, items(), [], training, recall_neighbours, lambda messages: 0, FakeEmbedder(), None, no_progress,
        communities=communities, **options,  # type: ignore[arg-type]
    )[0]  # fmt: skip


def in_training(training: TrainingSettings) -> list[int]:
    splits = split_documents([item.chunk.document_sha256 for item in items()], training.held_out_share)
    return [
        i
        for i in range(10)
        if any(f"note-{i}." in x.chunk.filename and splits[x.chunk.document_sha256] == "train" for x in items())
    ]


def test_a_community_gives_at_most_one_row_that_is_supported_and_shows_its_line(training: TrainingSettings) -> None:
    own = in_training(training)
    communities = [
        community_of(1, own[:3], "Col"),
        community_of(2, own[3:5], "Nova Scotia"),
        community_of(3, own[5:], "Nobody"),
    ]
    rows = made_of(training, communities)
    about = [row for row in rows if row.kind == "diversity"]
    assert [question_of(row) for row in about] == ["What can you tell me about Col?", "What can you tell me about Nova Scotia?"]
    assert find_unsupported_rows(rows, {item.chunk.chunk_id: item.text for item in items()}) == []
    for row in about:
        assert row.split == "train"
        assert any(row.messages[-1].content in line for line in notes_of(row))


def test_rows_about_communities_take_the_place_of_others(training: TrainingSettings) -> None:
    few = training.model_copy(update={"max_rows": 12, "held_out_share": 0.0})
    own = [community_of(1, [1], "Col"), community_of(2, [2], "Nova Scotia")]
    assert Counter(row.kind == "diversity" for row in made_of(few, own)) == {False: 10, True: 2}
    for limit in (0, 1):
        rows = made_of(few.model_copy(update={"about_rows": limit}), own)
        assert (len(rows), sum(row.kind == "diversity" for row in rows)) == (12, limit)
    assert made_of(few.model_copy(update={"about_rows": 0}), own) == made_of(few, [])


def test_no_row_about_a_community_is_made_from_a_held_out_line_or_asks_a_golden_question(
    training: TrainingSettings,
) -> None:
    (out, *_) = [i for i in range(10) if i not in in_training(training)]
    assert [row for row in made_of(training, [community_of(1, [out], "Col")]) if row.kind == "diversity"] == []
    own = in_training(training)[0]
    golden = parse_golden(
        b'{"questions": [{"id": "q", "question": "What can you tell me about Col?", "expected": ["x"], "document": "a"}], '
        b'"unanswerable": []}'
    )
    rows, _ = synthesize_rows(
        NORA, items(), [], training, recall_neighbours, lambda messages: 0, FakeEmbedder(), golden, no_progress,
        communities=[community_of(1, [own], "Col")],
    )  # fmt: skip
    assert [row for row in rows if row.kind == "diversity"] == []


@pytest.mark.parametrize("silenced", [{"trust": 0.0}, {"weight": 0.0}])
def test_what_the_twin_wrote_or_somebody_muted_is_in_no_row(training: TrainingSettings, silenced: dict[str, float]) -> None:
    """Shades and voice left the twin's own documents out, training rows did not: its answers would have become its memory."""
    twin = {item.chunk.chunk_id for item in items() if item.chunk.filename in ("note-1.md", "note-4.md")}
    rows = [
        row if row.chunk_id not in twin else replace(row, **silenced)
        for row in scored({i.chunk.chunk_id: 0.5 for i in items()})
    ]
    made = made_of(training, [community_of(1, [1], "Col")], salience=rows)
    assert made
    assert not twin & {chunk_id for row in made for chunk_id in row.source_chunk_ids}
    assert usable_chunks(items(), []) == {item.chunk.chunk_id for item in items()}
