"""Memory to training rows: supported word for word, split by document, and blind to the questions that measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import pytest
import yaml

from lpm_kernel.errors import TrainingError
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.L2.prompt import DECLINE, render_chatml, twin_messages
from lpm_kernel.L2.records import GoldenSet, TrainingRow
from lpm_kernel.L2.synthesize import (
    CYCLE,
    RowTokens,
    SynthesisCount,
    find_unsupported_rows,
    question_of,
    split_documents,
    synthesize_rows,
)
from lpm_kernel.L2.training_batches import MAX_ROW_TOKENS
from lpm_kernel.records import Citation, Evidence, Message, Topic, User, sha256_hex
from lpm_kernel.settings import Settings, TrainingSettings
from tests.fakes import FakeEmbedder, no_progress
from tests.samples import make_items

NORA = User("1", "Nora Whitlock")
PEOPLE = ["Priya Raman", "Callum Doyle", "Tomasz Zielinski", "Hettie Lark", "Ray Pemberton"]
PLACES = ["Clevedon", "Bristol", "Bath", "Portishead", "London"]
NOTES = {
    f"note-{i}.md": (
        f"# Note {i}\n\n{PEOPLE[i % 5]} keeps the accounts of shed {i} in {PLACES[i % 5]}.\n\n"
        f"I bought {i + 2} clocks in {PLACES[i % 5]} on Friday. My brother Col lives in Nova Scotia near harbour {i}.\n\n"
        f"Gannet dropped {i + 3} plates in row {i} on Monday.\n"
    )
    for i in range(10)
}


@lru_cache(maxsize=1)
def items() -> list[ChunkText]:
    return make_items("1", NOTES, 24)


def recall_neighbours(question: str) -> list[Evidence]:
    """Every chunk, those that share the most words with the question first."""
    asked = set(question.lower().split())
    ranked = sorted(items(), key=lambda item: (-len(asked & set(item.text.lower().split())), item.chunk.chunk_id))
    return [Evidence(citation_of(item), item.text, 0.5) for item in ranked[:8]]


def citation_of(item: ChunkText) -> Citation:
    chunk = item.chunk
    return Citation(chunk.chunk_id, chunk.document_sha256, chunk.filename, chunk.byte_start, chunk.byte_end)


@pytest.fixture(scope="module")
def training() -> TrainingSettings:
    from lpm_kernel.settings import load_settings

    return load_settings().training.model_copy(update={"max_rows": 60, "held_out_share": 0.2, "seed": 7})


def synthesize(
    training: TrainingSettings,
    *,
    of: Sequence[ChunkText] | None = None,
    topics: Sequence[Topic] = (),
    golden: GoldenSet | None = None,
    user: User = NORA,
    count: RowTokens = lambda messages: 0,
) -> tuple[list[TrainingRow], SynthesisCount]:
    chunks = items() if of is None else of
    return synthesize_rows(user, chunks, topics, training, recall_neighbours, count, FakeEmbedder(), golden, no_progress)


@pytest.fixture(scope="module")
def rows(training: TrainingSettings) -> list[TrainingRow]:
    return synthesize(training)[0]


def notes_of(row: TrainingRow) -> list[str]:
    """The retrieved lines of a row's prompt."""
    _, _, lines = row.messages[0].content.partition("\nFrom your notes:\n")
    return [line.removeprefix("- ") for line in lines.split("\n") if line]


def test_the_same_memory_gives_the_same_rows(training: TrainingSettings, rows: list[TrainingRow]) -> None:
    assert synthesize(training)[0] == rows
    assert len({row.row_id for row in rows}) == len(rows)
    assert synthesize(training, user=User("2", "Nora Whitlock"))[0][0].row_id != rows[0].row_id
    assert synthesize(training.model_copy(update={"seed": 8}))[0] != rows


def test_a_row_ends_in_its_answer_and_begins_as_a_live_prompt(rows: list[TrainingRow]) -> None:
    for row in rows:
        assert [message.role for message in row.messages] == ["system", "user", "assistant"]
        asked = twin_messages(NORA, question_of(row))
        if row.form == "plain":
            assert row.messages[:-1] == asked
        else:
            assert notes_of(row)
            assert row.messages[0].content.startswith(asked[0].content)
        assert render_chatml(row.messages, open_answer=False).startswith(render_chatml(row.messages[:-1], open_answer=True))


def test_kinds_come_in_turn_within_each_split(rows: list[TrainingRow]) -> None:
    for split in ("train", "held_out"):
        kinds = [(row.kind, row.form) for row in rows if row.split == split]
        assert kinds == [CYCLE[i % len(CYCLE)] for i in range(len(kinds))]
        assert len(kinds) >= len(CYCLE)


