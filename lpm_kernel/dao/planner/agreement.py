"""Whether they agree: the DAO's own rules, applied to stances as if they were ballots.

Belongs here: tallies of stances, coalitions, deadlock, and whether another round may help.
Does not belong here: ballots (`tally.py`), which no plan casts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.planner.records import Coalition, Consulted, EndedBy, Judgement, Spent, Standpoint
from lpm_kernel.dao.planner.weighing import choice_of
from lpm_kernel.dao.records import Tally
from lpm_kernel.dao.rules import Rules
from lpm_kernel.dao.tally import decide

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class AgreementRules:
    min_confidence: float
    movement: float
    """Mean movement of a round under which nothing moves."""
    like_evidence: float
    """Cosine from which two lines are alike."""


@dataclass(frozen=True, slots=True)
class Budget:
    rounds: int
    statements: int
    tokens: int
    seconds: float

    def exhausted(self, spent: Spent) -> EndedBy | None:
        if spent.statements >= self.statements:
            return "statements"
        if spent.tokens >= self.tokens:
            return "tokens"
        return "seconds" if spent.seconds >= self.seconds else None


def choices_of(
    consulted: Sequence[Consulted], standpoints: Sequence[Standpoint], min_confidence: float
) -> dict[str, Choice | None]:
    """Of those who count, in order; None: not asked, or without a line about it."""
    opinions = {standpoint.member: standpoint.opinion for standpoint in standpoints}
    return {person.member: choice_of(opinions.get(person.member), min_confidence) for person in consulted if person.counts}


def tally_of(consulted: Sequence[Consulted], choices: Mapping[str, Choice | None]) -> Tally:
    """The electorate is the weight of all who were to be heard and count: those who know nothing weigh on the quorum."""
    weights = {person.member: person.weight for person in consulted if person.counts}

    def weight(choice: Choice) -> int:
        return sum(weights[member] for member, chosen in choices.items() if chosen == choice)

    voters = sum(chosen is not None for chosen in choices.values())
    return Tally(weight("for"), weight("against"), weight("abstain"), sum(weights.values()), voters, represented=0)


def agreed_on(tally: Tally, rules: Rules) -> Choice | None:
    """For, where the DAO's rules would pass it; against, where they would pass its opposite."""
    if decide(tally, rules)[0] == "passed":
        return "for"
    opposite = replace(tally, for_=tally.against, against=tally.for_)
    return "against" if decide(opposite, rules)[0] == "passed" else None


def has_majority(tally: Tally) -> bool:
    """Whether one side holds more than half of all weight."""
    return 2 * max(tally.for_, tally.against) > tally.electorate


def judge(
    consulted: Sequence[Consulted],
    standpoints: Sequence[Standpoint],
    vectors: Mapping[str, np.ndarray],
    dao_rules: Rules,
    rules: AgreementRules,
    round_: int,
    *,
    whole: bool = True,
) -> Judgement:
    """`vectors`: of each member's foremost line, of length 1. `whole`: whether the round was; of half a one nobody can say that
    nothing moves."""
    choices = choices_of(consulted, standpoints, rules.min_confidence)
    tally = tally_of(consulted, choices)
    outcome, reason = decide(tally, dao_rules)
    agreed = agreed_on(tally, dao_rules)
    moved = mean_movement(consulted, standpoints, round_)
    still = moved < rules.movement
    return Judgement(
        *(round_, tally, outcome, reason, round(moved, 4)),
        coalitions=coalitions(consulted, choices, vectors, rules.like_evidence),
        agreed=agreed,
        deadlock=whole and agreed is None and still and tally.for_ + tally.against > 0 and not has_majority(tally),
    )


def mean_movement(consulted: Sequence[Consulted], standpoints: Sequence[Standpoint], round_: int) -> float:
    """Of those who count and have an opinion, by weight; who was not weighed again in this round has not moved."""
    weights = {person.member: person.weight for person in consulted if person.counts}
    heard = [each for each in standpoints if each.opinion is not None and each.member in weights]
    total = sum(weights[each.member] for each in heard)
    return sum(weights[each.member] * each.moved for each in heard if each.revised_in == round_) / total if total else 0.0


def coalitions(
    consulted: Sequence[Consulted],
    choices: Mapping[str, Choice | None],
    vectors: Mapping[str, np.ndarray],
    like_evidence: float,
) -> tuple[Coalition, ...]:
    """Groups of two voices and more that choose alike and whose foremost lines are alike, the weightiest first.

    Each is gathered around its weightiest member; nobody is in two. Members of one voice alone are no coalition.
    """
    people = {person.member: person for person in consulted if person.counts}
    found: list[Coalition] = []
    for side in ("for", "against"):
        ready = [name for name, choice in choices.items() if choice == side and name in vectors]
        waiting = sorted(ready, key=lambda name: (-people[name].weight, -people[name].expertise, name))
        while waiting:
            leader = waiting[0]
            near = [
                name
                for name in waiting
                if people[name].voice == people[leader].voice or float(vectors[name] @ vectors[leader]) >= like_evidence
            ]
            waiting = [name for name in waiting if name not in near]
            if len({people[name].voice for name in near}) > 1:
                found.append(Coalition(side, tuple(near), sum(people[name].weight for name in near)))
    return tuple(sorted(found, key=lambda item: (-item.weight, item.choice, item.members)))


def ended(judgement: Judgement, budget: Budget, spent: Spent, *, more_to_hear: bool) -> EndedBy | None:
    """Why no other round follows; None: one does."""
    tally = judgement.tally
    if tally.voters == 0:
        return "nobody"
    if judgement.agreed is not None:
        return "agreement"
    if judgement.deadlock:
        return "deadlock"
    if why := budget.exhausted(spent):
        return why
    if judgement.round >= budget.rounds:
        return "rounds"
    return None if more_to_hear else "nothing_new"
