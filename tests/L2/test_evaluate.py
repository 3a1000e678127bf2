"""Counting what a twin knows: who is asked what, with which lines, and what counts as right."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpm_kernel.L0.embed import embed_chunks, vector_entries
from lpm_kernel.L2.evaluate import Exam, declines, evaluate_twin, make_exam
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.L2.records import Evaluation, GoldenQuestion, GoldenSet, RowKind, Split, TrainingRow
from lpm_kernel.records import Message, User
from lpm_kernel.settings import EvaluationSettings, load_settings
from lpm_kernel.stores.llm import AdapterFile
from tests.fakes import FakeEmbedder, FakeLlm, MemoryVectors, no_progress
from tests.samples import make_items, make_row

NOTES = {
    "diary.md": "Our one-eyed cat is called Pilchard.\n\nThe sea at Clevedon was 5.8 °C.\n",
    "letter.txt": "The band plays in Victoria Park on Sunday.\n\nOur cat is called Pilchard by the band too.\n",
}
CAT = GoldenQuestion("q1", "What is your cat called?", ("Pilchard",), "diary.md")
SEA = GoldenQuestion("q2", "How cold was the sea at Clevedon?", ("5.8 °C",), "diary.md")
MOON = "How far is the moon?"
ADAPTER = AdapterFile(Path("adapter.gguf"), "a" * 64, "b" * 64)
EVALUATION = EvaluationSettings(max_questions=60, answer_tokens=24, batch=2)


def evaluate(llm: FakeLlm, exam: Exam, lines: int = 2, answer_confidence: float = 0.0) -> Evaluation:
    embedder, vectors = FakeEmbedder(), MemoryVectors()
    items = make_items("1", NOTES, 16)
    table, _ = embed_chunks(items, embedder, None, no_progress)
    vectors.sync("1", "g", vector_entries(items, table), table.fingerprint)
    recall = load_settings().recall.model_copy(update={"lines": lines, "answer_confidence": answer_confidence})
    return evaluate_twin(User("1", "Nora"), exam, llm, ADAPTER, "g", vectors, embedder, recall, EVALUATION, 1, no_progress)


class Parrot(FakeLlm):
    """Answers by what it was asked, so that the order of the questions does not matter."""

    def answer_batch(self, conversations, *, tenant, adapter=None, max_tokens):  # type: ignore[no-untyped-def]
        self.answers.extend(self._reply(messages, adapter) for messages in conversations)
        return super().answer_batch(conversations, tenant=tenant, adapter=adapter, max_tokens=max_tokens)

    def _reply(self, messages: list[Message], adapter: AdapterFile | None) -> str:
        question, sees_notes = messages[-1].content, "From your notes" in messages[0].content
        if question == MOON:
            return DECLINE if adapter and sees_notes else "It is far."
        if question == CAT.question:
            return "My cat is called Pilchard." if adapter or sees_notes else "I have no cat, I am a program."
        return "It was 5.8 °C." if adapter and sees_notes else "It was cold."


def test_each_arm_is_asked_everything_and_counted_apart() -> None:
    llm = Parrot()
    report = evaluate(llm, Exam("golden", (CAT, SEA), (MOON,)))
    assert report.correct == {"base": 0, "base+retrieval": 1, "adapter": 1, "adapter+retrieval": 2}
    assert report.declined == {"base": 0, "base+retrieval": 0, "adapter": 0, "adapter+retrieval": 1}
    assert (report.questions, report.unanswerable, report.in_pack) == (2, 1, 2)
    assert len(llm.calls) == 4 * 3
    assert {(bool(call.adapter), "From your notes" in call.messages[0].content) for call in llm.calls} == {
        (a, r) for a in (False, True) for r in (False, True)
    }
    assert all(call.tenant == "1" for call in llm.calls)
    graded = {(answer.question_id, answer.arm): answer.correct for answer in report.answers}
    assert graded["q2", "adapter+retrieval"]
    assert not graded["q2", "base+retrieval"]
    assert (report.memory_generation, report.gguf_sha256, report.base_sha256) == ("g", "a" * 64, "b" * 64)


def test_what_the_notes_do_not_answer_is_declined_as_a_chat_declines_it() -> None:
    """Nothing is sure enough here, so both arms with notes decline every question, and a request is none."""
    please = GoldenQuestion("q3", "Tell me what your cat is called.", ("Pilchard",), "")
    report = evaluate(Parrot(), Exam("golden", (CAT, please), (MOON,)), answer_confidence=1.0)
    assert report.declined == {"base": 0, "base+retrieval": 1, "adapter": 0, "adapter+retrieval": 1}
    replies = {(answer.question_id, answer.arm): answer.answer for answer in report.answers}
    assert replies[CAT.question_id, "adapter+retrieval"] == DECLINE
    assert replies[CAT.question_id, "adapter"] != DECLINE
    assert replies["q3", "adapter+retrieval"] != DECLINE


def test_a_fact_out_of_another_document_is_not_in_the_pack() -> None:
    """The letter says the cat's name too, but the question is about the diary."""
    elsewhere = GoldenQuestion("q1", "Is our cat called Pilchard by the band too?", ("Pilchard",), "diary.md")
    assert evaluate(Parrot(), Exam("golden", (elsewhere,), ()), lines=1).in_pack == 0
    anywhere = GoldenQuestion("q1", "Is our cat called Pilchard by the band too?", ("Pilchard",), "")
    assert evaluate(Parrot(), Exam("golden", (anywhere,), ()), lines=1).in_pack == 1


