"""Public test doubles of the ports: they satisfy the Protocols and pass the same contract suites as the real classes.

Belongs here: a fake that more than one test file needs, and stores that fail when told to.
Does not belong here: tests; they are in `contracts/`.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lpm_kernel.errors import LlmError, NerError, StoreError, UserInputError
from lpm_kernel.L2.prompt import render_chatml
from lpm_kernel.records import Citation, Message, sha256_hex
from lpm_kernel.stores.llm import AdapterFile
from lpm_kernel.stores.ner import Reading, exact_spans
from lpm_kernel.stores.ner_rules import Found
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.vectors import HeldEntry, Hit, SyncCount, VectorEntry
from tests.memory_blobs import MemoryBlobs as MemoryBlobs

if TYPE_CHECKING:
    from sqlalchemy import Connection

_WORD = re.compile(r"[^\W_]+")


def no_progress(share: float, words: str) -> None:
    assert 0 <= share <= 1, words


class FakeEmbedder:
    """Words hashed into 64 dimensions: texts that share words are near each other. Counts what it embedded."""

    dim = 64

    def __init__(self, fingerprint: str = "fake/64/l2") -> None:
        self.fingerprint = fingerprint
        self.texts: list[str] = []
        """Every text that was embedded, in order."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        if any(not text.strip() for text in texts):
            raise UserInputError("text_empty", "an empty text has no embedding")
        self.texts.extend(texts)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in _WORD.findall(text.casefold()) or [text]:
                row[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) % self.dim] += 1
            row /= np.linalg.norm(row)
        return vectors

    def tokens_read(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


class MemoryVectors:
    """Vectors in a dict; the search is written anew from the formulas (BM25F, cosine, min-max), without stemming."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, dict[str, tuple[VectorEntry, str]]]] = {}
        """User, then generation in the order of its last sync, then the sign of the entry."""
        self._lock = threading.Lock()

    def sync(self, user_id: str, generation: str, entries: Sequence[VectorEntry], fingerprint: str) -> SyncCount:
        if not all(np.isfinite(entry.vector).all() for entry in entries):
            raise StoreError("vector_invalid", "a vector holds a value that is no number", retryable=False)
        with self._lock:
            mine = self._entries.setdefault(user_id, {})
            known = {sign for held in mine.values() for sign in held}
            before = mine.pop(generation, {})
            mine[generation] = {_sign(entry, fingerprint): (entry, fingerprint) for entry in entries}
            fresh = mine[generation].keys() - known
        return SyncCount(len(fresh), len(entries) - len(fresh), len(before.keys() - mine[generation].keys()))

    def drop_generations(self, user_id: str, keep: Collection[str]) -> int:
        with self._lock:
            mine = self._entries.get(user_id, {})
            order = list(mine)
            newest = max((order.index(generation) for generation in keep if generation in mine), default=0)
            count = self.count(user_id)
            for generation in order[:newest]:
                if generation not in keep:
                    del mine[generation]
            return count - self.count(user_id)

    def forget_documents(self, user_id: str, sha256s: Collection[str]) -> int:
        with self._lock:
            count = self.count(user_id)
            for held in self._entries.get(user_id, {}).values():
                for sign in [sign for sign, (entry, _) in held.items() if entry.chunk.document_sha256 in sha256s]:
                    del held[sign]
            return count - self.count(user_id)

    def delete_user(self, user_id: str) -> None:
        with self._lock:
            self._entries.pop(user_id, None)

    def search(
        self,
        user_id: str,
        generation: str,
        question: str,
        vector: np.ndarray,
        *,
        fingerprint: str,
        k: int,
        keyword_weight: float,
        neighbour_weight: float,
        withheld: Collection[str] = (),
    ) -> list[Hit]:
        held = self._entries.get(user_id, {}).get(generation, {}).values()
        shown = (e for e, f in held if f == fingerprint and e.chunk.document_sha256 not in withheld)
        entries = sorted(shown, key=lambda entry: entry.chunk.chunk_id)
        if not entries:
            return []
        cosines = [float(entry.vector @ vector / np.linalg.norm(entry.vector) / np.linalg.norm(vector)) for entry in entries]
        words = bm25f(question, [(entry.text, entry.near) for entry in entries], neighbour_weight)
        scores = [
            (1 - keyword_weight) * near + keyword_weight * said
            for near, said in zip(_min_max(cosines, 1.0), _min_max(words, 0.0), strict=True)
        ]
        hits = [
            Hit(
                Citation(
                    entry.chunk.chunk_id,
                    entry.chunk.document_sha256,
                    entry.chunk.filename,
                    entry.chunk.byte_start,
                    entry.chunk.byte_end,
                ),
                entry.text,
                score,
                cosine,
                bm25,
            )
            for entry, score, cosine, bm25 in zip(entries, scores, cosines, words, strict=True)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.citation.chunk_id))[:k]

    def count(self, user_id: str, generation: str | None = None) -> int:
        mine = self._entries.get(user_id, {})
        return len({sign for name, held in mine.items() if generation in (None, name) for sign in held})

    def list_entries(self, user_id: str) -> list[HeldEntry]:
        mine = self._entries.get(user_id, {})
        signs = {sign: pair for held in mine.values() for sign, pair in held.items()}
        return [
            HeldEntry(
                *(entry.chunk.chunk_id, entry.chunk.document_sha256, entry.chunk.filename),
                *(entry.chunk.byte_start, entry.chunk.byte_end, fingerprint, entry.input_sha256),
                text_sha256=sha256_hex(entry.text.encode()),
                generations=tuple(name for name, held in mine.items() if sign in held),
            )
            for sign, (entry, fingerprint) in sorted(signs.items())
        ]


def bm25f(question: str, documents: Sequence[tuple[str, str]], near_weight: float) -> list[float]:
    """BM25F of each (own text, text nearby) by the book: k1 1.2, b 0.75."""
    counts: list[Counter[str]] = []
    for own, near in documents:
        count: Counter[str] = Counter()
        for text, weight in ((own, 1.0), (near, near_weight)):
            for word in _WORD.findall(text.casefold()):
                count[word] += weight  # type: ignore[assignment]
        counts.append(count)
    lengths = [sum(count.values()) for count in counts]
    mean = max(sum(lengths) / len(lengths), 1)
    scores = [0.0] * len(documents)
    for word in set(_WORD.findall(question.casefold())):
        holders = sum(count[word] > 0 for count in counts)
        rarity = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        for i, count in enumerate(counts):
            scores[i] += rarity * count[word] * 2.2 / (count[word] + 1.2 * (1 - 0.75 + 0.75 * lengths[i] / mean))
    return scores


def _min_max(values: Sequence[float], when_equal: float) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else when_equal for value in values]


def _sign(entry: VectorEntry, fingerprint: str) -> str:
    chunk = entry.chunk
    return f"{chunk.chunk_id} {entry.input_sha256} {fingerprint} {chunk.filename} {chunk.byte_start} {chunk.byte_end}"


@dataclass(frozen=True, slots=True)
class LlmCall:
    messages: tuple[Message, ...]
    tenant: str
    adapter: AdapterFile | None
    max_tokens: int
    declining: str | None = None


class FakeLlm:
    """Says what is in its queue, one word a token, and remembers what it was asked. A queued error is raised in its turn."""

    def __init__(
        self, answers: Iterable[str | Exception] = (), *, base_sha256: str = "b" * 64, context_tokens: int = 1024
    ) -> None:
        self.answers = deque(answers)
        self.calls: list[LlmCall] = []
        self.scored: list[tuple[tuple[tuple[Message, ...], ...], tuple[str, ...]]] = []
        self.scorer: Callable[[str, str], float] = _words_missing
        self.base_sha256 = base_sha256
        self.context_tokens = context_tokens
        self.closed = False

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        return len(render_chatml(messages, open_answer=True).split())

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> Iterator[str]:
        self._check([messages], adapter, max_tokens)
        return self._pieces(messages, tenant, adapter, max_tokens, declining)

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> list[str]:
        self._check(conversations, adapter, max_tokens)
        return ["".join(self._pieces(messages, tenant, adapter, max_tokens, declining)) for messages in conversations]

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        """What `scorer` says of the last message and an option: the likelier, the more of its words are there."""
        self._check(prompts, adapter, 1)
        self.scored.append((tuple(map(tuple, prompts)), tuple(options)))
        if not all(option.strip() for option in options):
            raise LlmError("option_empty", "an option without a word", retryable=False)
        return [[self.scorer(prompt[-1].content, option) for option in options] for prompt in prompts]

    def _check(self, conversations: Sequence[Sequence[Message]], adapter: AdapterFile | None, max_tokens: int) -> None:
        if self.closed:
            raise LlmError("engine_closed", "the language model is closed")
        if adapter is not None and adapter.base_sha256 != self.base_sha256:
            raise LlmError("adapter_refused", "the adapter was trained on another base", retryable=False)
        if any(self.prompt_tokens(messages) + max_tokens > self.context_tokens for messages in conversations):
            raise LlmError("prompt_too_long", f"no room for {max_tokens} tokens behind the prompt", retryable=False)

    def _pieces(
        self, messages: Sequence[Message], tenant: str, adapter: AdapterFile | None, max_tokens: int, declining: str | None
    ) -> Iterator[str]:
        self.calls.append(LlmCall(tuple(messages), tenant, adapter, max_tokens, declining))
        assert self.answers, "more was asked than answers were queued"
        answer = self.answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        yield from re.findall(r"\s*\S+", answer)[:max_tokens]

    def close(self) -> None:
        self.closed = True


def _words_missing(prompt: str, option: str) -> float:
    held = set(_WORD.findall(prompt.casefold()))
    return -1.0 - sum(word not in held for word in _WORD.findall(option.casefold()))


class FakeWriter:
    """Says what the function says of a request; an error it raises is raised. Counts requests, and how many are in flight."""

    def __init__(self, say: Callable[[tuple[Message, ...]], str], fingerprint: str = "fake-writer") -> None:
        self.fingerprint = fingerprint
        self.requests: list[tuple[Message, ...]] = []
        self.most_at_once = 0
        self._say = say
        self._at_once = 0
        self._lock = threading.Lock()

    def write(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: Mapping[str, Any] | None = None,
    ) -> str:
        with self._lock:
            self.requests.append(tuple(messages))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self._say(tuple(messages))
        finally:
            with self._lock:
                self._at_once -= 1


class FailingTables(Tables):
    """Real tables of which one transaction fails, after `spared` others: before its work, or just before its commit."""

    def __init__(self, tables: Tables, *, spared: int = 0, before: bool = True) -> None:
        self.engine = tables.engine
        self._left = spared
        self._before = before

    @contextmanager
    def transaction(self, user_id: str) -> Iterator[Connection]:
        failing, self._left = self._left == 0, self._left - 1
        lost = StoreError("tables_unavailable", "PostgreSQL did not answer: told to")
        if failing and self._before:
            raise lost
        with super().transaction(user_id) as connection:
            yield connection
            if failing:
                raise lost


class AwayTables:
    """Tables whose server does not answer."""

    @contextmanager
    def transaction(self, user_id: str) -> Iterator[Connection]:
        raise StoreError("tables_unavailable", "PostgreSQL did not answer: told to")
        yield


class FakeNer:
    """Every word with a capital is a PERSON; a text that holds `fails_on` fails alone. Keeps what it was asked for."""

    def __init__(self, fails_on: str | None = None, fingerprint: str = "fake-ner/1") -> None:
        self.fingerprint = fingerprint
        self.fails_on = fails_on
        self.texts: list[str] = []

    def extract(self, texts: Sequence[str]) -> list[Reading | NerError]:
        self.texts.extend(texts)
        return [self._extract(text) for text in texts]

    def _extract(self, text: str) -> Reading | NerError:
        if self.fails_on is not None and self.fails_on in text:
            return NerError("extraction_failed", "told to fail")
        words = re.finditer(r"\b[A-ZÀ-Þ]\w+", text)
        spans = exact_spans(text, [(Found(word.start(), word.end(), "PERSON", 50), "spacy") for word in words])
        return Reading(spans, self.fingerprint)
