"""Counting what a twin knows: who is asked what, with which lines, and what counts as right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lpm_kernel.L0.embed import embed_chunks, vector_entries
from lpm_kernel.L2.evaluate import evaluate_twin
from lpm_kernel.L2.exam import WITH_NOTES, Exam, Probe
from lpm_kernel.L2.intervals import paired_difference, share_interval
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.L2.records import ARMS, Evaluation
from lpm_kernel.records import Message, User
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.llm import AdapterFile
from tests.fakes import FakeEmbedder, FakeLlm, MemoryVectors, no_progress
from tests.L2.test_exam import SETTINGS
from tests.L2.test_manner import BASE
from tests.rules.sources import ROOT
from tests.samples import make_items

NOTES = {
    "diary.md": "Our one-eyed cat is called Pilchard.\n\nThe sea at Clevedon was 5.8 °C.\n",
    "letter.txt": "The band plays in Victoria Park on Sunday.\n\nOur cat is called Pilchard by the band too.\n",
}
CAT = Probe("q1", "memory_self", "What is your cat called?", ("Pilchard",), document="diary.md")
SEA = Probe("q2", "memory_self", "How cold was the sea at Clevedon?", ("5.8 °C",), document="diary.md")
MOON = "How far is the moon?"
FAR = Probe("u1", "refusal", MOON)
ADAPTER = AdapterFile(Path("adapter.gguf"), "a" * 64, "b" * 64)


def golden(*probes: Probe) -> Exam:
    return Exam("golden", probes)


def evaluate(
    llm: FakeLlm, exam: Exam, lines: int = 2, answer_confidence: float = 0.0, own_texts: tuple[str, ...] = ()
) -> Evaluation:
    embedder, vectors = FakeEmbedder(), MemoryVectors()
    items = make_items("1", NOTES, 16)
    table, _ = embed_chunks(items, embedder, None, no_progress)
    vectors.sync("1", "g", vector_entries(items, table), table.fingerprint)
    recall = load_settings().recall.model_copy(update={"lines": lines, "answer_confidence": answer_confidence})
    return evaluate_twin(
        User("1", "Nora"), exam, llm, ADAPTER, "g", vectors, embedder, recall, SETTINGS, 1, no_progress, own_texts
    )


class Parrot(FakeLlm):
    """Answers by what it was asked, so that the order of the questions does not matter."""

    def answer_batch(self, conversations, *, tenant, adapter=None, max_tokens, declining=None):  # type: ignore[no-untyped-def]
        self.answers.extend(self._reply(messages, adapter) for messages in conversations)
        return super().answer_batch(conversations, tenant=tenant, adapter=adapter, max_tokens=max_tokens, declining=declining)

    def _reply(self, messages: list[Message], adapter: AdapterFile | None) -> str:
        question, sees_notes = messages[-1].content, "From your notes" in messages[0].content
        if question == MOON:
            return DECLINE if adapter and sees_notes else "It is far."
        if question == CAT.question:
            return "My cat is called Pilchard." if adapter or sees_notes else "I have no cat, I am a program."
        return "It was 5.8 °C." if adapter and sees_notes else "It was cold."


def test_each_arm_is_asked_everything_and_counted_apart() -> None:
    llm = Parrot()
    report = evaluate(llm, golden(CAT, SEA, FAR))
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
    please = Probe("q3", "memory_self", "Tell me what your cat is called.", ("Pilchard",))
    report = evaluate(Parrot(), golden(CAT, please, FAR), answer_confidence=1.0)
    assert report.declined == {"base": 0, "base+retrieval": 1, "adapter": 0, "adapter+retrieval": 1}
    replies = {(answer.question_id, answer.arm): answer.answer for answer in report.answers}
    assert replies[CAT.probe_id, "adapter+retrieval"] == DECLINE
    assert replies[CAT.probe_id, "adapter"] != DECLINE
    assert replies["q3", "adapter+retrieval"] != DECLINE


def test_a_fact_out_of_another_document_is_not_in_the_pack() -> None:
    """The letter says the cat's name too, but the question is about the diary."""
    elsewhere = replace(CAT, question="Is our cat called Pilchard by the band too?")
    assert evaluate(Parrot(), golden(elsewhere), lines=1).in_pack == 0
    anywhere = replace(elsewhere, document="")
    assert evaluate(Parrot(), golden(anywhere), lines=1).in_pack == 1


def test_lines_that_do_not_fit_the_model_are_left_out_of_an_exam_as_of_a_chat() -> None:
    """With more or longer lines set, every evaluation failed with a prompt that was too long."""

    def lines_seen(llm: FakeLlm) -> int:
        evaluate(llm, golden(CAT), lines=3)
        return max(call.messages[0].content.count("\n- ") for call in llm.calls)

    ample = Parrot()
    assert lines_seen(ample) == 3
    longest = max(ample.prompt_tokens(call.messages) for call in ample.calls)
    assert lines_seen(Parrot(context_tokens=longest + SETTINGS.answer_tokens - 1)) == 2


def test_every_share_has_its_interval_and_every_arm_is_compared_with_the_promoted_one() -> None:
    report = evaluate(Parrot(), golden(CAT, SEA, FAR))
    scores = {(score.measure, score.arm): score for score in report.scores}
    assert set(scores) == {(measure, arm) for measure in ("memory_self", "refusal") for arm in ARMS}
    best = scores["memory_self", "adapter+retrieval"]
    assert (best.right, best.asked) == (2, 2)
    assert (best.low, best.high) == tuple(round(value, 4) for value in share_interval(2, 2))
    compared = {(item.measure, item.against): item for item in report.comparisons}
    assert {against for _, against in compared} == set(ARMS) - {"adapter+retrieval"}
    difference, low, high = paired_difference([True, True], [True, False])
    found = compared["memory_self", "base+retrieval"]
    assert (found.arm, found.asked) == ("adapter+retrieval", 2)
    assert (found.difference, found.low, found.high) == (difference, round(low, 4), round(high, 4))


