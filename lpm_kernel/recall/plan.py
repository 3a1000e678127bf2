"""The one plan of recall: a question to what the twin knows of it, from every store, within one budget.

Belongs here: which stores are asked, what becomes of one that fails, and what of all that was found reaches the prompt.
Does not belong here: how a store ranks (`stores/`), whether the lines answer (`confidence.py`) and the prompt (`L2/prompt.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

from lpm_kernel.errors import RetrievalError, StoreError, TwinError
from lpm_kernel.L0.chunk import count_tokens
from lpm_kernel.L1.records import Community
from lpm_kernel.recall.broad import broad_lines, community_vectors, is_broad
from lpm_kernel.recall.confidence import LINES, FoundLine, judge, seeks_knowledge
from lpm_kernel.recall.preferences import choose_preferences
from lpm_kernel.recall.scopes import OWN, Scope
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Evidence, Fact, Memory, MemoryKind
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.stems import stems_of
from lpm_kernel.stores.text_index import asks

if TYPE_CHECKING:
    import numpy as np

Part = Literal["documents", "communities", "memories", "preferences", "facts"]
PARTS: tuple[Part, ...] = get_args(Part)
REMEMBERED: tuple[MemoryKind, ...] = ("fact", "summary", "turn")
"""Kinds that are found by the question; preferences are chosen by rules of their own."""
MEMORY_HALF_LIFE_DAYS = 90
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """One line for the prompt and what it stands on: exactly one of `evidence`, `memory` and `fact`.

    Units: `score` fused, 0 to 1 within its store, and 0 for a preference; `cosine` to the question.
    """

    text: str
    score: float
    cosine: float
    evidence: Evidence | None = None
    memory: Memory | None = None
    fact: Fact | None = None

    @property
    def on_board(self) -> bool:
        """Whether it stays when other lines have to go: preferences do."""
        return self.memory is not None and self.memory.kind == "preference"


@dataclass(frozen=True, slots=True)
class Recalled:
    """`lines`: best first. `degraded`: the parts whose store failed. `confidence`: that the lines answer, 0 to 1."""

    lines: tuple[Line, ...]
    degraded: tuple[Part, ...]
    confidence: float
    answerable: bool

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(line.evidence for line in self.lines if line.evidence is not None)


def recall_lines(
    stores: Stores,
    user_id: str,
    generation: str,
    question: str,
    *,
    now: datetime,
    fingerprint: str | None = None,
    read_communities: Callable[[], Sequence[Community] | None] | None = None,
    already_said: Collection[str] = (),
    deleted: Collection[str] = (),
    parts: Collection[Part] = PARTS,
    scope: Scope = OWN,
) -> Recalled:
    """What the twin knows of a question: of one generation of its documents, and of all that was said and held until `now`.

    `fingerprint`: of the model that this generation was embedded with, where it may be another than that of the settings.
    `read_communities` is called for a question about the person as a whole only, which no single line answers.
    `already_said`: texts that stand in the prompt anyway, such as the last turns. `deleted`: sha256 of documents that nothing
    may show any more, whichever store still holds something of them. `scope`: whoever asks; what they may not hear is no
    candidate in any part. All parts are asked at once.
    Raises: RetrievalError `memory_empty`; the error of the documents, when no other part found anything either.
    """
    recall = stores.settings.recall
    ours, of_release = stores.embedder.fingerprint, fingerprint or stores.embedder.fingerprint
    # Within the parts: a model that fails takes along the parts that need its vector, and no other.
    vector = _embedded_once(stores, question)
    questions: dict[Part, Callable[[], list[Line]]] = {
        "documents": lambda: _ask_documents(stores, of_release, user_id, generation, question, vector(of_release), scope),
        "memories": lambda: _ask_memories(stores, user_id, question, vector(ours), now, scope),
        "preferences": lambda: _ask_preferences(stores, user_id, question, vector(ours), now, scope),
        "facts": lambda: ask_facts(
            *(stores, user_id, question, vector(ours), now), days=recall.fact_days, k=recall.facts, scope=scope
        ),
    }
    if read_communities and is_broad(question):
        questions["communities"] = lambda: _ask_communities(
            scope.shared_of(read_communities() or ()), vector(of_release), max(LINES, recall.lines)
        )
    wanted: dict[Part, Callable[[], list[Line]]] = {
        part: questions[part] for part in PARTS if part in parts and part in questions
    }
    found, failed = ask_all(wanted, recall.store_timeout_s)
    if isinstance(failed.get("documents"), RetrievalError):
        raise failed["documents"]
    found = {part: [line for line in lines if document_of(line) not in deleted] for part, lines in found.items()}
    said = {_sign(text) for text in already_said}
    broad, preferred = found.get("communities", []), found.get("preferences", [])
    heard = [*(broad or found.get("documents", ())), *found.get("memories", ())]
    # what was said a moment ago answers too, though it is not shown twice; so do preferences, by their cosine alone
    judged = [FoundLine(line.text, line.cosine, line.score) for line in heard]
    judged += [FoundLine(line.text, line.cosine, max(0.0, line.cosine)) for line in preferred]
    confidence = judge(question, judged)
    told = [line for line in heard if _sign(line.text) not in said]
    facts = [line for line in found.get("facts", ()) if line.cosine >= recall.fact_cosine][: recall.facts]
    near = [line for line in told if line.memory and line.cosine >= recall.memory_cosine]
    near = sorted((weigh(line, now, recall.salience_weight) for line in near), key=lambda line: -line.score)
    remembered = without_summed(near)[: recall.memories]
    documents = [line for line in told if line.evidence][: recall.lines]
    room = recall.pack_tokens - sum(count_tokens(line.text) for line in preferred)
    lines = fill_pack([*documents, *remembered, *facts], room)
    lines = [*lines, *without(preferred, lines)]
    if "documents" in failed and not lines:
        raise failed["documents"]
    for part, error in failed.items():
        _LOG.warning("%s of user %s could not be asked: %s", part, user_id, error.code)
    known = bool(broad) or any(line.fact for line in lines)
    unknown = not known and seeks_knowledge(question) and confidence < recall.answer_confidence
    return Recalled(tuple(lines), tuple(part for part in PARTS if part in failed), confidence, answerable=not unknown)


def source_of(line: Line) -> str:
    """Where a line stands, for people."""
    if line.evidence:
        place = line.evidence.citation
        return f"{place.filename} bytes [{place.byte_start}, {place.byte_end})"
    if line.memory:
        if line.memory.citation:
            return f"document {line.memory.citation}"
        return f"said on {line.memory.created_at:%Y-%m-%d}"
    return f"a fact since {line.fact.valid_at:%Y-%m-%d}" if line.fact else ""


def document_of(line: Line) -> str | None:
    """sha256 of the document that a line is out of, or tells of; None for what is of no document."""
    if line.evidence:
        return line.evidence.citation.document_sha256
    if line.memory and line.memory.citation:
        return line.memory.citation.partition(":")[0]
    if line.fact:
        return next((end.name for end in (line.fact.subject, line.fact.object) if end.kind == "Document"), None)
    return None


def fill_pack(lines: Sequence[Line], max_tokens: int) -> list[Line]:
    """The best lines first, none twice, as many as fit; where one does not, a shorter one after it may."""
    pack: list[Line] = []
    seen: set[tuple[str, ...]] = set()
    left = max_tokens
    for line in sorted(lines, key=lambda line: -line.score):
        tokens, sign = count_tokens(line.text), _sign(line.text)
        if sign not in seen and tokens <= left:
            pack.append(line)
            seen.add(sign)
            left -= tokens
    return pack


def without(lines: Sequence[Line], others: Sequence[Line]) -> list[Line]:
    """The lines that say what none of the others says."""
    known = {_sign(line.text) for line in others}
    return [line for line in lines if _sign(line.text) not in known]


def without_summed(lines: Sequence[Line]) -> list[Line]:
    """Without the turns that a summary of their session, which is there too, says in the same words."""
    summaries = [line.memory for line in lines if line.memory and line.memory.kind == "summary"]

    def is_summed(memory: Memory | None) -> bool:
        return memory is not None and any(
            memory.kind == "turn" and memory.session_id == summary.session_id and memory.text in summary.text
            for summary in summaries
        )

    return [line for line in lines if not is_summed(line.memory)]


def _sign(text: str) -> tuple[str, ...]:
    """Equal for texts that say the same in the same words."""
    return tuple(stems_of(text)) or (text,)


def weigh(line: Line, now: datetime, weight: float) -> Line:
    """A memory's score times its salience: how much it was said to matter, less with each half-life since.

    Units: `weight`, 0 to 1, is the share of the score that salience decides on.
    """
    if line.memory is None:
        return line
    days = max(0.0, (now - line.memory.created_at).total_seconds() / 86_400)
    salience = line.memory.importance * 0.5 ** (days / MEMORY_HALF_LIFE_DAYS)
    return replace(line, score=line.score * (1 - weight + weight * salience))


def _embedded_once(stores: Stores, question: str) -> Callable[[str], np.ndarray]:
    """From a model's fingerprint to the vector of the question; each model is asked once, whichever part comes first."""
    lock, known = threading.Lock(), dict[str, "np.ndarray"]()

    def vector(fingerprint: str) -> np.ndarray:
        with lock:
            if fingerprint not in known:
                known[fingerprint] = stores.embedder_of(fingerprint).embed([question])[0]
            return known[fingerprint]

    return vector


