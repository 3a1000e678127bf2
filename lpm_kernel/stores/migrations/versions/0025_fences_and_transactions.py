"""Who may change several stores of one user right now, and by which transaction a row was written.

A fence is tied to nobody: whoever is imported is not there yet, and whoever is deleted is gone before the last look at it. It
is removed when it is let go.
"""

from alembic import op

revision = "0025"
down_revision = "0024"

FENCE = """
create sequence fence_token;
grant usage on sequence fence_token to twin_app;
create table fence (
    user_id text not null check (user_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text not null,
    token bigint not null,
    until timestamptz not null,
    primary key (user_id, name)
);
alter table fence enable row level security;
alter table fence force row level security;
create policy tenant on fence
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on fence to twin_app;
"""

WRITTEN_BY = """
alter table {table} add column transaction_id text default nullif(current_setting('app.request_id', true), '')
"""
"""A default and no argument of each insert: what is written next year names its transaction too."""

SEEN = "grant select (transaction_id) on {table} to twin_operator"
"""Of tables that the operator sees in part: `exists (select * ...)` asks for each column, though it reads none."""

NAMED = ("app_user", "document", "chat_message", "release", "memory_generation", "deletion", "feedback", "dao_event")
SEEN_IN_PART = ("app_user", "document", "chat_message", "release", "deletion")


def upgrade() -> None:
    op.execute(FENCE)
    for table in NAMED:
        op.execute(WRITTEN_BY.format(table=table))
    for table in SEEN_IN_PART:
        op.execute(SEEN.format(table=table))


def downgrade() -> None:
    for table in reversed(NAMED):
        op.execute(f"alter table {table} drop column transaction_id")
    op.execute("drop table fence")
    op.execute("drop sequence fence_token")
