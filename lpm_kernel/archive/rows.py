"""Rows of a user as JSON and back, table by table, whatever tables there are.

Belongs here: which tables and columns an archive holds, and the form of a value.
Does not belong here: what a row means. A new table with a `user_id` is exported without being named here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import is_sha256, sha256_hex
from lpm_kernel.stores.memory_writes import archived_writes, list_memory_writes, restore_memory_writes
from lpm_kernel.stores.schema import app_user, chat_message, document, metadata

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection, Table

PLANS = frozenset({"dao_plan", "dao_plan_event", "dao_plan_line"})
"""Of the members whom they consulted as much as of who asked: they stay where they were made, and a plan that is under way acts
for its asker, which nobody may write for another."""
LEFT_OUT_TABLES = PLANS | frozenset(
    {
        *("memory", "memory_version", "memory_generation", "chunk_vector", "dead_letter", "deletion", "dao_twin_turn"),
        *("social_account", "change", "change_words", "fence"),
    }
)
"""Memories have a port of their own; the others are made anew, or are of one installation. Of changes only what memory has yet
to take in is a person's: it is exported as the table that it once was, so that older archives and newer ones are alike."""
MEMORY_WRITES = archived_writes()
LEFT_OUT_COLUMNS = {
    chat_message.name: frozenset({"position"}),  # the order of the lines says it
    document.name: frozenset({"pending", "change_id"}),
    app_user.name: frozenset({"created_at"}),
}


def exported_tables() -> list[Table]:
    """Those that others refer to come first."""
    own = [table for table in metadata.sorted_tables if "user_id" in table.c and table.name not in LEFT_OUT_TABLES]
    return [*own, MEMORY_WRITES]


def exported_columns(table: Table) -> list[Column[Any]]:
    left_out = LEFT_OUT_COLUMNS.get(table.name, frozenset()) | {"user_id", "transaction_id"}  # the latter of this installation
    return [column for column in table.c if column.computed is None and column.name not in left_out]


def read_rows(connection: Connection, table: Table, user_id: str) -> bytes:
    """JSONL, in an order that equal rows have always: messages as they were said, else by key."""
    from sqlalchemy import select

    if table is MEMORY_WRITES:
        columns = [column.name for column in exported_columns(table)]
        waiting = list_memory_writes(connection, user_id)
        return b"".join(to_line({name: _as_json(getattr(write, name)) for name in columns}) for write in waiting)
    order = [table.c.position] if table.name == chat_message.name else list(table.primary_key.columns)
    own = [table.c.user_id == user_id]
    if table.name == chat_message.name:
        own.append(table.c.asker.is_(None))  # what others said to the twin is theirs
    rows = connection.execute(select(*exported_columns(table)).where(*own).order_by(*order))
    return b"".join(to_line({name: _as_json(value) for name, value in row._mapping.items()}) for row in rows)


def write_rows(connection: Connection, table: Table, user_id: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert them as this user's; the row of the user's own is changed."""
    from sqlalchemy import insert, update

    values = [_as_values(table, row) for row in rows]
    if table.name == app_user.name:
        for given in values:
            connection.execute(update(table).where(table.c.user_id == user_id).values(given))
    elif table is MEMORY_WRITES:
        columns = {column.name for column in exported_columns(table)}
        if any(row.keys() != columns for row in values):
            raise UserInputError("archive_damaged", f"a row of {table.name} lacks a column")
        restore_memory_writes(connection, user_id, values)
    elif table.name == document.name:
        marks = {"pending": False, "change_id": ""}
        connection.execute(insert(table), [{"user_id": user_id, **marks, **given} for given in values]) if values else None
    elif values:
        connection.execute(insert(table), [{"user_id": user_id, **given} for given in values])


def to_line(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def checked_rows(table: Table, rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Each row, when it was looked at.

    Raises: UserInputError `archive_foreign` for a column that this version does not know, `archive_damaged` for a value.
    """
    known = {column.name for column in exported_columns(table)}
    for row in rows:
        if not isinstance(row, dict):
            raise UserInputError("archive_damaged", f"a line of {table.name} is no row")
        if row.keys() - known:
            raise UserInputError(
                "archive_foreign", f"rows of {table.name} have columns that this version does not know: upgrade it first"
            )
        try:
            to_line(row)
        except (ValueError, RecursionError):  # half of a character, which no text may hold
            raise UserInputError("archive_damaged", f"a row of {table.name} holds what is no text") from None
        if table.name == "dao_ballot_words" and sha256_hex(str(row.get("words")).encode()) != row.get("reasons_sha256"):
            raise UserInputError("archive_damaged", "words in it are not those whose hash they bear")
        if not _hashes_are_hashes(row) or not all(_hashes_are_hashes(value) for value in row.values()):
            raise UserInputError("archive_damaged", f"a row of {table.name} names something by what is no sha256")
        _as_values(table, row)
        yield row


def _hashes_are_hashes(record: Any) -> bool:
    """Of a row, and of a manifest in one."""
    if not isinstance(record, dict):
        return True
    named = [value for name, value in record.items() if name == "sha256" or name.endswith("_sha256")]
    return all(value is None or is_sha256(value) for value in named)


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _as_values(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    from sqlalchemy import DateTime

    values = dict(row)
    for name, value in row.items():
        if isinstance(table.c[name].type, DateTime) and value is not None:
            try:
                values[name] = datetime.fromisoformat(value)
            except (TypeError, ValueError):
                raise UserInputError("archive_damaged", f"a row of {table.name} has no time in {name}") from None
    return values
