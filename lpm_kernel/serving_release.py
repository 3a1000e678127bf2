"""Which release answers for a twin: the live one, or, where its adapter cannot be loaded, the one that served before it.

Belongs here: that choice, and remembering which adapters were refused.
Does not belong here: promoting (`L2/release.py`): the live release stays the live one, and is tried again.

A release that a deletion made stale is never gone back to: the choice is among those that a person could roll back to, and it
is looked at again in the transaction that stores the question.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lpm_kernel.errors import LlmError, StoreError
from lpm_kernel.L2.adapter_files import fetch_adapter
from lpm_kernel.records import Message, Release
from lpm_kernel.stores.llm import AdapterFile, Llm, tenant_of
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import earlier_releases, live_release, release_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

RELEASE: Literal["release"] = "release"
"""What a turn is marked with that another release answers than the live one."""

REFUSED = {"adapter_damaged", "adapter_refused", "blob_not_found"}
"""Codes that say: this adapter will not load, whoever asks."""

NOT_NOW = {"too_many_requests", "engine_busy"}
"""Codes that are said before a question is stored, since it would be asked again."""

EARLIER = 3
"""So many earlier releases are tried."""

KEPT = 4096
AGAIN_AFTER_S = 60.0
_HELLO = (Message("user", "Hello"),)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """`release` answers; it is the live one, or the live one's adapter was refused."""

    release: Release
    live_id: str

    @property
    def degraded(self) -> bool:
        return self.release.release_id != self.live_id


class Refusals:
    """Adapters that were refused: said once each, and not fetched and hashed anew for every question. For many threads."""

    def __init__(self, again_after_s: float = AGAIN_AFTER_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._again_after_s = again_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._until: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._total = 0

    @property
    def total(self) -> int:
        """How many releases were refused since the start."""
        return self._total

    def stands(self, release: Release) -> bool:
        """Whether it was refused a moment ago."""
        with self._lock:
            return self._until.get((release.user_id, release.gguf_sha256), 0.0) > self._clock()

    def note(self, release: Release, error: LlmError | StoreError) -> None:
        key = (release.user_id, release.gguf_sha256)
        with self._lock:
            first = key not in self._until
            self._total += first
            self._until[key] = self._clock() + self._again_after_s
            self._until.move_to_end(key)
            if len(self._until) > KEPT:
                self._until.popitem(last=False)
        if first:
            _LOG.error("release %s of user %s cannot answer: %s", release.release_id, release.user_id, error)

    def forget(self, release: Release) -> None:
        """It loads again."""
        with self._lock:
            self._until.pop((release.user_id, release.gguf_sha256), None)


REFUSALS = Refusals()
"""Of this process."""


def choose_release(
    stores: Stores, llm: Llm, user_id: str, adapters: Path, refusals: Refusals = REFUSALS, *, asker: str | None = None
) -> Choice | None:
    """The live release where its adapter loads, else the newest earlier one whose adapter does; its adapter is in memory then.

    None without a live release. The live one too where no adapter loads, or where it cannot be told: the answer will say why.
    `adapters`: the folder of local copies; `asker`: in whose queue the question will wait, where it is not the person's.
    Raises: LlmError `too_many_requests`, `engine_busy`; StoreError where the table of releases does not answer.
    """
    with stores.tables.transaction(user_id) as connection:
        live = live_release(connection, user_id)
    if live is None:
        return None
    if _loads(stores, llm, live, adapters, refusals, asker):
        return Choice(live, live.release_id)
    with stores.tables.transaction(user_id) as connection:
        before = earlier_releases(connection, live, EARLIER)
    found = next((item for item in before if _loads(stores, llm, item, adapters, refusals, asker)), live)
    return Choice(found, live.release_id)


def confirm_choice(connection: Connection, user_id: str, choice: Choice | None) -> Choice | None:
    """The choice as it stands in this transaction: what was promoted, retired or made stale meanwhile counts.

    A release that became live after the choice is taken unseen: its adapter is loaded when the answer begins.
    """
    live = live_release(connection, user_id)
    if live is None:
        return None
    if choice is None or not choice.degraded or choice.live_id != live.release_id:
        return Choice(live, live.release_id)
    fit = any(
        state.release_id == choice.release.release_id and state.stale_reason is None
        for state in release_states(connection, user_id)
    )
    return choice if fit else Choice(live, live.release_id)


def check_adapter(llm: Llm, tenant: str, adapter: AdapterFile) -> None:
    """Bring it into memory, where it stays while there is room.

    Raises: LlmError `adapter_refused`, and what else `Llm.stream` raises before its first piece.
    """
    # what is wrong with an adapter is raised when a stream is opened; one that is never begun holds nothing
    _close(llm.stream(_HELLO, tenant=tenant, adapter=adapter, max_tokens=1))


def _loads(stores: Stores, llm: Llm, release: Release, adapters: Path, refusals: Refusals, asker: str | None) -> bool:
    if refusals.stands(release):
        return False
    user_id = release.user_id
    try:
        adapter = fetch_adapter(stores.blobs, user_id, release.gguf_key, release.gguf_sha256, release.base_sha256, adapters)
        check_adapter(llm, tenant_of(user_id, asker), adapter)
    except (LlmError, StoreError) as error:
        if error.code in NOT_NOW:
            raise
        if error.code not in REFUSED:
            return True  # a store that is away, or a model that fails: of the adapter that says nothing
        refusals.note(release, error)
        return False
    refusals.forget(release)
    return True


def _close(pieces: Iterator[str]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
