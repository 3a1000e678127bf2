"""`memory_graph`: the graph holds what the tables say, whatever it held before, and its check finds what is not so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lpm_kernel.artefacts import encode_record
from lpm_kernel.L1.memory_graph import differences, known_facts, project_facts
from lpm_kernel.layout import asset_key
from lpm_kernel.records import Document, Entity, Fact, GraphEntity, Mention, Release, User
from lpm_kernel.stores.conversations import append_message, list_talks
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import promote_release
from tests.fake_graph import MemoryGraph, WideFakeEmbedder
from tests.samples import NOON, make_document, make_message, make_release
from tests.twin_assets.conftest import Workshop, figures
from twin_assets.assets.l1_graph import memory_graph
from twin_assets.checks import graph_holds_the_known_facts

USER = User("1", "Nora")


def documents_of(user_id: str) -> list[Document]:
    return [make_document(user_id, name, name.encode(), "read") for name in ("diary.md", "letter.txt")]


def released(user_id: str, number: int) -> Release:
    at = NOON + timedelta(days=number)
    return replace(make_release(user_id), user_id=user_id, release_id=f"{number:064x}", created_at=at)


@pytest.fixture
def graph() -> MemoryGraph:
    return MemoryGraph(WideFakeEmbedder())


def holds(graph: Any, facts: list[Fact], user_id: str = "1") -> bool:
    check = graph_holds_the_known_facts.node_def.compute_fn.decorated_fn  # type: ignore[attr-defined]
    resources = SimpleNamespace(stores=SimpleNamespace(graph=graph))
    return bool(check(SimpleNamespace(partition_key=user_id, retry_number=0), stores=resources, memory_graph=facts).passed)


def test_a_document_of_the_twin_is_not_what_the_person_wrote() -> None:
    mine, twins = documents_of("1")
    facts = known_facts(USER, [mine, replace(twins, created_by="twin")], [])
    assert [fact.text for fact in facts] == ["Nora wrote diary.md"]
    assert known_facts(User("1"), [mine], [])[0].text == "user 1 wrote diary.md"


def test_a_document_mentions_the_policy_topics_that_were_found_in_it_and_nothing_else() -> None:
    mine, twins = documents_of("1")
    places = [
        Mention(sha256, "c", 0, 9, "Night buses", "rules", 0.9) for sha256 in (mine.sha256, twins.sha256, mine.sha256, "gone")
    ]
    buses = Entity("e1", "1", "Night buses", "POLICY_TOPIC", (), tuple(places))
    cat = Entity("e2", "1", "Pilchard", "PERSON", (), tuple(places))
    facts = known_facts(USER, [mine, replace(twins, created_by="twin")], [], [buses, cat])
    [mentions] = [fact for fact in facts if fact.relation == "MENTIONS"]
    assert (mentions.subject.name, mentions.object) == (mine.sha256, GraphEntity("PolicyTopic", "night buses"))
    assert (mentions.text, mentions.valid_at) == ("diary.md by Nora mentions Night buses", mine.created_at)


def test_each_session_with_a_release_is_one_fact_of_when_it_began(stores: Stores, user_id: str) -> None:
    said = [
        ("a", 1, "user", "r1"),
        ("a", 2, "twin", "r1"),
        ("a", 3, "twin", "r1"),
        ("b", 4, "twin", "r1"),
        ("b", 5, "twin", "r2"),
    ]
    with stores.tables.transaction(user_id) as connection:
        for session, number, sender, release in said:
            message = make_message(user_id, number, session_id=session, sender=sender)  # type: ignore[arg-type]
            append_message(connection, replace(message, release_id=release if sender == "twin" else None))
        talks = list_talks(connection, user_id)
    assert [(t.session_id, t.release_id, (t.began - NOON).seconds) for t in talks] == [
        ("a", "r1", 2),
        ("b", "r1", 4),
        ("b", "r2", 5),
    ]
    facts = known_facts(User(user_id, "Nora"), [], [], talks=talks)
    assert {fact.relation for fact in facts} == {"CHATTED"}
    first = facts[0]
    assert (first.object.name, first.text, first.valid_at) == ("r1", "Nora talked with the twin r1", talks[0].began)


def test_projecting_again_writes_nothing_and_what_is_gone_from_the_tables_goes(graph: MemoryGraph) -> None:
    """What another writer says with the same relation went too: a proposal has an author, and it mentions topics."""
    facts = known_facts(USER, documents_of("1"), [released("1", 1), released("1", 2)])
    proposal = GraphEntity("Proposal", "p")
    others = [
        Fact("1", GraphEntity("User", "1"), "AUTHORED", proposal, "Nora proposed it", NOON, NOON),
        Fact("1", proposal, "MENTIONS", GraphEntity("PolicyTopic", "heat"), "it mentions heat", NOON, NOON),
    ]
    graph.write_facts("1", others)
    assert (project_facts(graph, "1", facts).written, project_facts(graph, "1", facts).kept) == (4, 4)
    assert project_facts(graph, "1", facts[1:]).forgotten == 1
    assert {fact.text for fact in graph.list_facts("1")} == {fact.text for fact in (*others, *facts[1:])}
    assert differences(graph, "1", facts[1:]) == ([], [])
    ended = [fact.invalid_at for fact in graph.list_facts("1", ["HAS_TWIN"])]
    assert ended == [NOON + timedelta(days=2), None], "the newer twin ends the one before"


def test_the_check_finds_a_fact_that_is_missing_and_one_too_many(graph: MemoryGraph) -> None:
    facts = known_facts(USER, documents_of("1"), [released("1", 1)])
    project_facts(graph, "1", facts)
    assert holds(graph, facts)
    assert not holds(graph, facts[1:]), "one too many"
    graph.forget_facts("1", [facts[0]])
    assert not holds(graph, facts), "one missing"


def test_the_asset_fills_the_real_graph_from_the_real_tables(stores: Stores, new_user: Callable[[], str]) -> None:
    user_id = new_user()
    releases = [released(user_id, 1), released(user_id, 2)]
    with stores.tables.transaction(user_id) as connection:
        for release in releases:
            promote_release(connection, release)
    make = memory_graph.node_def.compute_fn.decorated_fn  # type: ignore[attr-defined]
    log = SimpleNamespace(warning=pytest.fail)
    context = SimpleNamespace(partition_key=user_id, retry_number=0, asset_key=memory_graph.key, log=log)
    resources: Any = SimpleNamespace(stores=stores)
    for written in (4, 0):
        made = make(context, resources, raw_documents=documents_of(user_id), entities=[], twin_release=releases[1])
        assert made.metadata["facts_written"].value == written
    assert holds(stores.graph, made.value, user_id)
    assert stores.graph.count(user_id).facts == made.metadata["facts_in_graph"].value == 4
    assert [fact.invalid_at is None for fact in stores.graph.list_facts(user_id, ["HAS_TWIN"])] == [False, True]
    stores.graph.delete_user(user_id)
    assert not holds(stores.graph, made.value, user_id)


def test_a_run_of_its_own_reads_the_stages_before_it_and_passes_its_check(workshop: Workshop) -> None:
    stores = workshop.stores
    workshop.add("graph-1", "Nora", {"diary.md": "Our cat is called Pilchard.\n"})
    with stores.tables.transaction("graph-1") as connection:
        promote_release(connection, released("graph-1", 1))
    stores.blobs.put(asset_key("graph-1", "twin_release", "json"), encode_record(released("graph-1", 1)))
    selection = [dg.AssetKey("raw_documents"), dg.AssetKey("memory_graph")]
    stores.blobs.put(asset_key("graph-1", "entities", "jsonl"), b"")
    result = workshop.build("graph-1", asset_selection=selection)
    assert result.success
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    assert figures(result, "memory_graph")["facts_in_graph"] == 2
    assert {fact.text for fact in stores.graph.list_facts("graph-1")} == {"Nora wrote diary.md", "Nora has the twin 00000000"}
