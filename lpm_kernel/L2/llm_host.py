"""The far side of a language model on another machine: letters in, lines out, the same engine as in the API's own process.

Belongs here: fetching the adapter a letter names, asking the model, and errors as lines.
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
from lpm_kernel.L2.adapter_files import drop_local_copies, fetch_adapter
from lpm_kernel.L2.llm_calls import LlmAsk, decode_ask, encode_answers, encode_failure, encode_piece, encode_scores
from lpm_kernel.layout import gguf_key
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.blobs import Blobs
from lpm_kernel.stores.llm import AdapterFile, Llm, user_of_tenant

logger = logging.getLogger(__name__)

KEPT_S = 3600.0
"""How long a copy of an adapter that nobody asks for is kept."""


class LlmHost:
    """One model for many callers. `adapters`: the folder of copies, which is to end with the machine.

    No deletion is told here: a person's adapter is gone within KEPT_S of its last use, or with the machine.
    """

    def __init__(self, llm: Llm, blobs: Blobs, adapters: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._llm = llm
        self._blobs = blobs
        self._adapters = adapters
        self._clock = clock
        self._asked_at: dict[str, float] = {}
        """When each adapter that has a copy was last asked for."""
        self._lock = threading.Lock()

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

    def close(self) -> None:
        self._llm.close()

    def _adapter(self, ask: LlmAsk) -> AdapterFile | None:
        user_id = check_user_id(user_of_tenant(ask.tenant))
        self._drop_unused(ask.adapter_sha256)
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

    def _drop_unused(self, asked_for: str | None) -> None:
        with self._lock:
            now = self._clock()
            if asked_for is not None:
                self._asked_at[asked_for] = now
            unused = [sha256 for sha256, asked_at in self._asked_at.items() if now - asked_at > KEPT_S]
            for sha256 in unused:
                del self._asked_at[sha256]
            drop_local_copies(self._adapters, unused)


def _failure(error: Exception) -> str:
    if isinstance(error, TwinError):
        return encode_failure(error)
    # where it happened, and no word of its own: that may be of a chat
    logger.error("an answer crashed with %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    return encode_failure(LlmError("engine_crashed", "the engine's machine failed; its log there says where"))
