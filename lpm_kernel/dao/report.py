"""The DAO in rows: what Dagster keeps and plots, and what the command line prints.

Belongs here: one flat record a vote, its figures, and tables of them.
Does not belong here: counting (`tally.py`), and reading the ledger (`service.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lpm_kernel.dao.records import ClosedBy, Outcome, Resolution, ResolutionReason, Status
from lpm_kernel.dao.tally import counting_ballots

if TYPE_CHECKING:
    from lpm_kernel.dao.fold import ProposalState
    from lpm_kernel.dao.service import Dashboard, Standing


@dataclass(frozen=True, slots=True)
class ResolvedVote:
    """One vote that is over. Weights are integers; `turnout_percent` is what was cast or represented, of all weight."""

    proposal_id: str
    title: str
    topic: str
    outcome: Outcome
    reason: ResolutionReason
    closed_by: ClosedBy
    rules_version: str
    for_: int
    against: int
    abstain: int
    electorate: int
    voters: int
    represented: int
    turnout_percent: float
    decided_at: datetime
    """When it could have been resolved at the earliest: of a vote that a ballot decided, in that ballot's own transaction."""
    resolved_at: datetime

    @property
    def latency_s(self) -> float:
        return (self.resolved_at - self.decided_at).total_seconds()


@dataclass(frozen=True, slots=True)
class OpenVote:
    """One proposal that has no end yet. Before its vote begins nothing is counted."""

    proposal_id: str
    title: str
    topic: str
    status: Status
    ends_at: datetime | None
    time_left_s: float
    turnout_percent: float
    for_: int
    against: int
    abstain: int
    electorate: int
    voters: int
    represented: int
    stalled: bool


def resolved_vote(proposal: ProposalState, resolution: Resolution) -> ResolvedVote:
    tally = resolution.tally
    return ResolvedVote(
        proposal.proposal_id,
        proposal.title,
        proposal.topic,
        resolution.outcome,
        resolution.reason,
        resolution.closed_by,
        resolution.rules_version,
        tally.for_,
        tally.against,
        tally.abstain,
        tally.electorate,
        tally.voters,
        tally.represented,
        round(100 * tally.cast / tally.electorate, 1) if tally.electorate else 0.0,
        deciding_moment(proposal, resolution),
        resolution.resolved_at,
    )


def deciding_moment(proposal: ProposalState, resolution: Resolution) -> datetime:
    """The end of the time, or the moment from which the last ballot counted.

    Why no earlier ballot is looked for that may have decided already: none can have, a vote that is decided takes no more.
    """
    if resolution.closed_by == "deadline" and proposal.ends_at is not None:
        return proposal.ends_at
    counting = counting_ballots(proposal, resolution.resolved_at).values()
    return max((max(ballot.cast_at, ballot.counts_from) for ballot in counting), default=resolution.resolved_at)


def open_vote(standing: Standing) -> OpenVote:
    proposal, tally = standing.proposal, standing.tally
    return OpenVote(
        proposal.proposal_id,
        proposal.title,
        proposal.topic,
        proposal.status,
        proposal.ends_at,
        round(standing.time_left_s, 1),
        round(standing.turnout_percent, 1),
        tally.for_,
        tally.against,
        tally.abstain,
        tally.electorate,
        tally.voters,
        tally.represented,
        standing.stalled,
    )


def resolution_figures(resolved: Sequence[ResolvedVote]) -> dict[str, float]:
    """Of all votes that are over; the latency is that of the newest one."""
    figures: dict[str, float] = {
        "resolved": len(resolved),
        "passed": sum(vote.outcome == "passed" for vote in resolved),
        "failed": sum(vote.outcome == "failed" for vote in resolved),
        **{f"reason {reason}": count for reason, count in _counts([vote.reason for vote in resolved]).items()},
        **{f"closed by {closed_by}": count for closed_by, count in _counts([vote.closed_by for vote in resolved]).items()},
    }
    if resolved:
        newest = max(resolved, key=lambda vote: vote.resolved_at)
        figures |= {
            "mean turnout %": round(sum(vote.turnout_percent for vote in resolved) / len(resolved), 1),
            "newest: turnout %": newest.turnout_percent,
            "newest: for": newest.for_,
            "newest: against": newest.against,
            "newest: abstain": newest.abstain,
            "newest: seconds from deciding to resolution": round(newest.latency_s, 2),
        }
    return figures


def state_figures(dashboard: Dashboard) -> dict[str, float]:
    """What is open, in numbers that plot over time."""
    votes = [open_vote(standing) for standing in dashboard.open]
    voting = [vote for vote in votes if vote.status == "voting"]
    figures: dict[str, float] = {
        "open": len(votes),
        "voting": len(voting),
        "stalled": sum(vote.stalled for vote in voting),
        "members": dashboard.members,
        "ledger events": dashboard.last_seq,
    }
    if voting:
        figures |= {
            "mean turnout %": round(sum(vote.turnout_percent for vote in voting) / len(voting), 1),
            "lowest turnout %": min(vote.turnout_percent for vote in voting),
            "least hours left": round(min(vote.time_left_s for vote in voting) / 3600, 2),
        }
    return figures


RESOLVED_COLUMNS = ("proposal", "title", "outcome", "reason", "for", "against", "abstain", "turnout", "closed by", "latency")
OPEN_COLUMNS = ("proposal", "title", "status", "for", "against", "abstain", "turnout", "time left", "stalled")


def resolved_row(vote: ResolvedVote) -> tuple[str, ...]:
    weights = (str(vote.for_), str(vote.against), str(vote.abstain))
    turnout, latency = f"{vote.turnout_percent:.0f} %", f"{vote.latency_s:.1f} s"
    return vote.proposal_id, vote.title, vote.outcome, vote.reason, *weights, turnout, vote.closed_by, latency


def open_row(vote: OpenVote) -> tuple[str, ...]:
    weights = (str(vote.for_), str(vote.against), str(vote.abstain))
    left = in_words(vote.time_left_s) if vote.status == "voting" else ""
    return (
        *(vote.proposal_id, vote.title, vote.status, *weights, f"{vote.turnout_percent:.0f} %", left),
        "yes" if vote.stalled else "no",
    )


def in_words(seconds: float) -> str:
    """A span in the two units that matter: `2 d 3 h`, `41 min`."""
    minutes = round(max(0.0, seconds) / 60)
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe in a cell would end it, and a title is a member's."""
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (columns, *rows)]
    told = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([told[0], f"|{'---|' * len(columns)}", *told[1:]])


def _counts(words: Sequence[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words))}
