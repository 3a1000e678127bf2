"""What happened, told to the graph that all members share: in order, once, later where it is away, and without who left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from lpm_kernel.dao import projection
from lpm_kernel.dao.leaving import leave_dao
from lpm_kernel.dao.projection import forget_member, project_due, tell_again
from lpm_kernel.dao.records import Scope
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.recall.shared_facts import search_shared_facts
from lpm_kernel.records import Fact
from lpm_kernel.stores.addresses import GraphAddress
from lpm_kernel.stores.dao_projections import Cursor, list_cursors, list_ledger_lags, lock_cursor, move_cursor
from lpm_kernel.stores.deletions import begin_deletion
from lpm_kernel.stores.graph import SHARED, Graph, GraphitiGraph
from lpm_kernel.stores.users import remove_user
from lpm_kernel.sync.retry import JITTER
from tests.dao.ledgers import NOON, Clock, Ledger
from tests.embedded.fixtures import EngineHome
from tests.fake_graph import MemoryGraph, WideFakeEmbedder

EMBEDDER = WideFakeEmbedder()
FOUR = ("ada", "ben", "cleo", "dan")


@pytest.fixture(params=["embedded", "fake"])
def graph(request: pytest.FixtureRequest) -> Iterator[Graph]:
    if request.param == "fake":
        yield MemoryGraph(EMBEDDER)
        return
    home: EngineHome = request.getfixturevalue("engine_home")
    real = GraphitiGraph(lambda: GraphAddress(home.redis_url), EMBEDDER)
    real.forget_facts(SHARED, real.list_facts(SHARED))
    yield real
    real.forget_facts(SHARED, real.list_facts(SHARED))
    real.close()


@pytest.fixture
def dao(ledger: Ledger, clock: Clock) -> Dao:
    ledger.join(*FOUR)
    return ledger.dao(clock, close="deadline")


class Away:
    """A graph that is away, and one that breaks off in the middle of a write."""

    def __init__(self, graph: Graph, *, takes_it: bool = False) -> None:
        self._graph, self._takes_it = graph, takes_it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def write_facts(self, user_id: str, facts: Any) -> None:
        if self._takes_it:
            self._graph.write_facts(user_id, facts)
        raise StoreError("graph_unavailable", "told to")


def cursor(ledger: Ledger) -> Cursor:
    with ledger.tables.operator_transaction() as connection:
        (found,) = list_cursors(connection)
    return found


def lines(graph: Graph, *, ended: bool = False) -> list[str]:
    facts = graph.list_facts(SHARED)
    return [f"{f.subject.kind} {f.relation} {f.object.kind}" for f in facts if ended or f.invalid_at is None]


def a_vote(dao: Dao, clock: Clock) -> str:
    name = dao.propose("ada", "Benches", "The park needs its benches back.", topic="parks").proposal_id
    for voter, choice in (("ada", "for"), ("ben", "against"), ("cleo", "for")):
        clock.moves(minutes=1)
        dao.vote(voter, name, choice)  # type: ignore[arg-type]
    return name


def test_a_vote_is_told_as_twins_votes_a_proposal_and_its_resolution(dao: Dao, graph: Graph, clock: Clock) -> None:
    name = a_vote(dao, clock)
    last_ballot = clock.at
    clock.moves(hours=80)
    dao.advance(name)
    assert project_due(dao, graph) == len(dao.events_after(0))
    found = {(f.subject.kind, f.subject.name, f.relation, f.object.kind, f.object.name) for f in graph.list_facts(SHARED)}
    assert ("DigitalTwin", "cleo", "VOTED", "Vote", f"{name}/cleo") in found
    assert ("Vote", f"{name}/cleo", "ON", "Proposal", name) in found
    assert ("DAOResolution", f"{name}/{dao.proposal(name).rules.version}", "RESOLVES", "Proposal", name) in found
    assert ("DigitalTwin", "ada", "AUTHORED", "Proposal", name) in found
    assert ("Proposal", name, "MENTIONS", "PolicyTopic", "parks") in found
    assert len(found) == 2 * 3 + 3
    (voted,) = [f for f in graph.list_facts(SHARED, ["VOTED"]) if f.subject.name == "cleo"]
    assert voted.valid_at == last_ballot
    (ended,) = graph.list_facts(SHARED, ["RESOLVES"])
    assert ended.text == f"proposal {name}, “Benches” passed (threshold met): 2 for, 1 against, 0 abstaining of 4"


def test_nothing_is_told_twice_and_what_comes_later_follows(dao: Dao, graph: Graph, clock: Clock, ledger: Ledger) -> None:
    a_vote(dao, clock)
    project_due(dao, graph)
    before = graph.list_facts(SHARED)
    assert project_due(dao, graph) == 0
    name = dao.propose("ben", "Lamps", "More light.").proposal_id
    assert project_due(dao, graph) == 3
    assert {f.object.name for f in graph.list_facts(SHARED) if f not in before} == {name, "general"}
    assert cursor(ledger) == Cursor("graph", dao.dashboard().last_seq)


def test_many_events_go_in_batches(dao: Dao, graph: Graph, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "BATCH", 2)
    a_vote(dao, clock)
    assert project_due(dao, graph) == 6
    assert lines(graph).count("Vote ON Proposal") == 3


def test_a_later_ballot_and_a_veto_end_what_stood_before(dao: Dao, graph: Graph, clock: Clock) -> None:
    name = a_vote(dao, clock)
    dao.vote("dan", name, "for", cast_by="twin")
    clock.moves(minutes=1)
    dao.vote("ada", name, "against")
    dao.veto("dan", name)
    project_due(dao, graph)
    standing = {f.subject.name.partition("/")[2]: f.text for f in graph.list_facts(SHARED, ["ON"]) if f.invalid_at is None}
    assert standing["ada"] == f"ada votes against proposal {name}, “Benches”"
    assert standing["dan"] == f"dan took back what their twin had cast on proposal {name}, “Benches”"
    assert len(graph.list_facts(SHARED, ["ON"])) == 6


def test_a_delegation_is_told_with_its_end(dao: Dao, graph: Graph, clock: Clock) -> None:
    given = dao.delegate("ada", "ben", Scope("topic", "parks"))
    project_due(dao, graph)
    (fact,) = graph.list_facts(SHARED)
    assert (fact.text, fact.invalid_at) == ("ada lets ben vote for them on parks", None)
    clock.moves(hours=1)
    dao.revoke("ada", given.delegation_id)
    project_due(dao, graph)
    (fact,) = graph.list_facts(SHARED)
    assert fact.invalid_at == clock.at


def test_what_is_done_or_called_off_is_told(dao: Dao, graph: Graph, clock: Clock) -> None:
    done = a_vote(dao, clock)
    clock.moves(hours=80)
    dao.advance(done)
    dao.implement("dan", done)
    dao.cancel("ben", dao.propose("ben", "Lamps", "More light.").proposal_id, "no money")
    project_due(dao, graph)
    (implemented,) = graph.list_facts(SHARED, ["IMPLEMENTED"])
    (cancelled,) = graph.list_facts(SHARED, ["CANCELLED"])
    assert implemented.text.endswith("“Benches”: dan says is implemented")
    assert cancelled.text.endswith("“Lamps”: no money")


def test_a_graph_that_is_away_is_tried_again_and_then_hears_all(dao: Dao, graph: Graph, clock: Clock, ledger: Ledger) -> None:
    a_vote(dao, clock)
    for attempts in (1, 2, 3):
        with pytest.raises(StoreError) as caught:
            project_due(dao, Away(graph))  # type: ignore[arg-type]
        assert caught.value.code == "graph_unavailable"
        noted = cursor(ledger)
        assert (noted.last_seq, noted.attempts, noted.code) == (0, attempts, "graph_unavailable")
        assert noted.due_at is not None
        wait_s = (noted.due_at - clock.at).total_seconds()
        assert wait_s == pytest.approx(projection.FIRST_WAIT_S * 2 ** (attempts - 1), rel=JITTER)
        with pytest.raises(StoreError) as caught:
            project_due(dao, graph)
        assert (caught.value.code, caught.value.retryable) == ("projection_waits", True)
        assert caught.value.retry_after_s == wait_s
        assert cursor(ledger) == noted, "what only waits has not failed"
        clock.moves(seconds=wait_s)
    assert project_due(dao, graph) == 6
    assert cursor(ledger) == Cursor("graph", 6)


def test_what_was_written_before_it_broke_off_is_not_there_twice(dao: Dao, graph: Graph, clock: Clock) -> None:
    a_vote(dao, clock)
    with pytest.raises(StoreError):
        project_due(dao, Away(graph, takes_it=True))  # type: ignore[arg-type]
    before = graph.list_facts(SHARED)
    assert before
    clock.moves(minutes=1)
    project_due(dao, graph)
    assert graph.list_facts(SHARED) == before


def test_the_wait_grows_no_further_than_minutes(dao: Dao, clock: Clock, ledger: Ledger) -> None:
    a_vote(dao, clock)
    away = Away(MemoryGraph(EMBEDDER))
    for _ in range(12):
        with pytest.raises(StoreError):
            project_due(dao, away)  # type: ignore[arg-type]
        clock.at = cursor(ledger).due_at or clock.at
    with pytest.raises(StoreError):
        project_due(dao, away)  # type: ignore[arg-type]
    noted = cursor(ledger)
    assert noted.due_at is not None
    wait_s = (noted.due_at - clock.at).total_seconds()
    assert wait_s == pytest.approx(projection.LONGEST_WAIT_S, rel=JITTER)


def test_who_is_deleted_leaves_the_graph_and_is_not_told_of_again(dao: Dao, graph: Graph, clock: Clock, ledger: Ledger) -> None:
    name = a_vote(dao, clock)
    to, of = dao.delegate("dan", "ben", Scope("all")), dao.delegate("ben", "cleo", Scope("topic", "parks"))
    project_due(dao, graph)
    dao.vote("ben", name, "for", reasons="Sitting is good.")  # not told yet
    with ledger.tables.transaction("ben") as connection:
        begin_deletion(connection, "ben", clock.at)
    assert leave_dao(dao, graph, "ben") == 5 - 1, "one ballot, two delegations; the second ballot was never told"
    assert leave_dao(dao, graph, "ben") == 0
    project_due(dao, graph)
    with ledger.tables.transaction("ben") as connection:
        remove_user(connection, "ben")
    assert not [f for f in graph.list_facts(SHARED) if "ben" in f.text.split()]
    assert not [f for f in graph.list_facts(SHARED) for end in (f.subject, f.object) if "ben" in end.name.split("/")]
    assert lines(graph).count("Vote ON Proposal") == 2
    ended = {each.delegation_id: each.revoked_at for each in dao.delegations()}
    assert ended == {to.delegation_id: clock.at, of.delegation_id: clock.at}
    assert [words for ballot, words in dao.ballots(name) if ballot.voter == "ben"] == [None, None]
    assert dao.standing(name).tally.electorate == 4, "a vote under way keeps the weight it began with"
    assert dao.members() == ["ada", "cleo", "dan"]


def test_no_user_can_name_the_shared_group_nor_delete_it(graph: Graph, dao: Dao, clock: Clock) -> None:
    a_vote(dao, clock)
    project_due(dao, graph)
    before = graph.list_facts(SHARED)
    if isinstance(graph, GraphitiGraph):
        with pytest.raises(UserInputError) as caught:
            graph.delete_user(SHARED)
        assert caught.value.code == "user_id_invalid"
        for user_id in ("shared", "ada"):
            graph.delete_user(user_id)
        assert graph.list_facts("shared") == []
    assert graph.list_facts(SHARED) == before


def test_shared_facts_are_found_by_a_question(dao: Dao, graph: Graph, clock: Clock, stores: Any) -> None:
    name = a_vote(dao, clock)
    project_due(dao, graph)
    asked = replace(stores, graph=graph, embedder=EMBEDDER)
    hits = search_shared_facts(asked, "how does ben vote on Benches against", clock.at, k=3)
    assert f"ben votes against proposal {name}, “Benches”" in [hit.fact.text for hit in hits]
    assert search_shared_facts(asked, "ben", NOON.replace(year=2020)) == []


def test_a_member_who_was_never_told_of_is_forgotten_without_a_word(dao: Dao, graph: Graph) -> None:
    assert forget_member(dao, graph, "dan") == 0
    facts: list[Fact] = graph.list_facts(SHARED)
    assert facts == []


def test_a_graph_that_was_emptied_is_told_everything_again(dao: Dao, graph: Graph, clock: Clock) -> None:
    a_vote(dao, clock)
    project_due(dao, graph)
    told = sorted(lines(graph))
    graph.forget_facts(SHARED, graph.list_facts(SHARED))
    assert (project_due(dao, graph), lines(graph)) == (0, []), "it does not know that it was emptied"
    assert tell_again(dao, graph) == len(dao.events_after(0))
    assert sorted(lines(graph)) == told
    assert tell_again(dao, graph) == len(dao.events_after(0))
    assert sorted(lines(graph)) == told, "and told twice nothing changes"


def test_a_graph_that_was_never_told_is_behind_by_all_there_is_whoever_else_was_told(
    dao: Dao, clock: Clock, ledger: Ledger
) -> None:
    """A service that is told of votes had a row, and the graph had none: nothing said that it was behind."""
    dao.propose("ada", "Benches", "The park needs its benches back.")
    events = dao.events_after(0)
    with ledger.tables.operator_transaction() as connection:
        move_cursor(connection, replace(lock_cursor(connection, "notices"), last_seq=events[-1].seq))
        assert list_ledger_lags(connection) == [("graph", len(events), events[0].at), ("notices", 0, None)]
    project_due(dao, MemoryGraph(EMBEDDER))
    with ledger.tables.operator_transaction() as connection:
        assert list_ledger_lags(connection) == [("graph", 0, None), ("notices", 0, None)]
