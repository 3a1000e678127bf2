"""A calibration: a few questions to the person, each with two answers in blind order, of which they take the one they would
have given. One is the twin's, the other the base's on the very same prompt.

Belongs here: which questions, both answers, their order, and how often the twin was preferred.
Does not belong here: keeping pairs (`stores/calibration.py`) and learning from picks (`L2/picked_pairs.py`).

Why no golden question, although it asks what is known: a golden one is kept out of training, and a pick is there to be learnt.
"""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import zip_longest
from pathlib import Path

from lpm_kernel.artefacts import decode_records, read_artefact
from lpm_kernel.errors import UserInputError
from lpm_kernel.L1.topics import MISC, UNNAMED
from lpm_kernel.L2.adapter_files import fetch_adapter
from lpm_kernel.L2.golden import Asked, load_golden, too_close
from lpm_kernel.L2.intervals import share_interval
from lpm_kernel.L2.preference_pairs import one_line, plain_words
from lpm_kernel.L2.prompt import declines, fit_messages
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.row_gate import question_of
from lpm_kernel.recall.plan import Line, recall_lines
from lpm_kernel.records import Message, Topic, content_id
from lpm_kernel.stores.calibration import CalibrationPair, list_pairs, put_pairs
from lpm_kernel.stores.documents import deleted_documents
from lpm_kernel.stores.llm import Llm
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release
from lpm_kernel.stores.users import get_user

TRIED_PER_PAIR = 4
"""Questions that are looked at for each pair: of some the notes know nothing, and some both answer alike."""
_THINK = ("What do you think about {}?", "How do you feel about {}?", "What is your view on {}?")


@dataclass(frozen=True, slots=True)
class PickCount:
    """Of one release. `share` of the twin among the pairs that a side was taken of, with its interval of 95 %; None of none."""

    release_id: str
    shown: int
    twin: int
    base: int
    neither: int
    share: float | None
    low: float
    high: float


def begin_calibration(
    stores: Stores, llm: Llm, user_id: str, adapters: Path, *, now: datetime, seed: str | None = None
) -> list[CalibrationPair]:
    """Pairs to pick from: those that are still open, and when none is, at most `serving.calibration_pairs` new ones.

    `seed` decides questions and order; it is drawn by chance where none is given, kept nowhere and told to nobody.
    Raises: UserInputError `twin_not_found`, `no_release`, `calibration_no_questions`; RetrievalError, LlmError, StoreError.
    """
    with stores.tables.transaction(user_id) as connection:
        user = get_user(connection, user_id)
        release = live_release(connection, user_id)
        if release is None:
            raise UserInputError("no_release", f"the twin {user_id!r} has no release yet: there is nothing to compare")
        before = [pair for pair in list_pairs(connection, user_id) if pair.release_id == release.release_id]
        deleted = deleted_documents(connection, user_id)
    if waiting := [pair for pair in before if pair.pick is None]:
        return waiting
    seed, count = seed or secrets.token_hex(16), stores.settings.serving.calibration_pairs
    asked = {plain_words(pair.question) for pair in before}
    questions = [q for q in _questions(stores, user_id, deleted, seed) if plain_words(q) not in asked]
    prompts: list[tuple[str, tuple[Message, ...], tuple[Line, ...]]] = []
    for question in questions[: TRIED_PER_PAIR * count]:
        if len(prompts) == count:
            break
        found = recall_lines(
            *(stores, user_id, release.memory_generation, question),
            now=now,
            fingerprint=release.embedding_fingerprint,
            deleted=deleted,
            parts=("documents",),
        )
        if found.lines:
            fitted = fit_messages(user, question, found.lines, (), llm, stores.settings.models.answer_tokens)
            prompts.append((question, *fitted))
    if not prompts:
        raise UserInputError(
            "calibration_no_questions", "there is no further question to compare answers to: send more documents, or wait"
        )
    adapter = fetch_adapter(stores.blobs, user_id, release.gguf_key, release.gguf_sha256, release.base_sha256, adapters)
    ask = partial(
        llm.answer_batch,
        [messages for _, messages, _ in prompts],
        tenant=user_id,
        max_tokens=stores.settings.models.answer_tokens,
    )
    answers = zip(ask(adapter=adapter), ask(adapter=None), strict=True)
    run_id = uuid.uuid4().hex
    told = [
        (question, lines, twin.strip(), base.strip())
        for (question, _, lines), (twin, base) in zip(prompts, answers, strict=True)
        if _can_be_compared(twin, base)
    ]
    if not told:
        raise UserInputError("calibration_no_questions", "twin and base answer alike, or not at all: there is nothing to pick")
    ids = [content_id(user_id, run_id, question)[:32] for question, *_ in told]
    first = blind_order(seed, ids)
    pairs = [
        CalibrationPair(
            pair_id=pair_id,
            run_id=run_id,
            release_id=release.release_id,
            question=question,
            citations=tuple(line.evidence.citation for line in lines if line.evidence),
            twin_answer=twin,
            base_answer=base,
            twin_first=first[pair_id],
            created_at=now,
        )
        for pair_id, (question, lines, twin, base) in zip(ids, told, strict=True)
    ]
    with stores.tables.transaction(user_id) as connection:
        put_pairs(connection, user_id, pairs)
        return [pair for pair in list_pairs(connection, user_id) if pair.run_id == run_id]


