"""Plans: how far each has come, what was told of it, and the words in it, which stay whose they are.

A line belongs to whoever's memory it is out of; the asker of the plan may read it.
"""

from alembic import op

revision = "0016"
down_revision = "0015"

TABLES = """
create table dao_plan (
    plan_id text primary key,
    user_id text not null references app_user on delete cascade,
    idempotency_key text,
    plan_order jsonb not null,
    status text not null check (status in ('running', 'done')),
    state jsonb not null,
    created_at timestamptz not null,
    unique (user_id, idempotency_key)
);
create index dao_plan_running on dao_plan (created_at) where status = 'running';

create table dao_plan_event (
    plan_id text not null references dao_plan on delete cascade,
    number integer not null check (number > 0),
    user_id text not null references app_user on delete cascade,
    at timestamptz not null,
    name text not null,
    content jsonb not null,
    primary key (plan_id, number)
);

create table dao_plan_line (
    plan_id text not null references dao_plan on delete cascade,
    line_id text not null,
    user_id text not null references app_user on delete cascade,
    asker text not null,
    document_sha256 text not null,
    line jsonb not null,
    primary key (plan_id, line_id)
);
create index dao_plan_line_of_document on dao_plan_line (user_id, document_sha256);
"""

FENCE = """
alter table {table} enable row level security;
alter table {table} force row level security;
create policy tenant on {table} to twin_app
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on {table} to twin_app;
"""

SEEN = """
create policy asked on dao_plan_line for select to twin_app using (asker = current_setting('app.user_id', true));
create policy running on dao_plan for select to twin_operator using (status = 'running');
grant select (user_id, plan_id, status, created_at) on dao_plan to twin_operator;
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("dao_plan", "dao_plan_event", "dao_plan_line"):
        op.execute(FENCE.format(table=table))
    op.execute(SEEN)


def downgrade() -> None:
    op.execute("drop table dao_plan_line, dao_plan_event, dao_plan")
