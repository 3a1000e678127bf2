"""The operator sees which release is live for whom and since when, and nothing else of it: a server must notice a new one, and
name the twins that serve, in one query.
"""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    # somebody who is deleted leaves nothing that they said to others' twins
    op.execute("create policy asked on chat_message to twin_operator using (asker = current_setting('app.asker', true))")
    op.execute("grant select (asker), delete on chat_message to twin_operator")
    op.execute("create policy serving on release for select to twin_operator using (status = 'live')")
    op.execute("grant select (user_id, release_id, status, created_at) on release to twin_operator")


def downgrade() -> None:
    op.execute("revoke select (asker), delete on chat_message from twin_operator")
    op.execute("drop policy asked on chat_message")
    op.execute("revoke select (user_id, release_id, status, created_at) on release from twin_operator")
    op.execute("drop policy serving on release")
