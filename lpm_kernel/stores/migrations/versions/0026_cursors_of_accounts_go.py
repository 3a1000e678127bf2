"""How far an account on X was read goes with the account, which names somebody who may be gone; and what was said on Telegram
and X names the request or run that stored it, as other rows do. Versions of posts on X leave room for the whole text of a long
post, which is later than its beginning and earlier than the next edit."""

from alembic import op

revision = "0026"
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

VERSIONS = """
alter table social_message no force row level security;
update social_message set version = {} where network = 'x';
alter table social_message force row level security;
"""

# A group belongs to nobody, so nobody removes how far it was read; an account is its user's.
GOES = """
create policy of_own_account on social_cursor as restrictive for delete to twin_app
    using (network = 'x' and chat in (select account_id from social_account where network = 'x'));
grant delete on social_cursor to twin_app;
"""


WRITTEN_BY = """
alter table {table} add column transaction_id text default nullif(current_setting('app.request_id', true), '')
"""
NAMED = ("social_account", "social_message", "social_document")
# of a table that the operator sees in part, see 0025
SEEN = "grant select (transaction_id) on social_document to twin_operator"


def upgrade() -> None:
    op.execute(LEFT_BEHIND)
    op.execute(VERSIONS.format("2 * version"))
    op.execute(GOES)
    for table in NAMED:
        op.execute(WRITTEN_BY.format(table=table))
    op.execute(SEEN)


def downgrade() -> None:
    op.execute(VERSIONS.format("version / 2"))
    for table in reversed(NAMED):
        op.execute(f"alter table {table} drop column transaction_id")
    op.execute("drop policy of_own_account on social_cursor")
    op.execute("revoke delete on social_cursor from twin_app")
