"""Many requests to a writer: each with an id of its own from end to end, asked once, and a failure is that of its own item.

Belongs here: the cache of answers, the worker pool, retries, and when a writer is given up.
Does not belong here: what is asked and whether an answer is true (`L2/enrich.py`, `L2/judge.py`, `L1/topic_labels.py`).
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from lpm_kernel.errors import LlmError, StoreError
from lpm_kernel.layout import written_key
from lpm_kernel.records import Message, sha256_hex
from lpm_kernel.settings import Settings
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.writer import Writer

FAILURES_IN_A_ROW = 10
LONGEST_PAUSE_S = 30.0
OF_THE_WRITER = {"writer_unavailable", "writer_closed"}
"""Codes of failures that no item is to blame for."""


@dataclass(frozen=True, slots=True)
class Item:
    """One request. `form`: what its answer must be as JSON; None: any text."""

    item_id: str
    messages: tuple[Message, ...]
    form: type[BaseModel] | None = None
    max_tokens: int = 400
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Written:
    item_id: str
    text: str
    from_cache: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """An item without an answer: the code and words of its last failure."""

    item_id: str
    code: str
    reason: str
    tries: int


class CallCache:
    """Answers of one user for one purpose, under the hash of all that decides them. Safe to share between threads."""

    def __init__(self, blobs: Blobs, user_id: str, purpose: str) -> None:
        self._blobs = TenantBlobs(blobs, user_id)
        self._user_id = user_id
        self._purpose = purpose
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def get(self, call: str) -> str | None:
        """Raises: StoreError when the store fails: that is no reason to ask and pay again."""
        key = self._key(call)
        try:
            return self._blobs.get(key).decode()
        except StoreError as error:
            if error.code == "blob_not_found":
                return None
            raise
        except UnicodeDecodeError:
            return None

    def put(self, call: str, text: str) -> None:
        self._blobs.put(self._key(call), text.encode())

    def drop_unused(self) -> int:
        """Delete the answers that this object was not asked for; how many.

        Why: an answer quotes the lines it was made from, and must not outlive a document that its person deleted.
        """
        folder = written_key(self._user_id, self._purpose, "").removesuffix(".txt")
        unused = [key for key in self._blobs.list_keys(folder) if key not in self._used]
        for key in unused:
            self._blobs.delete(key)
        return len(unused)

    def _key(self, call: str) -> str:
        key = written_key(self._user_id, self._purpose, call)
        with self._lock:
            self._used.add(key)
        return key


def write_items(
    items: Sequence[Item],
    writer: Writer,
    cache: CallCache,
    *,
    workers: int,
    retries: int,
    progress: Progress,
    delay_s: float = 1.0,
    give_up_after: int = FAILURES_IN_A_ROW,
) -> list[Written | Dropped]:
    """An answer for each item, or why there is none, in the order of the items. At most `workers` requests at a time.

    An answer is kept as soon as it is there: a run that was killed asks again only for what was in flight. One that is not of
    its form is asked for again, and never kept.
    Raises: LlmError of the writer when it takes no request at all, or fails `give_up_after` items one after another;
    StoreError of the cache; whatever `progress` raises. What was written until then is kept.
    """
    desk = _Desk(writer, cache, retries, delay_s, Breaker(give_up_after, math.inf))
    results: list[Written | Dropped | None] = [None] * len(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="writer")
    try:
        waiting: dict[Future[Written | Dropped], int] = {pool.submit(desk.write, item): i for i, item in enumerate(items)}
        for done, future in enumerate(as_completed(waiting), start=1):
            results[waiting[future]] = future.result()
            progress(done / len(items), f"{done} of {len(items)} items")
    finally:
        desk.closed.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return [result for result in results if result is not None]


def write_as_set(
    items: Sequence[Item], writer: Writer, cache: CallCache, settings: Settings, progress: Progress
) -> list[Written | Dropped]:
    """`write_items` with the workers and retries of the settings."""
    retries = settings.retries
    return write_items(
        items,
        writer,
        cache,
        workers=settings.writing.workers,
        retries=retries.max_retries,
        delay_s=retries.delay_s,
        progress=progress,
    )


class _Desk:
    """What the workers share."""

    def __init__(self, writer: Writer, cache: CallCache, retries: int, delay_s: float, breaker: Breaker) -> None:
        self._writer = writer
        self._cache = cache
        self._retries = retries
        self._delay_s = delay_s
        self._breaker = breaker
        self.closed = threading.Event()
        self._given_up: LlmError | None = None

    def write(self, item: Item) -> Written | Dropped:
        if self._given_up:
            raise self._given_up
        call = call_id(item, self._writer.fingerprint)
        known = self._cache.get(call)
        if known is not None and _is_of_form(known, item.form):
            return Written(item.item_id, known, from_cache=True)
        tries = 0
        while True:
            tries += 1
            try:
                text = self._ask(item)
            except LlmError as error:
                if error.retryable and tries <= self._retries and not self.closed.is_set():
                    self.closed.wait(min(LONGEST_PAUSE_S, self._delay_s * 2 ** (tries - 1)))
                    continue
                if error.code in OF_THE_WRITER:
                    self._breaker.failed(for_good=error.code == "writer_closed")
                    if not self._breaker.allows():
                        self._given_up = error  # what the others have in flight is still kept
                        self.closed.set()
                        raise
                return Dropped(item.item_id, error.code, error.message, tries)
            self._cache.put(call, text)
            self._breaker.succeeded()
            return Written(item.item_id, text, from_cache=False)

    def _ask(self, item: Item) -> str:
        schema = item.form.model_json_schema() if item.form else None
        text = self._writer.write(item.messages, max_tokens=item.max_tokens, temperature=item.temperature, schema=schema)
        if not _is_of_form(text, item.form):
            raise LlmError("writer_unreadable", f"the answer is not of the form {item.form.__name__ if item.form else 'text'}")
        return text


def call_id(item: Item, fingerprint: str) -> str:
    """Hash of all that decides an answer. Not of the item's id: the same request for another id is answered alike."""
    form = item.form.model_json_schema() if item.form else None
    said = [(message.role, message.content) for message in item.messages]
    request = [fingerprint, item.max_tokens, item.temperature, form, said]
    return sha256_hex(json.dumps(request, sort_keys=True).encode())


def _is_of_form(text: str, form: type[BaseModel] | None) -> bool:
    if form is None:
        return True
    try:
        form.model_validate_json(text)
    except ValidationError:
        return False
    return True
