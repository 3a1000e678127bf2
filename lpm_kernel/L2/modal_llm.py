"""The language model on Modal: asked there, streamed back, within a time.

The class that answers is deployed from `twin_serving/modal_app.py` and runs the same engine. Prompts are measured here, by the
base's own tokenizer, since a turn measures several times before it asks once.
Tested with Modal's own client against a server of the tests that speaks its protocol; never yet against Modal itself.

Belongs here: carrying letters and lines, time limits, and Modal's errors as the kernel's.
Does not belong here: the deployed side (`L2/llm_host.py`) and what a letter says (`L2/llm_calls.py`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import LlmError, TwinError
from lpm_kernel.L2.context_pool import engine_closed
from lpm_kernel.L2.llm_calls import LlmAsk, decode_line, encode_ask
from lpm_kernel.records import Message
from lpm_kernel.settings import Settings
from lpm_kernel.stores.background_loop import BackgroundLoop
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.llm import AdapterFile
from lpm_kernel.stores.modal_compute import is_silence, require_token

if TYPE_CHECKING:
    from lpm_kernel.L2.base_model import BaseModel

CLASS = "Engine"
BREAKER = 3, 10.0
"""Failures in a row, and seconds for which Modal is then left alone."""
_END = object()


class ModalLlm:
    """`Llm` as a class of a deployed Modal app. Safe to share between threads."""

    def __init__(self, base: BaseModel, settings: Settings, breaker: Breaker | None = None) -> None:
        """Raises: SettingsError `modal_token_missing`."""
        from tokenizers import Tokenizer

        require_token()
        self._base = base
        self._serving = settings.serving
        self._context_tokens = settings.models.context_tokens
        self._tokenizer = Tokenizer.from_file(str(base.hf_dir / "tokenizer.json"))
        self._loop = BackgroundLoop("modal-llm")
        self._breaker = breaker or Breaker(*BREAKER)
        self._engine: Any = None
        self._lock = threading.Lock()
        self._waiting: set[queue.SimpleQueue[Any]] = set()
        """Of answers under way."""
        self._closed = False

    @property
    def base_sha256(self) -> str:
        return self._base.sha256

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        from lpm_kernel.L2.prompt import render_chatml

        return len(self._tokenizer.encode(render_chatml(messages, open_answer=True), add_special_tokens=False).ids)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> Iterator[str]:
        """Raises: as `Llm.stream`, and LlmError `engine_unreachable` (retryable), `modal_refused`, `modal_not_deployed`.

        Closing the iterator early lets the call there go.
        """
        self._check_open()
        letter = self._letter([messages], tenant, adapter, max_tokens, declining)
        return self._lines(letter)

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> list[str]:
        if not conversations:
            return []
        self._check_open()
        letter = self._letter(conversations, tenant, adapter, max_tokens, declining)
        return decode_line(self._answered("batch", letter), "answers")

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        """Raises: as `Llm.score` and `stream`."""
        if not prompts or not options:
            return [[] for _ in prompts]
        self._check_open()
        longest = max(len(self._tokenizer.encode(option, add_special_tokens=False).ids) for option in options)
        letter = self._letter(prompts, tenant, adapter, longest, None, tuple(options))
        return decode_line(self._answered("score", letter), "scores")

    def _answered(self, method: str, letter: str) -> str:
        """The one line that comes back."""
        self._check_breaker()
        try:
            line = self._loop.run(self._asked(method, letter), self._serving.modal_answer_timeout_s)
        except Exception as error:
            raise self._translated(error) from error
        self._breaker.succeeded()
        return line

    def close(self) -> None:
        """Answers under way end with `engine_closed`: nothing more would ever come of them."""
        with self._lock:
            self._closed, waiting = True, list(self._waiting)
        for lines in waiting:
            lines.put(engine_closed())
        self._loop.close()

    def _check_open(self) -> None:
        with self._lock:
            if self._closed:
                raise engine_closed()

    def _letter(
        self,
        conversations: Sequence[Sequence[Message]],
        tenant: str,
        adapter: AdapterFile | None,
        max_tokens: int,
        declining: str | None,
        options: tuple[str, ...] = (),
    ) -> str:
        if adapter is not None and adapter.base_sha256 != self.base_sha256:
            raise LlmError("adapter_refused", f"adapter {adapter.sha256[:12]} was trained on another base", retryable=False)
        for messages in conversations:
            if (tokens := self.prompt_tokens(messages)) + max_tokens > self._context_tokens:
                raise LlmError(
                    "prompt_too_long",
                    f"a prompt of {tokens} tokens leaves no room for {max_tokens} of answer in {self._context_tokens}; "
                    "ask more briefly or raise models.context_tokens",
                    retryable=False,
                )
        talks = tuple(tuple(messages) for messages in conversations)
        sha256 = adapter.sha256 if adapter else None
        return encode_ask(LlmAsk(talks, tenant, self.base_sha256, sha256, max_tokens, declining, options))

    def _lines(self, letter: str) -> Iterator[str]:
        """The far generator, brought over to this thread line by line."""
        self._check_breaker()
        lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
        deadline = time.monotonic() + self._serving.modal_answer_timeout_s

        async def bring() -> None:
            try:
                async for line in self._stream(letter):
                    lines.put(line)
                lines.put(_END)
            except Exception as error:
                lines.put(error)

        with self._lock:
            if self._closed:
                raise engine_closed()
            self._waiting.add(lines)
            future = self._loop.submit(bring())
        try:
            while True:
                try:
                    line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    raise self._translated(TimeoutError()) from None
                if isinstance(line, Exception):
                    raise self._translated(line) from line
                self._breaker.succeeded()  # with the first line: a listener may leave before the last
                if line is _END:
                    return
                yield decode_line(line, "piece")
        finally:
            with self._lock:
                self._waiting.discard(lines)
            with suppress(RuntimeError):  # its loop has ended with the model
                future.cancel()  # nothing, when it has ended

    async def _stream(self, letter: str) -> AsyncIterator[str]:
        engine = await self._opened()
        async for line in engine.stream.remote_gen.aio(letter):
            yield line

    async def _asked(self, method: str, letter: str) -> str:
        engine = await self._opened()
        return await getattr(engine, method).remote.aio(letter)

    async def _opened(self) -> Any:
        import modal

        if self._engine is None:
            found = modal.Cls.from_name(self._serving.modal_app, CLASS)
            await found.hydrate.aio()
            self._engine = found()
        return self._engine

    def _check_breaker(self) -> None:
        if not self._breaker.allows():
            raise LlmError("engine_unreachable", "Modal did not answer a moment ago")

    def _translated(self, error: Exception) -> TwinError:
        import modal.exception as found

        app = self._serving.modal_app
        if isinstance(error, TwinError):  # of our own loop, which is being closed
            return error
        if isinstance(error, found.AuthError | found.PermissionDeniedError | found.NotFoundError):
            self._breaker.succeeded()  # Modal has answered, and says itself what is wrong
        if isinstance(error, found.AuthError | found.PermissionDeniedError):
            return LlmError("modal_refused", f"Modal does not let this token in to {app}: `modal token new`", retryable=False)
        if isinstance(error, found.NotFoundError):
            return LlmError(
                "modal_not_deployed",
                f"Modal has no class {CLASS} of {app}: modal deploy -m twin_serving.modal_app",
                retryable=False,
            )
        self._breaker.failed()
        self._engine = None  # it may have been deployed anew
        if is_silence(error):
            waited = f"{self._serving.modal_answer_timeout_s:g} s"
            return LlmError("engine_unreachable", f"the model on Modal gave no answer within {waited} ({type(error).__name__})")
        return LlmError("engine_lost", f"Modal could not run {app}: {type(error).__name__}")
