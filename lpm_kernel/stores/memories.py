"""Memories: what is worth remembering of a user in words, found by meaning.

Belongs here: the Protocol, what its classes share, and the form of a memory as Mem0 keeps it.
Does not belong here: what is worth a memory (`recall/write_gate.py`); the classes (`mem0_memories.py`, `mem0_cloud.py`).
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import Memory, MemoryKind, Source, content_id

if TYPE_CHECKING:
    import numpy as np
    from sqlalchemy import Connection

NEVER_S = 253402300800.0
"""Seconds since 1970 at the end of the year 9999: the end of what has none, so that one comparison serves all."""

Outcome = Literal["written", "duplicate", "junk", "recalled", "twin_words"]


@dataclass(frozen=True, slots=True)
class MemoryHit:
    """`score` is the store's own, 0 to 1: the cosine, where it has no other. `cosine` is None where the store does not say."""

    memory: Memory
    score: float
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one candidate: `memory` as it is written, `other_id` the memory it repeats, or the one it ends."""

    outcome: Outcome
    memory: Memory
    other_id: str | None = None


NEAR = 5
"""Neighbours that a candidate is compared with."""

Decide = Callable[[Memory, Sequence[MemoryHit], Sequence[Memory]], Decision]
"""From a candidate, the nearest memories of its kind that hold then, and every version of what its key names (oldest first)."""

Allowed = Callable[[Memory], bool]
"""Whether whoever asks may hear it."""


def write_all(memory: Memory, near: Sequence[MemoryHit], versions: Sequence[Memory]) -> Decision:
    """No gate: each candidate is written beside the others."""
    return Decision("written", memory)


Place = tuple[datetime, str]
"""Of a memory in the order of time: when it was said, and its id."""

FORGOTTEN = "(forgotten)"


class Memories(Protocol):
    """What a memory store guarantees: one user's memories at a time, each of them held from `created_at` until it is superseded
    or expired; a search sees those that hold at `as_of`, of the present embedding model."""

    def add_batch(self, user_id: str, memories: Sequence[Memory], decide: Decide = write_all) -> list[Decision]:
        """Decide on each candidate in order, seeing those before it, and write. All or nothing; one batch of a user at a time.

        Idempotent: a memory that is there already is a `duplicate` of itself. A duplicate prolongs what it repeats.
        Raises: UserInputError `memory_invalid`; StoreError.
        """
        ...

    def search(
        self,
        user_id: str,
        question: str,
        k: int,
        *,
        as_of: datetime,
        kinds: Collection[str] = (),
        domain: str | None = None,
        vector: np.ndarray | None = None,
    ) -> list[MemoryHit]:
        """Best first, of some kinds or of all. `vector` is that of the question, where the caller has it already."""
        ...

    def recall(
        self,
        user_id: str,
        question: str,
        vector: np.ndarray,
        k: int,
        *,
        as_of: datetime,
        kinds: Collection[str] = (),
        allowed: Allowed | None = None,
    ) -> list[MemoryHit]:
        """The best for a question by the best ranking that the store has: by words as well as by meaning, and with the turns
        around each in mind, where it can. What is not `allowed` is no candidate, and is not ranked."""
        ...

    def with_vectors(self, user_id: str, kinds: Collection[str], *, as_of: datetime) -> tuple[list[Memory], np.ndarray]:
        """Every memory of these kinds that holds at `as_of`. Shapes: vectors float32 (len(memories), dim)."""
        ...

    def current(self, user_id: str, *, as_of: datetime, kinds: Collection[str] = (), domain: str | None = None) -> list[Memory]:
        """Every memory that holds at `as_of`, oldest first."""
        ...

    def page(
        self, user_id: str, *, as_of: datetime, kinds: Collection[str] = (), before: Place | None = None, limit: int
    ) -> list[Memory]:
        """At most `limit` of those that hold at `as_of`, newest first, older than the memory at `before`."""
        ...

    def count(self, user_id: str, *, as_of: datetime) -> dict[str, int]:
        """How many hold at `as_of`, by kind."""
        ...

    def every(self, user_id: str) -> list[Memory]:
        """All there are, the superseded, the expired and those to come too, oldest first."""
        ...

    def correct(self, user_id: str, memory_id: str, text: str, *, by: str, at: datetime) -> Memory:
        """Let `text` hold in place of this memory from `at` on, written by hand by `by`; the old one stays in its history.

        Idempotent: a correction that was made already is returned.
        Raises: UserInputError `memory_unknown`, `memory_superseded`, `memory_derived`, `memory_invalid`; StoreError.
        """
        ...

    def forget(self, user_id: str, memory_id: str) -> int:
        """Remove every version of what this memory tells; how many.

        Of what a document says, and of a turn of a session, the place stays on record without a word, so that the next run, or
        the next summary of that session, does not say it again.
        Raises: UserInputError `memory_unknown`, `memory_derived`; StoreError.
        """
        ...

    def history(self, user_id: str, memory_id: str) -> list[Memory]:
        """Every version of what this memory tells, oldest first, superseded ones too; empty when there is no such memory."""
        ...

    def delete(self, user_id: str, memory_ids: Collection[str]) -> int:
        """Remove these rows for good; how many there were."""
        ...

    def purge_expired(self, user_id: str, today: date) -> int:
        """Remove for good what was to be recalled until a day before `today`; how many."""
        ...

    def delete_all(self, user_id: str) -> int:
        """Remove everything of a user for good; how many."""
        ...

    def reembed(self, user_id: str) -> int:
        """Give the present embedding model's vector to every memory that has another model's; how many. Until then no search
        finds those. Idempotent. Raises: LlmError, StoreError."""
        ...

    def close(self) -> None: ...


def make_memory(
    user_id: str,
    kind: MemoryKind,
    text: str,
    *,
    domain: str,
    source: Source,
    importance: float,
    created_at: datetime,
    session_id: str | None = None,
    turn: int | None = None,
    expiration_date: date | None = None,
    key: str | None = None,
    citation: str | None = None,
    message_ids: Sequence[str] = (),
) -> Memory:
    """A memory that is identified by what was said, where and when; saying it again later is another one."""
    created_at = created_at.astimezone(UTC)
    parts = (user_id, kind, text, domain, source, created_at.isoformat(), session_id or "", turn or 0, key or "")
    sign = content_id(*parts, *([citation] if citation else []))
    return Memory(
        memory_id=str(uuid.UUID(sign[:32])),
        user_id=user_id,
        kind=kind,
        text=text,
        domain=domain,
        source=source,
        importance=importance,
        created_at=created_at,
        session_id=session_id,
        turn=turn,
        expiration_date=expiration_date,
        key=key,
        citation=citation,
        message_ids=tuple(message_ids),
    )


def check_memory(user_id: str, memory: Memory) -> None:
    """Raises: UserInputError `memory_invalid`, without the text."""
    wrong = None
    if memory.user_id != user_id:
        wrong = "belongs to another user"
    elif not memory.text.strip() or "\x00" in memory.text:
        wrong = "has no text, or a NUL character in it"
    elif not 0 <= memory.importance <= 1:
        wrong = f"has the importance {memory.importance}, and 0 to 1 is allowed"
    elif memory.created_at.tzinfo is None:
        wrong = "was created at a time of no time zone"
    if wrong:
        raise UserInputError("memory_invalid", f"memory {memory.memory_id} {wrong}")


def check_memory_id(user_id: str, memory_id: str) -> str:
    """Raises: UserInputError `memory_unknown` for what is no memory's id at all."""
    try:
        return str(uuid.UUID(memory_id))
    except ValueError:
        raise unknown_memory(user_id) from None


