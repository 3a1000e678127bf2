"""Which request a message came with that memory has yet to take in: what is written of it later names that request too."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    # the form of every id that the API lets in: it goes into lines of logs, and into PostgreSQL's own
    op.execute("alter table memory_write add column request_id text check (request_id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$')")


def downgrade() -> None:
    op.execute("alter table memory_write drop column request_id")