def test_every_answer_stands_in_its_first_source(rows: list[TrainingRow]) -> None:
    texts = {item.chunk.chunk_id: item.text for item in items()}
    assert find_unsupported_rows(rows, texts) == []
    for row in rows:
        answer = row.messages[-1].content
        assert answer == DECLINE if row.kind == "refusal" else answer in " ".join(texts[row.source_chunk_ids[0]].split())


def test_a_grounded_row_shows_the_line_that_answers(rows: list[TrainingRow]) -> None:
    grounded = [row for row in rows if row.form == "grounded" and row.kind != "refusal"]
    assert grounded
    for row in grounded:
        assert any(row.messages[-1].content in line for line in notes_of(row))


def test_a_refusal_shows_lines_and_none_that_answers_or_stands_beside_it(rows: list[TrainingRow]) -> None:
    """Declining with the answer in sight is what a twin must never learn."""
    position = {item.chunk.chunk_id: i for i, item in enumerate(items())}
    refusals = [row for row in rows if row.kind == "refusal"]
    assert refusals
    for row in refusals:
        source, *shown = row.source_chunk_ids
        assert len(shown) == len(notes_of(row)) >= 2
        for chunk_id in shown:
            same = items()[position[chunk_id]].chunk.filename == items()[position[source]].chunk.filename
            assert not same or abs(position[chunk_id] - position[source]) > 1


def test_a_sentence_that_stands_twice_is_in_no_refusal_of_itself(training: TrainingSettings) -> None:
    """The second letter that held the answer was shown, and the row declined."""
    said = "My brother Col lives in Nova Scotia."
    letters = {f"letter-{i}.md": f"Dear number {i}, it rains. {said}\n\nHettie Lark bought {i} boats.\n" for i in range(2, 12)}
    letters_items = make_items("1", letters, 24)

    def recall(question: str) -> list[Evidence]:
        return [Evidence(citation_of(item), item.text, 0.5) for item in letters_items]

    made, _ = synthesize_rows(NORA, letters_items, [], training, recall, lambda messages: 0, FakeEmbedder(), None, no_progress)
    refusals = [row for row in made if row.kind == "refusal" and "Col" in question_of(row)]
    assert refusals
    assert not any(said in line for row in refusals for line in notes_of(row))


def test_a_train_row_holds_nothing_of_a_held_out_document(training: TrainingSettings, rows: list[TrainingRow]) -> None:
    splits = split_documents([item.chunk.document_sha256 for item in items()], training.held_out_share)
    document_of = {item.chunk.chunk_id: item.chunk.document_sha256 for item in items()}
    assert Counter(splits.values()) == {"train": 8, "held_out": 2}
    for row in rows:
        used = {splits[document_of[chunk_id]] for chunk_id in row.source_chunk_ids}
        assert splits[document_of[row.source_chunk_ids[0]]] == row.split
        assert row.split == "held_out" or used == {"train"}


def test_golden_questions_and_their_like_are_kept_out(training: TrainingSettings, rows: list[TrainingRow]) -> None:
    held = question_of(rows[0])
    content = {
        "questions": [{"id": "q", "question": held, "expected": ["x"], "document": "note-1.md"}],
        "unanswerable": [{"id": "u", "question": question_of(rows[1])}],
    }
    golden = parse_golden(yaml.safe_dump(content).encode())
    kept, count = synthesize(training, golden=golden)
    assert count.too_close_to_golden >= 2
    asked = {question_of(row) for row in kept}
    assert not asked & {held, question_of(rows[1])}
    assert count.asked == synthesize(training)[1].asked


def test_a_row_that_would_be_too_long_has_fewer_lines_and_keeps_the_one_that_answers(
    training: TrainingSettings, rows: list[TrainingRow]
) -> None:
    """Five lines of bank statements were 505 tokens of the base model, and one such row stopped the whole training."""

    def words(messages: Sequence[Message]) -> int:
        return 8 * sum(len(message.content.split()) for message in messages)

    made, count = synthesize(training, count=words)
    assert max(words(row.messages) for row in rows) > MAX_ROW_TOKENS >= max(words(row.messages) for row in made)
    assert count.too_long == 0
    assert [row.kind for row in made] == [row.kind for row in rows]
    for row in made:
        if row.form == "grounded" and row.kind != "refusal":
            assert any(row.messages[-1].content in line for line in notes_of(row))
    assert len(made[0].source_chunk_ids) <= len(rows[0].source_chunk_ids)


def test_a_row_that_is_too_long_without_any_line_is_left_out_and_counted(training: TrainingSettings) -> None:
    def long_for_gannet(messages: Sequence[Message]) -> int:
        return MAX_ROW_TOKENS + 1 if "Gannet" in messages[-2].content else 0

    made, count = synthesize(training, count=long_for_gannet)
    assert count.too_long > 0
    assert made
    assert not any("Gannet" in question_of(row) for row in made)


