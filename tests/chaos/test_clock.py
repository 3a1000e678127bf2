"""A clock that jumps: a vote has one end whatever it shows, and the ledger stays whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.events import ProposalResolved, proposal_of
from lpm_kernel.dao.service import Dao
from lpm_kernel.records import User
from lpm_kernel.settings import Settings
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.users import add_user
from tests.twin_serving.dao_town import dao_tables

pytestmark = pytest.mark.slow
__all__ = ["dao_tables"]

MEMBERS = ("ada", "bo", "cy")


class Clock:
    def __init__(self) -> None:
        self.off = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.off


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dao(dao_tables: Tables, settings: Settings, clock: Clock) -> Dao:
    for member in MEMBERS:
        with dao_tables.transaction(member) as connection:
            add_user(connection, User(member))
    return Dao(dao_tables, settings.dao, clock=clock)


def ends(dao: Dao, proposal_id: str) -> int:
    events = dao.events_after(0, 10_000)
    return sum(
        isinstance(event.happening, ProposalResolved) and proposal_of(event.happening) == proposal_id for event in events
    )


def test_a_clock_that_jumps_ahead_and_back_ends_a_vote_once(dao: Dao, clock: Clock) -> None:
    proposal = dao.propose("ada", "Oaks", "Ten oaks.").proposal_id
    dao.vote("ada", proposal, "for", cast_by="human")
    for days in (10, 12):  # a vote that stalls is extended first, from the moment at which that is seen
        clock.off = timedelta(days=days)
        while dao.advance(proposal):
            pass
    assert ends(dao, proposal) == 1
    clock.off = timedelta(0)
    assert dao.advance(proposal) == []
    clock.off = timedelta(days=20)
    assert dao.advance(proposal) == []
    assert ends(dao, proposal) == 1
    assert audit(dao).broken == ()


def test_a_clock_that_is_set_back_keeps_nobody_from_proposing_and_voting(dao: Dao, clock: Clock) -> None:
    clock.off = timedelta(days=1)
    early = dao.propose("bo", "Elms", "Ten elms.").proposal_id
    clock.off = timedelta(hours=-3)
    later = dao.propose("cy", "Ashes", "Ten ashes.").proposal_id
    for proposal in (early, later):
        for member in MEMBERS:
            if dao.proposal(proposal).resolution is None:
                dao.vote(member, proposal, "for", cast_by="human")
        assert dao.proposal(proposal).status == "passed"
        assert ends(dao, proposal) == 1
    assert audit(dao).broken == ()
