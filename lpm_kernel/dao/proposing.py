"""What members write into the ledger, checked before it is for ever in it; and names for what is new.

Belongs here: the form of words and scopes, ids of proposals, and the little of the state that a delegation is checked against.
Does not belong here: the rules of a vote (`commands.py`).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from lpm_kernel.dao.fold import DaoState, ProposalState
from lpm_kernel.dao.records import ENDED, STATUSES, Scope
from lpm_kernel.dao.rules import Rules
from lpm_kernel.errors import UserInputError
from lpm_kernel.records import content_id, is_text
from lpm_kernel.stores.dao_ledger import is_proposal, list_proposals

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.dao.session import Session

MOST_TITLE, MOST_TEXT, MOST_TOPIC, MOST_WHY, MOST_REASONS = 200, 20_000, 80, 500, 4_000
"""Characters."""


def checked_words(title: str, text: str, topic: str) -> tuple[str, str, str]:
    """Title, text and topic without space around them; topics in one spelling. Raises: UserInputError `proposal_invalid`."""
    return (
        _checked("title", " ".join(title.split()), MOST_TITLE),
        _checked("text", text.strip(), MOST_TEXT),
        _checked("topic", " ".join(topic.split()).casefold(), MOST_TOPIC),
    )


def checked_why(why: str) -> str:
    return _checked("reason", " ".join(why.split()), MOST_WHY)


def checked_reasons(reasons: str | None) -> str | None:
    return _checked("reason", reasons.strip(), MOST_REASONS) if reasons and reasons.strip() else None


def checked_scope(scope: Scope) -> Scope:
    """A topic in the spelling of `checked_words`."""
    if scope.kind == "topic":
        return Scope("topic", _checked("topic", " ".join(scope.of.split()).casefold(), MOST_TOPIC))
    return Scope("all") if scope.kind == "all" else scope


def _checked(name: str, words: str, most: int) -> str:
    if not words or len(words) > most or not is_text(words):
        raise UserInputError(
            "proposal_invalid", f"a {name} has 1 to {most} characters, none of them NUL: this one has {len(words)}"
        )
    return words


def free_id(connection: Connection, proposer: str, title: str, text: str, topic: str, amends: str | None) -> str:
    """Of the content, and of how often the same was proposed before."""
    for again in itertools.count():
        proposal_id = "p-" + content_id("proposal", proposer, title, text, topic, amends or "", again)[:12]
        if not is_proposal(connection, proposal_id):
            return proposal_id
    raise AssertionError


def state_for_delegation(session: Session, scope: Scope) -> DaoState:
    """All delegations, and votes still to end, by row: of those in which the same delegations hold one is enough."""
    named = {each.scope.of for each in session.delegations.values() if each.scope.kind == "proposal"}
    rows = list_proposals(session.connection, [status for status in STATUSES if status not in ENDED])
    proposals: dict[str, ProposalState] = {}
    topics: set[str] = set()
    for row in rows:
        if row.proposal_id in named or row.topic not in topics:
            topics.add(row.topic)
            proposals[row.proposal_id] = ProposalState(
                *(row.proposal_id, "", "", row.proposer, row.topic, Rules(), None, session.moment()), status=row.status
            )
    if scope.kind == "proposal" and (found := session.find(scope.of)) is not None:
        proposals[scope.of] = found
    return DaoState(proposals, session.delegations)
