"""What a twin knows, counted: every question asked up to four ways, through the engine that serves it.

Belongs here: asking, and putting the counts together.
Does not belong here: the questions (`exam.py`), what is right (`scorers.py`), leaks (`leaks.py`) and promoting a release
(`release.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import get_args

from lpm_kernel.errors import UserInputError
from lpm_kernel.L2.exam import Exam, Probe
from lpm_kernel.L2.golden import holds_fact
from lpm_kernel.L2.intervals import paired_difference, share_interval
from lpm_kernel.L2.manner import nearer_than_base
from lpm_kernel.L2.prompt import DECLINE, declines, fit_messages
from lpm_kernel.L2.records import ARMS, Arm, Comparison, Evaluation, GradedAnswer, Measure, Score
from lpm_kernel.recall.confidence import LINES, FoundLine, judge, seeks_knowledge
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Evidence, Message, User
from lpm_kernel.settings import EvaluationSettings, RecallSettings
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.llm import AdapterFile, Llm
from lpm_kernel.stores.vectors import Vectors

PROMOTED: Arm = "adapter+retrieval"
"""What a release serves, and what every other arm is compared with."""

VOICED: tuple[Arm, ...] = ("base", "base+retrieval", "adapter+retrieval")
"""Whose voices are compared, on the same questions. The adapter without notes has its own: it learnt to decline most."""

Outcomes = Mapping[Measure, Mapping[Arm, Sequence[bool]]]
"""Right or not, by measure and arm, in the order of the measure's questions."""

Replies = Mapping[Arm, Mapping[str, str]]
"""What was answered, by arm and probe."""


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
    own_texts: Sequence[str] = (),
) -> Evaluation:
    """Ask every question as base and as twin, each without and with retrieved lines, as far as the question is meant for both.

    `own_texts` are the person's own, to compare the manner of answers with.
    Units: counts of questions, seconds.
    """
    started = time.monotonic()
    found = {
        probe.probe_id: recall_evidence(
            user.user_id, generation, probe.question, vectors, embedder, recall, lines=max(LINES, recall.lines)
        )
        for probe in exam.probes
    }
    packs = {probe_id: lines[: recall.lines] for probe_id, lines in found.items()}
    known = {probe.probe_id: _is_known(probe, found[probe.probe_id], recall) for probe in exam.probes}
    replies: dict[Arm, dict[str, str]] = {}
    for done, arm in enumerate(ARMS):
        with_notes = "retrieval" in arm
        probes = [probe for probe in exam.probes if arm in probe.arms]
        # as a chat does: what the notes do not answer is not asked of the model
        asked = [probe for probe in probes if not with_notes or known[probe.probe_id]]
        progress(done / len(ARMS), f"asking {len(asked)} questions of {arm}")
        shown = [packs[probe.probe_id] if with_notes else [] for probe in asked]
        weights = adapter if arm.startswith("adapter") else None
        texts = ask(user, [probe.question for probe in asked], shown, llm, weights, evaluation, slots)
        replies[arm] = dict.fromkeys((probe.probe_id for probe in probes), DECLINE)
        replies[arm] |= {probe.probe_id: text for probe, text in zip(asked, texts, strict=True)}
    outcomes = {measure: _outcomes(exam.of(measure), replies) for measure in get_args(Measure) if exam.of(measure)}
    unmeasured = list(exam.unmeasured)
    try:
        outcomes["voice"] = _voice(exam, replies, own_texts)
    except UserInputError as error:
        unmeasured.append(f"voice: {error.message}")
    questions, refusals = exam.of("memory_self"), exam.of("refusal")
    return Evaluation(
        question_source=exam.source,
        questions=len(questions),
        correct=_counts(outcomes, "memory_self"),
        in_pack=sum(_pack_holds(packs[probe.probe_id], probe) for probe in questions),
        unanswerable=len(refusals),
        declined=_counts(outcomes, "refusal"),
        answers=tuple(
            GradedAnswer(probe.probe_id, arm, text, probe.is_right(text), probe.measure)
            for arm in ARMS
            for probe in exam.probes
            if (text := replies[arm].get(probe.probe_id)) is not None
        ),
        memory_generation=generation,
        gguf_sha256=adapter.sha256,
        base_sha256=llm.base_sha256,
        seconds=round(time.monotonic() - started, 1),
        scores=tuple(_scores(outcomes)),
        comparisons=tuple(_comparisons(outcomes)),
        false_refusals={arm: sum(declines(replies[arm][probe.probe_id]) for probe in questions) for arm in ARMS},
        unmeasured=tuple(unmeasured),
    )


