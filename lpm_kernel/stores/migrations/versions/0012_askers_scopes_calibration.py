"""Who asked, where it was not the person; which documents are for the person alone; pairs of answers shown for calibration; and
how far each session was summed up."""

from alembic import op

revision = "0012"
down_revision = "0011"

TABLES = """
alter table chat_message add column asker text check (asker ~ '^[a-z0-9][a-z0-9_-]{0,62}$' and asker <> user_id);
alter table document add column private boolean not null default false;

create table calibration_pair (
    user_id text not null references app_user on delete cascade,
    pair_id text not null,
    run_id text not null,
    release_id text not null,
    question text not null,
    citations jsonb not null default '[]'::jsonb,
    twin_answer text not null,
    base_answer text not null,
    twin_first boolean not null,
    created_at timestamptz not null,
    pick text check (pick in ('twin', 'base', 'neither')),
    picked_at timestamptz,
    primary key (user_id, pair_id),
    check ((pick is null) = (picked_at is null))
);

create table session_summary (
    user_id text not null references app_user on delete cascade,
    session_id text not null,
    messages integer not null check (messages > 0),
    made_at timestamptz not null,
    primary key (user_id, session_id)
);
"""

FENCE = """
alter table {table} enable row level security;
alter table {table} force row level security;
create policy tenant on {table}
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on {table} to twin_app;
"""

BACK = """
drop table session_summary;
drop table calibration_pair;
alter table document drop column private;
-- what others asked would read as the person's own words without the column that says so
alter table chat_message no force row level security;
delete from chat_message where asker is not null;
alter table chat_message force row level security;
alter table chat_message drop column asker;
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("calibration_pair", "session_summary"):
        op.execute(FENCE.format(table=table))


def downgrade() -> None:
    op.execute(BACK)
