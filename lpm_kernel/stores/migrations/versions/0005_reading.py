"""What reading a document found: its encoding, which reader looked at it, what it nearly repeats, and whether a refused
file's bytes are kept in quarantine."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(
        "alter table document add column encoding text, add column reader text, add column near_duplicate_of text, "
        "add column quarantined boolean not null default false"
    )


def downgrade() -> None:
    op.execute(
        "alter table document drop column encoding, drop column reader, drop column near_duplicate_of, drop column quarantined"
    )