def test_the_count_is_of_what_was_made(training: TrainingSettings, rows: list[TrainingRow]) -> None:
    count = synthesize(training)[1]
    assert count.rows_by_kind == dict(Counter(row.kind for row in rows))
    assert list(count.rows_by_kind) == sorted(count.rows_by_kind)
    assert count.asked >= len(rows)
    assert count.too_close_to_golden == 0


@pytest.mark.parametrize("max_rows", [1, 7, 20])
def test_there_are_at_most_as_many_rows_as_are_set(training: TrainingSettings, max_rows: int) -> None:
    made, _ = synthesize(training.model_copy(update={"max_rows": max_rows, "held_out_share": 0.0}))
    assert len(made) == max_rows


def test_no_sentence_comes_twice_before_each_came_once(training: TrainingSettings) -> None:
    everything, _ = synthesize(training.model_copy(update={"max_rows": 10_000}))
    # a refusal hides its sentence, so the order is read from the source and the question of every row
    sentences = {row.messages[-1].content for row in everything if row.kind != "refusal"}
    few, _ = synthesize(training.model_copy(update={"max_rows": len(sentences) // 2}))
    answers = [row.messages[-1].content for row in few if row.kind != "refusal"]
    assert len(set(answers)) == len(answers)


def test_a_small_topic_has_its_turn_beside_a_large_one(training: TrainingSettings) -> None:
    names = sorted({item.chunk.filename for item in items()})
    small = [item.chunk.chunk_id for item in items() if item.chunk.filename == names[0]]
    large = [item.chunk.chunk_id for item in items() if item.chunk.filename != names[0]]
    topics = [Topic(name, name, (), tuple(ids), ()) for name, ids in (("large", large), ("small", small))]
    few, _ = synthesize(training.model_copy(update={"max_rows": 6, "held_out_share": 0.0}), topics=topics)
    assert sum(row.source_chunk_ids[0] in small for row in few) == 3


def test_texts_without_plain_sentences_give_no_rows_and_say_so(training: TrainingSettings) -> None:
    with pytest.raises(TrainingError) as caught:
        synthesize(training, of=make_items("1", {"list.md": "- milk\n- eggs\n"}))
    assert (caught.value.code, caught.value.retryable) == ("no_training_rows", False)
    with pytest.raises(TrainingError):
        synthesize(training, of=[])


def test_a_single_document_is_trained_on(training: TrainingSettings) -> None:
    made, _ = synthesize(training, of=make_items("1", {"note-1.md": NOTES["note-1.md"]}))
    assert {row.split for row in made} == {"train"}


@pytest.mark.parametrize(
    ("documents", "share", "held_out"),
    [(0, 0.1, 0), (1, 0.9, 0), (2, 0.1, 0), (10, 0.1, 1), (10, 0.25, 2), (10, 0.99, 9), (4, 0.0, 0)],
)
def test_a_share_of_the_documents_is_held_out_and_one_stays_in(documents: int, share: float, held_out: int) -> None:
    hashes = [sha256_hex(bytes([i])) for i in range(documents)]
    splits = split_documents(hashes * 3, share)
    assert Counter(splits.values())["held_out"] == held_out
    assert set(splits) == set(hashes)
    assert split_documents(hashes[::-1], share) == splits


def test_a_document_more_moves_at_most_one_other_between_the_splits() -> None:
    """Chosen by hash and not by position: the measure must not change its questions with every upload."""
    hashes = [sha256_hex(bytes([i])) for i in range(20)]
    before, after = split_documents(hashes, 0.2), split_documents([*hashes, sha256_hex(b"new")], 0.2)
    assert sum(before[sha] != after[sha] for sha in hashes) <= 1


def test_a_row_that_says_what_its_source_does_not_is_found(rows: list[TrainingRow]) -> None:
    texts = {item.chunk.chunk_id: item.text for item in items()}
    sound = next(row for row in rows if row.form == "grounded" and row.kind != "refusal")
    refusal = next(row for row in rows if row.kind == "refusal")
    invented = replace(sound, row_id="invented", messages=(*sound.messages[:-1], Message("assistant", "I own a yacht.")))
    rude = replace(refusal, row_id="rude", messages=(*refusal.messages[:-1], Message("assistant", sound.messages[-1].content)))
    lost = replace(sound, row_id="lost", sources=(replace(sound.sources[0], chunk_id="gone"),))
    assert find_unsupported_rows([sound, invented, refusal, rude, lost], texts) == ["invented", "rude", "lost"]


def test_the_settings_of_the_project_make_rows(settings: Settings) -> None:
    made, _ = synthesize(settings.training)
    assert {(row.kind, row.form) for row in made} == set(CYCLE)