def _ask_communities(communities: Sequence[Community], vector: np.ndarray, k: int) -> list[Line]:
    found = broad_lines(vector, communities, community_vectors(communities), k)
    return [Line(item.text, item.score, item.cosine, evidence=item) for item in found]


def _ask_documents(
    stores: Stores, fingerprint: str, user_id: str, generation: str, question: str, vector: np.ndarray, scope: Scope
) -> list[Line]:
    """More than the prompt shows, since the confidence is judged on more."""
    recall = stores.settings.recall
    found = recall_evidence(
        *(user_id, generation, question, stores.vectors, stores.embedder_of(fingerprint), recall),
        lines=max(LINES, recall.lines),
        vector=vector,
        withheld=() if scope.is_own else scope.withheld,
    )
    return [Line(item.text, item.score, item.cosine, evidence=item) for item in found]


def _ask_memories(stores: Stores, user_id: str, question: str, vector: np.ndarray, now: datetime, scope: Scope) -> list[Line]:
    """Questions that the person asked before stand around what they told, and are no answer to another question; nor are the
    very words that are said again an answer to themselves."""
    allowed = None if scope.is_own else scope.allows_memory
    hits = stores.memories.recall(user_id, question, vector, 2 * LINES, as_of=now, kinds=REMEMBERED, allowed=allowed)
    same = _sign(question)
    told = [hit for hit in hits if not asks(hit.memory.text) and _sign(hit.memory.text) != same][:LINES]
    return [
        Line(hit.memory.text, hit.score, hit.score if hit.cosine is None else hit.cosine, memory=hit.memory) for hit in told
    ]


