"""What members did, asked again by the rules of that moment: their ballots, vetoes, delegations and attributes.

Belongs here: those questions, over one event and the state before it. Pure.
Does not belong here: reading the ledger, and what the clock did (`audit.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lpm_kernel.dao.commands import CLOCK_SKEW, check_ballot, check_veto, counts_from
from lpm_kernel.dao.delegation import holds
from lpm_kernel.dao.events import AttributesSet, BallotCast, BallotRefused, BallotVetoed, Delegated, DelegationRevoked, Event
from lpm_kernel.dao.fold import ProposalState
from lpm_kernel.dao.records import Ballot, Delegation
from lpm_kernel.errors import VoteError

Differs = Callable[[str], None]


def check_voters_event(before: ProposalState, event: Event, differs: Differs, counts_otherwise: Differs) -> None:
    """A ballot, one that was refused, or a veto. `before`: the proposal as it was. `differs` hears of what no rules allow, and
    `counts_otherwise` of what those of another time may have allowed."""
    match event.happening:
        case BallotCast(ballot):
            _check_ballot(before, ballot, event, differs, counts_otherwise)
        case BallotRefused(voter=voter):
            if event.actor != voter:
                differs(f"event {event.seq}: {event.actor} was refused a ballot of {voter}")
        case BallotVetoed(ballot_id=ballot_id, voter=voter):
            if event.actor != voter:
                differs(f"event {event.seq}: {event.actor} vetoed a ballot of {voter}")
            try:
                if ballot_id not in {each.ballot_id for each in check_veto(before, voter, event.at)}:
                    counts_otherwise(f"event {event.seq}: vetoes a ballot that {voter} had no time to veto any more")
            except VoteError as error:
                counts_otherwise(f"event {event.seq}: a veto that the rules refuse ({error.code})")
        case _:
            pass


def _check_ballot(before: ProposalState, ballot: Ballot, event: Event, differs: Differs, counts_otherwise: Differs) -> None:
    if event.actor != ballot.voter:
        differs(f"event {event.seq}: {event.actor} cast a ballot of {ballot.voter}")
    if not event.at - CLOCK_SKEW <= ballot.cast_at <= event.at:
        counts_otherwise(f"event {event.seq}: a ballot of {ballot.cast_at} that came at {event.at}")
    wanted = counts_from(before.rules, ballot.cast_by, event.at)
    if ballot.counts_from != wanted:
        counts_otherwise(f"event {event.seq}: its ballot counts from {ballot.counts_from}, and by the rules from {wanted}")
    try:
        check_ballot(before, ballot, event.at)
    except VoteError as error:
        counts_otherwise(f"event {event.seq}: a ballot that the rules refuse ({error.code})")


def check_member_events(events: Sequence[Event], differs: Differs) -> None:
    """Delegations and attributes, in the ledger's order: by whom, when, and whether there was anything to take back.

    Whoever leaves ends what was given to them as well as what they gave, so that a delegate may be the actor of an end.
    """
    given: dict[str, Delegation] = {}
    ended: set[str] = set()
    for event in events:
        match event.happening:
            case Delegated(delegation):
                _check_given(delegation, event, delegation.delegation_id in given, differs)
                given.setdefault(delegation.delegation_id, delegation)
            case DelegationRevoked(delegation_id, delegator):
                held = given.get(delegation_id)
                if held is None or held.delegator != delegator:
                    differs(f"event {event.seq}: ends a delegation of {delegator} that the ledger does not know")
                    continue
                if event.actor not in (held.delegator, held.delegate):
                    differs(f"event {event.seq}: {event.actor} ended a delegation of {delegator} to {held.delegate}")
                if delegation_id in ended or not holds(held, max(event.at, held.given_at)):
                    differs(f"event {event.seq}: ends a delegation that had ended already")
                ended.add(delegation_id)
            case AttributesSet(member, attributes):
                if any(amount < 0 for amount in attributes.values()):
                    differs(f"event {event.seq}: gives {member} an attribute under 0")
            case _:
                pass


def _check_given(delegation: Delegation, event: Event, again: bool, differs: Differs) -> None:
    if event.actor != delegation.delegator:
        differs(f"event {event.seq}: {event.actor} gave a delegation of {delegation.delegator}")
    if delegation.given_at != event.at:
        differs(f"event {event.seq}: a delegation of {delegation.given_at} that was given at {event.at}")
    if again:
        differs(f"event {event.seq}: gives a delegation again")
    if delegation.delegate == delegation.delegator:
        differs(f"event {event.seq}: {delegation.delegator} delegates to themself")
    if delegation.ends_at is not None and delegation.ends_at <= event.at:
        differs(f"event {event.seq}: a delegation that was over when it was given")
    if delegation.revoked_at is not None:
        differs(f"event {event.seq}: a delegation that was revoked when it was given")
