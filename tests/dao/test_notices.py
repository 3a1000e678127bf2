"""What waits for a person: a vote, a ballot of their twin that they may take back, a draft; nothing that is done or over."""

from __future__ import annotations

from dataclasses import replace

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.dao.events import BallotCast, BallotVetoed, Event, Happening
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.notices import Notice, notices_of
from lpm_kernel.dao.records import Ballot, Delegation
from lpm_kernel.stores.ballot_drafts import KeptDraft

from .voting import ballot, by_id, equal, handed, hours, vote

MEMBERS = equal("ann", "bob")
DRAFT = KeptDraft("d1", None, hours(2), BallotDraft("p", "against", "Roots."), 0.7)


def event(happening: Happening) -> Event:
    return Event(1, hours(1), "ann", happening, "", "")


def told(
    *cast: Ballot,
    at: float = 5,
    proposal: ProposalState | None = None,
    vetoed: str | None = None,
    drafts: list[KeptDraft] | None = None,
    held: list[Delegation] | None = None,
) -> list[Notice]:
    own = [event(BallotCast(each)) for each in cast] + ([event(BallotVetoed("p", vetoed, "ann"))] if vetoed else [])
    return notices_of("ann", [proposal or vote(MEMBERS)], own, drafts or [], by_id(*(held or [])), hours(at))


WAITS = Notice("vote_waits", "p", "Benches", hours(72))


def test_a_vote_waits_until_its_person_has_voted_or_it_is_over() -> None:
    assert told() == [WAITS]
    assert told(proposal=vote(MEMBERS, reminded=frozenset({50, 80}))) == [replace(WAITS, reminded_percent=80)]
    assert told(ballot("ann", "for", 2)) == []
    assert told(at=73) == []
    assert told(proposal=replace(vote(MEMBERS), status="passed")) == []


def test_nothing_waits_for_who_has_no_vote_in_it() -> None:
    assert told(proposal=vote(equal("bob"))) == []
    assert told(proposal=vote({"ann": 0, "bob": 1})) == []


def test_what_the_twin_has_cast_waits_for_a_veto_as_long_as_there_is_time() -> None:
    twins = ballot("ann", "against", 4, cast_by="twin", counts_at=16, ballot_id="t")
    assert told(twins) == [Notice("twin_cast", "p", "Benches", hours(16), "against")]
    assert told(twins, at=16) == []
    assert told(twins, ballot("ann", "for", 5)) == []
    assert told(twins, vetoed="t") == [WAITS]


def test_a_draft_waits_beside_its_vote() -> None:
    newer = replace(DRAFT, draft_id="d2", draft=BallotDraft("p", "for", None))
    assert told(drafts=[newer, DRAFT]) == [Notice("draft_waits", "p", "Benches", hours(72), "for", "d2"), WAITS]
    assert told(ballot("ann", "for", 3), drafts=[DRAFT]) == []
    assert told(drafts=[replace(DRAFT, draft=BallotDraft("q", "for", None))]) == [WAITS]


def test_who_lets_somebody_else_vote_is_not_waited_for() -> None:
    assert told(held=[handed("ann", "bob")]) == []
    assert told(held=[handed("ann", "bob", standing=True)]) == [WAITS]
    assert told(held=[handed("bob", "ann")]) == [WAITS]


def test_what_is_most_pressing_comes_first() -> None:
    sooner = replace(vote(MEMBERS), proposal_id="q", title="Lamps", ends_at=hours(8))
    found = notices_of("ann", [vote(MEMBERS), sooner], [], [], {}, hours(5))
    assert [each.proposal_id for each in found] == ["q", "p"]
