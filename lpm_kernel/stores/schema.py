"""The tables, as SQLAlchemy sees them. The migrations make them; a test holds the two together.

Belongs here: columns, keys and indexes. Every table with a `user_id` has row-level security forced by its migration.
Does not belong here: queries.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Double,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR, UUID
from sqlalchemy.types import UserDefinedType

metadata = MetaData()


class Vector(UserDefinedType[Any]):
    """pgvector's type without a fixed dimension: vectors of two models may lie side by side, told apart by fingerprint."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "vector"


class HalfVector(UserDefinedType[Any]):
    """pgvector's type of half precision."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "halfvec"


def written_by() -> Column[str]:
    """Of a table: the transaction that wrote a row, by the name of its request or run. It fills itself in, see 0025; a row of
    before has none."""
    by_itself = text("NULLIF(current_setting('app.request_id'::text, true), ''::text)")
    return Column("transaction_id", Text, server_default=by_itself)


WRITTEN_NOW = {"transaction_id": text("DEFAULT")}
"""What a statement that replaces the content of a row sets beside it: the row is of this transaction from now on. One that only
takes a row or lets it go, by a lease or a mark, leaves it whose it was."""


app_user = Table(
    "app_user",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("name", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("lora_path", Text),
    Column("model_ready", Boolean, nullable=False, server_default=text("false")),
    written_by(),
)

document = Table(
    "document",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("sha256", Text, primary_key=True),
    Column("filename", Text, nullable=False),
    Column("also_named", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("mime", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("status", Text, nullable=False),
    Column("refusal_code", Text),
    Column("refusal_reason", Text),
    Column("text_size_bytes", BigInteger),
    Column("pending", Boolean, nullable=False),
    Column("change_id", Text, nullable=False),
    Column("encoding", Text),
    Column("reader", Text),
    Column("near_duplicate_of", Text),
    Column("quarantined", Boolean, nullable=False, server_default=text("false")),
    Column("private", Boolean, nullable=False, server_default=text("false")),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    Index("document_by_filename", "user_id", "filename"),
)

chat_message = Table(
    "chat_message",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("session_id", Text, nullable=False),
    Column("position", BigInteger, server_default=text("nextval('chat_message_position')"), nullable=False),
    Column("sender", Text, nullable=False),
    Column("ts", DateTime(timezone=True), nullable=False),
    Column("content", Text, nullable=False),
    Column("citations", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("release_id", Text),
    Column("degraded", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("cut_off", Boolean, nullable=False, server_default=text("false")),
    Column("asker", Text),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    Index("chat_message_by_session", "user_id", "session_id", "position"),
)

release = Table(
    "release",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("release_id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("manifest", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("stale_reason", Text),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    Index("release_one_live", "user_id", unique=True, postgresql_where=text("status = 'live'")),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("resolved_at", DateTime(timezone=True)),
    Column("change_id", Text),
    Column("transaction_id", Text),
    Column("discarded_by", Text),
    Column("discard_reason", Text),
    # of what no one user's work has failed in there is no person whose leaving would take it along, see 0024
    Column("person", Text, Computed("NULLIF(user_id, '_shared'::text)")),
    ForeignKeyConstraint(["person"], ["app_user.user_id"], ondelete="CASCADE"),
)

memory_generation = Table(
    "memory_generation",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("generation", Text, primary_key=True),
    Column("synced_at", DateTime(timezone=True), nullable=False),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
)

chunk_vector = Table(
    "chunk_vector",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("entry_id", Text, primary_key=True),
    Column("generations", ARRAY(Text), nullable=False),
    Column("chunk_id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("document_sha256", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("byte_start", Integer, nullable=False),
    Column("byte_end", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("lexemes", TSVECTOR, nullable=False),
    Column("own_lexemes", Float, nullable=False),
    Column("near_lexemes", Float, nullable=False),
    Column("input_sha256", Text, nullable=False),
    Column("embedding", Vector(), nullable=False),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    Index("chunk_vector_lexemes", "lexemes", postgresql_using="gin"),
)

# Mem0's collection: `id`, `vector` and `payload` are the columns it knows. The owner of a row fills itself in, see 0004,
# and what it is searched by follows from the payload, see 0006.
memory = Table(
    "memory",
    metadata,
    Column("user_id", Text, primary_key=True, server_default=text("current_setting('app.user_id'::text)")),
    Column("id", UUID, primary_key=True),
    Column("vector", Vector(), nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("kind", Text, Computed("(payload ->> 'kind'::text)")),
    Column("domain", Text, Computed("(payload ->> 'domain'::text)")),
    Column("key", Text, Computed("(payload ->> 'key'::text)")),
    Column("fingerprint", Text, Computed("(payload ->> 'fingerprint'::text)")),
    Column("from_s", Float, Computed("((payload ->> 'from_s'::text))::double precision")),
    Column("until_s", Float, Computed("((payload ->> 'until_s'::text))::double precision")),
    Column("half", HalfVector(), Computed("CASE WHEN (vector_dims(vector) <= 1000) THEN (vector)::halfvec ELSE NULL END")),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    Index("memory_search", "user_id", "fingerprint", "until_s", postgresql_include=["from_s", "kind", "id", "half"]),
    Index("memory_kind", "user_id", "kind", "until_s"),
    Index("memory_until", "user_id", "until_s"),
    Index("memory_page", "user_id", "from_s", "id", postgresql_include=["kind", "until_s"]),
    Index("memory_key", "user_id", "key", postgresql_where=text("key IS NOT NULL")),
)

memory_version = Table(
    "memory_version",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
)

deletion = Table(
    "deletion",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("begun_at", DateTime(timezone=True), nullable=False),
    Column("done_at", DateTime(timezone=True)),
    written_by(),
)

feedback = Table(
    "feedback",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("voice", SmallInteger),
    Column("truth", SmallInteger),
    Column("edited", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["user_id", "message_id"], ["chat_message.user_id", "chat_message.message_id"], ondelete="CASCADE"),
)

_OF_A_MESSAGE = ["user_id", "message_id"], ["chat_message.user_id", "chat_message.message_id"]

ballot_draft = Table(
    "ballot_draft",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("draft_id", Text, primary_key=True),
    Column("message_id", Text),
    Column("proposal", Text, nullable=False),
    Column("choice", Text, nullable=False),
    Column("reason", Text),
    Column("confidence", Double),
    Column("citations", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    Column("why", Text),
    Column("withdrawn", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
    ForeignKeyConstraint(*_OF_A_MESSAGE, ondelete="CASCADE"),
)

calibration_pair = Table(
    "calibration_pair",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("pair_id", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("release_id", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("citations", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("twin_answer", Text, nullable=False),
    Column("base_answer", Text, nullable=False),
    Column("twin_first", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("pick", Text),
    Column("picked_at", DateTime(timezone=True)),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
)

session_summary = Table(
    "session_summary",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
    Column("messages", Integer, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
)

dao_event = Table(
    "dao_event",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("proposal_id", Text),
    Column("payload", JSONB, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("idempotency_key", Text),
    Column("request_sha256", Text),
    written_by(),
    UniqueConstraint("actor", "idempotency_key"),
    Index("dao_event_of_proposal", "proposal_id", "seq"),
    Index("dao_event_of_members", "seq", postgresql_where=text("kind in ('delegated','delegation_revoked','attributes_set')")),
    Index("dao_event_of_tasks", "seq", postgresql_where=text("kind = 'task_assigned'")),
)

dao_resolution = Table(
    "dao_resolution",
    metadata,
    Column("proposal_id", Text, primary_key=True),
    Column("rules_version", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("closed_by", Text, nullable=False),
    Column("tally", JSONB, nullable=False),
    Column("resolved_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["seq"], ["dao_event.seq"]),
)

dao_proposal = Table(
    "dao_proposal",
    metadata,
    Column("proposal_id", Text, primary_key=True),
    Column("proposer", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("ends_at", DateTime(timezone=True)),
    Column("next_due_at", DateTime(timezone=True)),
    Column("last_seq", BigInteger, nullable=False),
    Column("drafted_at", DateTime(timezone=True), nullable=False),
    Index("dao_proposal_due", "next_due_at", postgresql_where=text("next_due_at IS NOT NULL")),
    Index("dao_proposal_by_status", "status"),
    Index("dao_proposal_by_age", "drafted_at", "proposal_id"),
    Index("dao_proposal_under_way", "last_seq", postgresql_where=text("status = 'voting'")),
)

dao_projection = Table(
    "dao_projection",
    metadata,
    Column("target", Text, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", DateTime(timezone=True)),
    Column("code", Text),
)

dao_ballot_words = Table(
    "dao_ballot_words",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("reasons_sha256", Text, primary_key=True),
    Column("words", Text, nullable=False),
    Column("document_sha256s", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
)

dao_consent = Table(
    "dao_consent",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("min_confidence", Double, nullable=False),
    Column("topics", ARRAY(Text)),
    Column("own_proposals", Boolean, nullable=False),
    Column("max_weight", Integer),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    written_by(),
    ForeignKeyConstraint(["user_id"], ["app_user.user_id"], ondelete="CASCADE"),
)
