"""Rows of `change`, the outbox: what was decided in PostgreSQL and has yet to reach another store.

Belongs here: queries on that table; a row holds ids and hashes and never text. Words that a change is about lie in
`change_words` until it is done.
Does not belong here: how a change is brought about (`sync/appliers.py`), and when it is tried again (`sync/worker.py`).

A row is put in the transaction that decides, so neither is there without the other. Its id comes from what it says: to put it
again is to want it once more, from now on. Of one user and one target the oldest that is undone goes first, and none before it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from lpm_kernel.records import content_id
from lpm_kernel.stores.change_schema import change, change_words

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row

Target = Literal["vectors", "memories", "graph", "blobs"]
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True, slots=True)
class Change:
    """`seq`: of this user, in the order of the transactions. `transaction_id`: of the write that it belongs to, which is the id
    of its request or run. `reference`: ids and hashes. `code` and `reason`: of the last try that failed, without any text.
    `done_at` and `given_up_at` are None while it waits.
    """

    user_id: str
    change_id: str
    seq: int
    transaction_id: str
    target: Target
    kind: str
    reference: Mapping[str, Any]
    attempts: int
    due_at: datetime
    code: str | None
    reason: str | None
    created_at: datetime
    done_at: datetime | None
    given_up_at: datetime | None

    @property
    def step(self) -> str:
        """What is to be done, and to whom: the name under which letters and logs know it."""
        return f"{self.target}/{self.kind}"


@dataclass(frozen=True, slots=True)
class Lag:
    """Of one target: how many changes wait, since when the oldest does, and how many were given up."""

    target: Target
    undone: int
    oldest_at: datetime | None
    given_up: int

    def age_s(self, now: datetime) -> float:
        """Seconds for which the oldest has waited; 0 where none does."""
        return max(0.0, (now - self.oldest_at).total_seconds()) if self.oldest_at else 0.0


def id_of_change(user_id: str, target: str, kind: str, reference: Mapping[str, Any]) -> str:
    said = json.dumps(dict(reference), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return content_id(user_id, target, kind, said)[:32]


def transaction_id(connection: Connection) -> str:
    """The id of this transaction: that of its request or run, else one of its own. All that it writes says it."""
    from sqlalchemy import text

    return str(connection.execute(text("select current_setting('app.request_id')")).scalar_one())


def database_time(connection: Connection) -> datetime:
    """Of PostgreSQL, now: the one clock that all who put changes and work them off have in common."""
    from sqlalchemy import func, select

    return connection.execute(select(func.clock_timestamp())).scalar_one().astimezone(UTC)


def put_change(
    connection: Connection,
    user_id: str,
    target: Target,
    kind: str,
    reference: Mapping[str, Any],
    *,
    at: datetime,
    held_s: float = 0.0,
    words: str | None = None,
) -> Change:
    """Belongs into the transaction that decides. `at`: when it was wanted. `held_s`: how long it is left to whoever puts it,
    who makes the first try; that and when it is due go by the clock of PostgreSQL, as its claims do.

    One that says the same is wanted anew, whether it waits, was done or was given up: it may be half applied to what was there
    before. Raises: StoreError where there is no such user.
    """
    from sqlalchemy import func, select, text
    from sqlalchemy.dialects.postgresql import insert

    # in the order in which transactions end; readers must not see the second and miss the first
    connection.execute(text("select pg_advisory_xact_lock(hashtext('changes:' || :user_id))"), {"user_id": user_id})
    last = select(func.coalesce(func.max(change.c.seq), 0)).where(change.c.user_id == user_id)
    change_id = id_of_change(user_id, target, kind, reference)
    now = func.clock_timestamp(type_=change.c.due_at.type)
    values: dict[str, Any] = {
        "seq": connection.execute(last).scalar_one() + 1,
        "transaction_id": transaction_id(connection),
        "target": target,
        "kind": kind,
        "reference": dict(reference),
        "attempts": 1 if held_s else 0,
        "due_at": now + timedelta(seconds=held_s) if held_s else func.least(at, now),
        "created_at": at,
        "code": None,
        "reason": None,
        "done_at": None,
        "given_up_at": None,
    }
    statement = insert(change).values(user_id=user_id, change_id=change_id, **values)
    row = connection.execute(
        statement.on_conflict_do_update(index_elements=[change.c.user_id, change.c.change_id], set_=values).returning(change)
    ).one()
    if words is not None:
        own = insert(change_words).values(user_id=user_id, change_id=change_id, words=words)
        connection.execute(
            own.on_conflict_do_update(index_elements=[change_words.c.user_id, change_words.c.change_id], set_={"words": words})
        )
    return _record(row)


def words_of(connection: Connection, of: Change) -> str | None:
    from sqlalchemy import select

    own = (change_words.c.user_id == of.user_id, change_words.c.change_id == of.change_id)
    return connection.execute(select(change_words.c.words).where(*own)).scalar_one_or_none()


def users_with_due_changes(
    connection: Connection,
    now: datetime,
    limit: int,
    targets: Collection[Target] = TARGETS,
    *,
    but: Collection[str] = (),
) -> list[str]:
    """As the operator: who has a change that may be tried now, those first that have waited for longest. `but`: not these."""
    from sqlalchemy import func, select

    waiting = [change.c.done_at.is_(None), change.c.given_up_at.is_(None), change.c.target.in_(targets)]
    if but:
        waiting.append(change.c.user_id.not_in(sorted(but)))
    heads = (
        select(change.c.user_id, change.c.due_at)
        .where(*waiting)
        .distinct(change.c.user_id, change.c.target)
        .order_by(change.c.user_id, change.c.target, change.c.seq)
        .subquery()
    )
    due = select(heads.c.user_id).where(heads.c.due_at <= now)
    return list(connection.execute(due.group_by(heads.c.user_id).order_by(func.min(heads.c.due_at)).limit(limit)).scalars())


def claim_change(connection: Connection, user_id: str, target: Target, now: datetime, lease_s: float) -> Change | None:
    """The oldest of this target, counted as tried and nobody else's for `lease_s`; None when it is not due, or there is none.

    Why a lease and not a lock that is held: a try that takes the process along must count as one.
    """
    from sqlalchemy import select, update

    own = (change.c.user_id == user_id, change.c.target == target, change.c.done_at.is_(None), change.c.given_up_at.is_(None))
    head = connection.execute(
        select(change.c.change_id, change.c.seq, change.c.due_at).where(*own).order_by(change.c.seq).limit(1).with_for_update()
    ).first()
    if head is None or head.due_at > now:
        return None
    row = connection.execute(
        update(change)
        .where(change.c.user_id == user_id, change.c.change_id == head.change_id)
        .values(attempts=change.c.attempts + 1, due_at=now + timedelta(seconds=lease_s))
        .returning(change)
    ).one()
    return _record(row)


def finish_change(connection: Connection, of: Change, at: datetime, code: str | None = None) -> bool:
    """It has reached its target, or never will because of what was asked: `code`. False where it was wanted anew meanwhile, and
    then it is to be done once more."""
    from sqlalchemy import delete, update

    done = connection.execute(update(change).where(*_this(of)).values(done_at=at, given_up_at=None, code=code, reason=None))
    if done.rowcount == 0:
        return False
    own = (change_words.c.user_id == of.user_id, change_words.c.change_id == of.change_id)
    connection.execute(delete(change_words).where(*own))
    return True


def put_off_change(connection: Connection, of: Change, due_at: datetime, code: str, reason: str) -> None:
    from sqlalchemy import update

    connection.execute(update(change).where(*_this(of)).values(due_at=due_at, code=code, reason=reason))


def give_up_change(connection: Connection, of: Change, at: datetime, code: str, reason: str) -> None:
    """The row stays and says why; those behind it go on."""
    from sqlalchemy import update

    connection.execute(update(change).where(*_this(of)).values(given_up_at=at, code=code, reason=reason))


def replay_change(connection: Connection, user_id: str, change_id: str, at: datetime) -> bool:
    """Let one that was given up be tried again, as if for the first time; False where there is none."""
    from sqlalchemy import update

    own = (change.c.user_id == user_id, change.c.change_id == change_id, change.c.given_up_at.is_not(None))
    return connection.execute(update(change).where(*own).values(given_up_at=None, attempts=0, due_at=at)).rowcount == 1


def list_undone(connection: Connection, user_id: str) -> list[Change]:
    """What has not reached its target, the given up too, in order."""
    from sqlalchemy import select

    own = select(change).where(change.c.user_id == user_id, change.c.done_at.is_(None))
    return [_record(row) for row in connection.execute(own.order_by(change.c.seq))]


def list_of_transaction(connection: Connection, user_id: str, transaction: str) -> list[Change]:
    """Everything that one write has to reach, done or not, in order."""
    from sqlalchemy import select

    own = select(change).where(change.c.user_id == user_id, change.c.transaction_id == transaction)
    return [_record(row) for row in connection.execute(own.order_by(change.c.seq))]


def drop_undone_changes(connection: Connection, user_id: str, *, but: str) -> int:
    """Of who goes nothing else is to be done than what is of kind `but`; how many there were."""
    from sqlalchemy import delete

    others = (change.c.user_id == user_id, change.c.kind != but, change.c.done_at.is_(None))
    return connection.execute(delete(change).where(*others)).rowcount


def drop_done_changes(connection: Connection, user_id: str, before: datetime) -> int:
    """Forget what was done before then; how many. The newest row stays: numbers go on from it."""
    from sqlalchemy import delete, func, select

    last = select(func.max(change.c.seq)).where(change.c.user_id == user_id).scalar_subquery()
    old = (change.c.user_id == user_id, change.c.done_at < before, change.c.seq < last)
    return connection.execute(delete(change).where(*old)).rowcount


def lag(connection: Connection) -> list[Lag]:
    """One for each target: of everybody as the operator, else of the user of the transaction."""
    from sqlalchemy import func, select

    waits = change.c.given_up_at.is_(None)
    query = select(
        change.c.target,
        func.count().filter(waits).label("undone"),
        func.min(change.c.created_at).filter(waits).label("oldest_at"),
        func.count().filter(~waits).label("given_up"),
    ).where(change.c.done_at.is_(None))
    found: dict[Target, Any] = {row.target: row for row in connection.execute(query.group_by(change.c.target))}
    rows: list[tuple[Target, Any]] = [(target, found.get(target)) for target in TARGETS]
    return [Lag(target, row.undone, row.oldest_at, row.given_up) if row else Lag(target, 0, None, 0) for target, row in rows]


def _this(of: Change) -> tuple[ColumnElement[bool], ...]:
    """As it was claimed: one that was wanted anew since is another."""
    return change.c.user_id == of.user_id, change.c.change_id == of.change_id, change.c.seq == of.seq


def _record(row: Row[Any]) -> Change:
    values = dict(row._mapping)
    for name in ("due_at", "created_at", "done_at", "given_up_at"):
        values[name] = values[name].astimezone(UTC) if values[name] else None
    return Change(**values)
