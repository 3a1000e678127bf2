"""Memories, vectors, drafts, pairs and all that votes and plans keep name the request or run that wrote them, as other rows do;
see 0025."""

from alembic import op

revision = "0028"
down_revision = "0027"

WRITTEN_BY = """
alter table {table} add column transaction_id text default nullif(current_setting('app.request_id', true), '')
"""
NAMED = (
    *("memory", "chunk_vector", "session_summary", "calibration_pair", "ballot_draft"),
    *("dao_consent", "dao_ballot_words", "dao_plan", "dao_plan_event", "dao_plan_line", "dao_twin_turn"),
)
# of tables that the operator sees in part, see 0025
SEEN = "grant select (transaction_id) on {table} to twin_operator"
SEEN_IN_PART = ("dao_consent", "dao_plan", "dao_twin_turn")


def upgrade() -> None:
    for table in NAMED:
        op.execute(WRITTEN_BY.format(table=table))
    for table in SEEN_IN_PART:
        op.execute(SEEN.format(table=table))


def downgrade() -> None:
    for table in reversed(NAMED):
        op.execute(f"alter table {table} drop column transaction_id")
