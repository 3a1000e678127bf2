"""Reminders, and ballots that twins cast, told to another service as they come into the ledger, which is their outbox.

Belongs here: which events are told, in which words, and how far the service has heard.
Does not belong here: the signed POST (`stores/webhook.py`), what waits for one person (`notices.py`), and when this runs.

At least once: a message whose answer was lost is sent again, under the same `event`. What is over by the time it would be told
is left out, so that a service that is named for the first time, or was away for a week, hears nothing stale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lpm_kernel.dao.events import BallotCast, Event, MembersReminded
from lpm_kernel.dao.projection import note_failure, wait_for
from lpm_kernel.dao.session import Session
from lpm_kernel.errors import TwinError
from lpm_kernel.stores.dao_ledger import events_after
from lpm_kernel.stores.dao_members import list_members
from lpm_kernel.stores.dao_projections import move_cursor, try_cursor

if TYPE_CHECKING:
    from datetime import datetime

    from lpm_kernel.dao.service import Dao
    from lpm_kernel.settings import RetrySettings
    from lpm_kernel.stores.webhook import Webhook

TARGET = "notices"
BATCH = 200


def tell_due(dao: Dao, webhook: Webhook, retries: RetrySettings) -> int:
    """How many messages were told. 0 where somebody else is telling them.

    Raises: StoreError of the webhook, when it is noted and the next try has its time; `projection_waits` (retryable) before.
    """
    once = retries.model_copy(update={"max_retries": 0})  # the cursor tries again, and holds nobody up meanwhile
    told = 0
    while True:
        try:
            found = _tell_next(dao, webhook, once)
        except TwinError as error:
            if error.code != "projection_waits":
                note_failure(dao, TARGET, error.code)
            raise
        if found is None:
            return told
        told += found


def _tell_next(dao: Dao, webhook: Webhook, once: RetrySettings) -> int | None:
    """Up to the first message of what is new, and with it; None where nothing is."""
    with dao.session() as session:
        cursor = try_cursor(session.connection, TARGET)
        if cursor is None:
            return None
        wait_for(cursor, dao.clock(), "the service that is told of votes")
        events = events_after(session.connection, cursor.last_seq, BATCH)
        if not events:
            return None
        members, at = frozenset(list_members(session.connection)), dao.clock()
        for event in events:
            message = message_of(event, session, members, at)
            if message is not None:
                webhook.post(message, once)
                move_cursor(session.connection, replace(cursor, last_seq=event.seq, attempts=0, due_at=None, code=None))
                return 1
        move_cursor(session.connection, replace(cursor, last_seq=events[-1].seq, attempts=0, due_at=None, code=None))
        return 0


def message_of(event: Event, session: Session, members: frozenset[str], at: datetime) -> dict[str, Any] | None:
    """None for what nobody is to be told, or not any more."""
    match event.happening:
        case MembersReminded(proposal_id, at_percent, reminded):
            said = {"kind": "vote_waits", "at_percent": at_percent, "members": sorted(members.intersection(reminded))}
            until = None
        case BallotCast(ballot) if ballot.cast_by == "twin":
            proposal_id, until = ballot.proposal_id, ballot.counts_from
            said = {"kind": "twin_cast", "members": sorted(members.intersection([ballot.voter])), "choice": ballot.choice}
        case _:
            return None
    proposal = session.find(proposal_id)
    if proposal is None or proposal.status != "voting" or proposal.ends_at is None or not said["members"]:
        return None
    until = min(until, proposal.ends_at) if until else proposal.ends_at
    if at > until:
        return None
    return {**said, "event": event.seq, "proposal_id": proposal_id, "title": proposal.title, "until": until.isoformat()}