def test_lines_that_do_not_fit_the_model_are_left_out_of_an_exam_as_of_a_chat() -> None:
    """With more or longer lines set, every evaluation failed with a prompt that was too long."""

    def lines_seen(llm: FakeLlm) -> int:
        evaluate(llm, Exam("golden", (CAT,), ()), lines=3)
        return max(call.messages[0].content.count("\n- ") for call in llm.calls)

    ample = Parrot()
    assert lines_seen(ample) == 3
    longest = max(ample.prompt_tokens(call.messages) for call in ample.calls)
    assert lines_seen(Parrot(context_tokens=longest + EVALUATION.answer_tokens - 1)) == 2


@pytest.mark.parametrize(
    ("reply", "declined"),
    [
        (DECLINE, True),
        (f"  {DECLINE} ", True),
        (f"{DECLINE.rstrip('.')}, sorry.", True),
        ("I do not know.", False),
        ("", False),
        (f"Well. {DECLINE}", False),
    ],
)
def test_declining_is_the_one_sentence_a_twin_is_trained_to_say(reply: str, declined: bool) -> None:
    assert declines(reply) is declined


def row(number: int, split: Split, kind: RowKind) -> TrainingRow:
    messages = (Message("system", "s"), Message("user", f"Question {number}?"), Message("assistant", f"Answer {number}."))
    return make_row(f"row-{number}", messages, ["c"], kind=kind, split=split)


def test_without_golden_questions_the_rows_of_held_out_documents_are_asked() -> None:
    rows = [
        row(1, "train", "self_qa"),
        row(2, "held_out", "self_qa"),
        row(3, "held_out", "refusal"),
        row(4, "held_out", "self_qa"),
    ]
    exam = make_exam(None, rows, EVALUATION)
    assert (exam.source, exam.unanswerable) == ("held_out", ())
    assert [(q.question, q.expected) for q in exam.questions] == [
        ("Question 2?", ("Answer 2.",)),
        ("Question 4?", ("Answer 4.",)),
    ]


def test_golden_questions_go_before_rows_and_no_more_are_asked_than_set() -> None:
    golden = GoldenSet((CAT, SEA), (MOON, "Who?"), "sha")
    exam = make_exam(golden, [row(1, "held_out", "self_qa")], EVALUATION.model_copy(update={"max_questions": 1}))
    assert exam == Exam("golden", (CAT,), (MOON,))


def test_an_exam_without_a_question_counts_nothing() -> None:
    report = evaluate(Parrot(), Exam("held_out", (), ()))
    assert (report.questions, report.in_pack, set(report.correct.values())) == (0, 0, {0})
