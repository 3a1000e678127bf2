"""Rows of `ballot_draft`: what a twin would vote, shown to its person and never cast from here.

Belongs here: queries on that table.
Does not belong here: reading drafts out of an answer (`dao/ballot_draft.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.records import ChatMessage, content_id
from lpm_kernel.stores.documents import deleted_documents
from lpm_kernel.stores.schema import WRITTEN_NOW, ballot_draft

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class KeptDraft:
    """A draft, and the answer that it stands in; None where the twin drafted it by itself."""

    draft_id: str
    message_id: str | None
    created_at: datetime
    draft: BallotDraft
    confidence: float | None = None
    citations: tuple[str, ...] = ()
    why: str | None = None
    """It was drafted and not cast."""
    withdrawn: bool = False
    """Its reason is gone with a document that it quoted."""


def keep_drafts(connection: Connection, message: ChatMessage, drafts: Sequence[BallotDraft]) -> list[KeptDraft]:
    """Belongs into the transaction that stores the answer. Idempotent by answer and proposal. A reason in an answer may quote
    any line that the answer had before it, so that of an answer to which a document was deleted it is not kept.

    In a transaction that holds `lock_documents`.
    """
    from sqlalchemy.dialects.postgresql import insert

    cited = dict.fromkeys(f"{c.document_sha256}:{c.byte_start}-{c.byte_end}" for c in message.citations)
    gone = deleted_documents(connection, message.user_id) if drafts else frozenset[str]()
    places = tuple(place for place in cited if place.partition(":")[0] not in gone)
    withdrawn = len(places) < len(cited)
    kept = [
        KeptDraft(
            content_id(message.user_id, message.message_id, draft.proposal),
            message.message_id,
            message.ts,
            replace(draft, reason=None) if withdrawn else draft,
            citations=places,
            withdrawn=withdrawn,
        )
        for draft in drafts
    ]
    for item in kept:
        values = {"proposal": item.draft.proposal, "choice": item.draft.choice, "reason": item.draft.reason}
        values |= {"citations": list(places), "withdrawn": withdrawn}
        row = {"user_id": message.user_id, "draft_id": item.draft_id, "message_id": item.message_id, "created_at": message.ts}
        connection.execute(insert(ballot_draft).values(**row, **values).on_conflict_do_nothing())
    return kept


def keep_twin_draft(
    connection: Connection,
    user_id: str,
    draft: BallotDraft,
    at: datetime,
    *,
    confidence: float,
    citations: Sequence[str],
    why: str,
) -> KeptDraft:
    """What a twin drafts by itself: one draft a proposal, the newest."""
    from sqlalchemy.dialects.postgresql import insert

    draft_id = content_id(user_id, "twin", draft.proposal)
    values = {
        "proposal": draft.proposal,
        "choice": draft.choice,
        "reason": draft.reason,
        "created_at": at,
        "confidence": confidence,
        "citations": list(citations),
        "why": why,
        "withdrawn": False,
        **WRITTEN_NOW,
    }
    statement = insert(ballot_draft).values(user_id=user_id, draft_id=draft_id, **values)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[ballot_draft.c.user_id, ballot_draft.c.draft_id], set_=values)
    )
    return KeptDraft(draft_id, None, at, draft, confidence, tuple(citations), why)


def list_drafts(connection: Connection, user_id: str, message_id: str | None = None) -> list[KeptDraft]:
    """Newest first; with `message_id` those of one answer."""
    from sqlalchemy import select

    query = select(ballot_draft).where(ballot_draft.c.user_id == user_id)
    if message_id is not None:
        query = query.where(ballot_draft.c.message_id == message_id)
    rows = connection.execute(query.order_by(ballot_draft.c.created_at.desc(), ballot_draft.c.draft_id))
    return [
        KeptDraft(
            row.draft_id,
            row.message_id,
            row.created_at,
            BallotDraft(row.proposal, row.choice, row.reason),
            row.confidence,
            tuple(row.citations),
            row.why,
            row.withdrawn,
        )
        for row in rows
    ]


def withdraw_reasons(connection: Connection, user_id: str, document_sha256s: Collection[str]) -> int:
    """The reason of a draft that rests on one of these documents goes, and each place in them; the choice stays, for its person
    to look at anew. How many. Belongs into the transaction that deletes the documents."""
    from sqlalchemy import update

    gone = [
        kept
        for kept in list_drafts(connection, user_id)
        if any(place.partition(":")[0] in document_sha256s for place in kept.citations)
    ]
    for kept in gone:
        left = [place for place in kept.citations if place.partition(":")[0] not in document_sha256s]
        own = (ballot_draft.c.user_id == user_id, ballot_draft.c.draft_id == kept.draft_id)
        without = {"reason": None, "withdrawn": True, "citations": left, **WRITTEN_NOW}
        connection.execute(update(ballot_draft).where(*own).values(without))
    return len(gone)
