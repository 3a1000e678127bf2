"""One person's examination from end to end: the exam, the engine, the leaks, the judge.

Belongs here: which stores and engines the parts of an evaluation are given, and in which order.
Does not belong here: any of the parts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lpm_kernel.errors import SettingsError, TrainingError
from lpm_kernel.L0.embed import generation_of
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L2.adapter_files import fetch_adapter
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder, open_llm
from lpm_kernel.L2.evaluate import ask, evaluate_twin
from lpm_kernel.L2.exam import Exam, make_exam
from lpm_kernel.L2.golden import leave_out_taught, load_golden
from lpm_kernel.L2.judge import Ask, Pair, judge_pairs
from lpm_kernel.L2.leaks import (
    Foreign,
    count_foreign_facts,
    count_foreign_lines,
    count_numbers,
    gather_foreign,
    secret_questions,
)
from lpm_kernel.L2.llama_likelihood import open_likelihood
from lpm_kernel.L2.records import Evaluation, GgufAdapter, GoldenSet, Judged, LeakCount, TrainingRow
from lpm_kernel.L2.skill_rows import taught_questions
from lpm_kernel.L2.synthesize import find_golden_rows, question_of
from lpm_kernel.llm_items import CallCache, write_as_set
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Chunk, Document, EmbeddingTable, Preference, User
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.llm import AdapterFile, Llm
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import get_user
from lpm_kernel.stores.writer import Writer

ASKING, LEAKS = 0.8, 0.95
"""Shares of the whole at which the questions are asked and other people's memory is looked for."""


def examine_twin(
    stores: Stores,
    user_id: str,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    table: EmbeddingTable,
    rows: Sequence[TrainingRow],
    preferences: Sequence[Preference],
    gguf: GgufAdapter,
    others: Collection[str],
    adapters: Path,
    writer: Writer | None,
    progress: Progress,
) -> Evaluation:
    """Everything an evaluation counts, through the engine that serves. `others` are all people whose memory may not be known.

    Raises: TrainingError `golden_in_training`; SettingsError `judge_missing`; StoreError, LlmError.
    """
    settings = stores.settings
    if settings.evaluation.judge == "writer" and writer is None:
        raise SettingsError(
            "judge_missing", "evaluation.judge is `writer`, but there is none: name a model or set it to `none`"
        )
    with stores.tables.transaction(user_id) as connection:
        user = get_user(connection, user_id)
    golden = load_golden(stores.blobs, user_id)
    if learnt := find_golden_rows(rows, golden, stores.embedder):
        raise TrainingError(
            "golden_in_training",
            f"{len(learnt)} training rows ask golden questions that came later: materialize `training_rows`",
        )
    left_out = 0
    if golden is not None and settings.skill.start:
        golden, left_out = leave_out_taught(golden, taught_questions(), stores.embedder)
    exam = make_exam(user, golden, rows, preferences, settings.evaluation)
    adapter = fetch_adapter(stores.blobs, user_id, gguf.key, gguf.sha256, gguf.base_sha256, adapters)
    texts = {sha256: text.decode() for sha256, text in fetch_texts(chunks, stores.blobs).items()}
    own = [texts[document.sha256] for document in documents if document.created_by == "user" and document.sha256 in texts]
    foreign = gather_foreign(stores.blobs, user_id, others, settings.evaluation.foreign_questions)
    embedder = stores.embedder_of(table.fingerprint)
    llm = open_llm(settings, progress)
    try:
        report = evaluate_twin(
            user,
            exam,
            llm,
            adapter,
            generation_of(table),
            stores.vectors,
            embedder,
            settings.recall,
            settings.evaluation,
            settings.models.slots,
            lambda share, words: progress(share * ASKING, words),
            own,
        )
        progress(ASKING, "looking for other people's memory")
        leaks = _asked_leaks(stores, user, foreign, texts, generation_of(table), embedder, llm, adapter)
    finally:
        llm.close()
    leaks += _number_leaks(stores, user, foreign, rows, texts, adapter, progress)
    cache = CallCache(stores.blobs, user_id, "verdicts")
    judge = None
    if writer is not None and settings.evaluation.judge == "writer":
        judge = partial(
            write_as_set,
            writer=writer,
            cache=cache,
            settings=settings,
            progress=lambda share, words: progress(LEAKS + share * (1 - LEAKS), words),
        )
    reasons = _unlooked(leaks, bool(foreign.rows or foreign.questions))
    if left_out:
        reasons.append(f"{left_out} golden questions: asked alike in teaching the skill adapter")
    if judge and golden is None:
        reasons.append("judge: without a golden file there is no sentence that is known to be true")
    judged = _judged(report, exam, golden, judge)
    cache.drop_unused()
    return replace(report, leaks=tuple(leaks), judged=judged, unmeasured=(*report.unmeasured, *reasons))


