"""The operator sees which release is live for whom and since when, and nothing else of it: a server must notice a new one, and
name the twins that serve, in one query.
"""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute("create policy serving on release for select to twin_operator using (status = 'live')")
    op.execute("grant select (user_id, release_id, status, created_at) on release to twin_operator")


def downgrade() -> None:
    op.execute("revoke select (user_id, release_id, status, created_at) on release from twin_operator")
    op.execute("drop policy serving on release")
