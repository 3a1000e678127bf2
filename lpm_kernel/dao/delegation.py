"""Who votes for whom: which delegation of a member holds in a vote, and where a chain of them ends.

Belongs here: choosing between delegations, following them, finding circles.
Does not belong here: weights and ballots (`tally.py`), and whether a delegation may be given (`commands.py`).

Of one member's delegations that hold, one for the proposal goes before one for its topic, and that before one for everything;
of equals the newest by (`given_at`, `delegation_id`). A standing one serves a member who has no other that holds, and only
once the vote has called for standing ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from lpm_kernel.dao.records import Delegation, Scope

_SPECIFIC = {"all": 0, "topic": 1, "proposal": 2}


def holds(delegation: Delegation, at: datetime) -> bool:
    """Whether it is given, not over and not revoked at this moment."""
    return (
        delegation.given_at <= at
        and (delegation.ends_at is None or delegation.ends_at > at)
        and (delegation.revoked_at is None or delegation.revoked_at > at)
    )


def is_for(scope: Scope, proposal_id: str, topic: str) -> bool:
    if scope.kind == "all":
        return True
    return scope.of == (topic if scope.kind == "topic" else proposal_id)


def delegations_of_vote(
    delegations: Iterable[Delegation], proposal_id: str, topic: str, at: datetime, *, standing: bool
) -> dict[str, Delegation]:
    """Delegator to the one delegation of theirs that holds in this vote. `standing`: whether standing ones serve yet."""
    chosen: dict[str, tuple[tuple[bool, int, datetime, str], Delegation]] = {}
    for each in delegations:
        if (each.standing and not standing) or not is_for(each.scope, proposal_id, topic) or not holds(each, at):
            continue
        rank = (not each.standing, _SPECIFIC[each.scope.kind], each.given_at, each.delegation_id)
        other = chosen.get(each.delegator)
        if other is None or rank > other[0]:
            chosen[each.delegator] = (rank, each)
    return {delegator: each for delegator, (_, each) in chosen.items()}


def carriers(
    chosen: Mapping[str, Delegation], voted: Iterable[str], members: Iterable[str], *, transitive: bool
) -> dict[str, str]:
    """Member without a ballot to the voter who carries them: the first along the chain who has a ballot.

    A chain that leaves the members, ends without a ballot or goes in a circle carries nobody. Linear in members.
    """
    heads, within = set(voted), set(members)
    if not transitive:
        return {member: each.delegate for member, each in chosen.items() if member in within - heads and each.delegate in heads}
    ends: dict[str, str | None] = {voter: voter for voter in heads}
    for member in within - heads:
        path: list[str] = []
        here: str | None = member
        while here is not None and here not in ends:
            ends[here] = None  # until its end is known: a chain that comes back to itself carries nobody
            path.append(here)
            given = chosen.get(here)
            here = given.delegate if given is not None and given.delegate in within else None
        end = None if here is None else ends[here]
        ends.update(dict.fromkeys(path, end))
    return {member: end for member, end in ends.items() if end is not None and member not in heads}


def circles(delegates: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Every circle among delegator → delegate, each from its smallest member on, in order."""
    found: list[tuple[str, ...]] = []
    done: set[str] = set()
    for start in delegates:
        path: dict[str, int] = {}
        here: str | None = start
        while here is not None and here not in done and here not in path:
            path[here] = len(path)
            here = delegates.get(here)
        if here is not None and here in path:
            circle = list(path)[path[here] :]
            least = circle.index(min(circle))
            found.append((*circle[least:], *circle[:least]))
        done.update(path)
    return sorted(found)


def circle_closed_by(new: Delegation, others: Iterable[Delegation], topics: Mapping[str, str], at: datetime) -> tuple[str, ...]:
    """The circle that this delegation would close in some vote, its delegator first; empty where in none.

    `topics`: proposal to topic, of the votes that are still to end. Votes that are yet to be proposed are looked at for each
    topic that a delegation names, and for one that none names; with standing delegations serving, and without. Only members
    whom the delegate can lead to are looked at: linear in delegations where nothing leads back.
    """
    moment = max(at, new.given_at)
    given = _Given(
        each for each in others if each.delegation_id != new.delegation_id and holds(each, at) and holds(each, moment)
    )
    given.add(new)
    reached = given.reached_from(new.delegate)
    if new.delegator not in reached:
        return ()
    votes = [(proposal_id, topic) for proposal_id, topic in topics.items()]
    votes += [("", topic) for topic in sorted(given.topics_of({*reached, new.delegator}) | {""})]
    if new.scope.kind == "proposal" and new.scope.of not in topics:
        votes.append((new.scope.of, ""))
    for proposal_id, topic in votes:
        if not is_for(new.scope, proposal_id, topic):
            continue
        for standing in (False, True):
            if given.chosen(new.delegator, proposal_id, topic, standing=standing) is not new:
                continue
            path: dict[str, None] = {new.delegator: None}
            here = new.delegate
            while here not in path and (next_one := given.chosen(here, proposal_id, topic, standing=standing)) is not None:
                path[here] = None
                here = next_one.delegate
            if here == new.delegator:
                return tuple(path)
    return ()


class _Given:
    """Delegations by who gave them and for what, the newest of each scope: what one member chose in a vote is a look-up."""

    def __init__(self, held: Iterable[Delegation]) -> None:
        self._by: dict[str, dict[tuple[bool, str, str], Delegation]] = {}
        for each in held:
            self.add(each)

    def add(self, each: Delegation) -> None:
        own = self._by.setdefault(each.delegator, {})
        key = each.standing, each.scope.kind, "" if each.scope.kind == "all" else each.scope.of
        other = own.get(key)
        if other is None or (each.given_at, each.delegation_id) > (other.given_at, other.delegation_id):
            own[key] = each

    def chosen(self, member: str, proposal_id: str, topic: str, *, standing: bool) -> Delegation | None:
        """As `delegations_of_vote` chooses."""
        own = self._by.get(member)
        if own is None:
            return None
        for stands in (False, True) if standing else (False,):
            for kind, of in (("proposal", proposal_id), ("topic", topic), ("all", "")):
                if (found := own.get((stands, kind, of))) is not None:
                    return found
        return None

    def reached_from(self, member: str) -> set[str]:
        """Whom chains of any scopes lead to."""
        reached, waiting = {member}, [member]
        while waiting:
            for each in self._by.get(waiting.pop(), {}).values():
                if each.delegate not in reached:
                    reached.add(each.delegate)
                    waiting.append(each.delegate)
        return reached

    def topics_of(self, members: Iterable[str]) -> set[str]:
        return {of for member in members for _, kind, of in self._by.get(member, {}) if kind == "topic"}
