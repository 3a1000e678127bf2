"""Memory to training rows: supported word for word, split by document, and blind to the questions that measure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import yaml

from lpm_kernel.errors import TrainingError
from lpm_kernel.fenced_prompt import DATA_BEGINS
from lpm_kernel.L2.drafts import Draft
from lpm_kernel.L2.enrich import enrich_drafts
from lpm_kernel.L2.frames import VERDICTS, person_said
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.L2.prompt import DECLINE, render_chatml, twin_messages
from lpm_kernel.L2.records import RowRefusal, TrainingRow
from lpm_kernel.L2.row_gate import find_unsupported_rows, question_of, stored_texts
from lpm_kernel.L2.synthesize import split_documents
from lpm_kernel.L2.training_batches import MAX_ROW_TOKENS
from lpm_kernel.llm_items import CallCache
from lpm_kernel.records import Evidence, Message, Topic, User, sha256_hex
from lpm_kernel.settings import Settings, TrainingSettings
from lpm_kernel.stores.compute import Progress
from tests.fakes import FakeWriter, MemoryBlobs
from tests.L2.notes import NORA, NOTES, citation_of, items, notes_of, synthesize
from tests.samples import make_items

KINDS = {"self_qa", "preference", "diversity", "context_enhance", "context_critic", "refusal"}


@pytest.fixture(scope="module")
def training() -> TrainingSettings:
    from lpm_kernel.settings import load_settings

    return load_settings().training.model_copy(update={"max_rows": 60, "held_out_share": 0.2, "seed": 7})


@pytest.fixture(scope="module")
def rows(training: TrainingSettings) -> list[TrainingRow]:
    return synthesize(training)[0]


def test_the_same_memory_gives_the_same_rows(training: TrainingSettings, rows: list[TrainingRow]) -> None:
    assert synthesize(training)[0] == rows
    assert len({row.row_id for row in rows}) == len(rows)
    assert synthesize(training, user=User("2", "Nora Whitlock"))[0][0].row_id != rows[0].row_id
    assert synthesize(training.model_copy(update={"seed": 8}))[0] != rows


def test_a_row_ends_in_its_answer_and_begins_as_a_live_prompt(rows: list[TrainingRow]) -> None:
    for row in rows:
        roles = [message.role for message in row.messages]
        assert roles == ["system", "user", "assistant"] + (["user", "assistant"] if row.form == "multi_turn" else [])
        asked = twin_messages(NORA, question_of(row), (), row.messages[1:-2])
        if row.form == "plain":
            assert row.messages[:-1] == asked
        else:
            assert notes_of(row)
            assert row.messages[0].content.startswith(asked[0].content)
            assert row.messages[1:-1] == asked[1:]
        assert render_chatml(row.messages, open_answer=False).startswith(render_chatml(row.messages[:-1], open_answer=True))


def test_every_kind_form_and_person_is_there_in_its_share(training: TrainingSettings, rows: list[TrainingRow]) -> None:
    counts = Counter(row.kind for row in rows)
    assert set(counts) == KINDS
    assert (len(rows), counts["preference"], counts["refusal"]) == (60, 6, 7)
    assert {row.form for row in rows} == {"plain", "grounded", "multi_turn"}
    assert {row.person for row in rows} == {"first", "third"}
    own = [row for row in rows if row.kind == "self_qa"]
    assert sum(row.form == "plain" for row in own) <= len(own) / 3, "rows of bare facts teach to ignore notes"


def test_a_kind_with_no_share_has_no_row(training: TrainingSettings) -> None:
    mix = training.mix.model_copy(update={"refusal": 0.0, "context_critic": 0.0, "preference": 0.0})
    made, _ = synthesize(training.model_copy(update={"mix": mix}))
    assert {row.kind for row in made} == {"self_qa", "diversity", "context_enhance"}


def test_without_a_name_nobody_asks_about_the_person(training: TrainingSettings) -> None:
    made, _ = synthesize(training, user=User("1"))
    assert {row.person for row in made} == {"first"}


def test_somebody_who_asks_by_name_is_told_the_persons_own_sentence(rows: list[TrainingRow]) -> None:
    third = [row for row in rows if row.person == "third" and row.kind != "refusal"]
    assert third
    for row in third:
        assert "Nora" in question_of(row)
        assert row.messages[-1].content.startswith('Nora wrote: "')


def test_every_answer_stands_in_the_bytes_it_cites(rows: list[TrainingRow]) -> None:
    assert find_unsupported_rows(rows, stored_texts(items())) == []
    for row in rows:
        answer = row.messages[-1].content
        if row.kind == "refusal":
            assert (answer, row.answer_sources) == (DECLINE, 0)
        for source in row.sources[: row.answer_sources]:
            text = NOTES[source.filename].encode()[source.byte_start : source.byte_end].decode()
            assert " ".join(text.split()) in answer


def test_a_row_with_lines_shows_every_sentence_of_its_answer(rows: list[TrainingRow]) -> None:
    shown = [row for row in rows if row.form != "plain" and row.kind != "refusal"]
    assert {row.kind for row in shown} == KINDS - {"refusal"}
    assert any(row.answer_sources == 2 for row in shown)
    for row in shown:
        for source in row.sources[: row.answer_sources]:
            said = " ".join(NOTES[source.filename].encode()[source.byte_start : source.byte_end].decode().split())
            assert any(said in line for line in notes_of(row))


def test_a_request_is_said_again_and_advice_is_judged(rows: list[TrainingRow]) -> None:
    for row in rows:
        question, answer = question_of(row), row.messages[-1].content
        if row.kind == "context_enhance":
            request = question.split('"')[1]
            assert answer.startswith(f"{request} For context: ")
        if row.kind == "context_critic":
            assert answer.startswith(VERDICTS)


def test_a_follow_up_comes_after_an_answer_of_the_persons_own(rows: list[TrainingRow]) -> None:
    follow_ups = [row for row in rows if row.form == "multi_turn"]
    assert follow_ups
    for row in follow_ups:
        assert question_of(row).startswith("And ")
        assert any(row.messages[2].content in " ".join(text.split()) for text in NOTES.values())
        assert len(row.sources) > row.answer_sources, "the earlier turn is cited too"


def test_a_refusal_shows_lines_and_none_that_answers_or_stands_beside_it(training: TrainingSettings) -> None:
    """Declining with the answer in sight is what a twin must never learn."""
    position = {item.chunk.chunk_id: i for i, item in enumerate(items())}
    everything, _ = synthesize(training.model_copy(update={"max_rows": 120}))
    refusals = [row for row in everything if row.kind == "refusal"]
    hidden = [row for row in refusals if "favourite" not in question_of(row) and len(row.sources) > len(notes_of(row))]
    assert len(hidden) >= 3
    for row in hidden:
        source, *shown = row.source_chunk_ids
        assert len(shown) == len(notes_of(row)) >= 2
        for chunk_id in shown:
            same = items()[position[chunk_id]].chunk.filename == items()[position[source]].chunk.filename
            assert not same or abs(position[chunk_id] - position[source]) > 1
    unmentioned = [row for row in refusals if row not in hidden]
    assert unmentioned, "some ask what no note tells at all"


def test_a_sentence_that_stands_twice_is_in_no_refusal_of_itself(training: TrainingSettings) -> None:
    """The second letter that held the answer was shown, and the row declined."""
    said = "My brother Col lives in Nova Scotia."
    letters = {f"letter-{i}.md": f"Dear number {i}, it rains. {said}\n\nHettie Lark bought {i} boats.\n" for i in range(2, 12)}
    letters_items = make_items("1", letters, 24)

    def recall(question: str) -> list[Evidence]:
        return [Evidence(citation_of(item), item.text, 0.5) for item in letters_items]

    mix = training.mix.model_copy(update={"refusal": 1.0})
    made, _ = synthesize(training.model_copy(update={"mix": mix}), of=letters_items, recall=recall)
    refusals = [row for row in made if row.kind == "refusal" and "Col" in question_of(row)]
    assert refusals
    assert not any(said in line for row in refusals for line in notes_of(row))


def test_a_train_row_holds_nothing_of_a_held_out_document(training: TrainingSettings, rows: list[TrainingRow]) -> None:
    splits = split_documents([item.chunk.document_sha256 for item in items()], training.held_out_share)
    document_of = {item.chunk.chunk_id: item.chunk.document_sha256 for item in items()}
    assert Counter(splits.values()) == {"train": 8, "held_out": 2}
    for row in rows:
        used = {splits[document_of[chunk_id]] for chunk_id in row.source_chunk_ids}
        assert row.answer_sources == 0 or splits[document_of[row.source_chunk_ids[0]]] == row.split
        assert row.split == "held_out" or used == {"train"}


def test_golden_questions_and_their_like_are_kept_out(training: TrainingSettings, rows: list[TrainingRow]) -> None:
    first = {row.kind: question_of(row) for row in reversed(rows) if row.person == "first" and row.form != "multi_turn"}
    assert set(first) == KINDS
    content = {
        "questions": [{"id": "q", "question": first["self_qa"], "expected": ["x"], "document": "note-1.md"}],
        "unanswerable": [{"id": f"u-{kind}", "question": first[kind]} for kind in sorted(KINDS - {"self_qa"})],
    }
    golden = parse_golden(yaml.safe_dump(content).encode())
    kept, count = synthesize(training, golden=golden)
    assert count.too_close_to_golden >= len(KINDS)
    assert sum(refusal.reason == "golden" for refusal in count.refusals) >= count.too_close_to_golden
    assert not {question_of(row) for row in kept} & set(first.values())
    assert count.asked == synthesize(training)[1].asked


def test_a_row_that_would_be_too_long_has_fewer_lines_and_keeps_the_one_that_answers(
    training: TrainingSettings, rows: list[TrainingRow]
) -> None:
    """Five lines of bank statements were 505 tokens of the base model, and one such row stopped the whole training."""

    def words(messages: Sequence[Message]) -> int:
        return 4 * sum(len(message.content.split()) for message in messages)

    made, count = synthesize(training, count=words)
    assert max(words(row.messages) for row in rows) > MAX_ROW_TOKENS >= max(words(row.messages) for row in made)
    assert count.too_long == 0
    fewer = {row.row_id: len(row.sources) for row in made}
    assert any(len(row.sources) > fewer.get(row.row_id, 99) for row in rows)
    assert find_unsupported_rows(made, stored_texts(items())) == []


def test_a_row_that_is_too_long_without_any_line_is_left_out_and_counted(training: TrainingSettings) -> None:
    def long_for_gannet(messages: Sequence[Message]) -> int:
        return MAX_ROW_TOKENS + 1 if "Gannet" in messages[0].content + messages[-2 % len(messages)].content else 0

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
    assert count.refusals == ()


def test_what_a_language_model_words_anew_passes_the_same_gate(training: TrainingSettings) -> None:
    """One draft is worded soundly, one invents; a third is dropped by the model's own side, with its own id."""
    changed: dict[str, str] = {}

    def enrich(drafts: list[Draft], progress: Progress) -> tuple[list[Draft], list[RowRefusal]]:
        plain = [draft for draft in drafts if draft.kind == "self_qa" and draft.person == "first"]
        sound, liar, lost = plain[3], plain[4], plain[5]
        changed.update(sound=sound.row_id, liar=liar.row_id, lost=lost.row_id)
        anew = {
            sound.row_id: replace(sound, question="What would you say about that?"),
            liar.row_id: replace(liar, answer="I own a yacht in Monaco."),
        }
        kept = [anew.get(draft.row_id, draft) for draft in drafts if draft is not lost]
        return kept, [RowRefusal(lost.row_id, lost.kind, "no_answer")]

    made, count = synthesize(training, enrich=enrich)
    by_id = {row.row_id: row for row in made}
    assert question_of(by_id[changed["sound"]]) == "What would you say about that?"
    assert {refusal.row_id: refusal.reason for refusal in count.refusals} == {
        changed["liar"]: "support",
        changed["lost"]: "no_answer",
    }
    assert not {changed["liar"], changed["lost"]} & by_id.keys()


