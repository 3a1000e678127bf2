"""What a request needs: the stores and the model of this process.

Belongs here: opening them once and handing them to routes.
Does not belong here: what a route does with them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from lpm_kernel.answering import may_step_down
from lpm_kernel.errors import LlmError, TwinError
from lpm_kernel.L2.away import AwayLlm
from lpm_kernel.stores.llm import Llm, tenant_of
from lpm_kernel.stores.open import Stores
from twin_serving.agent.narrow import Narrow
from twin_serving.change_worker import ChangeWorker
from twin_serving.dao_side import DaoSide
from twin_serving.engine.booking import Booking
from twin_serving.engine.engine import ServingEngine, open_admission
from twin_serving.engine.releases import ReleaseWatch
from twin_serving.live_turns import LiveTurns

MODEL_WAIT_S = 5.0
"""How long a thread waits for a model that is being loaded, before whoever asked is told to come again."""
BEGIN_WAIT_S = 0.05
MEMORY_WAIT_S = 5.0
"""How long a turn lets others search their memory before its own is searched all the same."""
AGAIN_S = 10.0
"""Between two tries to load a model that could not be loaded."""

log = logging.getLogger(__name__)


class Services:
    """Stores at once, the model in a thread of its own: uploads and profiles need none, and a load takes seconds."""

    def __init__(self, stores: Stores, open_model: Callable[[], Llm], adapters: Path) -> None:
        self.stores = stores
        self.adapters = adapters
        self.turns = LiveTurns(stores.settings.serving)
        self.change_worker = ChangeWorker(stores)
        self.admission = open_admission(stores.settings)
        self.narrow = Narrow(stores.settings.models.slots, MEMORY_WAIT_S)
        self._open_model = open_model
        self._engine: ServingEngine | None = None
        self._releases: ReleaseWatch | None = None
        self._failure: TwinError | None = None
        self._loading = False
        self._again_at = 0.0
        self._closed = False
        self._changed = threading.Condition()

    @cached_property
    def dao_side(self) -> DaoSide:
        """Opened when the API starts."""
        return DaoSide(self.stores, lambda: self.llm)

    def warm(self) -> None:
        """Begin to load the model, unless it is loaded or being loaded. Returns at once."""
        with self._changed:
            if self._engine or self._loading or self._closed or time.monotonic() < self._again_at:
                return
            self._loading = True
            threading.Thread(target=self._load, name="load-model", daemon=True).start()
            self._changed.wait_for(lambda: not self._loading, BEGIN_WAIT_S)  # a double is there at once

    @property
    def model_state(self) -> str:
        """`ok`, `loading`, `unloaded`, or the code of what keeps it from being loaded."""
        with self._changed:
            if self._engine:
                return "ok"
            if self._loading:
                return "loading"
            return self._failure.code if self._failure else "unloaded"

    @property
    def llm(self) -> ServingEngine:
        """Raises: LlmError `model_loading` while it is not there yet, `model_unavailable` when it cannot be loaded."""
        self.warm()
        with self._changed:
            if not self._engine and not _in_event_loop():  # which would stand still for everybody
                self._changed.wait_for(lambda: not self._loading, MODEL_WAIT_S)
            if self._engine:
                return self._engine
            if self._failure and not self._loading:
                reason = f"the language model cannot be loaded: {self._failure}"
                raise LlmError("model_unavailable", reason) from self._failure
            raise LlmError("model_loading", "the language model is being loaded; ask again in a moment")

    def book(self, user_id: str, asker: str | None = None) -> Booking:
        """A place for a turn that begins now, whoever will answer it; to be left when it is over.

        Raises: LlmError `too_many_requests`, `engine_busy`: before anything is stored.
        """
        try:
            return Booking(self.admission, tenant_of(user_id, asker))
        except LlmError as error:
            if self._engine is not None:
                self._engine.metrics.refused(error.code)
            raise

    def llm_or_away(self) -> Llm:
        """`llm` for a turn. One that cannot be opened is a reason to go on without it, as one that fails later is; one that is
        only not there yet is none, unless another model answers first. Raises: LlmError `model_loading`.
        """
        try:
            return self.llm
        except LlmError as error:
            if self.stores.answerer is None and not may_step_down(error):
                raise
            log.warning("the engine cannot be opened: %s", error)
            return AwayLlm(error, self.stores.settings.models.context_tokens)

    def _load(self) -> None:
        began = time.monotonic()
        engine: ServingEngine | None = None
        releases: ReleaseWatch | None = None
        failure: TwinError | None = None
        try:
            engine = ServingEngine(self._open_model(), self.stores.settings, admission=self.admission)
            releases = ReleaseWatch(self.stores, engine, self.adapters)
        except TwinError as error:
            failure = error
        except Exception as error:
            failure = TwinError("internal", "the server's log says why")
            log.error("the model could not be loaded", exc_info=error)
        with self._changed:
            self._loading = False
            self._failure = failure
            if failure:
                self._again_at = time.monotonic() + AGAIN_S
            elif not self._closed:
                assert releases is not None
                self._engine, engine = engine, None
                self._releases = releases
                releases.start()
            self._changed.notify_all()
        if failure:
            log.error("the model is not loaded: %s", failure)
        elif engine is not None:
            engine.close()  # the API ended meanwhile
        else:
            log.info("the model was loaded in %.1f s", time.monotonic() - began)
            self._warm_stores()

    def _warm_stores(self) -> None:
        """After the model, which is waited for: both at once would load neither sooner."""
        try:
            self.stores.warm()
        except TwinError as error:
            log.warning("stores could not be warmed: %s", error)
        except Exception as error:
            log.error("stores could not be warmed", exc_info=error)

    def circuits_open(self) -> dict[str, str]:
        """What is left alone for a while, by name."""
        return dict(self.stores.breakers.open_now())

    @property
    def engine(self) -> ServingEngine | None:
        """The model, if it was opened by now."""
        return self._engine

    @property
    def releases(self) -> ReleaseWatch | None:
        """Who follows new releases; None while the model was not opened: then nobody has an adapter in memory."""
        return self._releases

    def close(self) -> None:
        with self._changed:
            self._closed = True
        if "dao_side" in self.__dict__:
            self.dao_side.close()
        self.turns.close()  # they still need the rest, to keep what was said
        self.change_worker.close()
        with self._changed:
            engine, self._engine = self._engine, None
            releases, self._releases = self._releases, None
        if releases is not None:
            releases.close()
        if engine is not None:
            engine.close()
        self.stores.close()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def services_of(request: Request) -> Services:
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(services_of)]
