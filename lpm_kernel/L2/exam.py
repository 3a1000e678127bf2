"""What a twin is asked: questions of every measure, out of the golden file or of documents that were kept out of training.

Belongs here: choosing questions, and what would be a right answer to each.
Does not belong here: asking (`evaluate.py`) and the rules an answer is graded by (`scorers.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from lpm_kernel.L2.frames import ask_to_criticise, ask_to_enhance, begin_with, person_said
from lpm_kernel.L2.golden import holds_fact
from lpm_kernel.L2.persons import first_name, in_third_person
from lpm_kernel.L2.prompt import declines
from lpm_kernel.L2.records import ARMS, Arm, GoldenQuestion, GoldenSet, Measure, RowKind, Stance, TrainingRow
from lpm_kernel.L2.scorers import judges_otherwise, takes_stance, tells
from lpm_kernel.L2.synthesize import question_of
from lpm_kernel.records import Preference, User
from lpm_kernel.settings import EvaluationSettings

ItemT = TypeVar("ItemT")

WITH_NOTES: tuple[Arm, ...] = ("base+retrieval", "adapter+retrieval")
"""Who is asked to make a request precise or to judge a reply by the notes: without notes there is nothing to do it by."""

STANCE_FORMS = ("What do you think about {}?", "Where do you stand on {}?", "How do you feel about {}?")
"""The first that no training row asks word for word is used: what is measured is not what was learnt by heart."""

VAGUE_REQUEST = "Help me to answer this: {}"
GENERIC_ADVICE = "{} That differs from person to person."
"""What a stranger says who knows nothing of the person: it leaves out the very fact."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One question, and what a right answer holds: a fact, a stance or what a sentence says; of a refusal, nothing."""

    probe_id: str
    measure: Measure
    question: str
    facts: tuple[str, ...] = ()
    stance: Stance | None = None
    sentence: str = ""
    verdict: str = ""
    """Of an expert's reply: what the twin says first about it, where that is known."""
    document: str = ""
    arms: tuple[Arm, ...] = ARMS

    def is_right(self, reply: str) -> bool:
        if self.measure == "refusal":
            return declines(reply)
        if self.stance is not None:
            return takes_stance(reply, self.question, self.stance)
        if self.verdict and judges_otherwise(reply, self.verdict):
            return False
        if self.facts:
            return holds_fact(reply, self.facts)
        return tells(reply, self.question, self.sentence)


@dataclass(frozen=True, slots=True)
class Exam:
    source: Literal["golden", "held_out"]
    probes: tuple[Probe, ...]
    unmeasured: tuple[str, ...] = ()
    """A measure that nothing could be asked for, each with the reason."""

    def of(self, measure: Measure) -> tuple[Probe, ...]:
        return tuple(probe for probe in self.probes if probe.measure == measure)


def make_exam(
    user: User,
    golden: GoldenSet | None,
    rows: Sequence[TrainingRow],
    preferences: Sequence[Preference],
    evaluation: EvaluationSettings,
) -> Exam:
    """The golden questions where there are some, else the rows of documents that were kept out of training.

    The same input gives the same questions. Samples are drawn by a fixed seed.
    """
    held_out = [row for row in rows if row.split == "held_out" and row.kind != "refusal"]
    taught = {_plain(question_of(row)) for row in rows if row.split == "train"}
    if golden is not None:
        own = [_golden_probe(question) for question in golden.questions]
        stances = golden.stances
        refusals = [Probe(f"u{i:02}", "refusal", asked) for i, asked in enumerate(golden.unanswerable, start=1)]
    else:
        own = [
            _row_probe(row, "memory_self") for row in held_out if row.kind in ("self_qa", "diversity") and row.person == "first"
        ]
        stances = _by_domain(preferences)
        refusals = []
    probes = [
        *own[: evaluation.max_questions],
        *_about(user, own, held_out, evaluation.third_person_questions),
        *_stance_probes(stances, taught, evaluation.preference_questions),
        *_context_probes("context_enhance", golden, held_out, evaluation.context_questions),
        *_context_probes("context_critic", golden, held_out, evaluation.context_questions),
        *refusals[: evaluation.max_questions],
    ]
    asked = {probe.measure for probe in probes}
    reasons = _reasons(user, golden is not None)
    return Exam(
        "golden" if golden is not None else "held_out",
        tuple(probes),
        tuple(f"{measure}: {reason}" for measure, reason in reasons.items() if measure not in asked),
    )


