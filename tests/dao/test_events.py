"""Events as JSON, and their chain: what is written is read back alike, and nothing else is read."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.dao import events
from lpm_kernel.dao.event_codec import canonical_json
from lpm_kernel.dao.events import (
    AttributesSet,
    BallotCast,
    BallotRefused,
    BallotVetoed,
    Delegated,
    DelegationRevoked,
    Happening,
    MembersReminded,
    ProposalCancelled,
    ProposalDrafted,
    ProposalImplemented,
    ProposalOpened,
    ProposalResolved,
    StandingApplied,
    TaskAssigned,
    VotingExtended,
    VotingStarted,
    decode,
    encode,
    hash_of,
    kind_of,
    proposal_of,
)
from lpm_kernel.dao.records import Resolution, Scope, Tally, Task
from lpm_kernel.dao.rules import Rules
from lpm_kernel.errors import StoreError

from .voting import START, ballot, ballots, delegations, handed, hours

CAST = replace(
    ballot("ann", "for", cast_by="twin", counts_at=13),
    confidence=0.75,
    consent="autonomous",
    citations=("c1",),
    reasons_sha256="ab",
)
RESOLUTION = Resolution("p", "failed", "quorum_not_met", "deadline", Tally(1, 2, 3, 10**30, 4, 5), "v1", hours(72))
ONE_OF_EACH: list[tuple[Happening, str, str | None]] = [
    (ProposalDrafted("p", "Benches", "Bring them back – now", "ann", "park", Rules(), "o"), "proposal_drafted", "p"),
    (ProposalOpened("p"), "proposal_opened", "p"),
    (VotingStarted("p", {"bob": 2, "ann": 1}, hours(72)), "voting_started", "p"),
    (BallotCast(CAST), "ballot_cast", "p"),
    (BallotRefused("p", "ann", "voting_closed"), "ballot_refused", "p"),
    (BallotVetoed("p", "b", "ann"), "ballot_vetoed", "p"),
    (Delegated(handed("ann", "bob", ends=9)), "delegated", None),
    (Delegated(handed("ann", "bob", scope=Scope("proposal", "p"))), "delegated", "p"),
    (DelegationRevoked("d", "ann"), "delegation_revoked", None),
    (AttributesSet("ann", {"founder": 1}), "attributes_set", None),
    (MembersReminded("p", 50, ("ann", "bob")), "members_reminded", "p"),
    (StandingApplied("p"), "standing_applied", "p"),
    (VotingExtended("p", hours(84), "stalled"), "voting_extended", "p"),
    (ProposalResolved(RESOLUTION), "proposal_resolved", "p"),
    (ProposalImplemented("p"), "proposal_implemented", "p"),
    (ProposalCancelled("p", "done already"), "proposal_cancelled", "p"),
    (TaskAssigned(Task("t", "purchase", "Wood", "bob", {"metres": 12, "kind": "oak"}), "p", None), "task_assigned", "p"),
    (TaskAssigned(Task("t", "print_job", "Hinge"), None, "plan"), "task_assigned", None),
]


def stored(happening: Happening) -> Any:
    return json.loads(json.dumps(encode(happening)))


@pytest.mark.parametrize(
    ("happening", "kind", "proposal_id"), ONE_OF_EACH, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_kind_has_a_name_and_comes_back_as_it_was(happening: Happening, kind: str, proposal_id: str | None) -> None:
    assert kind_of(happening) == kind
    assert proposal_of(happening) == proposal_id
    assert decode(kind, stored(happening)) == happening


def test_every_kind_is_looked_at_above() -> None:
    assert {type(happening) for happening, _, _ in ONE_OF_EACH} == set(get_args(Happening))


@given(ballots(), delegations())
def test_drawn_ballots_and_delegations_come_back_as_they_were(cast: Any, given_: Any) -> None:
    assert decode("ballot_cast", stored(BallotCast(cast))) == BallotCast(cast)
    assert decode("delegated", stored(Delegated(given_))) == Delegated(given_)


@given(st.floats(0, 1), st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(START.tzinfo)))
def test_confidence_and_time_keep_every_digit(confidence: float, at: datetime) -> None:
    cast = BallotCast(replace(CAST, confidence=confidence, cast_at=at))
    assert decode("ballot_cast", stored(cast)) == cast


def test_a_whole_number_is_hashed_as_it_is_read_back() -> None:
    """A confidence of 1 was once hashed as 1 and read back as 1.0, and so the chain seemed broken."""
    cast = BallotCast(replace(CAST, confidence=1))
    assert hash_of(1, START, "ann", decode("ballot_cast", stored(cast)), "") == hash_of(1, START, "ann", cast, "")


def test_another_zone_is_the_same_moment_and_the_same_hash() -> None:
    there = START.astimezone(timezone(timedelta(hours=5)))
    assert encode(BallotCast(replace(CAST, cast_at=there))) == encode(BallotCast(replace(CAST, cast_at=START)))
    assert hash_of(1, there, "ann", ProposalOpened("p"), "") == hash_of(1, START, "ann", ProposalOpened("p"), "")


def test_a_hash_is_of_all_five_and_of_the_kind() -> None:
    whole = (1, START, "ann", ProposalOpened("p"), "h")
    others = [(2, *whole[1:]), (1, hours(1), *whole[2:]), (1, START, "bob", *whole[3:]), (*whole[:4], "i")]
    others += [(*whole[:3], ProposalOpened("q"), "h"), (*whole[:3], ProposalImplemented("p"), "h")]
    hashes = {hash_of(*each) for each in [whole, *others]}
    assert len(hashes) == 1 + len(others)
    assert all(len(each) == 64 for each in hashes)


def test_the_order_of_an_electorate_changes_no_hash() -> None:
    one, other = VotingStarted("p", {"a": 1, "b": 2}, START), VotingStarted("p", {"b": 2, "a": 1}, START)
    assert hash_of(1, START, "clock", one, "") == hash_of(1, START, "clock", other, "")


def test_the_canonical_form_is_fixed() -> None:
    """A ledger that was written is checked by the same form for ever: these bytes may not change."""
    assert canonical_json([1, {"b": "–", "a": None}]) == '[1,{"a":null,"b":"–"}]'.encode()
    assert hash_of(1, START, "ann", BallotCast(CAST), "") == "fdc71b4c26b74dcacfd933fb16d656027a33552e04cdab3ffeb798eb016e6ef7"


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("no_such_kind", {}),
        ("proposal_opened", {}),
        ("proposal_opened", {"proposal_id": 1}),
        ("proposal_opened", {"proposal_id": "p", "more": 1}),
        ("proposal_opened", []),
        ("members_reminded", {"proposal_id": "p", "at_percent": True, "members": []}),
        ("members_reminded", {"proposal_id": "p", "at_percent": 50, "members": "ann"}),
        ("voting_started", {"proposal_id": "p", "electorate": {"ann": 1.5}, "ends_at": "2026-01-01T00:00:00+00:00"}),
        ("voting_started", {"proposal_id": "p", "electorate": ["ann"], "ends_at": "2026-01-01T00:00:00+00:00"}),
        ("voting_started", {"proposal_id": "p", "electorate": {"ann": 1}, "ends_at": "2026-01-01T00:00:00"}),
        ("voting_started", {"proposal_id": "p", "electorate": {"ann": 1}, "ends_at": "soon"}),
        ("ballot_cast", {"ballot": {**encode(BallotCast(CAST))["ballot"], "choice": "maybe"}}),
        ("ballot_cast", {"ballot": {**encode(BallotCast(CAST))["ballot"], "confidence": "high"}}),
        ("ballot_cast", {"ballot": None}),
        (
            "task_assigned",
            {**encode(ONE_OF_EACH[-1][0]), "task": {**encode(ONE_OF_EACH[-1][0])["task"], "details": {"a": 1.5}}},
        ),
    ],
)
def test_what_was_not_written_so_is_not_read(kind: str, payload: Any) -> None:
    with pytest.raises(StoreError) as refused:
        decode(kind, payload)
    assert (refused.value.code, refused.value.retryable) == ("ledger_unreadable", False)


@pytest.mark.parametrize(
    "happening",
    [
        BallotCast(replace(CAST, confidence=float("nan"))),
        BallotCast(replace(CAST, confidence=float("inf"))),
        VotingExtended("p", datetime(2026, 1, 1), "stalled"),
    ],
)
def test_what_json_has_no_form_of_is_refused_before_it_is_written(happening: Happening) -> None:
    with pytest.raises(ValueError, match=r"form in JSON|zone"):
        encode(happening)


def test_every_field_of_every_event_is_written() -> None:
    for happening, _, _ in ONE_OF_EACH:
        assert set(encode(happening)) == {each.name for each in fields(happening)}


def test_kinds_are_told_apart_by_name() -> None:
    assert len({kind for _, kind, _ in ONE_OF_EACH}) == len(get_args(events.Happening))
