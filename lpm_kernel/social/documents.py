"""Documents of what a person said: one a day and chat, one a thread, by the same door as an upload.

Belongs here: the words of a document, its name, and what happens to it when they change.
Does not belong here: storing messages (`store.py`) and what any document becomes (`L0/library.py`).

A document holds the person's own words and nothing of those whom they answered. An edit sends other bytes under the same name,
which replace the ones before; a deletion also withdraws every earlier content of that name, as `twin delete-document` would:
chunks, memories and facts at once, weights with the next release. What is new waits for `users_sensor` like an upload.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from lpm_kernel.errors import StoreError, TwinError, UserInputError
from lpm_kernel.forget import delete_document
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.records import Refusal, sha256_hex
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_documents import (
    Part,
    begin_version,
    due_parts,
    end_version,
    lock_social,
    users_with_due,
)
from lpm_kernel.stores.social_messages import SaidWords, mark_made, words_of_part
from lpm_kernel.stores.users import get_user

_LOG = logging.getLogger(__name__)
NAMES = {"telegram": "Telegram", "x": "X"}


@dataclass(slots=True)
class MadeCounts:
    """Documents by what became of them; `withdrawn` counts contents, `refused` tells why by code."""

    made: int = 0
    unchanged: int = 0
    emptied: int = 0
    withdrawn: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def add(self, other: MadeCounts) -> None:
        self.made += other.made
        self.unchanged += other.unchanged
        self.emptied += other.emptied
        self.withdrawn += other.withdrawn
        for code, count in other.refused.items():
            self.refused[code] = self.refused.get(code, 0) + count


def make_every_document(stores: Stores, adapters: Path, at: datetime) -> tuple[MadeCounts, dict[str, str]]:
    """`make_documents` of everybody whose days and threads have rested; beside the counts, who could not be served and why.

    Raises: StoreError where nobody could.
    """
    counts, failed = MadeCounts(), dict[str, str]()
    lost: TwinError | None = None
    rested = at - timedelta(hours=stores.settings.social.rest_hours)
    with stores.tables.operator_transaction() as connection:
        waiting = users_with_due(connection, rested)
    for user_id in waiting:
        try:
            counts.add(make_documents(stores, user_id, adapters, rested))
        except TwinError as error:  # somebody who is being deleted, or a store that failed for them
            failed[user_id] = error.code
            lost = lost if isinstance(error, UserInputError) else error
        except Exception as error:  # what nobody foresaw of one keeps no other waiting either
            failed[user_id] = type(error).__name__
            lost = StoreError("internal", f"documents failed with {failed[user_id]}; the log says where", retryable=False)
            _LOG.error("what user %s said could not be made documents", user_id, exc_info=error)
    if lost is not None and len(failed) == len(waiting):
        raise lost
    return counts, failed


def make_documents(stores: Stores, user_id: str, adapters: Path, rested_since: datetime) -> MadeCounts:
    """Make each day and thread of a user a document that has changed and in which the last word was said by then; what had
    something deleted at once.

    Idempotent: a part stays due until all of it is done, and what was done is found again. One at a time makes a user's.
    `adapters`: the folder of local copies. Raises: UserInputError `twin_not_found`, `deletion_under_way`; StoreError.
    """
    counts = MadeCounts()
    with stores.tables.transaction(user_id) as fence:
        get_user(fence, user_id)
        lock_social(fence, user_id)
        with stores.tables.transaction(user_id) as connection:
            parts = due_parts(connection, user_id, rested_since)
        for part in parts:
            _make(stores, user_id, part, adapters, counts)
    return counts


def filename_of(part: Part) -> str:
    return f"{part.network}-{part.chat_id}-{part.part}.txt"


def render_part(part: Part, words: Sequence[SaidWords]) -> str:
    """The words as they were said, one paragraph a message, under a line that tells where.

    Why that line: without it two short days with the same words would be one document, and the deletion of one both's.
    """
    title = " ".join(part.title.split())
    where = f"{NAMES[part.network]}, {title}" if title else NAMES[part.network]
    return "\n\n".join([f"# {where}, {words[0].sent_at.astimezone(UTC):%Y-%m-%d}", *(word.text for word in words)]) + "\n"


def _make(stores: Stores, user_id: str, part: Part, adapters: Path, counts: MadeCounts) -> None:
    with stores.tables.transaction(user_id) as connection:
        words = words_of_part(connection, user_id, part.network, part.chat_id, part.part)
        data = render_part(part, words).encode() if words else b""
        version = begin_version(connection, user_id, part, sha256_hex(data)) if words else 0
    made = [sha256_hex(data)] if words else []
    if words:
        refusal = _send(stores, user_id, part, words[0].sent_at, version, data, counts)
        if refusal is not None:
            counts.refused[refusal.code] = counts.refused.get(refusal.code, 0) + 1
        with stores.tables.transaction(user_id) as connection:
            ids = [word.message_id for word in words]
            mark_made(connection, user_id, part.network, part.chat_id, ids, made[0])
    else:
        counts.emptied += bool(part.made_sha256s)
    earlier = [sha256 for sha256 in part.made_sha256s if sha256 not in made]
    if part.withdraw or not words:
        for sha256 in earlier:
            counts.withdrawn += _withdraw(stores, user_id, sha256, adapters)
        earlier = []
    with stores.tables.transaction(user_id) as connection:
        end_version(connection, user_id, part, [*earlier, *made])


def _send(
    stores: Stores, user_id: str, part: Part, first: datetime, version: int, data: bytes, counts: MadeCounts
) -> Refusal | None:
    """By the door of every file. A later version counts as sent after the one before, so that it replaces it.

    What stands of earlier versions is asked of the tables: a try that was cut off has noted a version that was never sent.
    """
    day = datetime.combine(first.astimezone(UTC).date(), time(), UTC)
    with stores.tables.transaction(user_id) as connection:
        earlier = [row for row in list_documents(connection, user_id) if row.sha256 in part.made_sha256s]
    moments = [day + timedelta(microseconds=version), *(row.created_at + timedelta(microseconds=1) for row in earlier)]
    result = receive_document(
        stores.tables,
        stores.blobs,
        stores.settings.limits,
        user_id,
        filename_of(part),
        data,
        part.network,
        sent_at=max(moments),
        # a later version is as private as the person has made the one before
        private=not part.public and not earlier,
    )
    counts.made += result.status == "stored"
    counts.unchanged += result.status == "duplicate"
    return result.refusal


def _withdraw(stores: Stores, user_id: str, sha256: str, adapters: Path) -> int:
    """Whether there was anything left of it: the person may have deleted the document themself."""
    try:
        delete_document(stores, user_id, sha256, adapters)
    except UserInputError as error:
        if error.code != "document_unknown":
            raise
        return 0
    return 1
