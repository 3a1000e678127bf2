"""Whom to ask: who knows of it, not too many who know the same, and who has something to gain by the answer.

Belongs here: pure rules over profiles, weights, delegations and the words of what is asked.
Does not belong here: where profiles come from (`minds.py`) and what the chosen say (`rounds.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from lpm_kernel.dao.planner.records import ConflictKind, Consulted
from lpm_kernel.dao.records import Delegation

if TYPE_CHECKING:
    import numpy as np

MIN_NAME_CHARACTERS = 3
"""Of a name that is looked for in a text: shorter ones are found in every other word."""


@dataclass(frozen=True, slots=True, eq=False)
class ProfileTopic:
    """`vector`: of length 1, in the space of the vector that is asked with. `salience`: 0 to 1, within the person."""

    topic_id: str
    vector: np.ndarray
    salience: float


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What of a member decides whether they are asked. Topics out of what they keep to themselves are not in it."""

    member: str
    name: str | None
    topics: tuple[ProfileTopic, ...]
    asked_with: np.ndarray
    """What is asked, as a vector of the model that their topics were embedded with."""
    model: str = ""
    """Its fingerprint: vectors of two are not compared."""
    silent: bool = False
    """Whether their person lets the twin do nothing in votes: it is not asked."""
    unreadable: bool = False
    """Whether what they know is there and cannot be read."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and who must not be its judge. `principals`: who asks, and who proposed it. `put`: the words of a proposal
    that is before everybody; empty where the words are its asker's alone, who could name whomever they would not have heard."""

    text: str
    topic: str
    asker: str
    proposer: str | None = None
    proposal_id: str | None = None
    put: str = ""

    @property
    def principals(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name in (self.asker, self.proposer) if name))


@dataclass(frozen=True, slots=True)
class ChoiceRules:
    twins: int
    min_expertise: float
    same_topics: float
    """Cosine from which topics of two members count as the same; all of one's must be the other's for one voice."""
    diversity: float
    """0: the best only; towards 1 the more those are passed over who know what the chosen know."""
    conflicts: Literal["heard", "left_out"]


@dataclass(frozen=True, slots=True)
class Chosen:
    consulted: tuple[Consulted, ...]
    """Best first."""
    left_out: Mapping[str, int] = field(default_factory=dict)


def expertise_of(profile: Profile) -> tuple[float, str | None]:
    """How near their nearest topic is to what is asked, and which that is. Of two alike, the one that they hold more of.

    Units: cosine, of which salience decides on a quarter.
    """
    scored = [
        (max(0.0, float(topic.vector @ profile.asked_with)) * (0.75 + 0.25 * topic.salience), topic.topic_id)
        for topic in profile.topics
    ]
    return max(scored, key=lambda item: (item[0], item[1])) if scored else (0.0, None)


def alike(one: Profile, other: Profile, cosine: float) -> bool:
    """Whether each topic of either has its like in the other."""
    if not one.topics or not other.topics or one.model != other.model:
        return False
    import numpy as np

    cosines = np.stack([t.vector for t in one.topics]) @ np.stack([t.vector for t in other.topics]).T
    return bool(cosines.max(axis=1).min() >= cosine and cosines.max(axis=0).min() >= cosine)


