"""The gate before memory: junk and echoes stay out, repetitions count once, and the newest statement of a fact holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.recall.write_gate import (
    QUESTION_IMPORTANCE,
    TURN_IMPORTANCE,
    place_version,
    remember_turn,
    screen,
    settle,
    words_of,
    write_memories,
)
from lpm_kernel.records import Memory
from lpm_kernel.settings import GateSettings
from lpm_kernel.stores.memories import MemoryHit
from lpm_kernel.stores.open import Stores
from tests.samples import NOON, make_memory_of, make_message

RULES = GateSettings(duplicate_cosine=0.95, min_words=2, turn_days=90)


def screened(text: str, *recalled: str) -> str | None:
    decision = screen(make_memory_of("1", text), recalled, RULES)
    return decision.outcome if decision else None


@pytest.mark.parametrize(
    "text", ["ok", "Pilchard", "...", "🙂🙂 👍", "Hi there!", "Thank you so much", "Good morning :)", "haha yes"]
)
def test_what_tells_nothing_is_junk(text: str) -> None:
    assert screened(text) == "junk"


@pytest.mark.parametrize("text", ["I'm vegan", "Yes, I moved to Porto", "我喜欢喝茶", "Мне нравится", "thanks to Maria I sail"])
def test_what_tells_something_is_not(text: str) -> None:
    assert screened(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "My one-eyed cat is called Pilchard.",
        "my one eyed CAT is called pilchard",
        "cat is called Pilchard",
        "You said: “My one-eyed cat is called Pilchard.” Right?",
    ],
)
def test_recalled_text_is_not_remembered_again(text: str) -> None:
    """What was recalled came back as something new, was recalled again, and in a month most of a memory was its own echo."""
    assert screened(text, "Something else.", "My one-eyed cat is called Pilchard.") == "recalled"


@pytest.mark.parametrize(
    "text",
    [
        "My one-eyed dog is called Pilchard",
        "My one-eyed cat is called Pilchard and since May she has had three kittens that we gave to Maria",
    ],
)
def test_a_new_statement_about_what_was_recalled_is_remembered(text: str) -> None:
    assert screened(text, "My one-eyed cat is called Pilchard.") is None


def settled(new: str, known: str, cosine: float) -> str:
    hit = MemoryHit(make_memory_of("1", known), cosine)
    return settle(make_memory_of("1", new, 5), [hit], RULES).outcome


@pytest.mark.parametrize(
    ("new", "known", "cosine"),
    [
        ("i like green tea", "I like GREEN tea!", 0.2),
        ("I like green tea", "I really like green tea.", 0.97),
        ("I moved to Porto in May because of the sea", "I moved to Porto in May, because of the sea there", 0.988),
    ],
)
def test_a_repetition_is_a_duplicate(new: str, known: str, cosine: float) -> None:
    assert settled(new, known, cosine) == "duplicate"


@pytest.mark.parametrize(
    ("new", "known", "cosine"),
    [
        ("My rent is 950 euros", "My rent is 900 euros", 0.971),
        ("My rent is euros", "My rent is 900 euros", 0.97),
        ("I prefer coffee over tea", "I prefer tea over coffee", 0.993),
        ("I like tea", "I used to like tea", 0.96),
        ("I like tea", "I don't like tea", 0.96),
        ("I have a cat", "I had a cat", 0.96),
        ("I moved to Porto in May because of the sea", "I moved to Porto in May", 0.97),
        ("I like tea", "I like tea with milk", 0.94),
    ],
)
def test_texts_that_are_near_and_tell_something_else_are_both_kept(new: str, known: str, cosine: float) -> None:
    """The cosines are those of all-MiniLM-L6-v2 where it was asked: alone they would drop a new rent as the old one."""
    assert settled(new, known, cosine) == "written"


def timeline(memories: list[Memory]) -> list[Memory]:
    """What a store holds after `place_version` decided on each in turn."""
    held: dict[str, Memory] = {}
    for memory in memories:
        versions = sorted(held.values(), key=lambda version: (version.created_at, version.memory_id))
        decision = place_version(memory, versions)
        if decision.outcome != "written":
            continue
        held[memory.memory_id] = decision.memory
        if decision.other_id:
            held[decision.other_id] = replace(
                held[decision.other_id], superseded_by=memory.memory_id, superseded_at=memory.created_at
            )
    return sorted(held.values(), key=lambda version: (version.created_at, version.memory_id))


STATEMENTS = [make_memory_of("1", f"I live in {city}", minutes, key="user home") for minutes, city in enumerate("ABCDE")]


@given(st.permutations(STATEMENTS))
def test_the_versions_of_a_fact_are_one_chain_in_time_whatever_order_they_come_in(arriving: list[Memory]) -> None:
    versions = timeline(arriving)
    assert [version.memory_id for version in versions] == [memory.memory_id for memory in STATEMENTS]
    for version, after in zip(versions, versions[1:], strict=False):  # noqa: RUF007
        assert (version.superseded_by, version.superseded_at) == (after.memory_id, after.created_at)
    assert versions[-1].superseded_by is None


def test_a_fact_that_is_true_again_is_a_version_of_its_own() -> None:
    again = make_memory_of("1", STATEMENTS[0].text, 9, key="user home")
    versions = timeline([*STATEMENTS[:2], again])
    assert [version.text[-1] for version in versions] == ["A", "B", "A"]


def test_a_fact_that_is_said_again_is_no_new_version() -> None:
    again = make_memory_of("1", "I LIVE in a.", 9, key="user home")
    assert place_version(again, STATEMENTS[:1]).outcome == "duplicate"


def test_a_late_statement_does_not_reach_past_a_version_that_was_purged() -> None:
    ended = replace(STATEMENTS[0], superseded_by="gone", superseded_at=NOON + timedelta(minutes=3))
    late = place_version(STATEMENTS[1], [ended]).memory
    assert (late.superseded_by, late.superseded_at) == ("gone", NOON + timedelta(minutes=3))
    after = place_version(STATEMENTS[4], [ended])
    assert (after.memory.superseded_at, after.other_id) == (None, None), "its predecessor had ended before it"


@given(st.text(max_size=80))
def test_any_text_has_words_and_a_judgement(text: str) -> None:
    assert all(word == word.casefold() for word in words_of(text))
    screen(make_memory_of("1", text), [text], RULES)
    assert settle(make_memory_of("1", text), [MemoryHit(make_memory_of("1", text), 1.0)], RULES).outcome == "duplicate"


def test_decisions_stand_in_the_order_of_the_candidates(stores: Stores, user_id: str) -> None:
    said = ["ok", "I like green tea", "My cat is called Pilchard", "I like green tea.", "Anna plays the cello"]
    candidates = [make_memory_of(user_id, text, i) for i, text in enumerate(said)]
    decided = write_memories(stores.memories, user_id, candidates, ["My cat is called Pilchard."], RULES)
    assert [decision.outcome for decision in decided] == ["junk", "written", "recalled", "duplicate", "written"]
    assert [decision.memory.text for decision in decided] == said
    assert decided[3].other_id == candidates[1].memory_id
    held = stores.memories.current(user_id, as_of=NOON + timedelta(hours=1))
    assert [memory.text for memory in held] == ["I like green tea", "Anna plays the cello"]


def test_a_turn_is_remembered_with_its_place_and_its_end(stores: Stores, user_id: str) -> None:
    decision = remember_turn(stores.memories, make_message(user_id, 1, "I moved to Porto"), 3, [], RULES)
    assert decision.outcome == "written"
    [memory] = stores.memories.current(user_id, as_of=NOON + timedelta(days=1))
    assert (memory.kind, memory.source, memory.session_id, memory.turn) == ("turn", "chat", "s", 3)
    assert memory.expiration_date == NOON.date() + timedelta(days=RULES.turn_days)


def test_a_question_weighs_less_than_a_statement(stores: Stores, user_id: str) -> None:
    for number, text in enumerate(["Where does Maria live?", "Maria lives in Porto"]):
        remember_turn(stores.memories, make_message(user_id, number, text), number, [], RULES)
    held = stores.memories.current(user_id, as_of=NOON + timedelta(hours=1))
    assert [memory.importance for memory in held] == [QUESTION_IMPORTANCE, TURN_IMPORTANCE]


def test_what_the_twin_said_is_never_remembered(stores: Stores, user_id: str) -> None:
    message = make_message(user_id, 1, "I moved to Porto", sender="twin")
    assert remember_turn(stores.memories, message, 1, [], RULES).outcome == "twin_words"
    assert stores.memories.current(user_id, as_of=NOON + timedelta(days=1)) == []
