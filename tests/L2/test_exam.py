"""What a twin is asked: of every measure something, nothing that was learnt, and a reason where there is nothing to ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lpm_kernel.L2.exam import STANCE_FORMS, WITH_NOTES, Exam, Probe, make_exam
from lpm_kernel.L2.frames import FITS, FITS_NOT, ask_to_criticise, ask_to_enhance, enhanced, go_on, wrote
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.L2.records import ARMS, GoldenQuestion, GoldenSet, RowKind, Split, Stance, TrainingRow
from lpm_kernel.records import Message, Preference, User
from lpm_kernel.settings import EvaluationSettings
from tests.rules.sources import ROOT
from tests.samples import make_citation, make_row

NORA = User("1", "Nora Whitlock")
SETTINGS = EvaluationSettings(
    max_questions=60,
    answer_tokens=24,
    batch=2,
    third_person_questions=10,
    preference_questions=10,
    context_questions=6,
    foreign_questions=12,
    canaries=16,
    judge="none",
)
CAT = GoldenQuestion("q1", "What is your cat called?", ("Pilchard",), "diary.md", "Our cat is called Pilchard.")
SEA = GoldenQuestion("q2", "How cold was the sea on your swim?", ("5.8 °C",), "diary.md")
PRINTER = Stance("P-09, Metal printer", "against", ("I am against buying it.",))
SWIMMING = Stance("swimming", None, ("I like winter swimming.",))
GOLDEN = GoldenSet((CAT, SEA), ("How far is the moon?", "Who?"), "sha", (PRINTER, SWIMMING))


def exam_of(golden: GoldenSet | None = GOLDEN, rows: Any = (), preferences: Any = (), user: User = NORA, **limits: int) -> Exam:
    return make_exam(user, golden, rows, preferences, SETTINGS.model_copy(update=limits))


def row(number: int, split: Split = "held_out", kind: RowKind = "self_qa", question: str | None = None) -> TrainingRow:
    messages = (
        Message("system", "s"),
        Message("user", question or f"Question {number}?"),
        Message("assistant", f"It is answer {number + 40}."),
    )
    return make_row(f"row-{number}", messages, ["c"], kind=kind, split=split)


def test_a_golden_file_gives_questions_of_every_measure() -> None:
    exam = exam_of()
    assert [probe.question for probe in exam.of("memory_self")] == [CAT.question, SEA.question]
    assert [probe.question for probe in exam.of("memory_third_person")] == [
        "What is Nora's cat called?",
        "How cold was the sea on Nora's swim?",
    ]
    assert [probe.question for probe in exam.of("refusal")] == ["How far is the moon?", "Who?"]
    assert [probe.question for probe in exam.of("preference")] == [
        "What do you think about P-09, Metal printer?",
        "What do you think about swimming?",
    ]
    for measure in ("context_enhance", "context_critic"):
        assert all(CAT.question in p.question or SEA.question in p.question for p in exam.of(measure))
        assert {probe.arms for probe in exam.of(measure)} == {WITH_NOTES}
    assert exam.unmeasured == ()
    assert len({probe.probe_id for probe in exam.probes}) == len(exam.probes)


def test_the_demo_peoples_files_give_every_measure_its_number() -> None:
    for user_id in ("1", "2"):
        golden = parse_golden((ROOT / "data" / "golden" / f"{user_id}.yaml").read_bytes())
        exam = make_exam(NORA, golden, [], [], SETTINGS)
        assert [len(exam.of(m)) for m in ("memory_third_person", "preference", "context_enhance", "context_critic")] == [
            *(10, 10, 6, 6)
        ]
        assert len(exam.of("refusal")) >= 10
        assert {probe.stance.side is None for probe in exam.of("preference") if probe.stance} == {True, False}


def test_what_is_right_depends_on_what_is_asked() -> None:
    def right(probe: Probe, reply: str) -> bool:
        return probe.is_right(reply)

    exam = exam_of()
    cat, third = exam.of("memory_self")[0], exam.of("memory_third_person")[0]
    printer, swimming = exam.of("preference")
    for probe in (cat, third, exam.of("context_critic")[0], exam.of("context_enhance")[0]):
        assert right(probe, "For context: our cat is called Pilchard.")
        assert not right(probe, "It depends on the cat.")
    assert right(printer, "I am against it.")
    assert not right(printer, "I am for it.")
    assert right(swimming, "Winter swimming is what I like.")
    assert right(exam.of("refusal")[0], DECLINE)
    assert not right(exam.of("refusal")[0], "384,400 km.")


def test_a_question_that_training_asked_is_put_in_another_form_or_left_out() -> None:
    taught = [row(i, "train", question=form.format("swimming")) for i, form in enumerate(STANCE_FORMS)]
    assert exam_of(rows=taught[:1]).of("preference")[1].question == STANCE_FORMS[1].format("swimming")
    assert [probe.stance for probe in exam_of(rows=taught).of("preference")] == [PRINTER]


def test_no_more_is_asked_than_set() -> None:
    exam = exam_of(max_questions=1, third_person_questions=0, preference_questions=1, context_questions=0)
    assert [probe.measure for probe in exam.probes] == ["memory_self", "preference", "refusal"]
    assert {reason.partition(":")[0] for reason in exam.unmeasured} == {
        *("memory_third_person", "context_enhance", "context_critic")
    }


def test_without_golden_questions_the_rows_of_held_out_documents_are_asked() -> None:
    rows = [
        row(1, "train"),
        row(2),
        row(3, kind="refusal"),
        row(4),
        row(5, kind="context_critic"),
        row(6, kind="preference"),
    ]
    exam = exam_of(None, rows)
    assert exam.source == "held_out"
    assert [probe.question for probe in exam.of("memory_self")] == ["Question 2?", "Question 4?"]
    assert exam.of("memory_self")[0].is_right("The answer: 42.")
    assert not exam.of("memory_self")[0].is_right("The answer: 47.")
    assert exam.of("context_critic")[0].arms == WITH_NOTES
    assert exam.of("refusal") == ()


def told_row(kind: RowKind, question: str, answer: str, **fields: Any) -> TrainingRow:
    messages = (Message("system", "s"), Message("user", question), Message("assistant", answer))
    return make_row("told", messages, ["c"], kind=kind, split="held_out", **fields)


def test_an_experts_reply_is_judged_right_only_with_the_right_verdict() -> None:
    """The opposite verdict once counted as right, as long as the person's sentence stood behind it."""
    advice = told_row("context_critic", ask_to_criticise("Swim at noon."), f"{FITS_NOT} I swim at Clevedon before 8.")
    [probe] = exam_of(None, [advice]).of("context_critic")
    assert (probe.verdict, probe.sentence) == (FITS_NOT, "I swim at Clevedon before 8.")
    assert probe.is_right(f"{FITS_NOT} I swim at Clevedon before 8.")
    assert probe.is_right("At Clevedon, before 8.")
    assert not probe.is_right(f"{FITS} I swim at Clevedon before 8.")
    assert not probe.is_right(FITS_NOT), "the verdict alone tells nothing of the person"


