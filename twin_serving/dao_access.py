"""Who acts in the DAO and who may read it, out of the token and of what a request names.

Belongs here: those decisions, moments and keys as requests give them, and what of a ballot a reader may hear of.
Does not belong here: the rules of a vote, which the kernel knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header

from lpm_kernel.dao.heard import heard, shared_by
from lpm_kernel.dao.records import Ballot
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import AccessError, UserInputError, VoteError
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.dao_members import is_member
from lpm_kernel.stores.dao_words import Words
from lpm_kernel.stores.open import Stores
from twin_serving.auth import Principal, PrincipalDep, check_may_act_for
from twin_serving.dao_schemas import MAX_KEY_CHARACTERS
from twin_serving.deps import ServicesDep


def actor_of(principal: Principal, named: str | None) -> str:
    """Whom the token names. A request may name somebody else where the token may act for them, and must where there is no
    token.

    Raises: AccessError `not_yours`; UserInputError `actor_missing`, `user_id_invalid`.
    """
    if named is None:
        if principal.user_id is None:
            raise UserInputError("actor_missing", "without tokens a request has to say who acts: name the member in it")
        return principal.user_id
    check_user_id(named)
    check_may_act_for(principal, named)
    return named


def check_operator(principal: Principal, for_what: str) -> None:
    """Raises: AccessError `operator_only`."""
    if not principal.operator:
        raise AccessError("operator_only", f"{for_what} takes a token that may act for everyone")


def member_of(principal: PrincipalDep, services: ServicesDep) -> Principal:
    """Who reads the DAO: a member, or who may act for everyone. Raises: VoteError `not_a_member`."""
    if principal.user_id is not None and not principal.operator:
        with services.stores.tables.operator_transaction() as connection:
            if not is_member(connection, principal.user_id):
                raise VoteError("not_a_member", f"{principal.user_id!r} has no twin here, and so is no member")
    return principal


def dao_of(services: ServicesDep) -> Dao:
    return services.dao_side.dao


def key_of(header: str | None, in_body: str | None) -> str | None:
    """Raises: UserInputError `key_invalid` where a request names two."""
    if header and in_body and header != in_body:
        raise UserInputError("key_invalid", "the header Idempotency-Key and `key` in the body differ: send one of them")
    return header or in_body


def moment_of(moment: datetime | None, name: str) -> datetime | None:
    """In UTC. Raises: UserInputError `time_invalid` for one that no calendar here holds."""
    try:
        return moment.astimezone(UTC) if moment else None
    except (OverflowError, ValueError):
        raise UserInputError("time_invalid", f"`{name}` lies outside of the years that there are") from None


def ends_moment(ends_at: datetime | None, at: datetime) -> datetime | None:
    """Raises: UserInputError `time_in_past`, `time_invalid`."""
    moment = moment_of(ends_at, "ends_at")
    if moment is not None and moment <= at:
        raise UserInputError("time_in_past", "`ends_at` is over already: name a time to come")
    return moment


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reader hears of a ballot: of its reasons, and of what they rest on."""

    reasons: str | None
    citations: list[str]


def shown_of(stores: Stores, principal: Principal, ballots: Iterable[tuple[Ballot, Words | None]]) -> dict[str, Shown]:
    """By ballot. The voter hears all there is, anybody else what stands in documents that are shared: of a twin, whose reasons
    are quotations of what it cites, only while all of that may be heard."""
    shown: dict[str, Shown] = {}
    shared: dict[str, frozenset[str]] = {}
    for ballot, words in ballots:
        if principal.may_act_for(ballot.voter):
            shown[ballot.ballot_id] = Shown(words.text if words else None, list(ballot.citations))
            continue
        rests_on = ballot.citations or (words is not None and words.document_sha256s)
        if rests_on and ballot.voter not in shared:
            shared[ballot.voter] = shared_by(stores.tables, ballot.voter)
        may_hear = shared.get(ballot.voter, frozenset())
        told = [each for each in ballot.citations if each.partition(":")[0] in may_hear]
        whole = len(told) == len(ballot.citations) or ballot.cast_by == "human"
        shown[ballot.ballot_id] = Shown(heard(words, may_hear) if whole else None, told)
    return shown


MemberDep = Annotated[Principal, Depends(member_of)]
DaoDep = Annotated[Dao, Depends(dao_of)]
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        description="the same key with the same content is done once",
    ),
]
