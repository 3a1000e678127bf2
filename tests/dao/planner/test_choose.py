"""Whom to ask: who knows, who has something to gain, and who is somebody else under another name."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from lpm_kernel.dao.planner.choose import ChoiceRules, Profile, ProfileTopic, Question, choose, expertise_of
from lpm_kernel.dao.planner.records import ConflictKind
from lpm_kernel.dao.records import Delegation, Scope, ScopeKind
from tests.dao.planner.fakes import NOON

RULES = ChoiceRules(twins=99, min_expertise=0.15, same_topics=0.97, diversity=0.3, conflicts="heard")
ASKED = np.array([1.0, 0.0, 0.0], dtype=np.float32)
QUESTION = Question("A new roof for the yard", "works", "asker", "ida", "P-1")


def person(member: str, *cosines: float, name: str | None = None, salience: float = 1.0, turn: float | None = None) -> Profile:
    """Topics of these cosines to the question, each member's turned their own way."""
    angle = sum(map(ord, member)) if turn is None else turn
    topics = tuple(
        ProfileTopic(f"{member}-{number}", _vector(cosine, angle + number), salience) for number, cosine in enumerate(cosines)
    )
    return Profile(member, name, topics, ASKED, "fake")


def _vector(cosine: float, angle: float) -> np.ndarray:
    rest = np.sqrt(1 - cosine**2)
    return np.array([cosine, rest * np.cos(angle), rest * np.sin(angle)], dtype=np.float32)


def chosen(
    people: list[Profile], rules: ChoiceRules = RULES, question: Question = QUESTION, given: list[Delegation] | None = None
):
    weights = {profile.member: 1 for profile in people}
    return choose(people, question, weights, given or [], rules, NOON)


def test_those_who_know_most_come_first_and_those_who_know_nothing_are_left_out() -> None:
    found = chosen([person("asker", 0.9), person("ann", 0.3), person("ben", 0.8, 0.1), person("cat", 0.05), person("dan")])
    assert [each.member for each in found.consulted] == ["ben", "ann"]
    assert found.consulted[0].topic_id == "ben-0"
    assert found.left_out == {"knows_nothing_of_it": 1, "without_memory": 1}


def test_of_two_topics_as_near_the_one_that_matters_more_makes_expertise() -> None:
    low, high = expertise_of(person("ann", 0.8, salience=0.0))[0], expertise_of(person("ann", 0.8, salience=1.0))[0]
    assert low == pytest.approx(0.6, abs=1e-5)
    assert high == pytest.approx(0.8, abs=1e-5)


def test_never_more_than_may_be_and_rather_those_who_know_something_else() -> None:
    alike = [person(f"twin-{number}", 0.8, turn=number * 0.2) for number in range(5)]
    other = person("other", 0.7, turn=3.2)
    rules = replace(RULES, twins=2, diversity=0.5)
    assert [each.member for each in chosen([*alike, other], rules).consulted][1] == "other"
    assert "other" not in [each.member for each in chosen([*alike, other], replace(rules, diversity=0.0)).consulted]


def test_ninety_nine_of_two_hundred_are_asked() -> None:
    found = chosen([person(f"m-{number:03d}", 0.5, turn=number / 20) for number in range(200)])
    assert len(found.consulted) == 99
    assert found.left_out == {"others_know_more": 101}


def delegation(delegator: str, delegate: str, kind: ScopeKind = "all", of: str = "", **changed: object) -> Delegation:
    return replace(Delegation("d", delegator, delegate, Scope(kind, of), NOON - timedelta(days=1)), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("who", "question", "given", "expected"),
    [
        (person("ida", 0.5), QUESTION, [], ("proposer",)),
        (person("ann", 0.5), replace(QUESTION, put="Pay Ann for a roof"), [], ("named",)),
        (person("ann", 0.5), replace(QUESTION, put="The roof is bought for 900 from Ann."), [], ("named",)),
        (
            person("m-1", 0.5, name="Ann Roe"),
            replace(QUESTION, put="The contract for the roof goes to Ann Roe."),
            [],
            ("named",),
        ),
        (person("m-1", 0.5, name="Ann Roe"), replace(QUESTION, put="Ann Roe is paid 100 a month."), [], ("named",)),
        (person("ann", 0.5), replace(QUESTION, put="A roof like the one that Ann has"), [], ()),
        (
            person("ann", 0.5),
            replace(QUESTION, put="A roof for Ann and all of us. Ann will build it, with Ann's help."),
            [],
            (),
        ),
        (person("ann", 0.5), replace(QUESTION, put="Pay Annabel for a roof"), [], ()),
        (person("ann", 0.5), replace(QUESTION, text="Pay Ann for a roof, the contract goes to Ann"), [], ()),
        (person("ann", 0.5), QUESTION, [delegation("ann", "ida")], ("delegate",)),
        (person("ann", 0.5), QUESTION, [delegation("asker", "ann")], ("delegate",)),
        (person("ann", 0.5), QUESTION, [delegation("ann", "ida", "topic", "works")], ("delegate",)),
        (person("ann", 0.5), QUESTION, [delegation("ann", "ida", "topic", "money")], ()),
        (person("ann", 0.5), QUESTION, [delegation("ann", "ida", "proposal", "P-2")], ()),
        (person("ann", 0.5), QUESTION, [delegation("ann", "ida", ends_at=NOON)], ()),
        (person("ann", 0.5), QUESTION, [delegation("ann", "ida", revoked_at=NOON)], ()),
        (person("ann", 0.5), QUESTION, [delegation("ann", "bob")], ()),
        (person("ann", 0.5, name="Ida Berg"), QUESTION, [], ("same_person",)),
        (person("ann", 0.4, 0.2, turn=7.0), QUESTION, [], ("same_person",)),
    ],
)
def test_who_has_something_to_gain_is_named_and_heard_and_not_counted(
    who: Profile, question: Question, given: list[Delegation], expected: tuple[ConflictKind, ...]
) -> None:
    people = [who, person("bob", 0.5), person("asker", 0.9)]
    if who.member != "ida":
        people.append(person("ida", 0.4, 0.2, name="Ida Berg", turn=7.0))
    found = next(each for each in chosen(people, question=question, given=given).consulted if each.member == who.member)
    assert found.conflicts == expected
    assert found.counts is not bool(expected)
    left = chosen(people, replace(RULES, conflicts="left_out"), question, given)
    assert (who.member in [each.member for each in left.consulted]) is not bool(expected)


def test_memories_that_are_the_same_are_one_voice_and_those_of_other_models_are_not_compared() -> None:
    one, two = person("ann", 0.5, 0.3, turn=1.0), person("bob", 0.5, 0.3, turn=1.0)
    other = replace(person("cyd", 0.5, 0.3, turn=1.0), model="another")
    voices = {each.member: each.voice for each in chosen([one, two, other]).consulted}
    assert voices == {"ann": "ann", "bob": "ann", "cyd": "cyd"}


def test_who_has_no_weight_is_heard_and_not_counted() -> None:
    found = choose([person("ann", 0.5), person("bob", 0.5)], QUESTION, {"ann": 2}, [], RULES, NOON)
    assert {each.member: (each.weight, each.counts) for each in found.consulted} == {"ann": (2, True), "bob": (0, False)}
