"""Rows of the DAO's ledger, `dao_event`, which only grows, and of what is kept beside it to be found quickly.

Belongs here: queries on `dao_event`, `dao_resolution` and `dao_proposal`, and hearing of new events.
Does not belong here: what may happen (`dao/`), the words of reasons (`dao_words.py`), members (`dao_members.py`), how far
others have read (`dao_projections.py`).

One lock for all that is appended: each event holds the hash of the one before it. The database refuses a fork too, should
somebody append without the lock, and a change of what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.dao.events import Event, Happening, ProposalResolved, decode, encode, hash_of, kind_of, proposal_of
from lpm_kernel.dao.records import Resolution, Status, Tally
from lpm_kernel.stores.schema import dao_event, dao_proposal, dao_resolution

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row, Select

    from lpm_kernel.stores.tables import Tables

CHANNEL = "dao"
"""Of PostgreSQL's notices; each tells the number of the newest event."""
NO_HASH = ""
"""What the first event follows."""
OF_MEMBERS = ("delegated", "delegation_revoked", "attributes_set")
"""Kinds that bear on every vote."""
RECONNECT_S = 1.0
WAIT_S, IDLE_S = 20, 30
"""For how long somebody waits for the lock, and after how long without a question whoever holds it is cut off: a process that
was stopped while it held it would keep everybody from voting."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be appended. `key` is the actor's own, and `request` what was asked for under it."""

    at: datetime
    actor: str
    happening: Happening
    key: str | None = None
    request_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """`next_due_at`: not before then does time ask for anything. `last_seq`: of the last event about it."""

    proposal_id: str
    proposer: str
    topic: str
    status: Status
    ends_at: datetime | None
    next_due_at: datetime | None
    last_seq: int
    drafted_at: datetime


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A row as it lies there, for who doubts it."""

    seq: int
    at: datetime
    actor: str
    kind: str
    proposal_id: str | None
    payload: dict[str, Any]
    previous_hash: str
    hash: str


def lock_ledger(connection: Connection) -> None:
    """Until the end of the transaction nobody else appends. Raises: StoreError `tables_locked` after `WAIT_S`."""
    from sqlalchemy import text

    limits = "set_config('lock_timeout', :wait, true), set_config('idle_in_transaction_session_timeout', :idle, true)"
    lock = text(f"select {limits}, pg_advisory_xact_lock(hashtext('twin.dao'))")
    connection.execute(lock, {"wait": f"{WAIT_S}s", "idle": f"{IDLE_S}s"})


def append(connection: Connection, entries: Sequence[Entry]) -> list[Event]:
    """Chained to what is there, and written. Raises: as `append_many`."""
    events = chain(entries, *tail(connection))
    append_many(connection, events, entries)
    return events


def tail(connection: Connection) -> tuple[int, str]:
    """Number and hash of the newest event."""
    last = connection.execute(_newest().limit(1)).first()
    return (last.seq, last.hash) if last else (0, NO_HASH)


def chain(entries: Sequence[Entry], seq: int, previous: str) -> list[Event]:
    """The events that these entries become after the one of this number and hash. Pure."""
    events: list[Event] = []
    for entry in entries:
        seq, at = seq + 1, entry.at.astimezone(UTC)
        digest = hash_of(seq, at, entry.actor, entry.happening, previous)
        events.append(Event(seq, at, entry.actor, entry.happening, previous, digest))
        previous = digest
    return events


def append_many(connection: Connection, events: Sequence[Event], entries: Sequence[Entry]) -> None:
    """Under `lock_ledger`, all in one go; `entries`: those that the events were chained of. Whoever listens hears of the last
    when the transaction is over.

    Raises: StoreError `tables_refused` for a second resolution, for a key that is taken, and for an actor who is not the one
    that the transaction is of.
    """
    from sqlalchemy import insert, text

    if not events:
        return
    rows = [
        {
            "seq": event.seq,
            "at": event.at,
            "actor": event.actor,
            "kind": kind_of(event.happening),
            "proposal_id": proposal_of(event.happening),
            "payload": encode(event.happening),
            "previous_hash": event.previous_hash,
            "hash": event.hash,
            "idempotency_key": entry.key,
            "request_sha256": entry.request_sha256,
        }
        for event, entry in zip(events, entries, strict=True)
    ]
    connection.execute(insert(dao_event), rows)
    for event in events:
        if isinstance(event.happening, ProposalResolved):
            connection.execute(insert(dao_resolution).values(resolution_row(event.happening.resolution, event.seq)))
    connection.execute(text("select pg_notify(:channel, :seq)"), {"channel": CHANNEL, "seq": str(events[-1].seq)})


def resolution_row(resolution: Resolution, seq: int) -> dict[str, Any]:
    named = ("proposal_id", "rules_version", "outcome", "reason", "closed_by", "resolved_at")
    return {name: getattr(resolution, name) for name in named} | {"seq": seq, "tally": asdict(resolution.tally)}


def find_by_key(connection: Connection, actor: str, key: str) -> tuple[Event, str] | None:
    """The event under a key of this actor, and what was asked for."""
    from sqlalchemy import select

    query = select(dao_event).where(dao_event.c.actor == actor, dao_event.c.idempotency_key == key)
    row = connection.execute(query).first()
    return (_event(row), row.request_sha256) if row else None


def events_of(connection: Connection, proposal_ids: Sequence[str], after: int = 0) -> Iterator[Event]:
    """What happened to them, in the ledger's order; what was delegated for one of them is in `events_of_members`."""
    from sqlalchemy import select

    about = (dao_event.c.proposal_id.in_(proposal_ids), dao_event.c.kind != "delegated")
    query = select(dao_event).where(*about, dao_event.c.seq > after)
    return map(_event, connection.execute(query.order_by(dao_event.c.seq)))


