"""What of the DAO waits for one person: computed from how votes stand, so that it goes when it is done or over.

Belongs here: which votes, ballots of their twin and drafts wait, and until when. Pure.
Does not belong here: reading the ledger (`service.py`), and telling another service (`notice_hook.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.delegation import delegations_of_vote
from lpm_kernel.dao.events import BallotCast, BallotVetoed, Event
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Ballot, Delegation
from lpm_kernel.stores.ballot_drafts import KeptDraft

NoticeKind = Literal["vote_waits", "twin_cast", "draft_waits"]


@dataclass(frozen=True, slots=True)
class Notice:
    """`vote_waits`: nobody has voted for them; `twin_cast`: their twin has, and they may take it back; `draft_waits`: their
    twin drafted a ballot. `until`: the last moment for it. `choice`: the twin's. `reminded_percent`: of the vote's time, at
    which the ledger last noted who had not voted."""

    kind: NoticeKind
    proposal_id: str
    title: str
    until: datetime
    choice: Choice | None = None
    draft_id: str | None = None
    reminded_percent: int | None = None


def notices_of(
    user_id: str,
    proposals: Iterable[ProposalState],
    own: Sequence[Event],
    drafts: Sequence[KeptDraft],
    delegations: Mapping[str, Delegation],
    at: datetime,
) -> list[Notice]:
    """The most pressing first. `proposals`: those that are voted on, with or without their ballots; `own`: what the person and
    their twin did; `drafts`: newest first.

    A vote that somebody else carries for them does not wait: they said who votes. Why a draft beside a vote that waits: it is
    one word away from a ballot.
    """
    cast, vetoed = _ballots_of(user_id, own)
    drafted: dict[str, KeptDraft] = {}
    for kept in reversed(drafts):
        drafted[kept.draft.proposal] = kept
    found: list[Notice] = []
    for proposal in proposals:
        ends_at = proposal.ends_at
        if proposal.status != "voting" or ends_at is None or at > ends_at or not proposal.electorate.get(user_id):
            continue
        ballots = cast.get(proposal.proposal_id, [])
        if any(ballot.cast_by == "human" for ballot in ballots):
            continue
        name, title = proposal.proposal_id, proposal.title
        standing = [ballot for ballot in ballots if ballot.ballot_id not in vetoed]
        for ballot in standing:
            if ballot.counts_from > at:
                found.append(Notice("twin_cast", name, title, min(ballot.counts_from, ends_at), ballot.choice))
        if not standing and not _is_carried(user_id, proposal, delegations, at):
            reminded = max(proposal.reminded, default=None)
            found.append(Notice("vote_waits", name, title, ends_at, reminded_percent=reminded))
        if not standing and (kept := drafted.get(name)) is not None:
            found.append(Notice("draft_waits", name, title, ends_at, kept.draft.choice, kept.draft_id))
    return sorted(found, key=lambda notice: (notice.until, notice.proposal_id, notice.kind))


def _ballots_of(user_id: str, own: Iterable[Event]) -> tuple[dict[str, list[Ballot]], set[str]]:
    cast: dict[str, list[Ballot]] = {}
    vetoed: set[str] = set()
    for event in own:
        match event.happening:
            case BallotCast(ballot) if ballot.voter == user_id:
                cast.setdefault(ballot.proposal_id, []).append(ballot)
            case BallotVetoed(ballot_id=ballot_id):
                vetoed.add(ballot_id)
            case _:
                pass
    return cast, vetoed


def _is_carried(user_id: str, proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> bool:
    given = [each for each in delegations.values() if each.delegator == user_id]
    return user_id in delegations_of_vote(given, proposal.proposal_id, proposal.topic, at, standing=False)
