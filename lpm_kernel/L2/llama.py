"""The language model: one llama.cpp base, many people's adapters, answers streamed one by one or decoded in batches.

Belongs here: limits, and the order in which places, adapters and contexts are taken and freed.
Does not belong here: prompts, loading adapters (`adapter_cache.py`), decoding (`llama_stream.py`, `llama_batch.py`).

One thread a context and several contexts: on shared cores that held its speed where two threads a context lost all of it. A
lone answer takes the other threads too, while that is measured to be faster (`llama_threads.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.adapter_cache import AdapterCache
from lpm_kernel.L2.base_files import BASE_SHA256_KEY
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.context_pool import ContextPool, Owner, Place, engine_closed
from lpm_kernel.L2.decoding_threads import DecodingThreads
from lpm_kernel.L2.llama_adapters import LlamaAdapters
from lpm_kernel.L2.llama_batch import decode_together
from lpm_kernel.L2.llama_lookup import Lookup
from lpm_kernel.L2.llama_native import BESIDE_TOKENS, Context, Weights
from lpm_kernel.L2.llama_score import BRANCHES, check_room, open_prompt, score_tree
from lpm_kernel.L2.llama_stream import decode_one, decode_or_decline, whole_characters
from lpm_kernel.L2.llama_threads import ThreadChoice
from lpm_kernel.L2.prompt import ANSWER_END, neutralise, render_chatml
from lpm_kernel.records import Message
from lpm_kernel.stores.llm import AdapterFile

ADAPTERS_BYTES = 256 * 2**20
"""Of adapters kept in memory where nobody says otherwise."""

CONTEXT_STEP_TOKENS = 256
"""llama.cpp rounds a context's size up to this."""

PLACE_WAIT_S = 60.0
"""How long a stream waits for its turn before it says that the engine is busy."""

BATCH: Owner = ("", None)
"""Owner of every place for batches: what they computed is forgotten after each, so any place that has a context is good."""