def test_who_was_not_asked_has_no_score() -> None:
    critic = replace(CAT, probe_id="c1", measure="context_critic", arms=WITH_NOTES)
    report = evaluate(Parrot(), golden(critic))
    assert {score.arm for score in report.scores} == set(WITH_NOTES)
    assert {item.against for item in report.comparisons} == {"base+retrieval"}
    assert report.questions == report.in_pack == 0


def test_a_question_that_is_declined_although_it_has_an_answer_is_counted() -> None:
    report = evaluate(Parrot(), golden(CAT, SEA, FAR), answer_confidence=1.0)
    assert report.false_refusals == {"base": 0, "base+retrieval": 2, "adapter": 0, "adapter+retrieval": 2}


def test_what_is_declined_unread_is_not_asked_of_the_model() -> None:
    llm = Parrot()
    evaluate(llm, golden(CAT, SEA, FAR), answer_confidence=1.0)
    assert not any("From your notes" in call.messages[0].content for call in llm.calls)
    assert len(llm.calls) == 2 * 3


class TwoVoices(FakeLlm):
    """As base it says what the bare model said, as twin what the person wrote; `alone`: how often the twin answers unaided."""

    def __init__(self, own: list[str], alone: int = 1000) -> None:
        super().__init__()
        self.own = own
        self.alone = alone

    def answer_batch(self, conversations, *, tenant, adapter=None, max_tokens, declining=None):  # type: ignore[no-untyped-def]
        said = self.own if adapter else BASE
        for messages in conversations:
            number = int(messages[-1].content.split()[1].strip("?"))
            unaided = adapter and "From your notes" not in messages[0].content
            self.answers.append(DECLINE if unaided and number >= self.alone else said[number])
        return super().answer_batch(conversations, tenant=tenant, adapter=adapter, max_tokens=max_tokens, declining=declining)


def test_answers_in_the_persons_own_manner_are_nearer_than_the_bases() -> None:
    texts = [path.read_text() for path in sorted((ROOT / "data" / "users" / "1").iterdir()) if path.suffix != ".pdf"]
    own = [" ".join(text.split()[40:58]) for text in texts * 2]
    exam = golden(*(Probe(f"q{i}", "memory_self", f"Question {i}?", ("x",)) for i in range(len(BASE))))
    report = evaluate(TwoVoices(own), exam, own_texts=tuple(texts))
    voice = {score.arm: score for score in report.scores if score.measure == "voice"}
    assert set(voice) == {"base+retrieval", "adapter", "adapter+retrieval"}, "the base is the yardstick"
    assert voice["base+retrieval"].right == 0
    assert voice["adapter+retrieval"].right >= 0.9 * voice["adapter+retrieval"].asked > 0
    [compared] = [item for item in report.comparisons if (item.measure, item.against) == ("voice", "base+retrieval")]
    assert compared.low > 0.5


def test_what_the_adapter_declines_without_notes_is_no_reason_to_measure_fewer_answers_with_them() -> None:
    """A twin declines most of what it is asked without notes. The voice of what it says in chats was measured on the rest
    alone: on 12 answers of 60.
    """
    texts = [path.read_text() for path in sorted((ROOT / "data" / "users" / "1").iterdir()) if path.suffix != ".pdf"]
    own = [" ".join(text.split()[40:58]) for text in texts * 2]
    exam = golden(*(Probe(f"q{i}", "memory_self", f"Question {i}?", ("x",)) for i in range(len(BASE))))
    report = evaluate(TwoVoices(own, alone=16), exam, own_texts=tuple(texts))
    asked = {score.arm: score.asked for score in report.scores if score.measure == "voice"}
    assert asked == {"base+retrieval": len(BASE), "adapter": 16, "adapter+retrieval": len(BASE)}
    assert {item.against for item in report.comparisons if item.measure == "voice"} == {"base", "base+retrieval"}
    report = evaluate(TwoVoices(own, alone=0), exam, own_texts=tuple(texts))
    assert {score.arm for score in report.scores if score.measure == "voice"} == {"base+retrieval", "adapter+retrieval"}


def test_a_voice_that_cannot_be_measured_says_why() -> None:
    report = evaluate(Parrot(), golden(CAT, SEA))
    assert not any(score.measure == "voice" for score in report.scores)
    assert [reason.partition(":")[0] for reason in report.unmeasured] == ["voice"]


def test_an_exam_without_a_question_counts_nothing() -> None:
    report = evaluate(Parrot(), Exam("held_out", ()))
    assert (report.questions, report.in_pack, set(report.correct.values())) == (0, 0, {0})
    assert report.scores == report.comparisons == ()


def test_declining_is_weighed_where_a_twin_is_shown_lines_for_a_question_and_only_there() -> None:
    """As in a chat. Without lines the model would be asked for what it cannot have learnt, a request is no question, and the
    base, weighed too, declined 24 of 50 questions and was the easier to beat."""
    llm = Parrot()
    please = Probe("q3", "memory_self", "Tell me what your cat is called.", ("Pilchard",))
    evaluate(llm, golden(CAT, please))
    weighed = {
        (call.messages[-1].content, "From your notes" in call.messages[0].content, bool(call.adapter), call.declining)
        for call in llm.calls
    }
    assert weighed == {
        (CAT.question, True, True, DECLINE),
        (CAT.question, True, False, None),
        *((CAT.question, False, adapter, None) for adapter in (False, True)),
        *((please.question, lines, adapter, None) for lines in (False, True) for adapter in (False, True)),
    }