def test_words_of_ours_around_an_answer_are_not_asked_for() -> None:
    about = told_row("self_qa", "Where does Nora swim?", wrote("Nora", "I swim at Clevedon."))
    about = replace(about, person="third")
    request = told_row("context_enhance", ask_to_enhance("I want a swim."), enhanced("I want a swim.", "I swim at Clevedon."))
    exam = exam_of(None, [about, request])
    assert {probe.sentence for probe in exam.probes} == {"I swim at Clevedon."}


def test_a_question_that_followed_another_one_is_asked_alone() -> None:
    second = told_row("self_qa", go_on("Where do you swim?"), "I swim at Clevedon.", form="multi_turn")
    assert [probe.question for probe in exam_of(None, [second]).of("memory_self")] == ["Where do you swim?"]


def test_without_golden_opinions_the_documents_preferences_are_asked() -> None:
    liked = Preference("p", "I like winter swimming.", "winter", "attitude", "for", 0.9, make_citation())
    [probe] = exam_of(None, preferences=[liked]).of("preference")
    assert probe.question == "What do you think about winter?"
    assert probe.is_right("I like swimming then.")
    more = replace(liked, preference_id="p2", text="I prefer frost to slush.")
    [probe] = exam_of(None, preferences=[liked, more]).of("preference")
    assert probe.is_right("I like swimming then."), "whatever is preferred of it is an answer"
    assert probe.is_right("I prefer frost.")


def test_what_cannot_be_measured_says_why() -> None:
    reasons = dict(reason.split(": ", 1) for reason in exam_of(None, user=User("1")).unmeasured)
    assert set(reasons) == {
        *("memory_self", "memory_third_person", "preference", "context_enhance", "context_critic", "refusal")
    }
    assert "name" in reasons["memory_third_person"]
    assert "golden" in reasons["refusal"]
    assert exam_of(None).probes == ()


def test_the_arms_are_all_unless_a_measure_needs_notes() -> None:
    assert {probe.arms for probe in exam_of().probes if not probe.measure.startswith("context")} == {ARMS}