def _by_domain(preferences: Sequence[Preference]) -> tuple[Stance, ...]:
    """One stance a domain: a question about it may be answered by any of what is preferred in it."""
    told: dict[str, list[str]] = {}
    for item in preferences:
        if item.polarity != "undecided":
            told.setdefault(item.domain, []).append(item.text)
    return tuple(Stance(domain, None, tuple(texts)) for domain, texts in told.items())


def _golden_probe(question: GoldenQuestion) -> Probe:
    return Probe(question.question_id, "memory_self", question.question, question.expected, document=question.document)


def _row_probe(row: TrainingRow, measure: Measure, arms: tuple[Arm, ...] = ARMS) -> Probe:
    """Without the words of ours that frame the answer: they are no knowledge of the person's."""
    question, answer = question_of(row), row.messages[-1].content
    said = person_said(question, answer)
    verdict = answer.removesuffix(said).strip() if measure == "context_critic" else ""
    asked = begin_with(question) if row.form == "multi_turn" else question
    return Probe(f"{measure}-{row.row_id}", measure, asked, sentence=said, verdict=verdict, arms=arms)


def _about(user: User, own: Sequence[Probe], held_out: Sequence[TrainingRow], limit: int) -> Iterable[Probe]:
    """The person's own questions asked by somebody else, and what held-out rows ask about the person by name."""
    name = first_name(user.name or "")
    turned = [(probe, in_third_person(probe.question, name)) for probe in own]
    probes = [
        Probe(
            f"third-{probe.probe_id}",
            "memory_third_person",
            question,
            probe.facts,
            sentence=probe.sentence,
            document=probe.document,
        )
        for probe, question in turned
        if question
    ]
    return _sample(probes or [_row_probe(row, "memory_third_person") for row in held_out if row.person == "third"], limit)


def _stance_probes(stances: Sequence[Stance], taught: set[str], limit: int) -> list[Probe]:
    """Both sorts have their share: sides taken come first, and at most half of the questions."""
    sided = _sample([stance for stance in stances if stance.side], (limit + 1) // 2)
    chosen = sided + _sample([stance for stance in stances if not stance.side], limit - len(sided))
    probes = []
    for number, stance in enumerate(chosen, start=1):
        forms = [form.format(stance.about) for form in STANCE_FORMS]
        question = next((form for form in forms if _plain(form) not in taught), None)
        if question is not None:
            probes.append(Probe(f"stance-{number:02}", "preference", question, stance=stance))
    return probes


def _context_probes(
    measure: Literal["context_enhance", "context_critic"],
    golden: GoldenSet | None,
    held_out: Sequence[TrainingRow],
    limit: int,
) -> list[Probe]:
    """Held-out rows of the kind, then golden questions put as a vague request, or as one a stranger answered with nothing."""
    kind: RowKind = measure
    probes = [_row_probe(row, measure, WITH_NOTES) for row in held_out if row.kind == kind][:limit]
    questions = _sample(golden.questions if golden else (), limit - len(probes))
    return probes + [
        Probe(
            f"{measure}-{question.question_id}",
            measure,
            ask_to_enhance(VAGUE_REQUEST.format(question.question))
            if measure == "context_enhance"
            else ask_to_criticise(GENERIC_ADVICE.format(question.question)),
            question.expected,
            document=question.document,
            arms=WITH_NOTES,
        )
        for question in questions
    ]


def _sample(items: Sequence[ItemT], limit: int) -> list[ItemT]:
    """A fixed draw in the order given, so that one file's beginning does not stand for all of it."""
    if len(items) <= limit:
        return list(items)
    return [items[i] for i in sorted(random.Random(7).sample(range(len(items)), limit))]


def _reasons(user: User, has_golden: bool) -> dict[Measure, str]:
    without_rows = "no held-out document gives such a row, and there is no golden file"
    return {
        "memory_self": "the golden file has no question" if has_golden else without_rows,
        "memory_third_person": "no question can be asked about the person by name" if user.name else "the person has no name",
        "preference": "no preference is known, or training asks every form of the question",
        "context_enhance": without_rows,
        "context_critic": without_rows,
        "refusal": "the golden file has no unanswerable question"
        if has_golden
        else "which questions no document answers is known from a golden file only",
    }


def _plain(question: str) -> str:
    return " ".join(question.casefold().split()).strip(" ?.!")