def test_a_writer_costs_no_row(settings: Settings) -> None:
    """With a modest writer 16 of 146 rows were left: the gate refused what had been taken from it."""

    def say(messages: tuple[Message, ...]) -> str:
        material = json.loads(messages[-1].content.removeprefix(DATA_BEGINS))
        question, task = material["question"], messages[0].content
        reworded = {"question": f"So, {question[0].lower()}{question[1:]}"} if "Task: put" in task else {}
        if "answer" not in material:
            return json.dumps(reworded)
        said = person_said(question, material["answer"])
        begins = "Well,"
        if "the verdict" in task:
            begins = f"{material['answer'].removesuffix(said).strip()} My notes say:"
        elif "holds a request" in task:
            begins = question.split('"')[1]
        elif "someone who knows" in task:
            begins = f"As {material['person']} says,"
        return json.dumps({**reworded, "answer": f"{begins} {said}"})

    def enrich(drafts: list[Draft], progress: Progress) -> tuple[list[Draft], list[RowRefusal]]:
        cache = CallCache(MemoryBlobs(), "1", "rows")
        return enrich_drafts(drafts, NORA, None, FakeWriter(say), cache, settings, progress)

    plain, _ = synthesize(settings.training)
    written, count = synthesize(settings.training, enrich=enrich)
    assert count.rows_by_kind == dict(Counter(row.kind for row in plain))
    assert {refusal.reason.partition(" ")[0] for refusal in count.refusals} <= {"written"}, "what was not taken stays as it was"
    answers = {row.row_id: row.messages[-1].content for row in plain if row.kind != "refusal"}
    new = [row for row in written if row.row_id in answers and row.messages[-1].content != answers[row.row_id]]
    assert len(new) > 0.8 * len(answers)


