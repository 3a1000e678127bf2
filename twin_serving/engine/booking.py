"""The place of one turn: taken before anything of it is stored, used by whoever answers it, given back when it is over.

Belongs here: the model and the answerer as a turn sees them that was let in.
Does not belong here: who is let in (`admission.py`), and who answers (`lpm_kernel/answering.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lpm_kernel.answering import close
from lpm_kernel.records import Message
from lpm_kernel.stores.answerer import Answerer
from lpm_kernel.stores.llm import AdapterFile, Llm
from lpm_kernel.stores.open import Stores
from twin_serving.engine.admission import Admission, Ticket
from twin_serving.engine.engine import ServingEngine
from twin_serving.engine.listener import listener


class Booking:
    """To be left by whoever made it, whatever becomes of the turn; leaving it twice, and from any thread, does no harm."""

    def __init__(self, admission: Admission, tenant: str) -> None:
        """Raises: LlmError `too_many_requests`, `engine_busy`, `engine_closed`."""
        self._admission = admission
        self._ticket = admission.book(tenant)

    def __enter__(self) -> Booking:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        self._admission.leave(self._ticket)

    def llm(self, llm: Llm) -> Llm:
        """The engine, which answers in this place; a model that is away needs none."""
        return BookedLlm(llm, self._ticket) if isinstance(llm, ServingEngine) else llm

    def stores(self, stores: Stores) -> Stores:
        """With a model elsewhere, if there is one, that is asked in this place."""
        if stores.answerer is None:
            return stores
        return replace(stores, answerer=BookedAnswerer(stores.answerer, self._admission, self._ticket))


class BookedLlm:
    """`Llm` for one turn: nothing that it asks for is refused for there being too many."""

    def __init__(self, engine: ServingEngine, ticket: Ticket) -> None:
        self._engine = engine
        self._ticket = ticket

    @property
    def base_sha256(self) -> str:
        return self._engine.base_sha256

    @property
    def context_tokens(self) -> int:
        return self._engine.context_tokens

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        return self._engine.prompt_tokens(messages)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> Iterator[str]:
        """One after the other: a turn has one place. Raises: as `ServingEngine.stream`."""
        about = {"tenant": tenant, "adapter": adapter, "max_tokens": max_tokens, "declining": declining}
        return self._engine.stream(messages, **about, ticket=self._ticket)

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> list[str]:
        """A turn of its own beside this one. Raises: as `ServingEngine.answer_batch`."""
        about = {"tenant": tenant, "adapter": adapter, "max_tokens": max_tokens, "declining": declining}
        return self._engine.answer_batch(conversations, **about)

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        """As `answer_batch`, a turn of its own."""
        return self._engine.score(prompts, options, tenant=tenant, adapter=adapter)

    def close(self) -> None:
        """The engine is everybody's: nothing of it is closed."""


class BookedAnswerer:
    """A model elsewhere, for one turn: of its user's answers at work it is one, and it takes none of the engine's places."""

    def __init__(self, answerer: Answerer, admission: Admission, ticket: Ticket) -> None:
        self._answerer = answerer
        self._admission = admission
        self._ticket = ticket

    def stream(self, messages: Sequence[Message], *, max_tokens: int) -> Iterator[str]:
        """Raises: as `Answerer.stream`, and LlmError `engine_busy`, `listener_left`, `engine_closed` while it waits."""
        self._admission.wait(self._ticket, listener(), elsewhere=True)
        try:
            pieces = self._answerer.stream(messages, max_tokens=max_tokens)
            try:
                yield from pieces
            finally:
                close(pieces)
        finally:
            self._admission.rest(self._ticket)

    def close(self) -> None:
        """It is everybody's: nothing of it is closed."""