class LlamaCpp:
    """`Llm` on llama.cpp, for many threads. Every answer is greedy.

    `slots` answers are streamed at the same time and `slots` batches of up to `batch` prompts decoded, one thread each; a lone
    one may take `slots` threads. The last `conversations` are kept as far as they are computed, each for its owner alone.
    """

    def __init__(
        self,
        base: BaseModel,
        *,
        slots: int,
        context_tokens: int,
        batch: int = 8,
        conversations: int = 0,
        guesses: bool = True,
        adapters_bytes: int = ADAPTERS_BYTES,
        prepare_thread: Callable[[], None] | None = None,
    ) -> None:
        """`prepare_thread`: decode in threads of our own, each of which does this first; else in the callers'.

        Raises: LlmError `base_unreadable`."""
        self._base = base
        self._context_tokens = context_tokens
        self._batch = batch
        self._weights = Weights(base.gguf_path)
        stamped = self._weights.metadata(BASE_SHA256_KEY)
        if stamped != base.sha256:
            self._weights.close()
            raise LlmError(
                "base_unreadable",
                f"{base.gguf_path.name} is made from base {str(stamped)[:12]}, not from {base.sha256[:12]}; prepare it again",
                retryable=False,
            )
        self._adapters = AdapterCache(LlamaAdapters(self._weights), base.sha256, adapters_bytes)
        self._guesses = guesses
        self._threads = ThreadChoice(slots)
        self._decoders = DecodingThreads(3 * slots, prepare_thread) if prepare_thread else None
        self._streams = ContextPool(slots, conversations)
        self._batches = ContextPool(slots)
        self._scores = ContextPool(slots)
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    @property
    def base_sha256(self) -> str:
        return self._base.sha256

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def adapters(self) -> AdapterCache:
        """What is in memory, to be counted, pinned and retired."""
        return self._adapters

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        with self._in_use():
            return len(self._tokenize(messages))

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> Iterator[str]:
        """Pieces of the greedy answer, as they are decoded, each whole characters; with `declining` when all is decoded.

        What is wrong with the prompt or the adapter is raised here, before the first piece is asked for. Closing the iterator
        early gives its place to the next caller.
        Raises: LlmError `prompt_too_long`, `adapter_refused`, `engine_closed`; `decode_failed` and `engine_busy` (retryable).
        """
        with self._in_use(), self._adapters.borrow(adapter, answers=False):
            ids = self._prompt(messages, max_tokens)
        return self._pieces(ids, tenant, adapter, max_tokens, self._declining(declining))

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> list[str]:
        """Greedy answers to several prompts of one tenant, decoded together, in the order given.

        Raises: as `stream`.
        """
        with self._in_use():
            prompts = [self._prompt(messages, max_tokens) for messages in conversations]
            if not prompts:
                return []
            with self._batches.lend(BATCH) as place, self._threads.at_work(), self._adapters.borrow(adapter) as attached:
                place.owner = BATCH
                words = self._declining(declining)
                room = max(map(len, prompts)) + max(max_tokens, len(words))
                context = self._batch_context(place, min(len(prompts), self._batch), room)
                try:
                    context.attach(attached)
                    answers = decode_together(context, prompts, max_tokens, self._weights.ends_answer, words)
                finally:
                    context.forget()
                    context.attach(None)
            return [b"".join(map(self._weights.piece, ids)).decode(errors="replace") for ids in answers]

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        """As `Llm.score`; computed as one tree. Nothing of it is kept: the next call may be anybody's."""
        with self._in_use():
            asked = [self._weights.tokenize(open_prompt(messages)) for messages in prompts]
            offered = [self._weights.tokenize(neutralise(option)) for option in options]
            check_room(asked, offered, self._context_tokens)
            if not asked or not offered:
                return [[] for _ in asked]
            with self._scores.lend(BATCH) as place, self._threads.at_work(), self._adapters.borrow(adapter) as attached:
                place.owner = BATCH
                place.context = place.context or Context(
                    self._weights, 1, self._context_tokens, branching=True, branches=BRANCHES, threads=self._threads
                )
                try:
                    place.context.attach(attached)
                    return score_tree(place.context, asked, offered)
                finally:
                    place.context.forget()
                    place.context.attach(None)

    def close(self) -> None:
        """Free everything. Streams under way fail with `engine_closed`, batches end; the last of them frees what they used."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            idle = not self._users
        self._streams.refuse()
        self._batches.refuse()
        self._scores.refuse()
        if idle:
            self._free()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Nothing is freed while anyone is in here."""
        with self._lock:
            if self._closed:
                raise engine_closed()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                last = self._closed and not self._users
            if last:
                self._free()

    def _free(self) -> None:
        self._streams.close()
        self._batches.close()
        self._scores.close()
        if self._decoders:
            self._decoders.close()
        self._adapters.close()
        self._weights.close()

    def _prompt(self, messages: Sequence[Message], max_tokens: int) -> list[int]:
        ids = self._tokenize(messages)
        if len(ids) + max_tokens > self._context_tokens:
            raise LlmError(
                "prompt_too_long",
                f"a prompt of {len(ids)} tokens leaves no room for {max_tokens} of answer in {self._context_tokens}; "
                "ask more briefly or raise models.context_tokens",
                retryable=False,
            )
        return ids

    def _tokenize(self, messages: Sequence[Message]) -> list[int]:
        return self._weights.tokenize(render_chatml(messages, open_answer=True))

    def _declining(self, words: str | None) -> list[int]:
        ids = [] if words is None else self._weights.tokenize(neutralise(words) + ANSWER_END)
        if len(ids) > BESIDE_TOKENS:
            raise LlmError("prompt_too_long", f"what declines takes {len(ids)} tokens of {BESIDE_TOKENS}", retryable=False)
        return ids

    def _pieces(
        self, ids: list[int], tenant: str, adapter: AdapterFile | None, max_tokens: int, declining: list[int]
    ) -> Iterator[str]:
        owner = (tenant, adapter.sha256 if adapter else None)
        with (
            self._in_use(),
            self._streams.lend(owner, PLACE_WAIT_S) as place,
            self._threads.at_work(),
            self._adapters.borrow(adapter) as attached,
        ):
            # the prompt leaves room for an answer, and declining may be longer than the longest that was asked for
            place.context = place.context or Context(
                self._weights,
                1,
                self._context_tokens + BESIDE_TOKENS,
                branching=True,
                threads=self._threads,
                decoders=self._decoders,
            )
            place.context.attach(attached)
            try:
                yield from whole_characters(self._written(place, place.context, owner, ids, max_tokens, declining))
            except LlmError:
                # What a failed decode left in the context is unknown.
                place.owner = None
                raise
            finally:
                # No pointer stays behind in the context that an eviction could free.
                place.context.attach(None)

    def _written(
        self, place: Place, context: Context, owner: Owner, ids: list[int], max_tokens: int, declining: list[int]
    ) -> Iterator[bytes]:
        ends = self._weights.ends_answer
        lookup = Lookup(ids, self._weights.piece) if self._guesses else None
        if declining:
            tokens = decode_or_decline(place, context, owner, ids, declining, max_tokens, ends, lookup)
        else:
            tokens = decode_one(place, context, owner, ids, max_tokens, ends, lookup)
        for token in tokens:
            if self._closed:
                raise engine_closed()
            yield self._weights.piece(token)

    def _batch_context(self, place: Place, sequences: int, room: int) -> Context:
        """The place's context when it is large enough, else a larger one."""
        found = place.context
        if found and found.sequences >= sequences and found.sequence_tokens >= room:
            return found
        place.close()
        rounded = -(-room // CONTEXT_STEP_TOKENS) * CONTEXT_STEP_TOKENS
        sequences = max(sequences, found.sequences if found else 0)
        room = max(rounded, found.sequence_tokens if found else 0)
        place.context = Context(self._weights, sequences, room, threads=self._threads, decoders=self._decoders)
        return place.context
