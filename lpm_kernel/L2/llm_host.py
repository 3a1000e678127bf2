"""The far side of a language model on another machine: letters in, lines out, the same engine as in the API's own process.

Belongs here: fetching the adapter a letter names, letting it go again, asking the model, and errors as lines.
Does not belong here: the machine (`twin_serving/modal_app.py`) and what a letter says (`llm_calls.py`).
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from lpm_kernel.errors import LlmError, TwinError
from lpm_kernel.L2.adapter_cache import KeepsAdapters
from lpm_kernel.L2.adapter_files import drop_local_copies, fetch_adapter
from lpm_kernel.L2.llm_calls import LlmAsk, decode_ask, encode_answers, encode_failure, encode_piece, encode_scores
from lpm_kernel.layout import gguf_key
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.llm import AdapterFile, Llm, user_of_tenant

logger = logging.getLogger(__name__)

KEPT_S = 1800.0
"""How long an adapter that nobody asks for is kept, on disk and in memory."""
SWEEP_S = 60.0


class LlmHost:
    """One model for many callers. `adapters`: the folder of copies, which is to end with the machine.

    No deletion is told here, since there may be many such machines: a person's adapter is gone from disk and memory within
    KEPT_S and a sweep of its last use, whoever else asks or does not (`start`), or with the machine.
    """

    def __init__(self, llm: Llm, blobs: Blobs, adapters: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._llm = llm
        self._blobs = blobs
        self._adapters = adapters
        self._clock = clock
        self._asked_at: dict[tuple[str, str], float] = {}
        """When each adapter that has a copy was last asked for, by its person and sha256."""
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sweeper: threading.Thread | None = None

    def start(self) -> None:
        """Let go of what is not used any more also while nobody asks, until `close`."""
        self._sweeper = threading.Thread(target=self._go_on, name="adapters", daemon=True)
        self._sweeper.start()

    def stream(self, letter: str) -> Iterator[str]:
        """A line a piece. An error is the last line, and never raised: raised it would travel as a pickle, with its words."""
        try:
            ask = decode_ask(letter)
            adapter = self._adapter(ask)
            (talk,) = ask.conversations
            about = {"tenant": ask.tenant, "adapter": adapter, "max_tokens": ask.max_tokens, "declining": ask.declining}
            for piece in self._llm.stream(talk, **about):
                yield encode_piece(piece)
        except Exception as error:
            yield _failure(error)

    def batch(self, letter: str) -> str:
        try:
            ask = decode_ask(letter)
            adapter = self._adapter(ask)
            about = {"tenant": ask.tenant, "adapter": adapter, "max_tokens": ask.max_tokens, "declining": ask.declining}
            return encode_answers(self._llm.answer_batch(ask.conversations, **about))
        except Exception as error:
            return _failure(error)

    def score(self, letter: str) -> str:
        try:
            ask = decode_ask(letter)
            adapter = self._adapter(ask)
            return encode_scores(self._llm.score(ask.conversations, ask.options, tenant=ask.tenant, adapter=adapter))
        except Exception as error:
            return _failure(error)

    def drop_unused(self) -> None:
        """Let go of adapters that nobody has asked for in KEPT_S; one that is in use goes when it is not."""
        with self._lock:
            now = self._clock()
            unused = [known for known, asked_at in self._asked_at.items() if now - asked_at > KEPT_S]
            for user_id, sha256 in unused:
                del self._asked_at[user_id, sha256]
                drop_local_copies(self._adapters, user_id, [sha256])
                if isinstance(self._llm, KeepsAdapters):
                    self._llm.adapters.retire(sha256)

    def close(self) -> None:
        self._closing.set()
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.join()
        self._llm.close()

    def _go_on(self) -> None:
        while not self._closing.wait(SWEEP_S):
            try:
                self.drop_unused()
            except Exception as error:
                logger.error("adapters could not be let go: %s", type(error).__name__)

    def _adapter(self, ask: LlmAsk) -> AdapterFile | None:
        user_id = check_user_id(user_of_tenant(ask.tenant))
        if ask.adapter_sha256 is not None:
            with self._lock:
                self._asked_at[user_id, ask.adapter_sha256] = self._clock()
        self.drop_unused()
        if ask.base_sha256 != self._llm.base_sha256:
            raise LlmError(
                "engine_base_differs",
                f"the caller's base is {ask.base_sha256[:12]}, the deployed one {self._llm.base_sha256[:12]}: deploy again",
                retryable=False,
            )
        if ask.adapter_sha256 is None:
            return None
        key = gguf_key(user_id, ask.adapter_sha256)
        return fetch_adapter(self._blobs, user_id, key, ask.adapter_sha256, ask.base_sha256, self._adapters)


def _failure(error: Exception) -> str:
    if isinstance(error, TwinError):
        return encode_failure(error)
    # where it happened, and no word of its own: that may be of a chat
    logger.error("an answer crashed with %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    return encode_failure(LlmError("engine_crashed", "the engine's machine failed; its log there says where"))
