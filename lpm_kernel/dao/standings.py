"""How votes stand at a moment, for people and for dashboards.

Belongs here: turnout, time left, and whether a vote stalls. Pure.
Does not belong here: counting (`tally.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Counted, Delegation, Resolution, Tally
from lpm_kernel.dao.tally import count, counting_until, quorum_met, standing_from, tally


@dataclass(frozen=True, slots=True)
class Standing:
    """How a vote stands. `stalled`: past the time at which standing delegations are called for, or extended, and no quorum.
    On a dashboard it comes without its ballots, and `counted` is empty."""

    proposal: ProposalState
    tally: Tally
    turnout_percent: float
    time_left_s: float
    stalled: bool
    counted: tuple[Counted, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    at: datetime
    open: tuple[Standing, ...]
    """Open for discussion, or voting; the oldest first."""
    resolved: tuple[Resolution, ...]
    """Newest first."""
    members: int
    last_seq: int


def standing_of(proposal: ProposalState, delegations: Mapping[str, Delegation], at: datetime) -> Standing:
    """At this moment, or at the vote's end where that came before."""
    until = counting_until(proposal, at)
    sums = proposal.resolution.tally if proposal.resolution else tally(proposal, delegations, at)
    turnout = 100 * sums.cast / sums.electorate if sums.electorate else 0.0
    since = standing_from(proposal)
    late = proposal.extended or (since is not None and until >= since)
    stalled = proposal.status == "voting" and late and not quorum_met(sums, proposal.rules)
    return Standing(proposal, sums, turnout, time_left_s(proposal, at), stalled, count(proposal, delegations, at))


def time_left_s(proposal: ProposalState, at: datetime) -> float:
    """0 where no vote runs."""
    running = proposal.status == "voting" and proposal.ends_at is not None
    return max(0.0, (proposal.ends_at - at).total_seconds()) if running and proposal.ends_at else 0.0