def test_progress_never_goes_back_while_a_language_model_writes(training: TrainingSettings) -> None:
    """A log that shows each further tenth was silent for all of the writing, which began at nothing once drafts were made."""
    seen: list[float] = []

    def enrich(drafts: list[Draft], progress: Progress) -> tuple[list[Draft], list[RowRefusal]]:
        for share in (0.0, 0.5, 1.0):
            progress(share, "writing")
        return drafts, []

    synthesize(training, enrich=enrich, progress=lambda share, words: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert sum(0.5 < share < 0.9 for share in seen) == 1, "the half of what is written"


@pytest.mark.parametrize("max_rows", [1, 7, 20])
def test_there_are_at_most_as_many_rows_as_are_set(training: TrainingSettings, max_rows: int) -> None:
    made, _ = synthesize(training.model_copy(update={"max_rows": max_rows, "held_out_share": 0.0}))
    assert len(made) == max_rows


def test_no_sentence_comes_twice_before_each_came_once(training: TrainingSettings) -> None:
    few, _ = synthesize(training.model_copy(update={"max_rows": 20}))
    own = [row for row in few if row.kind == "self_qa" and row.form != "multi_turn"]
    cited = [row.sources[0] for row in own]
    assert len(set(cited)) == len(cited) >= 8


def test_a_small_topic_has_its_turn_beside_a_large_one(training: TrainingSettings) -> None:
    names = sorted({item.chunk.filename for item in items()})
    small = [item.chunk.chunk_id for item in items() if item.chunk.filename == names[0]]
    large = [item.chunk.chunk_id for item in items() if item.chunk.filename != names[0]]
    topics = [Topic(name, name, (), tuple(ids), ()) for name, ids in (("large", large), ("small", small))]
    alone = training.model_copy(update={"max_rows": 16, "held_out_share": 0.0})
    few, _ = synthesize(alone, topics=topics)
    own = [row for row in few if row.kind == "self_qa"][3:]
    assert sum(row.source_chunk_ids[0] in small for row in own) >= len(own) // 2 - 1


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


def test_the_settings_of_the_project_make_rows_of_every_kind(settings: Settings) -> None:
    made, _ = synthesize(settings.training)
    assert {row.kind for row in made} == KINDS
