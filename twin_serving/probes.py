"""Asking every store whether it answers, without ever waiting long for one that does not.

Belongs here: the questions, their time limit, and that many who ask cost one question.
Does not belong here: what follows from the answers (`routes/health.py`, `metrics.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lpm_kernel.errors import TwinError

if TYPE_CHECKING:
    from lpm_kernel.stores.open import Stores

LIMIT_S = 2.0
KEPT_S = 1.0
OK, SILENT = "ok", "silent"

log = logging.getLogger(__name__)


class StoreProbes:
    """The state of each store: `ok`, the code of its error, or `silent` when it gives no answer in time.

    A question that hangs is not asked again until it has ended: an outage of hours must not pile up threads.
    """

    def __init__(
        self,
        questions: Mapping[str, Callable[[], None]],
        *,
        limit_s: float = LIMIT_S,
        kept_s: float = KEPT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._questions = questions
        self._limit_s = limit_s
        self._kept_s = kept_s
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, threading.Thread] = {}
        self._answers: dict[str, str] = {}
        self._found: dict[str, str] = {}
        self._found_at = float("-inf")

    def states(self) -> dict[str, str]:
        """As they are now, or were a second ago; those who ask at the same time wait for one round."""
        with self._lock:
            if self._clock() - self._found_at >= self._kept_s:
                self._found = self._ask_all()
                self._found_at = self._clock()
            return dict(self._found)

    def _ask_all(self) -> dict[str, str]:
        for name, question in self._questions.items():
            running = self._running.get(name)
            if running is None or not running.is_alive():
                self._answers.pop(name, None)
                self._running[name] = threading.Thread(
                    target=self._ask, args=(name, question), name=f"probe-{name}", daemon=True
                )
                self._running[name].start()
        deadline = time.monotonic() + self._limit_s
        for thread in self._running.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return {name: self._answers.get(name, SILENT) for name in self._questions}

    def _ask(self, name: str, question: Callable[[], None]) -> None:
        try:
            question()
            self._answers[name] = OK
        except TwinError as error:
            self._answers[name] = error.code
        except Exception as error:
            log.error("the probe of %s failed", name, exc_info=error)
            self._answers[name] = "internal"


def store_questions(stores: Stores) -> dict[str, Callable[[], None]]:
    """Vectors and memories of the embedded profile lie in the tables, and answer when those do."""

    def tables() -> None:
        with stores.tables.operator_transaction():
            pass

    questions: dict[str, Callable[[], None]] = {"tables": tables, "blobs": stores.blobs.check, "graph": stores.graph.check}
    if (weaviate := stores.weaviate) is not None:

        def vectors() -> None:
            weaviate.client()

        questions["vectors"] = vectors
    return questions