def _asked_leaks(
    stores: Stores,
    user: User,
    foreign: Foreign,
    texts: Mapping[str, str],
    generation: str,
    embedder: Embedder,
    llm: Llm,
    adapter: AdapterFile,
) -> list[LeakCount]:
    """What retrieval finds for other people's questions, and what the weights answer to them."""
    settings = stores.settings
    limit = settings.evaluation.foreign_questions
    asked = [question.question for question in foreign.questions] or [question_of(row) for row in foreign.rows[:limit]]
    lines = [
        line
        for question in asked
        for line in recall_evidence(user.user_id, generation, question, stores.vectors, embedder, settings.recall)
    ]
    secret = secret_questions(foreign, "\n".join(texts.values()))
    counts = [count_foreign_lines(lines, texts.keys())] if lines else []
    if secret:
        questions, no_lines = [question.question for question in secret], [()] * len(secret)
        of_adapter, of_base = (
            ask(user, questions, no_lines, llm, weights, settings.evaluation, settings.models.slots)
            for weights in (adapter, None)
        )
        counts.append(count_foreign_facts(secret, of_adapter, of_base))
    return counts


def _number_leaks(
    stores: Stores,
    user: User,
    foreign: Foreign,
    rows: Sequence[TrainingRow],
    texts: Mapping[str, str],
    adapter: AdapterFile,
    progress: Progress,
) -> list[LeakCount]:
    settings = stores.settings
    if not settings.evaluation.canaries:
        return []
    base = prepare_base(settings.models, cache_folder(), lambda share, words: None)
    progress((ASKING + LEAKS) / 2, "looking for numbers that should not be known")
    with open_likelihood(base, settings.models.context_tokens) as likelihood:
        own_text = "\n".join(texts.values())
        return count_numbers(user, foreign, rows, own_text, likelihood, adapter, settings.evaluation.canaries)


def _unlooked(leaks: Sequence[LeakCount], others: bool) -> list[str]:
    looked = {leak.probe for leak in leaks}
    reason = "no other person's memory gives any, or it is switched off" if others else "there is nobody else yet"
    reasons = {
        "foreign_lines": reason,
        "foreign_facts": reason,
        "foreign_numbers": reason,
        "held_out_numbers": "no held-out row holds a number that no learnt row shows",
        "trained_numbers": "no learnt row holds a number of three digits or more",
    }
    return [f"{probe}: {why}" for probe, why in reasons.items() if probe not in looked]


def _judged(report: Evaluation, exam: Exam, golden: GoldenSet | None, judge: Ask | None) -> Judged | None:
    """Golden questions only: a judge needs the sentence that is true."""
    if judge is None or golden is None:
        return None
    told = {(answer.question_id, answer.arm): answer.answer for answer in report.answers}
    asked = {probe.probe_id for probe in exam.of("memory_self")}
    arms = ("adapter+retrieval", "base+retrieval")
    pairs = [
        Pair(question.question_id, question.question, question.evidence, *(told[question.question_id, arm] for arm in arms))
        for question in golden.questions
        if question.question_id in asked and question.evidence
    ]
    return judge_pairs(pairs, *arms, judge)
