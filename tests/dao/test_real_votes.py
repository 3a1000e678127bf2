"""Votes and delegations that were really cast: 1,393 delegations of one community, and the proposals of twelve DAOs."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random

import pytest

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.delegation import circles, delegations_of_vote
from lpm_kernel.dao.events import BallotCast, ProposalDrafted, ProposalOpened, VotingStarted
from lpm_kernel.dao.fold import fold
from lpm_kernel.dao.records import STATUSES, Ballot, Delegation, Scope, Tally
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.tally import count, tally

from .voting import Community, ballot, by_id, hours, read_votes, vote

SPACE = "stgdao.eth"


def real_delegations() -> list[Delegation]:
    """Those without a space are for everything, those of the space for its topic, in the order in which they stand."""
    return [
        Delegation(
            delegation_id=f"{number:04}",
            delegator=each["delegator"],
            delegate=each["delegate"],
            scope=Scope("topic", each["space"]) if each["space"] else Scope("all"),
            given_at=hours(-1),
        )
        for number, each in enumerate(read_votes("snapshot/delegates.json"))
    ]


def delegates_in(topic: str) -> dict[str, str]:
    """Who delegates to whom in a vote on this topic."""
    held = delegations_of_vote(real_delegations(), "p", topic, hours(1), standing=False)
    return {delegator: each.delegate for delegator, each in held.items()}


def test_real_delegations_have_seven_circles() -> None:
    """Two among those for everything, five among those of the space. In a vote of the space both hold, and an eighth closes
    over both."""
    held = real_delegations()
    assert len(held) == 1393
    scopes = [[each for each in held if each.scope.kind == kind] for kind in ("all", "topic")]
    found = [circles({each.delegator: each.delegate for each in own}) for own in scopes]
    assert [sorted(map(len, own)) for own in found] == [[2, 2], [2, 2, 2, 2, 6]]
    assert circles(delegates_in("another")) == found[0]
    assert len(circles(delegates_in(SPACE))) == 8


@pytest.mark.parametrize("topic", [SPACE, "another"])
def test_real_delegations_carry_what_their_heads_vote_and_lose_no_weight(topic: str) -> None:
    """Every second member who delegates to nobody votes: each weight goes to the end of its chain, or to nobody."""
    held, delegates = real_delegations(), delegates_in(topic)
    members = sorted({each.delegator for each in held} | {each.delegate for each in held})
    heads = sorted(set(members) - set(delegates))[::2]
    sides: tuple[Choice, ...] = ("for", "against", "abstain")
    cast = [ballot(head, sides[number % 3]) for number, head in enumerate(heads)]
    proposal = vote({member: 1 + number % 5 for number, member in enumerate(members)}, cast, topic=topic)
    began = time.process_time()
    counted = count(proposal, by_id(*held), hours(72))
    assert time.process_time() - began < 1
    for each in counted:
        here, steps = each.member, 0
        while here in delegates and steps < len(members):
            here, steps = delegates[here], steps + 1
        assert each.through == (here if here in heads else None)
    summed = tally(proposal, by_id(*held), hours(72))
    uncast = sum(each.weight for each in counted if each.choice is None)
    assert summed.cast + uncast == summed.electorate == sum(proposal.electorate.values())
    assert (summed.voters, summed.represented > 0) == (len(heads), True)
    shuffled = list(held)
    Random(7).shuffle(shuffled)
    assert count(proposal, by_id(*shuffled), hours(72)) == counted


@pytest.mark.parametrize("topic", [SPACE, "another"])
def test_nobody_in_a_real_circle_is_heard_until_one_of_them_votes(topic: str) -> None:
    held = by_id(*real_delegations())
    for circle in circles(delegates_in(topic)):
        members = dict.fromkeys(circle, 1)
        assert tally(vote(members, topic=topic), held, hours(72)).cast == 0
        voted = tally(vote(members, [ballot(circle[0], "for")], topic=topic), held, hours(72))
        assert (voted.for_, voted.voters, voted.represented) == (len(circle), 1, len(circle) - 1)


@dataclass(frozen=True)
class Recorded:
    proposal_id: str
    proposer: str
    created_at: datetime
    for_: int
    against: int
    everything: int
    ballots: tuple[tuple[str, Choice, int, datetime], ...]
    """Voter, choice, weight, moment."""

    @property
    def is_whole(self) -> bool:
        sides = {side: sum(weight for _, choice, weight, _ in self.ballots if choice == side) for side in ("for", "against")}
        return (sides["for"], sides["against"]) == (self.for_, self.against)


def moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


@cache
def recorded() -> tuple[Recorded, ...]:
    cast: dict[str, list[tuple[str, Choice, int, datetime]]] = defaultdict(list)
    for row in csv.DictReader(io.StringIO(read_votes("daostack/votes.csv"))):
        choice: Choice = "for" if row["outcome"] == "Pass" else "against"
        cast[row["proposal"]].append((row["voter"], choice, int(row["reputation"]), moment(row["createdAt"])))
    return tuple(
        Recorded(
            proposal_id=row["id"],
            proposer=row["proposer"],
            created_at=moment(row["createdAt"]),
            for_=int(row["votesFor"]),
            against=int(row["votesAgainst"]),
            everything=int(row["totalRepWhenCreated"]),
            ballots=tuple(cast[row["id"]]),
        )
        for row in csv.DictReader(io.StringIO(read_votes("daostack/proposals.csv")))
    )


RULES = Rules(close="deadline", extend_stalled=False, late_quorum_hours=0, standing_at_percent=100, remind_at_percent=())


def replay(record: Recorded, shuffle: Random | None = None) -> Community:
    """The proposal as it went, its vote as long as its last ballot; who did not vote is one member with all other weight."""
    weights = {voter: weight for voter, _, weight, _ in record.ballots}
    electorate = {**weights, "all others": record.everything - sum(weights.values())}
    moments = [at for _, _, _, at in record.ballots]
    ends_at = max([record.created_at, *moments])
    community = Community(electorate)
    community.happens(ProposalDrafted(record.proposal_id, "", "", record.proposer, "", RULES), record.created_at)
    community.happens(ProposalOpened(record.proposal_id), record.created_at)
    community.happens(VotingStarted(record.proposal_id, electorate, ends_at), record.created_at)
    cast = [
        Ballot(f"{voter}-{at}", record.proposal_id, voter, choice, "human", at, at) for voter, choice, _, at in record.ballots
    ]
    cast.sort(key=lambda each: (each.cast_at, each.ballot_id))
    if shuffle:
        shuffle.shuffle(cast)
    for each in cast:
        community.happens(BallotCast(each), each.cast_at, each.voter)
    return community


def test_every_real_vote_whose_ballots_are_all_there_is_tallied_as_recorded() -> None:
    whole = [record for record in recorded() if record.is_whole]
    assert (len(recorded()), len(whole), sum(bool(record.ballots) for record in whole)) == (835, 624, 550)
    ended: Counter[str] = Counter()
    for record in whole:
        community = replay(record)
        proposal = community.state.proposals[record.proposal_id]
        assert tally(proposal, {}, proposal.ends_at or record.created_at) == Tally(
            record.for_, record.against, 0, record.everything, voters=len(record.ballots), represented=0
        )
        statuses = [fold(community.events[:number]).proposals[record.proposal_id].status for number in range(1, 4)]
        closing = (proposal.ends_at or record.created_at) + timedelta(seconds=1)
        community.advance(closing, record.proposal_id)
        last = community.state.proposals[record.proposal_id]
        order = [STATUSES.index(each) for each in (*statuses, last.status)]
        assert order == sorted(set(order))
        assert last.resolution is not None
        ended[last.resolution.reason] += 1
    assert ended == {"quorum_not_met": 498, "threshold_met": 118, "threshold_not_met": 8}


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_real_ballots_arrive_changes_no_tally(seed: int) -> None:
    random = Random(seed)
    for record in recorded():
        if len(record.ballots) < 3:
            continue
        one, other = (replay(record, shuffle).state.proposals[record.proposal_id] for shuffle in (None, random))
        assert one.ends_at is not None
        assert tally(one, {}, one.ends_at) == tally(other, {}, one.ends_at)
