"""Hot reload: a new release's adapter is fetched and in memory before a chat asks for it, and the old one is let go.

Belongs here: noticing that the live release of somebody who chats here is another, by being told or by looking.
Does not belong here: which release answers. Each turn reads that in the database, so that a release which was taken back, or
that a deletion ended, answers nobody from that moment on; what is done here only saves the next chat the wait. A chat under way
holds its adapter until it ends.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from lpm_kernel.errors import LlmError, StoreError, TwinError
from lpm_kernel.L2.adapter_files import drop_local_copies, fetch_adapter
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release, live_release_ids, named_by_releases
from twin_serving.engine.engine import USERS_FOLLOWED, ServingEngine

log = logging.getLogger(__name__)

MOST_TOLD = 1000
"""Messages that wait to be looked at; of more than these the next look at all users makes up."""

CLOSE_S = 10.0
"""How long closing waits for a fetch that is under way."""


class ReleaseWatch:
    """Follows the releases of those who chatted with this engine last, and of the pinned, in a thread of its own."""

    def __init__(self, stores: Stores, engine: ServingEngine, adapters: Path) -> None:
        serving = stores.settings.serving
        self._stores = stores
        self._engine = engine
        self._adapters = adapters
        self._poll_s = serving.release_poll_s
        self._pinned_users = serving.pinned_users
        self._followed: OrderedDict[str, str | None] = OrderedDict()
        """Which release of each user is known here to be live; None for none."""
        self._pinned: dict[str, str] = {}
        """Adapters of the pinned users."""
        self._lock = threading.Lock()
        self._told: queue.Queue[str | None] = queue.Queue(MOST_TOLD)
        self._thread: threading.Thread | None = None
        self._away = False
        self._closing = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._go_on, name="releases", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends after what it is at. Idempotent."""
        self._closing = True
        thread, self._thread = self._thread, None
        if thread is not None:
            while True:
                try:
                    self._told.put_nowait(None)
                    break
                except queue.Full:
                    self._told.get_nowait()
            thread.join(CLOSE_S)

    def tell(self, user_id: str) -> bool:
        """Somebody says that this user has another release; whether that matters here. Returns at once."""
        if user_id not in self._of_interest():
            return False
        try:
            self._told.put_nowait(user_id)
        except queue.Full:
            log.warning("a message of a release waits for the next look at all")
        return True

    def poll(self) -> int:
        """Look at everybody with one query, and follow where it changed; how many did.

        Raises: StoreError, when the table does not answer.
        """
        users = self._of_interest()
        if not users:
            return 0
        with self._stores.tables.operator_transaction() as connection:
            live = live_release_ids(connection, users)
        changed = [user_id for user_id in users if self._is_news(user_id, live.get(user_id))]
        return sum(self._follow_apart(user_id, live.get(user_id)) for user_id in changed if not self._closing)

    def follow(self, user_id: str) -> bool:
        """Make the live release's adapter ready, and let go the one before it; whether it was another than known.

        It is fetched, and loaded where the old one is in memory: who has not chatted for long takes nobody's room. One that
        cannot be made ready is said and counted, and tried again at the next look where that can help; chats go on as they can.
        Raises: StoreError, when the table does not answer.
        """
        with self._stores.tables.transaction(check_user_id(user_id)) as connection:
            live = live_release(connection, user_id)
        release_id = live.release_id if live else None
        with self._lock:
            if user_id in self._followed and self._followed[user_id] == release_id:
                return False
        old = self._pinned.get(user_id) or self._engine.users_served().get(user_id)
        if live is not None:
            try:
                adapter = fetch_adapter(
                    *(self._stores.blobs, user_id, live.gguf_key, live.gguf_sha256, live.base_sha256, self._adapters)
                )
                if self._is_wanted(user_id, old):
                    self._engine.warm(user_id, adapter)
                self._engine.metrics.swapped()
            except (StoreError, LlmError) as error:
                self._engine.metrics.swap_failed(error.code)
                log.warning("release %s of user %s is not ready: %s", release_id, user_id, error)
                if error.retryable:
                    return False
                # looking again would not change it; `serving_release` chooses what answers instead of it
                self._remember(user_id, release_id)
                return True
        self._remember(user_id, release_id)
        self._let_go(user_id, old, live.gguf_sha256 if live else None)
        if old is not None:
            self._remove_if_stale(user_id, old)
        return True

    def _follow_apart(self, user_id: str, release_id: str | None) -> bool:
        """`follow`, but what is wrong with one release keeps nobody else from theirs; one look is enough where it is for good.

        Raises: StoreError, when the table does not answer.
        """
        try:
            return self.follow(user_id)
        except TwinError as error:
            if error.retryable:
                raise
            self._engine.metrics.swap_failed(error.code)
            log.warning("release %s of user %s cannot be followed: %s", release_id, user_id, error)
            self._remember(user_id, release_id)
        except Exception:
            self._engine.metrics.swap_failed("unforeseen")
            log.exception("release %s of user %s cannot be followed", release_id, user_id)
        return False

    def _remove_if_stale(self, user_id: str, sha256: str) -> None:
        """Whoever deletes a document removes the copies on their own machine; this may be another."""
        with self._stores.tables.transaction(user_id) as connection:
            kept = named_by_releases(connection, user_id, "gguf_sha256", stale=False)
        if sha256 not in kept:
            drop_local_copies(self._adapters, user_id, [sha256])

    def _is_news(self, user_id: str, release_id: str | None) -> bool:
        """Whether it is another than known. Of whom nothing is known the chat has just loaded what is live; where nothing is,
        that ended since, as with the deletion of the person."""
        with self._lock:
            if user_id in self._followed:
                return self._followed[user_id] != release_id
        if user_id in self._pinned_users or release_id is None:
            return True
        self._remember(user_id, release_id)
        return False

    def _is_wanted(self, user_id: str, old: str | None) -> bool:
        adapters = self._engine.adapters
        return adapters is None or user_id in self._pinned_users or (old is not None and old in adapters)

    def _remember(self, user_id: str, release_id: str | None) -> None:
        with self._lock:
            self._followed[user_id] = release_id
            self._followed.move_to_end(user_id)
            if len(self._followed) > USERS_FOLLOWED:
                self._followed.popitem(last=False)

    def _let_go(self, user_id: str, old: str | None, new: str | None) -> None:
        adapters = self._engine.adapters
        if user_id in self._pinned_users:
            self._pinned.pop(user_id, None)
            if new is not None:
                self._pinned[user_id] = new
            if adapters is not None:
                adapters.pin(self._pinned.values())
        if adapters is not None and old is not None and old != new:
            adapters.retire(old)

    def _of_interest(self) -> list[str]:
        return list({**dict.fromkeys(self._pinned_users), **dict.fromkeys(self._engine.users_served())})

    def _go_on(self) -> None:
        look_at = time.monotonic()
        while not self._closing:
            wait_s = look_at - time.monotonic()
            if wait_s <= 0:  # also while one message follows another
                self._try(None)
                look_at = time.monotonic() + self._poll_s
                continue
            with suppress(queue.Empty):
                user_id = self._told.get(timeout=wait_s)
                if user_id is not None:
                    self._try(user_id)

    def _try(self, user_id: str | None) -> None:
        """Look at one user, or at all. A failure is said once, until it went well again: the next look makes up for it."""
        try:
            if user_id is None:
                self.poll()
            else:
                self.follow(user_id)
            self._away = False
        except TwinError as error:
            self._engine.metrics.poll_failed()
            if not self._away:
                log.warning("new releases cannot be looked for: %s", error)
            self._away = True
        except Exception:
            self._engine.metrics.poll_failed()
            log.exception("looking for new releases failed")
