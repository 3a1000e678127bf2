"""The tables of changes on their way, and of who may change all there is of a user, as SQLAlchemy sees them; the rest are in
`schema.py`, whose metadata they join.

Belongs here: their columns, keys and indexes.
Does not belong here: queries (`changes.py`, `locks.py`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, ForeignKeyConstraint, Index, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB

from lpm_kernel.stores.schema import metadata

change = Table(
    "change",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("change_id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("transaction_id", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("reference", JSONB, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("code", Text),
    Column("reason", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("done_at", DateTime(timezone=True)),
    Column("given_up_at", DateTime(timezone=True)),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    UniqueConstraint("user_id", "seq"),
    Index("change_undone", "user_id", "target", "seq", postgresql_where=text("((done_at IS NULL) AND (given_up_at IS NULL))")),
)

change_words = Table(
    "change_words",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("change_id", Text, primary_key=True),
    Column("words", Text, nullable=False),
    ForeignKeyConstraint(["user_id", "change_id"], ["change.user_id", "change.change_id"], ondelete="CASCADE"),
)

fence = Table(
    "fence",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
)
