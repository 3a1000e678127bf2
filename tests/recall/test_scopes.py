"""Who may hear what: the person everything, an asker what is shared."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import UserInputError
from lpm_kernel.L1.records import CitedLine, Community
from lpm_kernel.recall.scopes import OWN, Scope, check_asker
from lpm_kernel.records import Fact, GraphEntity
from tests.samples import NOON, make_citation, make_memory_of, make_release

BOB = Scope("bob", frozenset({"diary"}))


def fact(relation: str, document: str | None = None) -> Fact:
    person = GraphEntity("User", "1")
    other = GraphEntity("Document", document) if document else GraphEntity("DigitalTwin", "r")
    return Fact("1", person, relation, other, "a fact", NOON, NOON)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("citation", "kind", "heard"),
    [
        (None, "turn", False),
        (None, "preference", False),
        (None, "summary", False),
        (None, "voice", False),
        ("notes:0-10", "preference", True),
        ("diary:0-10", "preference", False),
    ],
)
def test_what_was_said_in_a_chat_is_private_and_a_documents_is_as_the_document(citation, kind, heard) -> None:
    memory = make_memory_of("1", "I never eat meat.", kind=kind, citation=citation)
    assert BOB.allows_memory(memory) is heard
    assert OWN.allows_memory(memory)


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        (fact("AUTHORED", "notes"), True),
        (fact("AUTHORED", "diary"), False),
        (fact("MENTIONS", "diary"), False),
        (fact("HAS_TWIN"), True),
        (fact("CHATTED"), False),
        (fact("VOTED"), False),
    ],
)
def test_facts_are_heard_of_shared_documents_alone(told: Fact, heard: bool) -> None:
    assert BOB.allows_fact(told) is heard
    assert OWN.allows_fact(told)


@given(st.sets(st.sampled_from("abc")), st.one_of(st.none(), st.sets(st.sampled_from("abc"))))
def test_the_adapter_answers_an_asker_only_where_it_surely_learnt_from_nothing_private(
    private: set[str], learnt: set[str] | None
) -> None:
    release = replace(make_release("1"), documents=None if learnt is None else tuple(sorted(learnt)))
    scope = Scope("bob", frozenset(private))
    assert scope.allows_weights(release) is (not private or (learnt is not None and not private & learnt))
    assert OWN.allows_weights(release)


def test_of_communities_the_lines_of_private_documents_go() -> None:
    lines = tuple(
        CitedLine(text, replace(make_citation(), document_sha256=sha256), None)
        for text, sha256 in (("I sail.", "notes"), ("I weep.", "diary"))
    )
    community = Community("c", "sea", (), ("k1", "k2"), lines, 0.5, (1.0,))
    assert [line.text for line in BOB.shared_of([community])[0].lines] == ["I sail."]
    assert OWN.shared_of([community]) == [community]


def test_who_asks_their_own_twin_is_no_asker() -> None:
    assert check_asker(None, "1") is None
    assert check_asker("1", "1") is None
    assert check_asker("bob", "1") == "bob"
    for strange in ("", "Bob", "a b", "../x", "a" * 64):
        with pytest.raises(UserInputError, match="asker_invalid"):
            check_asker(strange, "1")
