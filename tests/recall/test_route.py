"""Which way a question goes, and the wider look into the graph."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.recall.plan import Line, Recalled
from lpm_kernel.recall.route import choose_route, look_wider
from lpm_kernel.records import Evidence, Fact, GraphEntity
from lpm_kernel.stores.open import Stores
from tests.samples import NOON, make_citation, make_memory_of

NOTE = Line("Our cat is called Pilchard.", 0.9, 0.7, evidence=Evidence(make_citation(), "Our cat is called Pilchard.", 0.9))
LIKES = Line("I like benches.", 0.0, 0.2, memory=make_memory_of("1", "I like benches.", kind="preference"))


def fact_line(cosine: float, text: str = "Nora voted for more benches", user_id: str = "1", days: int = 0) -> Line:
    began = NOON - timedelta(days=days)
    fact = Fact(user_id, GraphEntity("User", user_id), "VOTED", GraphEntity("Vote", text), text, began, began)
    return Line(text, 1.0, cosine, fact=fact)


@pytest.mark.parametrize(
    ("question", "lines", "route"),
    [
        ("What is your cat called?", [NOTE], "own_memory"),
        ("What is your cat called?", [], "own_memory"),
        ("What is your cat called?", [NOTE, fact_line(0.5)], "own_memory"),
        ("Where are the new benches?", [NOTE, fact_line(0.8)], "shared_graph"),
        ("Which proposals are open?", [NOTE], "shared_graph"),
        ("How did you vote last year?", [NOTE], "shared_graph"),
        ("How would you vote on proposal P-12?", [NOTE], "act"),
        ("Draft my ballot for #7", [], "act"),
        ("Do you propel a boat?", [NOTE], "own_memory"),
    ],
)
def test_the_way_is_chosen_by_the_question_and_by_what_lies_nearest(question: str, lines: list[Line], route: str) -> None:
    assert choose_route(question, lines) == route


def recalled(*lines: Line, degraded: tuple = (), answerable: bool = False) -> Recalled:
    return Recalled(lines, degraded, 0.1, answerable)


def test_a_wider_look_finds_what_is_older_than_recall_looks_and_then_the_twin_knows(stores: Stores, user_id: str) -> None:
    old = fact_line(0.0, "Nora voted for the proposal of more benches", user_id, days=400).fact
    assert old is not None
    stores.graph.write_facts(user_id, [old])
    found = look_wider(*(stores, user_id, "How did you vote on the proposal of more benches?", recalled(NOTE, LIKES)), now=NOON)
    assert [line.text for line in found.lines if line.fact] == [old.text]
    assert {line.text for line in found.lines} == {old.text, NOTE.text, LIKES.text}
    assert found.lines[-1] == LIKES, "what is on board whatever is asked stays at its end"
    assert (found.answerable, found.degraded) == (True, ())


def test_a_fact_of_a_deleted_document_is_not_found_by_a_wider_look_either(stores: Stores, user_id: str) -> None:
    text = "Nora wrote of the proposal of more benches"
    fact = Fact(user_id, GraphEntity("User", user_id), "AUTHORED", GraphEntity("Document", "d"), text, NOON, NOON)
    stores.graph.write_facts(user_id, [fact])
    question = "Who wrote of the proposal of more benches?"
    assert look_wider(stores, user_id, question, recalled(NOTE), now=NOON).answerable
    assert look_wider(stores, user_id, question, recalled(NOTE), now=NOON, deleted={"d"}) == recalled(NOTE)


def test_a_graph_that_fails_is_named_and_one_that_failed_before_is_not_asked_again(stores: Stores, user_id: str) -> None:
    asked = []

    class Gone:
        def search_facts(self, *_: object, **__: object) -> list[object]:
            asked.append(1)
            raise StoreError("graph_unavailable", "told to")

    away = replace(stores, graph=Gone())  # type: ignore[arg-type]
    found = look_wider(away, user_id, "Which proposals are open?", recalled(NOTE, answerable=True), now=NOON)
    assert (found.lines, found.degraded, found.answerable) == ((NOTE,), ("facts",), True)
    assert look_wider(away, user_id, "Which proposals are open?", found, now=NOON) is found
    assert len(asked) == 1