def unknown_memory(user_id: str) -> UserInputError:
    return UserInputError("memory_unknown", f"user {user_id} has no such memory")


def corrected(old: Memory | None, text: str, by: str, at: datetime, user_id: str) -> tuple[Memory, Memory]:
    """The old memory as it ends, and the one that takes its place; both are versions of one thing from now on.

    Why without the citation: the document does not say so. Why no end in time: somebody took the trouble.
    Raises: UserInputError as `Memories.correct`.
    """
    if old is None or is_forgotten(old):
        raise unknown_memory(user_id)
    if old.superseded_at is not None:
        raise UserInputError("memory_superseded", f"memory {old.memory_id} holds no more: correct the one that took its place")
    _refuse_derived(old)
    key = old.key or f"memory {old.memory_id}"
    at = max(at.astimezone(UTC), old.created_at + timedelta(microseconds=1))  # whatever the clocks say, the newer one holds
    new = make_memory(
        user_id,
        old.kind,
        text.strip(),
        domain=old.domain,
        source=old.source,
        importance=old.importance,
        created_at=at,
        key=key,
    )
    new = replace(new, written_by=by)
    check_memory(user_id, new)
    return replace(old, key=key, superseded_by=new.memory_id, superseded_at=at), new


def stays_on_record(memory: Memory) -> bool:
    """Whether it would be said again, once forgotten, by who reads where it comes from."""
    return memory.citation is not None or (memory.kind == "turn" and memory.session_id is not None)


def forgotten(memory: Memory) -> Memory:
    """What stays of it: the place, and that it is not to be remembered. It holds at no time, and is kept for good."""
    blank = replace(memory, text=FORGOTTEN, superseded_by=None, superseded_at=memory.created_at)
    return replace(blank, key=None, expiration_date=None)


