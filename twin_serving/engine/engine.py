"""The model as the API serves it: the `Llm` port with admission before it and metrics beside it.

Belongs here: what happens around an answer, the same for every caller.
Does not belong here: decoding (`lpm_kernel/L2/llama.py`), the order of turns (`admission.py`), new releases (`releases.py`).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from lpm_kernel.errors import LlmError
from lpm_kernel.L2.adapter_cache import KeepsAdapters
from lpm_kernel.records import Message
from lpm_kernel.serving_release import check_adapter
from lpm_kernel.settings import Settings
from lpm_kernel.stores.llm import AdapterFile, Llm, user_of_tenant
from twin_serving.engine.admission import Admission, Ticket
from twin_serving.engine.answer_stream import AnswerStream
from twin_serving.engine.listener import listener
from twin_serving.engine.metrics import EngineMetrics

T = TypeVar("T")

USERS_FOLLOWED = 4096
"""Whose releases are followed: those who chatted last."""


def open_admission(settings: Settings, clock: Callable[[], float] = time.monotonic) -> Admission:
    """As the settings say, with a place for every answer that can be written at once: on Modal, in all its containers."""
    serving = settings.serving
    containers = serving.modal_max_containers if serving.engine == "modal" else 1
    return Admission(
        places=settings.models.slots * containers,
        per_user=serving.in_flight_per_user,
        waiting_per_user=serving.waiting_per_user,
        waiting=serving.waiting,
        wait_s=serving.wait_s,
        clock=clock,
    )


class ServingEngine:
    """`Llm` for the API, for many threads.

    A user has `serving.in_flight_per_user` answers at work and a short queue behind them; `open_admission` says how many there
    are at work in all.
    """

    def __init__(
        self,
        llm: Llm,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        admission: Admission | None = None,
    ) -> None:
        """`admission`: shared with whoever books turns; the engine closes it when it closes."""
        self._llm = llm
        self._clock = clock
        self.admission = admission or open_admission(settings, clock)
        self.adapters = llm.adapters if isinstance(llm, KeepsAdapters) else None
        self.metrics = EngineMetrics(self.admission, self.adapters)
        self._served: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def base_sha256(self) -> str:
        return self._llm.base_sha256

    @property
    def context_tokens(self) -> int:
        return self._llm.context_tokens

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        return self._llm.prompt_tokens(messages)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
        ticket: Ticket | None = None,
    ) -> Iterator[str]:
        """As `Llm.stream`. Closing it frees its place within one piece, also from another thread, and while it waits.

        `ticket`: of the turn that this answers, where it is booked.
        Raises: as `Llm.stream`, and LlmError `too_many_requests`, `engine_busy`: at once where the queue is full by now, else
        with the first piece.
        """
        asked_at = self._clock()
        if ticket is None:
            self._refuse_if_full(tenant)
        pieces = self._llm.stream(messages, tenant=tenant, adapter=adapter, max_tokens=max_tokens, declining=declining)
        if adapter is not None:
            self._note(tenant, adapter)
        watch = self.metrics.watch(asked_at, self._clock)
        return AnswerStream(self.admission, tenant, pieces, watch, listener(), ticket)

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
        max_tokens: int,
        declining: str | None = None,
    ) -> list[str]:
        """As `Llm.answer_batch`; one turn of its user. Raises: as `stream`."""
        about = {"tenant": tenant, "adapter": adapter, "max_tokens": max_tokens, "declining": declining}
        return self._in_turn(tenant, partial(self._llm.answer_batch, conversations, **about))

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        options: Sequence[str],
        *,
        tenant: str,
        adapter: AdapterFile | None = None,
    ) -> list[list[float]]:
        """As `Llm.score`; one turn of its user. Raises: as `stream`."""
        return self._in_turn(tenant, partial(self._llm.score, prompts, options, tenant=tenant, adapter=adapter))

    def _in_turn(self, tenant: str, answer: Callable[[], T]) -> T:
        """What answers all at once, when it is its user's turn."""
        watch = self.metrics.watch(self._clock(), self._clock)
        outcome = "unforeseen"
        try:
            ticket = self.admission.ask(tenant)
            try:
                self.admission.wait(ticket, listener())
                watch.admitted()
                answers = answer()
                outcome = "done"
                return answers
            finally:
                self.admission.leave(ticket)
        except LlmError as error:
            outcome = error.code
            raise
        finally:
            watch.ended(outcome)

    def warm(self, user_id: str, adapter: AdapterFile) -> None:
        """Load it beside what is at work. Raises: LlmError `adapter_refused`."""
        check_adapter(self._llm, user_id, adapter)
        if self.adapters is not None:
            self.adapters.settle(adapter.sha256)

    def users_served(self) -> dict[str, str]:
        """Who chatted last, the last of them at the end, and the sha256 of the adapter that answered."""
        with self._lock:
            return dict(self._served)

    def close(self) -> None:
        self.admission.close()
        self._llm.close()

    def _refuse_if_full(self, tenant: str) -> None:
        try:
            self.admission.refuse_if_full(tenant)
        except LlmError as error:
            self.metrics.refused(error.code)
            raise

    def _note(self, tenant: str, adapter: AdapterFile) -> None:
        user_id = user_of_tenant(tenant)  # releases are a person's, whoever asks them
        with self._lock:
            self._served[user_id] = adapter.sha256
            self._served.move_to_end(user_id)
            if len(self._served) > USERS_FOLLOWED:
                self._served.popitem(last=False)