def voices_of(members: Sequence[str], same: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each member's voice: the first by name of all who are joined to them by pairs that say the same."""
    head = {member: member for member in members}

    def find(member: str) -> str:
        while head[member] != member:
            head[member] = head[head[member]]
            member = head[member]
        return member

    for one, other in same:
        first, second = sorted((find(one), find(other)))
        head[second] = first
    return {member: find(member) for member in members}


def same_by_topics(profiles: Sequence[Profile], cosine: float) -> list[tuple[str, str]]:
    return [
        (one.member, other.member)
        for place, one in enumerate(profiles)
        for other in profiles[:place]
        if alike(one, other, cosine)
    ]


def conflicts_of(
    profile: Profile,
    question: Question,
    delegations: Collection[Delegation],
    voices: Mapping[str, str],
    names: Mapping[str, str | None],
    at: datetime,
) -> tuple[ConflictKind, ...]:
    """What this member has to gain or to lose by the answer, as far as the ledger, the text and the memories show it."""
    member = profile.member
    principals = question.principals
    found: list[ConflictKind] = []
    if member == question.proposer:
        found.append("proposer")
    if _gains_by(member, profile.name, question.put):
        found.append("named")
    others = [name for name in principals if name != member]
    pairs = {(name, member) for name in others} | {(member, name) for name in others}
    if any((each.delegator, each.delegate) in pairs and _holds(each, question, at) for each in delegations):
        found.append("delegate")
    own_name = (profile.name or "").strip().casefold()
    if any(
        (own_name and own_name == (names.get(other) or "").strip().casefold())
        or (other in voices and voices[other] == voices.get(member))
        for other in others
    ):
        found.append("same_person")
    return tuple(found)


def _holds(delegation: Delegation, question: Question, at: datetime) -> bool:
    if delegation.revoked_at is not None or (delegation.ends_at is not None and delegation.ends_at <= at):
        return False
    scope = delegation.scope
    return scope.kind == "all" or scope.of == (question.topic if scope.kind == "topic" else question.proposal_id)


_GIVES = (
    r"(?:pay|pays|paying|paid|hire|hires|hiring|appoint|appoints|give|gives|award|awards|commission|commissions|reward|rewards)"
)
_FROM = r"(?:buy|buys|rent|rents|order|orders|lease|leases|bought|rented|hire|hires|borrow|borrows)"
_GOES = r"(?:paid|given|awarded|goes|go|sold|let|rented|leased|contract|order|fee|salary|grant)"
_GETS = (
    r"(?:gets?|receives?|earns?|is\s+(?:paid|hired|appointed|given|awarded)|will\s+be\s+(?:paid|hired|appointed|given|awarded))"
)


def _gains_by(member: str, name: str | None, text: str) -> bool:
    """As who is paid, hired, bought from or given something: being spoken of is not enough, nor is having to do something."""
    for said in (member, (name or "").strip()):
        it = re.escape(said)
        if len(said) >= MIN_NAME_CHARACTERS and re.search(
            rf"\b{_GIVES}\s+{it}(?![\w-])|\b{_FROM}\b[^.;]{{0,80}}\bfrom\s+{it}(?![\w-])"
            rf"|\b{_GOES}\b[^.;]{{0,80}}\bto\s+{it}(?![\w-])|(?<![\w-]){it}\s+{_GETS}\b",
            text,
            re.IGNORECASE,
        ):
            return True
    return False


def choose(
    profiles: Sequence[Profile],
    question: Question,
    weights: Mapping[str, int],
    delegations: Collection[Delegation],
    rules: ChoiceRules,
    at: datetime,
) -> Chosen:
    """At most `rules.twins` others, those first who know most and what is not known by the chosen already.

    `profiles`: of all members, the asker too: whose memory is theirs is their like and no other's witness. Who is no member of
    the vote has a weight of 0: heard if they know something, never counted.
    """
    ordered = sorted(profiles, key=lambda profile: profile.member)
    voices = voices_of([profile.member for profile in ordered], same_by_topics(ordered, rules.same_topics))
    names = {profile.member: profile.name for profile in ordered}
    left_out: Counter[str] = Counter()
    able: list[tuple[Consulted, Profile]] = []
    for profile in ordered:
        if profile.member == question.asker:
            continue
        expertise, topic_id = expertise_of(profile)
        conflicts = conflicts_of(profile, question, delegations, voices, names, at)
        if profile.silent:
            left_out["consent"] += 1
        elif profile.unreadable:
            left_out["memory_unreadable"] += 1
        elif not profile.topics:
            left_out["without_memory"] += 1
        elif expertise < rules.min_expertise:
            left_out["knows_nothing_of_it"] += 1
        elif conflicts and rules.conflicts == "left_out":
            left_out["conflict"] += 1
        else:
            weight = weights.get(profile.member, 0)
            person = Consulted(
                *(profile.member, weight, round(expertise, 4), topic_id, voices[profile.member]),
                conflicts,
                counts=not conflicts and weight > 0,
            )
            able.append((person, profile))
    picked = _pick(able, rules)
    if len(able) > len(picked):
        left_out["others_know_more"] = len(able) - len(picked)
    return Chosen(tuple(person for person, _ in picked), dict(left_out))


def _pick(able: Sequence[tuple[Consulted, Profile]], rules: ChoiceRules) -> list[tuple[Consulted, Profile]]:
    """By expertise, less what the chosen know already. Of one voice the first stands before the second of any other's worth."""
    waiting = sorted(able, key=lambda item: (-item[0].expertise, item[0].member))
    if len(waiting) <= rules.twins:
        return waiting
    nearest = {person.member: 0.0 for person, _ in waiting}
    picked: list[tuple[Consulted, Profile]] = []
    while waiting and len(picked) < rules.twins:
        best = max(
            waiting,
            key=lambda item: (
                (1 - rules.diversity) * item[0].expertise - rules.diversity * nearest[item[0].member],
                item[0].expertise,
            ),
        )
        waiting.remove(best)
        picked.append(best)
        for person, profile in waiting:
            nearest[person.member] = max(nearest[person.member], _likeness(person, profile, *best))
    return picked


def _likeness(person: Consulted, profile: Profile, other: Consulted, its: Profile) -> float:
    """Of the topics that they were found by; one voice is wholly alike."""
    if person.voice == other.voice:
        return 1.0
    if profile.model != its.model:
        return 0.0
    one = next(topic.vector for topic in profile.topics if topic.topic_id == person.topic_id)
    two = next(topic.vector for topic in its.topics if topic.topic_id == other.topic_id)
    return max(0.0, float(one @ two))