def events_of_members(connection: Connection, after: int = 0) -> list[Event]:
    """Delegations and attributes."""
    from sqlalchemy import select, text

    # the same words as in the index: bound values would not match it
    of_members = text("kind in ('delegated', 'delegation_revoked', 'attributes_set')")
    query = select(dao_event).where(of_members, dao_event.c.seq > after).order_by(dao_event.c.seq)
    return [_event(row) for row in connection.execute(query)]


def events_by(connection: Connection, actor: str) -> list[Event]:
    """What this member did."""
    from sqlalchemy import select

    query = select(dao_event).where(dao_event.c.actor == actor).order_by(dao_event.c.seq)
    return [_event(row) for row in connection.execute(query)]


def tasks_assigned(connection: Connection) -> list[Event]:
    from sqlalchemy import select, text

    query = select(dao_event).where(text("kind = 'task_assigned'")).order_by(dao_event.c.seq)
    return [_event(row) for row in connection.execute(query)]


def events_after(connection: Connection, seq: int, limit: int) -> list[Event]:
    from sqlalchemy import select

    query = select(dao_event).where(dao_event.c.seq > seq).order_by(dao_event.c.seq).limit(limit)
    return [_event(row) for row in connection.execute(query)]


def stored_after(connection: Connection, seq: int, limit: int) -> list[StoredEvent]:
    from sqlalchemy import select

    kept = ("seq", "at", "actor", "kind", "proposal_id", "payload", "previous_hash", "hash")
    query = select(*(dao_event.c[name] for name in kept)).where(dao_event.c.seq > seq).order_by(dao_event.c.seq).limit(limit)
    return [StoredEvent(**row._mapping) for row in connection.execute(query)]


def last_seq(connection: Connection) -> int:
    row = connection.execute(_newest().limit(1)).first()
    return row.seq if row else 0


def _newest() -> Select[Any]:
    from sqlalchemy import select

    return select(dao_event.c.seq, dao_event.c.hash).order_by(dao_event.c.seq.desc())


def _event(row: Row[Any]) -> Event:
    at = row.at.astimezone(UTC)
    return Event(row.seq, at, row.actor, decode(row.kind, row.payload), row.previous_hash, row.hash)


def put_proposal(connection: Connection, row: ProposalRow) -> None:
    from sqlalchemy.dialects.postgresql import insert

    statement = insert(dao_proposal).values(asdict(row))
    changed = {name: statement.excluded[name] for name in ("status", "ends_at", "next_due_at", "last_seq")}
    connection.execute(statement.on_conflict_do_update(index_elements=[dao_proposal.c.proposal_id], set_=changed))


def is_proposal(connection: Connection, proposal_id: str) -> bool:
    from sqlalchemy import select

    return connection.execute(select(1).where(dao_proposal.c.proposal_id == proposal_id)).first() is not None


def list_proposals(
    connection: Connection, statuses: Sequence[Status] | None = None, ids: Collection[str] | None = None
) -> list[ProposalRow]:
    """By id: all, those that stand so, or these."""
    from sqlalchemy import select

    query = select(dao_proposal)
    if statuses is not None:
        query = query.where(dao_proposal.c.status.in_(statuses))
    if ids is not None:
        query = query.where(_among(dao_proposal.c.proposal_id, ids))
    return [_proposal(row) for row in connection.execute(query.order_by(dao_proposal.c.proposal_id))]


def newest_proposals(
    connection: Connection, limit: int, status: Status | None = None, before: tuple[datetime, str] | None = None
) -> list[ProposalRow]:
    """Those first that were drafted last. `before`: when the last one of the page before was drafted, and its id."""
    from sqlalchemy import select, tuple_

    age = dao_proposal.c.drafted_at, dao_proposal.c.proposal_id
    query = select(dao_proposal).order_by(*(each.desc() for each in age)).limit(limit)
    if status is not None:
        query = query.where(dao_proposal.c.status == status)
    if before is not None:
        query = query.where(tuple_(*age) < before)
    return [_proposal(row) for row in connection.execute(query)]


