"""Rows of `dao_consent`: what a person lets their twin do in a vote.

Belongs here: queries on that table, and what holds where a person has said nothing.
Does not belong here: obeying it (`dao/twin_ballots.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

from lpm_kernel.errors import UserInputError
from lpm_kernel.stores.schema import WRITTEN_NOW, dao_consent
from lpm_kernel.stores.users import get_user

if TYPE_CHECKING:
    from sqlalchemy import Connection

Mode = Literal["never", "draft", "autonomous"]
MODES: tuple[Mode, ...] = get_args(Mode)
MAX_TOPICS, MAX_TOPIC_CHARACTERS = 100, 200


@dataclass(frozen=True, slots=True)
class Consent:
    """`never`: the twin does nothing; `draft`: it writes ballots for its person to cast; `autonomous`: it casts them itself
    where all the conditions hold, and drafts them where one does not.

    `topics`: None is every topic. `own_proposals`: whether it may vote on what its person proposed. `max_weight`: of its
    person in the vote, over which it only drafts; None is any. `changed_at`: None where the person has never said anything.
    """

    user_id: str
    mode: Mode = "draft"
    min_confidence: float = 0.8
    topics: tuple[str, ...] | None = None
    own_proposals: bool = False
    max_weight: int | None = None
    changed_at: datetime | None = None


def get_consent(connection: Connection, user_id: str) -> Consent:
    """To drafts alone, where the person has said nothing."""
    from sqlalchemy import select

    row = connection.execute(select(dao_consent).where(dao_consent.c.user_id == user_id)).first()
    if row is None:
        return Consent(user_id)
    topics = None if row.topics is None else tuple(row.topics)
    return Consent(user_id, row.mode, row.min_confidence, topics, row.own_proposals, row.max_weight, row.changed_at)


def lock_consent(connection: Connection, user_id: str) -> None:
    """Until the end of the transaction a person's consent stays as it is, and what their twin does by it is done or not."""
    from sqlalchemy import text

    lock = text("select pg_advisory_xact_lock(hashtext('twin.dao.consent'), hashtext(:user_id))")
    connection.execute(lock, {"user_id": user_id})


def set_consent(connection: Connection, consent: Consent, at: datetime) -> Consent:
    """Replaces what was said before. Raises: UserInputError `consent_invalid`, `twin_not_found`, `deletion_under_way`."""
    from sqlalchemy.dialects.postgresql import insert

    _check(consent)
    get_user(connection, consent.user_id)
    lock_consent(connection, consent.user_id)
    values = {
        "mode": consent.mode,
        "min_confidence": float(consent.min_confidence),
        "topics": None if consent.topics is None else list(consent.topics),
        "own_proposals": consent.own_proposals,
        "max_weight": consent.max_weight,
        "changed_at": at,
        **WRITTEN_NOW,
    }
    statement = insert(dao_consent).values(user_id=consent.user_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[dao_consent.c.user_id], set_=values))
    return get_consent(connection, consent.user_id)


def _check(consent: Consent) -> None:
    topics = consent.topics or ()
    wrong = (
        f"a mode is one of {', '.join(MODES)}" if consent.mode not in MODES
        else "min_confidence lies between 0 and 1" if not 0 <= consent.min_confidence <= 1
        else "max_weight is a whole number, 0 or more" if consent.max_weight is not None and consent.max_weight < 0
        else f"at most {MAX_TOPICS} topics of at most {MAX_TOPIC_CHARACTERS} characters" if len(topics) > MAX_TOPICS
        or any(not topic.strip() or len(topic) > MAX_TOPIC_CHARACTERS or "\0" in topic for topic in topics)
        else None
    )  # fmt: skip
    if wrong:
        raise UserInputError("consent_invalid", f"this is no consent: {wrong}")
