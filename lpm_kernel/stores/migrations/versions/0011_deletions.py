"""Users whose deletion is under way, or done and not yet known to the pipeline, and an index for pages of memories.

A deletion is not tied to `app_user`: that row goes before it.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

TABLES = """
create table deletion (
    user_id text primary key check (user_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    begun_at timestamptz not null,
    done_at timestamptz
);
alter table deletion enable row level security;
alter table deletion force row level security;
create policy tenant on deletion
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on deletion to twin_app;
-- the sensor must see whom to finish deleting, and whose partition to remove
create policy deleted on deletion for select to twin_operator using (true);
grant select (user_id, begun_at, done_at) on deletion to twin_operator;

-- pages of memories, newest first, and their count by kind: without it each reads every row of the user, with its vector
create index memory_page on memory (user_id, from_s, id) include (kind, until_s);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("drop index memory_page")
    op.execute("drop table deletion")