def votes_under_way(connection: Connection, at: datetime, after: int, besides: Collection[str] = ()) -> list[ProposalRow]:
    """Those in which somebody may vote still, and of these those of which the ledger says something after that number, or that
    are named `besides`; the one that ends first is first."""
    from sqlalchemy import select, text

    # the same words as in the index: a bound value would not match it
    query = select(dao_proposal).where(text("status = 'voting'"), dao_proposal.c.ends_at >= at)
    found = query.where(dao_proposal.c.last_seq > after)
    rows = {row.proposal_id: row for row in connection.execute(found)}
    if besides:
        named = query.where(_among(dao_proposal.c.proposal_id, besides))
        rows |= {row.proposal_id: row for row in connection.execute(named)}
    return [_proposal(row) for row in sorted(rows.values(), key=lambda row: (row.ends_at, row.proposal_id))]


def count_proposals(connection: Connection) -> dict[str, int]:
    """How many there are, by how they stand."""
    from sqlalchemy import func, select

    query = select(dao_proposal.c.status, func.count().label("proposals")).group_by(dao_proposal.c.status)
    return {row.status: row.proposals for row in connection.execute(query)}


def due_proposals(connection: Connection, at: datetime) -> list[str]:
    """Those first that have waited for longest."""
    from sqlalchemy import select

    query = select(dao_proposal.c.proposal_id).where(dao_proposal.c.next_due_at <= at)
    return list(connection.execute(query.order_by(dao_proposal.c.next_due_at, dao_proposal.c.proposal_id)).scalars())


def first_due(connection: Connection) -> datetime | None:
    """When the next thing is due."""
    from sqlalchemy import func, select

    moment = connection.execute(select(func.min(dao_proposal.c.next_due_at))).scalar_one()
    return moment.astimezone(UTC) if moment else None


def make_due(connection: Connection, at: datetime, *, topic: str | None = None, proposal_id: str | None = None) -> None:
    """Votes under way that a delegation bears on are looked at again: it may have decided them."""
    from sqlalchemy import func, update

    bears = [dao_proposal.c.status == "voting"]
    bears += [dao_proposal.c.topic == topic] if topic is not None else []
    bears += [dao_proposal.c.proposal_id == proposal_id] if proposal_id is not None else []
    sooner = func.least(dao_proposal.c.next_due_at, at)
    connection.execute(update(dao_proposal).where(*bears).values(next_due_at=sooner))


def newest_resolutions(connection: Connection, limit: int) -> list[Resolution]:
    from sqlalchemy import select

    query = select(dao_resolution).order_by(dao_resolution.c.seq.desc()).limit(limit)
    return [resolution for _, resolution in map(_resolution, connection.execute(query))]


def every_resolution(connection: Connection) -> list[tuple[int, Resolution]]:
    """With the number of the event that it is of."""
    from sqlalchemy import select

    return [_resolution(row) for row in connection.execute(select(dao_resolution).order_by(dao_resolution.c.seq))]


def resolutions_beside(connection: Connection, known: Mapping[str, datetime]) -> tuple[set[str], list[Resolution]]:
    """Of those known, by proposal and when they were resolved, the proposals that still stand so; and every other resolution,
    in the ledger's order."""
    from sqlalchemy import select

    table = dao_resolution.c
    there = connection.execute(select(table.seq, table.proposal_id, table.resolved_at)).all()
    same = {row.proposal_id for row in there if known.get(row.proposal_id) == row.resolved_at}
    others = [row.seq for row in there if row.proposal_id not in same]
    query = select(dao_resolution).where(_among(table.seq, others)).order_by(table.seq)
    return same, [_resolution(row)[1] for row in connection.execute(query)] if others else []


def _among(column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """One parameter, however many they are: a statement may have 65,535."""
    from sqlalchemy import any_, literal
    from sqlalchemy.dialects.postgresql import ARRAY

    return column == any_(literal(list(values), ARRAY(column.type)))


def _resolution(row: Row[Any]) -> tuple[int, Resolution]:
    values = {name: getattr(row, name) for name in ("proposal_id", "outcome", "reason", "closed_by", "rules_version")}
    return row.seq, Resolution(**values, tally=Tally(**row.tally), resolved_at=row.resolved_at.astimezone(UTC))


def _proposal(row: Row[Any]) -> ProposalRow:
    values = dict(row._mapping)
    for name in ("ends_at", "next_due_at", "drafted_at"):
        values[name] = values[name].astimezone(UTC) if values[name] else None
    return ProposalRow(**values)


def listen(tables: Tables, stopped: Callable[[], bool], *, look_every_s: float = 1.0) -> Iterator[int]:
    """The number of the newest event: at once, and whenever there is a newer one, until `stopped`, which is asked each
    `look_every_s`. A connection that is lost is made again, and what happened meanwhile is told then.

    Why no connection of the pool: one that listens is never given back.
    """
    import time

    import psycopg

    address = tables.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    told = -1
    while not stopped():
        try:
            with psycopg.connect(address, autocommit=True, connect_timeout=5) as connection:
                connection.execute(f"listen {CHANNEL}")
                with tables.operator_transaction() as own:
                    newest = last_seq(own)  # what was appended before anybody listened
                while not stopped():
                    if newest > told:
                        told = newest
                        yield told
                    heard = list(connection.notifies(timeout=look_every_s, stop_after=1))
                    newest = max([newest, *(int(notice.payload) for notice in heard)])
        except psycopg.OperationalError:
            time.sleep(RECONNECT_S)
