"""The tables of plans, and of what twins do by themselves, as SQLAlchemy sees them; the rest are in `schema.py`, whose metadata
they join.

Belongs here: their columns, keys and indexes.
Does not belong here: queries (`dao_plans.py`, `dao_twin_turns.py`).
"""

from __future__ import annotations

from sqlalchemy import Column, DateTime, ForeignKeyConstraint, Index, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB

from lpm_kernel.stores.schema import metadata, written_by

dao_plan = Table(
    "dao_plan",
    metadata,
    Column("plan_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("plan_order", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("worker", Text),
    Column("leased_until", DateTime(timezone=True)),
    Column("failure", JSONB(none_as_null=True)),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    UniqueConstraint("user_id", "idempotency_key"),
    Index("dao_plan_running", "created_at", postgresql_where=text("status = 'running'")),
)

dao_plan_event = Table(
    "dao_plan_event",
    metadata,
    Column("plan_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("name", Text, nullable=False),
    Column("content", JSONB, nullable=False),
    written_by(),
    ForeignKeyConstraint(["plan_id"], ["dao_plan.plan_id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
)

dao_plan_line = Table(
    "dao_plan_line",
    metadata,
    Column("plan_id", Text, primary_key=True),
    Column("line_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("asker", Text, nullable=False),
    Column("document_sha256", Text, nullable=False),
    Column("line", JSONB, nullable=False),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["plan_id"], ["dao_plan.plan_id"], ondelete="CASCADE"),
    Index("dao_plan_line_of_document", "user_id", "document_sha256"),
)

dao_twin_turn = Table(
    "dao_twin_turn",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("proposal_id", Text, primary_key=True),
    Column("basis", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("again_at", DateTime(timezone=True)),
    Column("outcome", Text),
    Column("why", Text),
    Column("at", DateTime(timezone=True), nullable=False),
    written_by(),
    Index("dao_twin_turn_again", "again_at", postgresql_where=text("again_at IS NOT NULL")),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
)
