"""A counter a user that moves with each change of their memories, so that a process knows when what it holds is old."""

from alembic import op

revision = "0007"
down_revision = "0006"

VERSION = """
create table memory_version (
    user_id text primary key references app_user on delete cascade,
    version bigint not null
);
alter table memory_version enable row level security;
alter table memory_version force row level security;
create policy tenant on memory_version
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on memory_version to twin_app;
"""


def upgrade() -> None:
    op.execute(VERSION)


def downgrade() -> None:
    op.execute("drop table memory_version")
