"""How votes stand, kept from one look at the dashboard to the next: of a thousand open votes few differ between two looks.

Belongs here: what is kept of a vote, and until when it is right.
Does not belong here: counting (`tally.py`), and what a vote looks like (`standings.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Delegation
from lpm_kernel.dao.standings import Standing, standing_of, time_left_s
from lpm_kernel.dao.tally import standing_from


@dataclass(frozen=True, slots=True)
class _Kept:
    """Right from `made_at` to before `until`, while the proposal and the delegations are as they were at these numbers."""

    standing: Standing
    last_seq: int
    members_seq: int
    made_at: datetime
    until: datetime | None


class ShownStandings:
    """Safe to share between threads. Without ballots, which is most of a vote, and without where each weight went."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def get(self, proposal_id: str, last_seq: int, members_seq: int, at: datetime) -> Standing | None:
        with self._lock:
            kept = self._kept.get(proposal_id)
        if kept is None or (kept.last_seq, kept.members_seq) != (last_seq, members_seq):
            return None
        if at < kept.made_at or (kept.until is not None and at >= kept.until):
            return None
        return replace(kept.standing, time_left_s=time_left_s(kept.standing.proposal, at))

    def make(
        self, proposal: ProposalState, delegations: Mapping[str, Delegation], last_seq: int, members_seq: int, at: datetime
    ) -> Standing:
        whole = standing_of(proposal, delegations, at)
        light = replace(whole, proposal=replace(proposal, ballots=()), counted=())
        kept = _Kept(light, last_seq, members_seq, at, differs_from(proposal, delegations, at))
        with self._lock:
            self._kept[proposal.proposal_id] = kept
        return light

    def keep_only(self, proposal_ids: Iterable[str]) -> None:
        """Forget votes that are over."""
        with self._lock:
            kept = self._kept
            self._kept = {proposal_id: kept[proposal_id] for proposal_id in proposal_ids if proposal_id in kept}


def differs_from(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> datetime | None:
    """The first later moment from which a vote may stand otherwise by time alone; None: it never does.

    A moment beside the right one is named too: at the end itself a vote still stands, and just after it no longer.
    """
    moments = {ballot.counts_from for ballot in proposal.ballots}
    moments.update(each.ends_at for each in delegations.values() if each.ends_at is not None)
    moments.update(each for each in (standing_from(proposal), proposal.ends_at) if each is not None)
    return min((moment for moment in moments if moment > at), default=None)
