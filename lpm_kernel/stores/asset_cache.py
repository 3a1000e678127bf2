"""Artefacts that were read a moment ago, kept in memory by their ETag: one listing of a user says which of them still hold.

Why a listing: a profile reads four to six artefacts of one user, each a request of its own that takes more of the processor
than all that is done with its answer. Whatever changed is read anew; what is listed a quarter of a second ago is believed.

Belongs here: which bytes may be handed out again.
Does not belong here: asking the server (`blobs.py`).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from lpm_kernel.errors import StoreError

FOLDER = "/assets/"
FRESH_S = 0.25
MAX_BYTES = 64_000_000
MAX_LISTINGS = 1_000


class AssetCache:
    """Safe to share between threads. `list_etags` gives ETags by key under a prefix, `fetch` an object and its ETag."""

    def __init__(
        self,
        list_etags: Callable[[str], dict[str, str]],
        fetch: Callable[[str], tuple[bytes, str]],
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._list_etags = list_etags
        self._fetch = fetch
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._listings: OrderedDict[str, tuple[float, dict[str, str]]] = OrderedDict()
        self._held: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._size_bytes = 0

    def covers(self, key: str) -> bool:
        return FOLDER in key

    def get(self, key: str) -> bytes:
        """Raises: StoreError, `blob_not_found` where the listing has no such key."""
        etag = self._listed(_prefix(key)).get(key)
        if etag is None:
            raise StoreError("blob_not_found", f"no object at {key}", retryable=False)
        with self._lock:
            if (held := self._held.get(key)) and held[0] == etag:
                self._held.move_to_end(key)
                return held[1]
        data, etag = self._fetch(key)
        self._keep(key, etag, data)
        return data

    def forget(self, key: str) -> None:
        """This process has just changed it."""
        if self.covers(key):
            with self._lock:
                self._listings.pop(_prefix(key), None)

    def _listed(self, prefix: str) -> dict[str, str]:
        asked = self._clock()
        with self._lock:
            at, etags = self._listings.get(prefix, (float("-inf"), {}))
            if asked - at < FRESH_S:
                return etags
        etags = self._list_etags(prefix)
        with self._lock:
            self._listings[prefix] = (asked, etags)  # the time before the question: what changed after it may be missing
            while len(self._listings) > MAX_LISTINGS:
                self._listings.popitem(last=False)
        return etags

    def _keep(self, key: str, etag: str, data: bytes) -> None:
        if len(data) > self._max_bytes:
            return
        with self._lock:
            if old := self._held.pop(key, None):
                self._size_bytes -= len(old[1])
            self._held[key] = (etag, data)
            self._size_bytes += len(data)
            while self._size_bytes > self._max_bytes:
                _, (_, gone) = self._held.popitem(last=False)
                self._size_bytes -= len(gone)


def _prefix(key: str) -> str:
    return key[: key.index(FOLDER) + len(FOLDER)]
