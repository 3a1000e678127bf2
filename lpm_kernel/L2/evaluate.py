"""What the twin knows, counted: golden questions asked four ways, through the engine that serves it.

Belongs here: asking, grading by the expected fact, and the share of facts in the retrieved lines.
Does not belong here: the questions (`golden.py`) and promoting a release (`release.py`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lpm_kernel.L2.golden import holds_fact
from lpm_kernel.L2.prompt import DECLINE, fit_messages
from lpm_kernel.L2.records import ARMS, Arm, Evaluation, GoldenQuestion, GoldenSet, GradedAnswer, TrainingRow
from lpm_kernel.L2.synthesize import question_of
from lpm_kernel.recall.confidence import LINES, FoundLine, judge, seeks_knowledge
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Evidence, Message, User
from lpm_kernel.settings import EvaluationSettings, RecallSettings
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.llm import AdapterFile, Llm
from lpm_kernel.stores.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Exam:
    """What is asked: questions with known answers, and questions that have none."""

    source: str
    questions: tuple[GoldenQuestion, ...]
    unanswerable: tuple[str, ...]


def make_exam(golden: GoldenSet | None, rows: Sequence[TrainingRow], evaluation: EvaluationSettings) -> Exam:
    """The golden questions where there are some, else the rows of documents that were kept out of training."""
    limit = evaluation.max_questions
    if golden is not None:
        return Exam("golden", golden.questions[:limit], golden.unanswerable[:limit])
    held_out = [row for row in rows if row.split == "held_out" and row.kind != "refusal"]
    questions = tuple(GoldenQuestion(row.row_id, question_of(row), (row.messages[-1].content,), "") for row in held_out)
    return Exam("held_out", questions[:limit], ())


def evaluate_twin(
    user: User,
    exam: Exam,
    llm: Llm,
    adapter: AdapterFile,
    generation: str,
    vectors: Vectors,
    embedder: Embedder,
    recall: RecallSettings,
    evaluation: EvaluationSettings,
    slots: int,
    progress: Progress,
) -> Evaluation:
    """Ask every question as base and as twin, each without and with retrieved lines.

    Units: counts of questions, seconds. A fact counts when it stands in the answer as whole words; an unanswerable question
    counts when the answer declines.
    """
    started = time.monotonic()
    asked = [question.question for question in exam.questions] + list(exam.unanswerable)
    found = [
        recall_evidence(user.user_id, generation, question, vectors, embedder, recall, lines=max(LINES, recall.lines))
        for question in asked
    ]
    packs = [lines[: recall.lines] for lines in found]
    known = [
        not seeks_knowledge(question) or _confidence(question, lines) >= recall.answer_confidence
        for question, lines in zip(asked, found, strict=True)
    ]
    answers: list[GradedAnswer] = []
    correct: dict[str, int] = {}
    declined: dict[str, int] = {}
    for done, arm in enumerate(ARMS):
        progress(done / len(ARMS), f"asking {len(asked)} questions of {arm}")
        replies = _ask(user, asked, packs if "retrieval" in arm else [()] * len(asked), arm, llm, adapter, evaluation, slots)
        if "retrieval" in arm:  # as a chat does: what the notes do not answer is not asked of the model
            replies = [reply if answerable else DECLINE for reply, answerable in zip(replies, known, strict=True)]
        graded = [
            GradedAnswer(question.question_id, arm, reply, holds_fact(reply, question.expected))
            for question, reply in zip(exam.questions, replies, strict=False)
        ]
        answers.extend(graded)
        correct[arm] = sum(answer.correct for answer in graded)
        declined[arm] = sum(declines(reply) for reply in replies[len(exam.questions) :])
    in_pack = sum(_pack_holds(pack, question) for question, pack in zip(exam.questions, packs, strict=False))
    return Evaluation(
        question_source="golden" if exam.source == "golden" else "held_out",
        questions=len(exam.questions),
        correct=correct,
        in_pack=in_pack,
        unanswerable=len(exam.unanswerable),
        declined=declined,
        answers=tuple(answers),
        memory_generation=generation,
        gguf_sha256=adapter.sha256,
        base_sha256=llm.base_sha256,
        seconds=round(time.monotonic() - started, 1),
    )


def _confidence(question: str, lines: Sequence[Evidence]) -> float:
    return judge(question, [FoundLine(line.text, line.cosine, line.score) for line in lines])


def _pack_holds(pack: Sequence[Evidence], question: GoldenQuestion) -> bool:
    """Whether one line of the pack holds the fact, out of the very document that is known to hold it."""
    return any(holds_fact(line.text, question.expected) and question.document in ("", line.citation.filename) for line in pack)


def declines(reply: str) -> bool:
    """Whether the reply is the twin's way to say that its notes hold no answer."""
    return reply.strip().startswith(DECLINE.rstrip("."))


def _ask(
    user: User,
    questions: Sequence[str],
    packs: Sequence[Sequence[Evidence]],
    arm: Arm,
    llm: Llm,
    adapter: AdapterFile,
    evaluation: EvaluationSettings,
    slots: int,
) -> list[str]:
    """Answers in question order. Prompts of like length go together, as one batch is as slow as its longest prompt."""
    prompts = [
        fit_messages(user, question, pack, (), llm, evaluation.answer_tokens)[0]
        for question, pack in zip(questions, packs, strict=True)
    ]
    order = sorted(range(len(prompts)), key=lambda i: sum(len(message.content) for message in prompts[i]))
    batches = [order[i : i + evaluation.batch] for i in range(0, len(order), evaluation.batch)]

    def answer(batch: Sequence[int]) -> list[str]:
        conversations: list[Sequence[Message]] = [prompts[i] for i in batch]
        return llm.answer_batch(
            conversations,
            tenant=user.user_id,
            adapter=adapter if arm.startswith("adapter") else None,
            max_tokens=evaluation.answer_tokens,
        )

    replies: list[str] = [""] * len(prompts)
    with ThreadPoolExecutor(max_workers=slots) as pool:
        for batch, texts in zip(batches, pool.map(answer, batches), strict=True):
            for i, text in zip(batch, texts, strict=True):
                replies[i] = text
    return replies
