"""How far an account on X was read goes with the account: it names somebody who may be gone."""

from alembic import op

revision = "0027"
down_revision = "0025"

# The owner of a table is held to its row-level security as well.
LEFT_BEHIND = """
alter table social_cursor no force row level security;
alter table social_account no force row level security;
delete from social_cursor
where network = 'x' and chat not in (select account_id from social_account where network = 'x');
alter table social_account force row level security;
alter table social_cursor force row level security;
"""

# A group belongs to nobody, so nobody removes how far it was read; an account is its user's.
GOES = """
create policy of_own_account on social_cursor as restrictive for delete to twin_app
    using (network = 'x' and chat in (select account_id from social_account where network = 'x'));
grant delete on social_cursor to twin_app;
"""


def upgrade() -> None:
    op.execute(LEFT_BEHIND)
    op.execute(GOES)


def downgrade() -> None:
    op.execute("drop policy of_own_account on social_cursor")
    op.execute("revoke delete on social_cursor from twin_app")