def blind_order(seed: str, pair_ids: Sequence[str]) -> dict[str, bool]:
    """Whether the twin's answer stands first, by pair: first in as many as second, or one more. Equal for an equal seed.

    Why in as many: who always takes the first would else seem to prefer whoever stood there more often.
    """
    shuffled = sorted(pair_ids, key=lambda pair_id: content_id("order", seed, pair_id))
    start = int(content_id("start", seed)[:2], 16) % 2  # of an odd number, neither side has the one more by rule
    return {pair_id: (place + start) % 2 == 0 for place, pair_id in enumerate(shuffled)}


def count_picks(pairs: Sequence[CalibrationPair]) -> list[PickCount]:
    """How often the twin was preferred to the base, by release, in the order in which these were first shown."""
    counts = []
    for release_id in dict.fromkeys(pair.release_id for pair in pairs):
        of = [pair for pair in pairs if pair.release_id == release_id]
        twin, base, neither = (sum(pair.pick == side for pair in of) for side in ("twin", "base", "neither"))
        low, high = share_interval(twin, twin + base)
        share = twin / (twin + base) if twin + base else None
        counts.append(PickCount(release_id, len(of), twin, base, neither, share, round(low, 4), round(high, 4)))
    return counts


def _can_be_compared(twin: str, base: str) -> bool:
    alike = one_line(twin).casefold() == one_line(base).casefold()
    return bool(twin.strip() and base.strip()) and not alike and not (declines(twin) or declines(base))


def _questions(stores: Stores, user_id: str, deleted: Collection[str], seed: str) -> list[str]:
    """Of topics and of what training asks of preferences, in turn and by chance; none that is golden, or asks the same.

    A question of the held-out rows is none of them: where there is no golden file the twin is examined by those.
    """
    chance = random.Random(seed)
    topics = read_artefact(stores.blobs, user_id, "topics", "jsonl", partial(decode_records, record_type=Topic)) or []
    rows = read_artefact(stores.blobs, user_id, "training_rows", "jsonl", partial(decode_records, record_type=TrainingRow))
    # labels are made of the words of all documents, and nobody can tell of which
    named = [] if deleted else [topic.label for topic in topics if topic.label not in (MISC, UNNAMED)]
    of_topics = [chance.choice(_THINK).format(" and ".join(label.split(", "))) for label in sorted(set(named))]
    of_rows = {
        question_of(row)
        for row in rows or ()
        if (row.kind, row.split, row.person) == ("preference", "train", "first")
        and not any(source.document_sha256 in deleted for source in row.sources)
    }
    told = sorted(of_rows)
    for questions in (of_topics, told):
        chance.shuffle(questions)
    mixed = [question for pair in zip_longest(of_topics, told) for question in pair if question]
    unique = list({plain_words(question): question for question in mixed}.values())
    close = too_close([Asked(question, "") for question in unique], load_golden(stores.blobs, user_id), stores.embedder)
    return [question for question, near in zip(unique, close, strict=True) if not near]
