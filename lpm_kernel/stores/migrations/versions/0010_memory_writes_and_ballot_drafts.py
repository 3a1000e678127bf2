"""What a person said and memory has yet to take in, ballots that a twin proposes, and what an answer had to do without."""

from alembic import op

revision = "0010"
down_revision = "0009"

TABLES = """
alter table chat_message
    add column degraded text[] not null default '{}',
    add column cut_off boolean not null default false;

create table memory_write (
    user_id text not null references app_user on delete cascade,
    message_id text not null,
    turn integer not null,
    state text not null check (state in ('waiting', 'failed')),
    attempts integer not null,
    due_at timestamptz not null,
    code text,
    reason text,
    created_at timestamptz not null,
    primary key (user_id, message_id),
    foreign key (user_id, message_id) references chat_message on delete cascade,
    check (state = 'waiting' or (code is not null and reason is not null))
);
create index memory_write_due on memory_write (due_at) where state = 'waiting';

create table ballot_draft (
    user_id text not null references app_user on delete cascade,
    draft_id text not null,
    message_id text not null,
    proposal text not null,
    choice text not null check (choice in ('for', 'against', 'abstain')),
    reason text,
    created_at timestamptz not null,
    primary key (user_id, draft_id),
    foreign key (user_id, message_id) references chat_message on delete cascade
);
"""

FENCED = ("memory_write", "ballot_draft")


def upgrade() -> None:
    op.execute(TABLES)
    for table in FENCED:
        op.execute(f"alter table {table} enable row level security")
        op.execute(f"alter table {table} force row level security")
        op.execute(
            f"create policy tenant on {table} "
            "using (user_id = current_setting('app.user_id', true)) "
            "with check (user_id = current_setting('app.user_id', true))"
        )
        op.execute(f"grant select, insert, update, delete on {table} to twin_app")
    # The worker must see whose writes are due without being any one user: ids and times, nothing else.
    op.execute("create policy due on memory_write for select to twin_operator using (state = 'waiting')")
    op.execute("grant select (user_id, due_at, state) on memory_write to twin_operator")


def downgrade() -> None:
    for table in reversed(FENCED):
        op.execute(f"drop table {table}")
    op.execute("alter table chat_message drop column degraded, drop column cut_off")