def _ask_preferences(
    stores: Stores, user_id: str, question: str, vector: np.ndarray, now: datetime, scope: Scope
) -> list[Line]:
    """On board whatever is asked, those that bear on it first: similarity alone leaves out one in five that do."""
    memories, vectors = stores.memories.with_vectors(user_id, ("preference",), as_of=now)
    heard = [position for position, memory in enumerate(memories) if scope.allows_memory(memory)]
    memories, vectors = [memories[position] for position in heard], vectors[heard]
    budget = stores.settings.recall.preference_tokens
    chosen = choose_preferences(vector, question, memories, vectors, budget, count_tokens)
    cosines = dict(zip((memory.memory_id for memory in memories), (vectors @ vector).tolist() if memories else (), strict=True))
    return [Line(memory.text, 0.0, cosines[memory.memory_id], memory=memory) for memory in chosen]


def ask_facts(
    stores: Stores,
    user_id: str,
    question: str,
    vector: np.ndarray,
    now: datetime,
    *,
    days: int,
    k: int,
    scope: Scope = OWN,
) -> list[Line]:
    """Facts of the temporal graph that hold now, began within `days`, and may be heard."""
    hits = stores.graph.search_facts(
        user_id,
        question,
        vector,
        since=now - timedelta(days=days),
        at=now,
        k=k,
        keyword_weight=stores.settings.recall.keyword_weight,
        allowed=None if scope.is_own else scope.allows_fact,
    )
    return [Line(hit.fact.text, hit.score, hit.cosine, fact=hit.fact) for hit in hits]


def ask_all(
    questions: dict[Part, Callable[[], list[Line]]], timeout_s: float
) -> tuple[dict[Part, list[Line]], dict[Part, TwinError]]:
    """Ask every store at once. What fails or does not answer in time stands in the second; other errors are raised."""
    pool = ThreadPoolExecutor(len(questions), thread_name_prefix="recall")
    # each in a copy of the context, so that what it opens is the request's too
    futures: dict[Part, Future[list[Line]]] = {part: pool.submit(copy_context().run, ask) for part, ask in questions.items()}
    pool.shutdown(wait=False)
    wait(futures.values(), timeout=timeout_s)
    found: dict[Part, list[Line]] = {}
    failed: dict[Part, TwinError] = {}
    for part, future in futures.items():
        if not future.done():
            failed[part] = StoreError(f"{part}_slow", f"the store of {part} did not answer within {timeout_s} s")
            continue
        try:
            found[part] = future.result()
        except TwinError as error:
            failed[part] = error
    return found, failed