def ask(
    user: User,
    questions: Sequence[str],
    packs: Sequence[Sequence[Evidence]],
    llm: Llm,
    adapter: AdapterFile | None,
    evaluation: EvaluationSettings,
    slots: int,
) -> list[str]:
    """Answers in question order. Prompts of like length go together, as one batch is as slow as its longest prompt."""
    prompts = [
        fit_messages(user, question, pack, (), llm, evaluation.answer_tokens)[0]
        for question, pack in zip(questions, packs, strict=True)
    ]
    # as a chat does: where lines are shown for a question about the person, declining is weighed against the answer. Not for
    # the base, which never learnt to decline: weighed, it would decline half of what it answers, and be a weaker yardstick.
    weighed = [
        adapter is not None and bool(pack) and seeks_knowledge(question)
        for question, pack in zip(questions, packs, strict=True)
    ]
    order = sorted(range(len(prompts)), key=lambda i: (weighed[i], sum(len(message.content) for message in prompts[i])))
    parts = [[i for i in order if weighed[i] == alike] for alike in (False, True)]
    batches = [part[i : i + evaluation.batch] for part in parts for i in range(0, len(part), evaluation.batch)]

    def answer(batch: Sequence[int]) -> list[str]:
        conversations: list[Sequence[Message]] = [prompts[i] for i in batch]
        return llm.answer_batch(
            conversations,
            tenant=user.user_id,
            adapter=adapter,
            max_tokens=evaluation.answer_tokens,
            declining=DECLINE if weighed[batch[0]] else None,
        )

    replies: list[str] = [""] * len(prompts)
    with ThreadPoolExecutor(max_workers=slots) as pool:
        for batch, texts in zip(batches, pool.map(answer, batches), strict=True):
            for i, text in zip(batch, texts, strict=True):
                replies[i] = text
    return replies


def _is_known(probe: Probe, lines: Sequence[Evidence], recall: RecallSettings) -> bool:
    if not seeks_knowledge(probe.question):
        return True
    found = [FoundLine(line.text, line.cosine, line.score) for line in lines]
    return judge(probe.question, found) >= recall.answer_confidence


def _pack_holds(pack: Sequence[Evidence], probe: Probe) -> bool:
    """Whether one line of the pack holds the fact, out of the very document that is known to hold it."""
    facts = probe.facts or (probe.sentence,)
    return any(holds_fact(line.text, facts) and probe.document in ("", line.citation.filename) for line in pack)


def _outcomes(probes: Sequence[Probe], replies: Replies) -> dict[Arm, list[bool]]:
    """Of the arms that were asked all of them."""
    return {
        arm: [probe.is_right(replies[arm][probe.probe_id]) for probe in probes]
        for arm in ARMS
        if all(arm in probe.arms for probe in probes)
    }


def _voice(exam: Exam, replies: Replies, own_texts: Sequence[str]) -> dict[Arm, list[bool]]:
    """Whose answer is nearer to the person than the bare base's, of the questions that all of VOICED answer in words of their
    own; of the adapter without notes, of those that it and the base do.

    Raises: UserInputError `voice_too_little_text`.
    """
    probes = [*exam.of("memory_self"), *exam.of("preference")]

    def nearer(arms: Sequence[Arm]) -> dict[Arm, list[bool]]:
        told = [probe.probe_id for probe in probes if not any(declines(replies[arm][probe.probe_id]) for arm in arms)]
        return nearer_than_base(own_texts, {arm: [replies[arm][probe_id] for probe_id in told] for arm in arms})

    found = nearer(VOICED)
    with suppress(UserInputError):
        found["adapter"] = nearer(("base", "adapter"))["adapter"]
    return found


def _counts(outcomes: Outcomes, measure: Measure) -> dict[str, int]:
    return {arm: sum(outcomes.get(measure, {}).get(arm, ())) for arm in ARMS}


def _scores(outcomes: Outcomes) -> list[Score]:
    scores = []
    for measure, by_arm in outcomes.items():
        for arm, right in by_arm.items():
            if measure == "voice" and arm == "base":
                continue  # the base is the yardstick: nearer than itself it never is
            low, high = share_interval(sum(right), len(right))
            scores.append(Score(measure, arm, sum(right), len(right), round(low, 4), round(high, 4)))
    return scores


def _comparisons(outcomes: Outcomes) -> list[Comparison]:
    comparisons = []
    for measure, by_arm in outcomes.items():
        for arm, right in by_arm.items():
            if (measure, arm) == ("voice", "adapter"):
                continue  # measured on other questions
            if arm != PROMOTED and PROMOTED in by_arm:
                difference, low, high = paired_difference(by_arm[PROMOTED], right)
                comparisons.append(
                    Comparison(measure, PROMOTED, arm, len(right), round(difference, 4), round(low, 4), round(high, 4))
                )
    return comparisons
