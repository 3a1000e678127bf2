"""The tables of Telegram and X, as SQLAlchemy sees them; the rest are in `schema.py`, whose metadata they join.

Belongs here: their columns, keys and indexes.
Does not belong here: queries (`social_accounts.py`, `social_cursors.py`, `social_messages.py`, `social_documents.py`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKeyConstraint, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from lpm_kernel.stores.schema import metadata, written_by

social_account = Table(
    "social_account",
    metadata,
    Column("network", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("added_at", DateTime(timezone=True), nullable=False),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
)

social_cursor = Table(
    "social_cursor",
    metadata,
    Column("network", Text, primary_key=True),
    Column("chat", Text, primary_key=True),
    Column("position", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("not_before", DateTime(timezone=True)),
    Column("code", Text),
    Column("reason", Text),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

social_message = Table(
    "social_message",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("chat_id", Text, primary_key=True),
    Column("message_id", BigInteger, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("sent_at", DateTime(timezone=True), nullable=False),
    Column("part", Text, nullable=False),
    Column("text", Text),
    Column("content_sha256", Text),
    Column("media", Text),
    Column("document_sha256", Text),
    Column("stored_at", DateTime(timezone=True), nullable=False),
    Column("deleted_at", DateTime(timezone=True)),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    Index("social_message_of_part", "user_id", "network", "chat_id", "part"),
    Index(
        "social_message_by_content", "user_id", "network", "content_sha256", postgresql_where=text("content_sha256 IS NOT NULL")
    ),
    Index("social_message_of_document", "user_id", "document_sha256", postgresql_where=text("document_sha256 IS NOT NULL")),
)

social_document = Table(
    "social_document",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("chat_id", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("due", Boolean, nullable=False),
    Column("withdraw", Boolean, nullable=False, server_default=text("false")),
    Column("change_id", Text, nullable=False),
    Column("newest_at", DateTime(timezone=True), nullable=False),
    Column("made_sha256s", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("versions", Integer, nullable=False, server_default=text("0")),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    Index("social_document_due", "user_id", postgresql_where=text("due")),
)