def is_forgotten(memory: Memory) -> bool:
    return memory.text == FORGOTTEN and memory.superseded_at == memory.created_at


def check_forgettable(versions: Sequence[Memory], user_id: str) -> None:
    """Raises: UserInputError as `Memories.forget`."""
    if all(is_forgotten(version) for version in versions):
        raise unknown_memory(user_id)
    for version in versions:
        _refuse_derived(version)


def _refuse_derived(memory: Memory) -> None:
    if memory.kind == "voice":
        raise UserInputError(
            "memory_derived", "how a person writes is measured from their documents at each run: change or delete those"
        )


def end_of(memory: Memory) -> float:
    """Seconds since 1970 from which a memory is no longer recalled."""
    ends = [NEVER_S]
    if memory.superseded_at:
        ends.append(memory.superseded_at.timestamp())
    if memory.expiration_date:
        ends.append(datetime.combine(memory.expiration_date + timedelta(days=1), time(), UTC).timestamp())
    return min(ends)


def outlives(one: Memory, other: Memory) -> bool:
    """Whether `one` is to be recalled longer than `other`."""
    last = other.expiration_date
    return last is not None and (one.expiration_date is None or one.expiration_date > last)


def to_payload(memory: Memory, fingerprint: str) -> dict[str, Any]:
    """The JSON that Mem0 keeps beside a vector: its own names first, then ours as its metadata. What is None is left out."""
    values = {
        "data": memory.text,
        "hash": hashlib.md5(memory.text.encode(), usedforsecurity=False).hexdigest(),
        "user_id": memory.user_id,
        "created_at": memory.created_at.isoformat(),
        "expiration_date": memory.expiration_date and memory.expiration_date.isoformat(),
        "kind": memory.kind,
        "domain": memory.domain,
        "source": memory.source,
        "importance": memory.importance,
        "session_id": memory.session_id,
        "turn": memory.turn,
        "key": memory.key,
        "citation": memory.citation,
        "written_by": memory.written_by,
        "message_ids": list(memory.message_ids) or None,
        "superseded_by": memory.superseded_by,
        "superseded_at": memory.superseded_at and memory.superseded_at.isoformat(),
        "fingerprint": fingerprint,
        # Mem0 compares numbers only
        "from_s": memory.created_at.timestamp(),
        "until_s": end_of(memory),
    }
    return {name: value for name, value in values.items() if value is not None}


def from_payload(memory_id: str, payload: dict[str, Any]) -> Memory:
    superseded_at, expires = payload.get("superseded_at"), payload.get("expiration_date")
    return Memory(
        memory_id=memory_id,
        user_id=payload["user_id"],
        kind=payload["kind"],
        text=payload["data"],
        domain=payload["domain"],
        source=payload["source"],
        importance=float(payload["importance"]),
        created_at=datetime.fromisoformat(payload["created_at"]),
        session_id=payload.get("session_id"),
        turn=payload.get("turn"),
        expiration_date=date.fromisoformat(expires) if expires else None,
        key=payload.get("key"),
        superseded_by=payload.get("superseded_by"),
        superseded_at=datetime.fromisoformat(superseded_at) if superseded_at else None,
        citation=payload.get("citation"),
        written_by=payload.get("written_by"),
        message_ids=tuple(payload.get("message_ids") or ()),
    )


def as_literal(vector: np.ndarray) -> str:
    """As pgvector reads it."""
    return "[" + ",".join(f"{value:.8g}" for value in vector.tolist()) + "]"


LOCK_TIMEOUT_S = 10
"""How long a writer waits for another one of the same user: a person may be waiting for this one."""


def lock_memories(connection: Connection, user_id: str) -> None:
    """Let one transaction at a time decide on a user's memories, in whatever process; held until it ends.

    Raises: StoreError `tables_locked`, by the transaction, when another one holds it for longer than LOCK_TIMEOUT_S.
    """
    from sqlalchemy import text

    connection.execute(text(f"select set_config('lock_timeout', '{LOCK_TIMEOUT_S}s', true)"))
    connection.execute(text("select pg_advisory_xact_lock(hashtext('memories:' || :user_id))"), {"user_id": user_id})


def prepare_mem0() -> None:
    """Import Mem0 so that it phones nobody and leaves no folder in the home directory: it reads both when it is imported."""
    import tempfile
    import warnings
    from pathlib import Path

    os.environ["MEM0_TELEMETRY"] = "False"
    os.environ.setdefault("MEM0_DIR", str(Path(tempfile.gettempdir()) / f"twin-mem0-{os.getuid()}"))
    with warnings.catch_warnings():  # it also changes which warnings are shown, for the whole program
        import mem0  # noqa: F401
