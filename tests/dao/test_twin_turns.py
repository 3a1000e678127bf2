"""Twins that vote of their own accord: each once, by what they have now, and none keeps another from its turn."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import text

from lpm_kernel.dao.service import Dao
from lpm_kernel.dao.stance import Stance
from lpm_kernel.dao.twin_turns import AGAIN, LEASE, LookedThrough, TwinTurns, let_twins_vote
from lpm_kernel.errors import LlmError, UserInputError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.ballot_drafts import list_drafts
from lpm_kernel.stores.dao_consent import Consent, set_consent
from lpm_kernel.stores.dao_ledger import list_proposals
from lpm_kernel.stores.dao_twin_turns import end_turn, take_turn
from lpm_kernel.stores.releases import promote_release
from tests.dao.ledgers import NOON, Clock, Ledger, rows_read
from tests.dao.test_twin_ballots import stance
from tests.fakes import FakeLlm
from tests.samples import make_release

FIVE = ("ada", "ben", "cleo", "dan", "eve")


@dataclass
class Town:
    dao: Dao
    stores: Any
    clock: Clock
    weighed: list[tuple[str, str]] = field(default_factory=list)
    opened: int = 0
    fails: dict[str, Exception] = field(default_factory=dict)

    def weigh(self, stores: Any, llm: Any, user_id: str, proposal: Any, **_: Any) -> Stance:
        self.weighed.append((user_id, proposal.proposal_id))
        if user_id in self.fails:
            raise self.fails[user_id]
        return stance()

    def llm(self) -> FakeLlm:
        self.opened += 1
        return FakeLlm()

    def look(self, most: int = 10, **how: Any) -> TwinTurns:
        return let_twins_vote(self.dao, self.stores, self.llm, most=most, weigh=self.weigh, **how)

    def allow(self, *members: str, mode: Any = "autonomous", **conditions: Any) -> None:
        for member in members:
            with self.stores.tables.transaction(member) as connection:
                set_consent(connection, Consent(member, mode, **conditions), self.clock())

    def serve(self, *members: str, name: str = "r1") -> None:
        for member in members:
            with self.stores.tables.transaction(member) as connection:
                promote_release(connection, replace(make_release(member), release_id=f"{name}-{member}"))

    def propose(self, title: str = "Benches") -> str:
        return self.dao.propose("ada", title, f"The park gets {title}.", topic="park").proposal_id

    def voters(self, proposal_id: str) -> list[str]:
        return sorted(ballot.voter for ballot, _ in self.dao.ballots(proposal_id))


@pytest.fixture
def town(ledger: Ledger, clock: Clock, settings: Settings) -> Town:
    ledger.join(*FIVE)
    made = Town(ledger.dao(clock), cast("Any", SimpleNamespace(tables=ledger.tables, settings=settings)), clock)
    made.serve(*FIVE)
    return made


def test_whoever_lets_their_twin_vote_need_not_ask_it_to(town: Town) -> None:
    town.allow("ben", "cleo")
    town.allow("dan", mode="draft")
    town.allow("eve", mode="never")
    benches = town.propose()
    found = town.look()
    assert {who: ballot.outcome for (who, _), ballot in found.taken.items()} == {
        "ben": "cast", "cleo": "cast", "dan": "drafted",
    }  # fmt: skip
    assert town.voters(benches) == ["ben", "cleo"]
    with town.stores.tables.transaction("dan") as connection:
        assert [kept.draft.proposal for kept in list_drafts(connection, "dan")] == [benches]
    assert ("ada", benches) not in town.weighed, "who has said nothing is not asked for"


def test_each_turn_is_taken_once_and_the_model_is_opened_for_none(town: Town) -> None:
    town.allow("ben")
    town.allow("dan", mode="draft")
    town.propose()
    town.look()
    assert (town.look(), town.look()) == (TwinTurns(), TwinTurns())
    assert (len(town.weighed), town.opened) == (2, 1)


def test_of_a_new_release_or_another_consent_a_draft_is_made_anew_and_a_ballot_is_not(town: Town) -> None:
    town.allow("ben")
    town.allow("dan", mode="draft")
    benches = town.propose()
    town.look()
    town.serve("ben", "dan", name="r2")
    assert {who for who, _ in town.look().taken} == {"dan"}
    town.clock.moves(minutes=1)
    town.allow("dan")
    assert town.look().taken["dan", benches].outcome == "cast"
    assert town.voters(benches) == ["ben", "dan"]


def test_who_voted_or_came_later_or_has_no_twin_has_no_turn(town: Town, ledger: Ledger) -> None:
    benches = town.propose()
    ledger.join("fay", "gus")
    town.serve("fay")
    town.allow("ben", "cleo", "fay", "gus")
    town.dao.vote("ben", benches, "against")
    assert set(town.look().taken) == {("cleo", benches)}
    town.clock.moves(hours=100)
    assert town.look() == TwinTurns(), "it is over"


def test_a_look_takes_so_many_turns_and_the_next_one_the_rest(town: Town) -> None:
    town.allow("ben", "cleo", "dan")
    benches = town.propose()
    assert (len((first := town.look(most=2)).taken), first.left) == (2, 1)
    assert len(town.look(most=2).taken) == 1
    assert town.voters(benches) == ["ben", "cleo", "dan"]


def test_the_vote_that_ends_first_comes_first(town: Town) -> None:
    town.allow("ben")
    first = town.propose()
    town.clock.moves(hours=1)
    town.propose("Lamps")
    assert town.look(most=1).taken.keys() == {("ben", first)}


@pytest.mark.parametrize("error", [LlmError("engine_unreachable", "told to"), OSError("told to")])
def test_a_twin_that_fails_stops_no_other_and_is_tried_again_later(town: Town, error: Exception) -> None:
    town.allow("ben", "cleo", "dan")
    benches = town.propose()
    town.fails = {"ben": error}
    found = town.look()
    assert found.failed.keys() == {("ben", benches)}
    assert town.voters(benches) == ["cleo", "dan"]
    assert town.look() == TwinTurns(), "not at once"
    for tries in range(3):
        town.clock.moves(seconds=AGAIN.total_seconds() * 2**tries)
        assert town.look().failed.keys() == {("ben", benches)}
        assert town.look() == TwinTurns(), "each time after twice as long"
    town.fails = {}
    town.clock.moves(hours=1)
    assert town.look().taken["ben", benches].outcome == "cast"


def test_what_no_later_try_would_mend_is_not_tried_again_until_something_else_is_there(town: Town) -> None:
    town.allow("ben")
    benches = town.propose()
    town.fails = {"ben": UserInputError("memory_unreadable", "told to")}
    assert town.look().failed == {("ben", benches): "memory_unreadable"}
    town.clock.moves(hours=2)
    assert town.look() == TwinTurns()
    town.fails = {}
    town.serve("ben", name="r2")
    assert town.look().taken.keys() == {("ben", benches)}


def test_a_process_that_is_killed_in_a_turn_leaves_it_to_the_next(town: Town) -> None:
    town.allow("ben")
    benches = town.propose()

    class Killed(BaseException):
        pass

    def dies(*_: Any, **__: Any) -> Stance:
        raise Killed

    with pytest.raises(Killed):
        let_twins_vote(town.dao, town.stores, town.llm, most=1, weigh=dies)
    assert town.look() == TwinTurns(), "it may be at it still"
    town.clock.moves(seconds=LEASE.total_seconds())
    assert town.look().taken.keys() == {("ben", benches)}


def test_several_at_once_take_each_turn_once(town: Town, ledger: Ledger) -> None:
    town.allow(*FIVE, own_proposals=True)
    proposals = [town.propose(title) for title in ("Benches", "Lamps")]
    found: list[TwinTurns] = []

    def look() -> None:
        dao = ledger.dao(town.clock)
        found.append(let_twins_vote(dao, town.stores, town.llm, most=20, weigh=town.weigh))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(town.weighed) == sorted((who, proposal) for who in FIVE for proposal in proposals)
    assert [town.voters(proposal) for proposal in proposals] == [list(FIVE), list(FIVE)]
    assert not any(each.failed for each in found)


def test_votes_that_have_just_begun_may_be_left_to_others(town: Town) -> None:
    town.allow("ben")
    town.propose()
    assert town.look(open_for=timedelta(minutes=10)) == TwinTurns()
    town.clock.moves(minutes=10)
    assert len(town.look(open_for=timedelta(minutes=10)).taken) == 1


def test_a_turn_belongs_to_one_until_its_lease_ends(town: Town) -> None:
    with town.stores.tables.transaction("ben") as connection:
        for basis, at, expected in (
            ("a", NOON, 1), ("a", NOON, None), ("b", NOON, None), ("a", NOON + LEASE, 2), ("b", NOON + 3 * LEASE, 1),
        ):  # fmt: skip
            assert take_turn(connection, "ben", "p-1", basis, at, at + LEASE) == expected, basis


def test_of_a_thousand_votes_a_look_reads_those_in_which_a_turn_can_be_due(town: Town, ledger: Ledger) -> None:
    """Each second all votes under way were read, and every turn that had ever been had in them."""
    town.allow("ben", "cleo", "dan")
    benches = town.propose()
    looked = LookedThrough()
    assert len(town.look(looked=looked).taken) == 3
    with ledger.tables.operator_transaction() as connection:
        (row,) = list_proposals(connection)
    with ledger.as_owner() as connection:
        connection.execute(text("alter table dao_proposal no force row level security"))
        connection.execute(text("alter table dao_twin_turn no force row level security"))
        connection.execute(
            text(
                "insert into dao_proposal "
                "select 'p-' || n, proposer, topic, status, ends_at, next_due_at, last_seq, drafted_at "
                "from dao_proposal, generate_series(1, 999) n"
            )
        )
        connection.execute(
            text(
                "insert into dao_twin_turn select t.user_id, p.proposal_id, t.basis, 1, null, 'cast', '', t.at "
                "from dao_twin_turn t, dao_proposal p where p.proposal_id like 'p-%' and p.proposal_id <> t.proposal_id "
                "on conflict do nothing"
            )
        )
        connection.execute(text("alter table dao_proposal force row level security"))
        connection.execute(text("alter table dao_twin_turn force row level security"))
    with rows_read(ledger) as first:
        assert town.look(looked=looked) == TwinTurns()
    assert sum(first) > 3000, "all of them, once in the life of the process"
    with rows_read(ledger) as again:
        assert town.look(looked=looked) == TwinTurns()
    assert sum(again) <= 6, "who is willing, and how far the ledger is"
    town.clock.moves(minutes=1)
    lamps = town.propose("Lamps")
    with rows_read(ledger) as newer:
        assert {proposal for _, proposal in town.look(looked=looked).taken} == {lamps}
    assert sum(newer) < 100
    assert town.look(looked=looked) == TwinTurns()
    town.serve("ben", name="r2")
    town.allow("eve")
    assert ("eve", benches) in town.look(most=9999, looked=looked).taken, (
        "of whoever is willing now all votes are looked through"
    )
    assert row.drafted_at == NOON


def test_who_looks_again_and_again_misses_no_turn_that_is_to_be_tried_again(town: Town) -> None:
    town.allow("ben")
    benches = town.propose()
    looked = LookedThrough()
    town.fails = {"ben": OSError("told to")}
    assert town.look(looked=looked).failed.keys() == {("ben", benches)}
    for _ in range(2):
        assert town.look(looked=looked) == TwinTurns()
    town.fails = {}
    town.clock.moves(seconds=AGAIN.total_seconds())
    assert town.look(looked=looked).taken.keys() == {("ben", benches)}


def test_votes_that_were_left_to_others_are_not_forgotten(town: Town) -> None:
    town.allow("ben")
    town.propose()
    looked = LookedThrough()
    assert town.look(open_for=timedelta(minutes=10), looked=looked) == TwinTurns()
    town.clock.moves(minutes=10)
    assert len(town.look(open_for=timedelta(minutes=10), looked=looked).taken) == 1


def test_a_turn_that_another_process_has_by_an_older_consent_comes_again(town: Town) -> None:
    """It ended in a draft, of which the ledger says nothing, and who had looked meanwhile did not look at it any more."""
    town.allow("ben")
    benches = town.propose()
    looked, at = LookedThrough(), town.clock()
    with town.stores.tables.transaction("ben") as connection:
        assert take_turn(connection, "ben", benches, "of before", at, at + LEASE) == 1
    assert town.look(looked=looked) == TwinTurns()
    with town.stores.tables.transaction("ben") as connection:
        end_turn(connection, "ben", benches, "of before", "drafted", "draft_only", at, None)
    assert town.look(looked=looked).taken.keys() == {("ben", benches)}
