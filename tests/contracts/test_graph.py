"""What every graph guarantees: times, ends that no order of arrival changes, and a search of one user's window."""

from __future__ import annotations

import itertools
import os
import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import Fact, GraphEntity
from lpm_kernel.stores.addresses import GraphAddress
from lpm_kernel.stores.graph import FactHit, Graph, GraphCount, GraphitiGraph, WriteCount
from tests.embedded.fixtures import EngineHome
from tests.fake_graph import MemoryGraph, WideFakeEmbedder

CLOUD = ["cloud"] if os.environ.get("NEO4J_URI") else []
EMBEDDER = WideFakeEmbedder()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
USER = GraphEntity("User", "ada")
LONG = timedelta(days=4000)
WORDS = ("sea", "clock", "band", "bread", "bell", "lamp", "field", "tram", "kiln", "rope")


def day(number: float) -> datetime:
    return NOON + timedelta(days=number)


def cloud_address() -> GraphAddress:
    environ = os.environ
    username = environ.get("NEO4J_USERNAME") or "neo4j"
    database = environ.get("NEO4J_DATABASE") or "neo4j"
    return GraphAddress(environ["NEO4J_URI"], username, environ.get("NEO4J_PASSWORD", ""), database)


@pytest.fixture(scope="module")
def falkor(engine_home: EngineHome) -> Iterator[GraphitiGraph]:
    graph = GraphitiGraph(lambda: GraphAddress(engine_home.redis_url), EMBEDDER)
    yield graph
    graph.close()


@pytest.fixture(scope="module")
def neo4j() -> Iterator[GraphitiGraph]:
    graph = GraphitiGraph(cloud_address, EMBEDDER)
    yield graph
    graph.close()


@pytest.fixture(params=["embedded", "fake", *CLOUD])
def graph(request: pytest.FixtureRequest) -> Graph:
    if request.param == "fake":
        return MemoryGraph(EMBEDDER)
    return request.getfixturevalue("neo4j" if request.param == "cloud" else "falkor")


@pytest.fixture
def new_tenant(graph: Graph) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def make() -> str:
        made.append(f"graph-{uuid.uuid4().hex}")
        return made[-1]

    yield make
    for tenant in made:
        graph.delete_user(tenant)


@pytest.fixture
def tenant(new_tenant: Callable[[], str]) -> str:
    return new_tenant()


def authored(tenant: str, text: str, valid: float = 0, name: str | None = None) -> Fact:
    return Fact(tenant, USER, "AUTHORED", GraphEntity("Document", name or text), text, day(valid), day(valid))


def twin(tenant: str, name: str, valid: float, known: float | None = None) -> Fact:
    known = valid if known is None else known
    return Fact(tenant, USER, "HAS_TWIN", GraphEntity("DigitalTwin", name), f"ada has twin {name}", day(valid), day(known))


def search(
    graph: Graph,
    tenant: str,
    question: str,
    *,
    since: datetime = NOON - LONG,
    at: datetime = NOON + LONG,
    k: int = 5,
    keyword_weight: float = 0.3,
) -> list[FactHit]:
    vector = EMBEDDER.embed([question])[0]
    return graph.search_facts(tenant, question, vector, since=since, at=at, k=k, keyword_weight=keyword_weight)


def texts_of(hits: list[FactHit]) -> list[str]:
    return [hit.fact.text for hit in hits]


def test_facts_come_back_as_they_were_written(graph: Graph, tenant: str) -> None:
    facts = [
        replace(authored(tenant, 'ada wrote “Zoë’s notes” \\ "quoted" 😀'), invalid_at=day(9), created_at=day(0.5)),
        Fact(tenant, USER, "CHATTED", GraphEntity("DigitalTwin", "t"), "ada asked about the sea", day(1), day(1)),
        Fact(tenant, GraphEntity("Document", "d"), "MENTIONS", GraphEntity("PolicyTopic", "heat"), "d: heat", day(2), day(2)),
        Fact(tenant, USER, "VOTED", GraphEntity("Vote", "v"), "ada voted", day(3), day(3)),
        Fact(tenant, GraphEntity("Vote", "v"), "ON", GraphEntity("Proposal", "p"), "the vote is for p", day(4), day(4)),
    ]
    assert graph.write_facts(tenant, facts) == WriteCount(written=5, kept=0)
    assert graph.list_facts(tenant) == facts
    assert graph.list_facts(tenant, ["VOTED", "CHATTED"]) == [facts[1], facts[3]]
    assert graph.count(tenant) == GraphCount(entities=7, facts=5)


