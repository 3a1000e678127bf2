"""The collection that Mem0 keeps memories in, fenced like every other table.

Mem0 would make it itself, but as its owner, with an HNSW index that loses rows behind a tenant filter, and without a `user_id`.
It writes and reads `id`, `vector` and `payload` only, so the owner of a row fills itself in from the transaction, and the
payload must name the same one: Mem0's own filter and row-level security cannot disagree.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

MEMORY = """
create table memory (
    user_id text not null default current_setting('app.user_id') references app_user on delete cascade,
    id uuid not null,
    vector vector not null,
    payload jsonb not null,
    primary key (user_id, id),
    check (payload ->> 'user_id' is not null and payload ->> 'user_id' = user_id)
) with (toast_tuple_target = 8160);  -- a row of 2 kB would have its vector elsewhere, and each search reads them all
alter table memory enable row level security;
alter table memory force row level security;
create policy tenant on memory
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on memory to twin_app;
"""


def upgrade() -> None:
    op.execute(MEMORY)


def downgrade() -> None:
    op.execute("drop table memory")
