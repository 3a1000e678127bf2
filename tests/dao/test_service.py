"""The DAO as its members use it, on a real ledger: from a proposal to its one resolution."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lpm_kernel.dao.events import ProposalResolved, kind_of
from lpm_kernel.dao.records import Scope, Task
from lpm_kernel.dao.service import CLOCK, Dao
from lpm_kernel.errors import StoreError, TwinError, UserInputError, VoteError
from lpm_kernel.records import User
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.stores.deletions import begin_deletion
from lpm_kernel.stores.users import add_user
from tests.dao.five import FIVE, benches, code_of, kinds
from tests.dao.ledgers import NOON, Clock, Ledger, rows_read


@pytest.fixture
def dao(ledger: Ledger, clock: Clock) -> Dao:
    ledger.join(*FIVE)
    return ledger.dao(clock)


def test_a_proposal_begins_its_vote_at_once_with_the_members_of_that_moment(dao: Dao, ledger: Ledger) -> None:
    state = dao.proposal(benches(dao))
    assert (state.status, state.starts_at, state.ends_at) == ("voting", NOON, NOON + timedelta(hours=72))
    assert state.electorate == dict.fromkeys(FIVE, 1)
    ledger.join("fay")
    with pytest.raises(VoteError) as caught:
        dao.vote("fay", state.proposal_id, "for")
    assert code_of(caught) == "not_in_electorate"
    assert "fay" in dao.members()


def test_the_ballot_that_decides_closes_the_vote_and_there_is_one_resolution(dao: Dao) -> None:
    name = benches(dao)
    casts = [dao.vote(voter, name, "for") for voter in FIVE[:3]]
    assert [cast.resolution is None for cast in casts] == [True, True, True], "two against could still fail it"
    last = dao.vote("dan", name, "for")
    assert last.resolution is not None
    assert (last.resolution.outcome, last.resolution.closed_by, last.resolution.tally.for_) == ("passed", "decided", 4)
    assert last.proposal.status == "passed"
    with pytest.raises(VoteError) as caught:
        dao.vote("eve", name, "against")
    assert code_of(caught) == "voting_closed"
    assert kinds(dao).count("proposal_resolved") == 1
    assert dao.dashboard().resolved == (last.resolution,)


def test_the_clock_ends_what_nobody_decides(dao: Dao, clock: Clock) -> None:
    name = benches(dao)
    dao.vote("ada", name, "for")
    seen: list[str] = []
    while (due := dao.due(clock.moves(hours=6))) or dao.proposal(name).status == "voting":
        assert due in ([], [name])
        seen += [kind_of(event.happening) for each in due for event in dao.advance(each)]
    assert seen == ["members_reminded", "members_reminded", "standing_applied", "voting_extended", "proposal_resolved"]
    resolution = dao.proposal(name).resolution
    assert resolution is not None
    assert (resolution.outcome, resolution.reason, resolution.closed_by) == ("failed", "quorum_not_met", "deadline")
    assert dao.advance(name) == []
    assert {event.actor for event in dao.events_after(0) if isinstance(event.happening, ProposalResolved)} == {CLOCK}


def test_a_repeated_key_gives_the_first_result_and_another_content_is_refused(dao: Dao, clock: Clock) -> None:
    name = benches(dao, key="k1")
    assert benches(dao, key="k1") == name
    first = dao.vote("ben", name, "for", key="k1", reasons="It is dry there.")
    clock.moves(minutes=1)
    again = dao.vote("ben", name, "for", key="k1", reasons="It is dry there.")
    assert (again.ballot, again.repeated, first.repeated) == (first.ballot, True, False)
    for different in ({"choice": "against"}, {"choice": "for", "reasons": "No."}, {"choice": "for", "cast_by": "twin"}):
        with pytest.raises(VoteError) as caught:
            dao.vote("ben", name, key="k1", **different)  # type: ignore[arg-type]
        assert code_of(caught) == "key_reused"
    with pytest.raises(VoteError) as caught:
        dao.delegate("ada", "ben", Scope("all"), key="k1")
    assert code_of(caught) == "key_reused", "a key is of its actor, whatever it was used for"
    given = dao.delegate("cleo", "ben", Scope("all"), key="k1")
    assert dao.delegate("cleo", "ben", Scope("all"), key="k1") == given
    assert kinds(dao).count("ballot_cast") == kinds(dao).count("delegated") == kinds(dao).count("proposal_drafted") == 1


def test_a_repeated_ballot_is_answered_after_the_end_too(dao: Dao) -> None:
    name = benches(dao)
    for voter in FIVE[:4]:
        dao.vote(voter, name, "for", key="mine")
    again = dao.vote("ada", name, "for", key="mine")
    assert again.repeated
    assert again.resolution == dao.proposal(name).resolution


def test_the_same_words_proposed_again_are_another_proposal(dao: Dao) -> None:
    assert benches(dao) != benches(dao)


def test_a_draft_is_opened_by_its_proposer_and_cancelled_by_nobody_else(dao: Dao) -> None:
    name = benches(dao, open=False)
    assert dao.proposal(name).status == "draft"
    with pytest.raises(VoteError) as caught:
        dao.vote("ben", name, "for")
    assert code_of(caught) == "voting_not_open"
    with pytest.raises(VoteError) as caught:
        dao.open_proposal("ben", name)
    assert code_of(caught) == "not_proposer"
    assert dao.open_proposal("ada", name).status == "voting"
    with pytest.raises(VoteError) as caught:
        dao.cancel("ben", name, "mine now")
    assert code_of(caught) == "not_proposer"
    assert dao.cancel("ada", name, "no money").ended_why == "no money"
    assert dao.due(NOON + timedelta(days=30)) == []


def test_what_has_passed_is_implemented_once(dao: Dao) -> None:
    name = benches(dao)
    for voter in FIVE[:4]:
        dao.vote(voter, name, "for")
    assert dao.implement("ben", name, key="done").status == "implemented"
    assert dao.implement("ben", name, key="done").status == "implemented"
    with pytest.raises(VoteError) as caught:
        dao.implement("ben", name)
    assert code_of(caught) == "already_ended"


def test_with_time_for_discussion_the_vote_begins_when_it_is_over(ledger: Ledger, clock: Clock) -> None:
    ledger.join(*FIVE)
    dao = ledger.dao(clock, discussion_hours=24)
    name = benches(dao)
    assert dao.proposal(name).status == "open"
    ledger.join("fay")
    clock.moves(hours=24)
    assert dao.due() == [name]
    cast = dao.vote("fay", name, "for")
    assert cast.proposal.starts_at == clock.at, "a ballot does not wait for the clock"


def test_a_ballot_after_the_end_is_refused_and_what_time_asked_for_stays_done(dao: Dao, clock: Clock) -> None:
    name = benches(dao)
    clock.moves(hours=72, microseconds=1)
    with pytest.raises(VoteError) as caught:
        dao.vote("fay-is-nobody", name, "for")
    assert code_of(caught) == "not_a_member"
    dao.vote("ada", name, "for")
    assert dao.proposal(name).extended, "of a vote without a quorum the end is put off, and then the ballot was in time"
    clock.moves(hours=13)
    with pytest.raises(VoteError) as caught:
        dao.vote("ben", name, "for")
    assert code_of(caught) == "voting_closed"
    assert dao.proposal(name).status == "failed"


def test_a_twins_ballot_waits_for_its_persons_veto_and_gives_way_to_their_own(dao: Dao, clock: Clock) -> None:
    name = benches(dao)
    dao.vote("ben", name, "for", cast_by="twin", confidence=0.9, consent="autonomous", citations=("m1",))
    assert dao.standing(name).tally.for_ == 0
    clock.moves(hours=12)
    assert dao.standing(name).tally.for_ == 1
    dao.vote("ben", name, "against")
    assert (dao.standing(name).tally.for_, dao.standing(name).tally.against) == (0, 1)
    dao.vote("cleo", name, "for", cast_by="twin")
    assert len(dao.veto("cleo", name).vetoed) == 1
    clock.moves(hours=12)
    assert dao.standing(name).tally.cast == 1


def test_delegations_carry_weight_end_and_are_looked_at_when_they_decide(dao: Dao) -> None:
    name = benches(dao, topic="Parks")
    for voter in ("ada", "ben"):
        dao.vote(voter, name, "for")
    given = dao.delegate("cleo", "ada", Scope("topic", "parks"))
    assert dao.standing(name).tally.represented == 1
    assert dao.due() == [name]
    dao.advance(name)
    assert dao.due() == []
    revoked = dao.revoke("cleo", given.delegation_id)
    assert revoked.revoked_at is not None
    assert dao.standing(name).tally.represented == 0
    assert dao.delegations("cleo") == dao.delegations("ada") == [revoked]
    assert dao.delegations("eve") == []


@pytest.mark.parametrize(
    ("delegator", "delegate", "scope", "code"),
    [
        ("ada", "ada", Scope("all"), "delegation_to_self"),
        ("ada", "stranger", Scope("all"), "delegate_unknown"),
        ("stranger", "ada", Scope("all"), "not_a_member"),
        ("ada", "ben", Scope("proposal", "p-none"), "proposal_unknown"),
        ("ben", "ada", Scope("topic", "parks"), "delegation_circle"),
    ],
)
def test_a_delegation_that_cannot_be_is_refused(dao: Dao, delegator: str, delegate: str, scope: Scope, code: str) -> None:
    dao.delegate("ada", "ben", Scope("all"))
    with pytest.raises(VoteError) as caught:
        dao.delegate(delegator, delegate, scope)
    assert code_of(caught) == code


def test_attributes_weigh_in_votes_that_begin_later(ledger: Ledger, clock: Clock) -> None:
    ledger.join(*FIVE)
    dao = ledger.dao(clock, weights={"founder": 3})
    before = benches(dao)
    dao.set_attributes(CLOCK, "ada", {"founder": 2})
    assert dao.proposal(benches(dao)).electorate["ada"] == 7
    assert dao.proposal(before).electorate["ada"] == 1
    for attributes, member, code in (({"founder": -1}, "ada", "weight_negative"), ({}, "nobody", "not_a_member")):
        with pytest.raises(VoteError) as caught:
            dao.set_attributes(CLOCK, member, attributes)
        assert code_of(caught) == code


def test_reasons_are_read_by_all_and_lie_outside_the_ledger(dao: Dao, ledger: Ledger) -> None:
    name = benches(dao)
    dao.vote("ben", name, "for", reasons="  My back hurts. ")
    dao.vote("cleo", name, "against")
    assert [words and words.text for _, words in dao.ballots(name)] == ["My back hurts.", None]
    assert "hurts" not in str(dao.events_after(0))


def test_tasks_are_assigned_once(dao: Dao) -> None:
    task = Task("t1", "print_job", "A bench", "ben", {"copies": 2})
    name = benches(dao)
    for _ in range(2):
        dao.assign_task("ada", task, proposal_id=name, plan_id="plan")
    dao.assign_task(CLOCK, replace(task, task_id="t2"))
    assert [each.task.task_id for each in dao.tasks()] == ["t1", "t2"]
    assert [each.task for each in dao.tasks(name)] == [task]
    with pytest.raises(VoteError) as caught:
        dao.assign_task("ada", replace(task, title="Two benches"), proposal_id=name)
    assert code_of(caught) == "key_reused"


def test_a_member_who_is_being_deleted_is_none_any_more(dao: Dao, ledger: Ledger) -> None:
    with ledger.tables.transaction("eve") as connection:
        begin_deletion(connection, "eve", NOON)
    assert "eve" not in dao.members()
    with pytest.raises(VoteError) as caught:
        dao.propose("eve", "Mine", "All of it.")
    assert code_of(caught) == "not_a_member"


def test_whoever_is_named_like_the_clock_has_no_voice(dao: Dao, ledger: Ledger) -> None:
    with ledger.tables.transaction("clock") as connection:
        add_user(connection, User("clock"))
    assert "clock" not in dao.members()


def test_of_more_members_than_have_a_vote_those_who_joined_first_go_on(ledger: Ledger, clock: Clock) -> None:
    """The member after the last who could vote kept everybody from proposing anything."""
    for member in ("zoe", "mia", "ada"):  # by when they came, and not by their names
        ledger.join(member)
    dao = ledger.dao(clock, max_members=2)
    name = dao.propose("zoe", "Benches", "The park needs its benches back.").proposal_id
    assert dict(dao.proposal(name).electorate) == {"mia": 1, "zoe": 1}
    for ask in (
        lambda: dao.propose("ada", "Lamps", "More light."),
        lambda: dao.vote("ada", name, "for"),
        lambda: dao.delegate("ada", "mia", Scope("all")),
    ):
        with pytest.raises(VoteError, match=r"dao\.max_members lets the 2 vote who joined first") as caught:
            ask()
        assert code_of(caught) == "too_many_members"
    with pytest.raises(VoteError) as caught:
        dao.delegate("mia", "ada", Scope("all"))
    assert code_of(caught) == "delegate_unknown", "a weight that nobody could carry"
    with ledger.tables.transaction("zoe") as connection:
        begin_deletion(connection, "zoe", NOON)
    assert dict(dao.propose("ada", "Lamps", "More light.").electorate) == {"ada": 1, "mia": 1}


def test_a_request_acts_for_nobody_that_it_was_not_let_in_for(dao: Dao) -> None:
    name = benches(dao)
    with within_request(RequestContext("r", frozenset({"ada"}))):
        dao.vote("ada", name, "for")
        with pytest.raises(TwinError) as caught:
            dao.vote("ben", name, "for")
    assert code_of(caught) == "not_yours"


@pytest.mark.parametrize("words", [("", "text"), ("title", "  "), ("title", "a\0b"), ("t" * 201, "text")])
def test_words_that_cannot_be_kept_for_ever_are_refused(dao: Dao, words: tuple[str, str]) -> None:
    with pytest.raises(UserInputError) as caught:
        dao.propose("ada", *words)
    assert code_of(caught) == "proposal_invalid"


def test_another_dao_on_the_same_ledger_sees_the_same(dao: Dao, ledger: Ledger, clock: Clock) -> None:
    """What one has read and remembers must not keep it from what others do."""
    other = ledger.dao(clock)
    name = benches(dao)
    for voter, by in (("ada", dao), ("ben", other), ("cleo", dao)):
        by.vote(voter, name, "for")
        assert dao.proposal(name) == other.proposal(name)
    assert dao.proposals() == other.proposals("voting") == [dao.proposal(name)]
    assert dao.dashboard() == other.dashboard()
    other.vote("dan", name, "for")
    assert dao.proposals("voting") == []
    assert dao.standing(name).proposal.status == "passed"
    assert dao.dashboard().open == ()


def test_what_breaks_off_is_not_remembered(dao: Dao, monkeypatch: pytest.MonkeyPatch) -> None:
    name = benches(dao)

    def breaks(*_: object) -> None:
        raise StoreError("told_to", "told to")

    with monkeypatch.context() as patched:
        patched.setattr("lpm_kernel.stores.dao_ledger.put_proposal", breaks)
        with pytest.raises(StoreError):
            dao.vote("ada", name, "for")
    assert dao.proposal(name).ballots == ()
    assert dao.vote("ada", name, "against").proposal.ballots[0].choice == "against"


def test_an_unknown_proposal_is_named_so_whatever_is_done_with_it(dao: Dao) -> None:
    for ask in (
        lambda: dao.proposal("p-0"),
        lambda: dao.standing("p-0"),
        lambda: dao.ballots("p-0"),
        lambda: dao.advance("p-0"),
        lambda: dao.vote("ada", "p-0", "for"),
        lambda: dao.veto("ada", "p-0"),
        lambda: dao.cancel("ada", "p-0", "why"),
        lambda: dao.implement("ada", "p-0"),
        lambda: dao.propose("ada", "A", "B", amends="p-0"),
    ):
        with pytest.raises(VoteError) as caught:
            ask()
        assert code_of(caught) == "proposal_unknown"


def test_who_came_first_and_is_served_later_counts_those_who_were_served_before(dao: Dao, clock: Clock) -> None:
    """The ballot that decided was of the moment at which it was sent; two that came later and went first were not counted."""
    name = benches(dao)
    for voter in ("ada", "ben", "cleo"):
        clock.moves(seconds=1)
        dao.vote(voter, name, "for")
    clock.moves(seconds=-3)
    last = dao.vote("dan", name, "for")
    assert last.resolution is not None
    assert (last.resolution.tally.for_, last.resolution.resolved_at) == (4, NOON + timedelta(seconds=3))


def test_a_page_of_proposals_reads_that_page_alone(dao: Dao, clock: Clock, ledger: Ledger) -> None:
    """All that there had ever been were read for each page."""
    made = []
    for number in range(7):
        clock.moves(minutes=number % 2)  # some are drafted at the same moment
        made.append(dao.propose("ada", f"Number {number}", "So be it.", open=number != 3))
    newest = sorted(made, key=lambda each: (each.drafted_at, each.proposal_id), reverse=True)
    fresh, place, pages = ledger.dao(clock), None, []
    with rows_read(ledger) as rows:
        first = fresh.newest(3)
    assert sum(rows) <= 3 + 3 * 3, "a row of each, and three events"
    while page := fresh.newest(3, before=place):
        pages.append(page)
        place = page[-1].drafted_at, page[-1].proposal_id
    assert pages[0] == first
    assert [each.proposal_id for page in pages for each in page] == [each.proposal_id for each in newest]
    assert [each.proposal_id for each in fresh.newest(9, "draft")] == [made[3].proposal_id]