def test_moments_keep_their_instant_whatever_zone_they_were_given_in(graph: Graph, tenant: str) -> None:
    tokyo = datetime(2026, 3, 1, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    graph.write_facts(tenant, [replace(authored(tenant, "a note"), valid_at=tokyo, created_at=tokyo)])
    (fact,) = graph.list_facts(tenant)
    assert fact.valid_at == fact.created_at == tokyo
    assert fact.valid_at.tzinfo is not None
    again = replace(authored(tenant, "a note"), valid_at=tokyo.astimezone(UTC), created_at=tokyo)
    assert graph.write_facts(tenant, [again]) == WriteCount(written=0, kept=1)
    assert len(search(graph, tenant, "note", since=tokyo, at=tokyo)) == 1
    assert search(graph, tenant, "note", since=tokyo + timedelta(microseconds=1)) == []
    assert search(graph, tenant, "note", at=tokyo - timedelta(microseconds=1)) == []


def test_a_moment_without_a_zone_is_refused_and_nothing_written(graph: Graph, tenant: str) -> None:
    with pytest.raises(UserInputError) as caught:
        graph.write_facts(tenant, [authored(tenant, "a"), replace(authored(tenant, "b"), valid_at=datetime(2026, 3, 1))])
    assert caught.value.code == "time_without_zone"
    assert graph.count(tenant) == GraphCount(0, 0)


def test_writing_again_changes_nothing(graph: Graph, tenant: str) -> None:
    facts = [authored(tenant, "red cat"), authored(tenant, "blue bird"), twin(tenant, "one", 0), twin(tenant, "two", 5)]
    assert graph.write_facts(tenant, [*facts, facts[0]]) == WriteCount(written=4, kept=0)
    before = graph.list_facts(tenant)
    later = [replace(fact, created_at=day(99)) for fact in facts]
    assert graph.write_facts(tenant, later) == WriteCount(written=0, kept=4)
    assert graph.list_facts(tenant) == before
    assert graph.write_entities(tenant, [USER, GraphEntity("PolicyTopic", "heat")], NOON) == WriteCount(written=1, kept=1)
    assert graph.write_facts(tenant, []) == WriteCount(0, 0)
    assert graph.count(tenant) == GraphCount(entities=6, facts=4)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_newer_fact_ends_the_one_before_in_whatever_order_they_arrive(
    graph: Graph, tenant: str, order: tuple[int, ...]
) -> None:
    facts = [twin(tenant, "one", 0, known=0), twin(tenant, "two", 10, known=25), twin(tenant, "three", 20, known=20)]
    for position in order:
        graph.write_facts(tenant, [facts[position]])
    first, second, third = graph.list_facts(tenant)
    assert first == replace(facts[0], invalid_at=day(10), expired_at=day(25))
    assert second == replace(facts[1], invalid_at=day(20), expired_at=day(25)), "it was over when it became known"
    assert third == facts[2]
    assert texts_of(search(graph, tenant, "twin", at=day(15))) == ["ada has twin two"]
    assert texts_of(search(graph, tenant, "twin", at=day(20))) == ["ada has twin three"]


def test_a_ballot_cast_again_replaces_the_one_before(graph: Graph, tenant: str) -> None:
    vote, proposal = GraphEntity("Vote", "ada on p"), GraphEntity("Proposal", "p")
    first = Fact(tenant, vote, "ON", proposal, "ada votes for p", day(1), day(1))
    second = Fact(tenant, vote, "ON", proposal, "ada votes against p", day(2), day(2))
    graph.write_facts(tenant, [second, first])
    assert [fact.invalid_at for fact in graph.list_facts(tenant)] == [day(2), None]
    assert texts_of(search(graph, tenant, "how did ada vote", at=day(3))) == ["ada votes against p"]


def test_a_stated_end_stays_where_it_comes_first(graph: Graph, tenant: str) -> None:
    short = replace(twin(tenant, "one", 0), invalid_at=day(3))
    graph.write_facts(tenant, [short, twin(tenant, "two", 10)])
    assert graph.list_facts(tenant)[0] == short
    between = twin(tenant, "between", 2)
    graph.write_facts(tenant, [between])
    assert graph.list_facts(tenant)[0].invalid_at == day(2)
    graph.forget_facts(tenant, [between])
    assert graph.list_facts(tenant)[0] == short


def test_a_relation_of_many_values_ends_nothing(graph: Graph, tenant: str) -> None:
    graph.write_facts(tenant, [authored(tenant, "red cat", 0), authored(tenant, "blue bird", 5)])
    assert [fact.invalid_at for fact in graph.list_facts(tenant)] == [None, None]


def test_what_is_forgotten_is_gone_with_the_entities_it_leaves_alone(graph: Graph, tenant: str) -> None:
    kept, gone = authored(tenant, "red cat"), authored(tenant, "blue bird")
    graph.write_facts(tenant, [kept, gone])
    assert graph.forget_facts(tenant, [gone, authored(tenant, "never written")]) == 1
    assert graph.list_facts(tenant) == [kept]
    assert graph.count(tenant) == GraphCount(entities=2, facts=1)
    assert texts_of(search(graph, tenant, "blue bird")) == ["red cat"]
    assert graph.forget_facts(tenant, [gone]) == 0


def test_the_latest_of_what_is_asked_for_is_found_by_words_and_by_meaning(graph: Graph, tenant: str) -> None:
    texts = ["red cat sleeps", "green dog barks", "blue bird sings", "red fox runs", "grey owl hunts", "invoice xq77 paid"]
    graph.write_facts(tenant, [authored(tenant, text) for text in texts])
    hits = search(graph, tenant, "What does the red cat do?", k=3)
    assert texts_of(hits)[0] == "red cat sleeps"
    assert len(hits) == 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    asked = EMBEDDER.embed(["What does the red cat do?"])[0]
    for hit in hits:
        assert hit.cosine == pytest.approx(float(EMBEDDER.embed([hit.fact.text])[0] @ asked), abs=1e-3)
    elsewhere = EMBEDDER.embed(["green dog"])[0]
    found = graph.search_facts(tenant, "xq77", elsewhere, since=NOON - LONG, at=NOON + LONG, k=2, keyword_weight=0.6)
    assert texts_of(found) == ["invoice xq77 paid", "green dog barks"]


def test_what_is_not_allowed_is_not_ranked(graph: Graph, tenant: str) -> None:
    texts = ["red cat", "red dog", "green dog barks", "blue sea"]
    graph.write_facts(tenant, [authored(tenant, text) for text in texts])

    def found(allowed: Callable[[Fact], bool]) -> list[str]:
        vector = EMBEDDER.embed(["red cat"])[0]
        window = {"since": NOON - LONG, "at": NOON + LONG}
        return texts_of(graph.search_facts(tenant, "red cat", vector, k=2, keyword_weight=0.3, allowed=allowed, **window))

    assert found(lambda fact: "cat" not in fact.text)[0] == "red dog"
    assert found(lambda fact: "sea" in fact.text) == ["blue sea"]
    assert found(lambda _: False) == []


@pytest.mark.parametrize("question", ['a" OR (', "@fact:{x}", "-- ] | * ~", "x:y/z\\", "'; MATCH (n) DELETE n", "AND NOT", "…"])
def test_no_question_is_a_query(graph: Graph, tenant: str, question: str) -> None:
    graph.write_facts(tenant, [authored(tenant, "red cat")])
    assert texts_of(search(graph, tenant, question)) == ["red cat"]


def test_a_window_is_searched_exactly_however_small_a_share_it_is(graph: Graph, tenant: str) -> None:
    """FalkorDB's range index gave every fact for an upper bound that was a text; and both servers filter after the vector
    search, so that a window of old facts came back empty although it held the asked-for."""
    rnd = random.Random(5)
    facts = [authored(tenant, f"{' '.join(rnd.sample(WORDS, 3))} {i}", rnd.uniform(-900, 0)) for i in range(400)]
    graph.write_facts(tenant, facts)
    for share in (0.004, 0.02, 0.1, 0.5, 1.0):
        since = NOON - timedelta(days=rnd.uniform(900 * share, 900))
        at = since + timedelta(days=900 * share)
        question = " ".join(rnd.sample(WORDS, 2))
        asked = EMBEDDER.embed([question])[0]
        inside = [fact for fact in facts if since <= fact.valid_at <= at]
        best = sorted((float(EMBEDDER.embed([fact.text])[0] @ asked) for fact in inside), reverse=True)[:5]
        hits = search(graph, tenant, question, since=since, at=at, keyword_weight=0.0)
        assert [hit.cosine for hit in hits] == pytest.approx(best, abs=1e-3), share
        assert {hit.fact.text for hit in hits} <= {fact.text for fact in inside}


def test_a_user_without_facts_has_none_and_none_are_made_by_asking(graph: Graph, tenant: str) -> None:
    assert search(graph, tenant, "red cat") == graph.list_facts(tenant) == []
    assert graph.forget_facts(tenant, [authored(tenant, "red cat")]) == 0
    assert graph.count(tenant) == GraphCount(0, 0)
    graph.delete_user(tenant)


def test_a_thousand_probes_find_nothing_of_another_user(graph: Graph, new_tenant: Callable[[], str]) -> None:
    rnd = random.Random(7)
    tenants = [new_tenant() for _ in range(4)]
    for tenant in tenants:
        # the same documents and nearly the same words, so that only the fence tells them apart
        facts = [authored(tenant, f"{tenant} {' '.join(rnd.sample(WORDS, 3))}", i, name=f"d{i}") for i in range(12)]
        graph.write_facts(tenant, [*facts, twin(tenant, tenant, 1)])
    for _ in range(1000):
        mine, theirs = rnd.sample(tenants, 2)
        hits = search(graph, mine, f"{theirs} {rnd.choice(WORDS)}", since=day(rnd.uniform(0, 9)))
        assert hits
        assert all(hit.fact.user_id == mine and theirs not in hit.fact.text for hit in hits)


def test_deleting_a_user_leaves_those_whose_names_begin_alike(graph: Graph, new_tenant: Callable[[], str]) -> None:
    mine = new_tenant()
    longer = f"{mine}-deadbeef"
    try:
        for user in (mine, longer):
            graph.write_facts(user, [authored(user, "red cat")])
        graph.delete_user(mine)
        assert (graph.count(mine).facts, graph.count(longer).facts) == (0, 1)
        assert graph.write_facts(mine, [authored(mine, "red cat")]) == WriteCount(1, 0)
    finally:
        graph.delete_user(longer)


def test_writers_at_once_end_in_the_same_graph(graph: Graph, tenant: str) -> None:
    facts = [twin(tenant, f"t{i}", i) for i in range(16)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda fact: graph.write_facts(tenant, [fact]), random.Random(3).sample(facts, 16)))
    listed = graph.list_facts(tenant)
    assert [fact.invalid_at for fact in listed] == [*(day(i) for i in range(1, 16)), None]
    assert graph.count(tenant) == GraphCount(entities=17, facts=16)


def test_a_rare_word_counts_more_than_common_ones(graph: Graph, tenant: str) -> None:
    """FalkorDB scores words joined by `|` by the first that it meets: facts with the commoner word came first."""
    common = [f"ada argued against number{i}" for i in range(40)]
    graph.write_facts(tenant, [authored(tenant, text) for text in [*common, "ada repaired the kiln"]])
    assert texts_of(search(graph, tenant, "who argued against the kiln", k=3, keyword_weight=0.9))[0] == "ada repaired the kiln"
