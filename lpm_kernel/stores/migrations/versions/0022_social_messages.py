"""Telegram and X: whose account is whose, how far each chat was read, and what people said there."""

from alembic import op

revision = "0022"
down_revision = "0021"

TABLES = """
create table social_account (
    network text not null check (network in ('telegram', 'x')),
    account_id text not null check (account_id ~ '^-?[0-9]{1,20}$'),
    user_id text not null references app_user on delete cascade,
    added_at timestamptz not null,
    primary key (network, account_id)
);

create table social_cursor (
    network text not null check (network in ('telegram', 'x')),
    chat text not null,
    position jsonb not null default '{}',
    not_before timestamptz,
    code text,
    reason text,
    changed_at timestamptz not null,
    primary key (network, chat),
    check ((code is null) = (reason is null))
);
alter table social_cursor enable row level security;
alter table social_cursor force row level security;
-- a group belongs to no user: whoever stores what was said in it moves its cursor
create policy of_a_user on social_cursor to twin_app
    using (current_setting('app.user_id', true) <> '') with check (current_setting('app.user_id', true) <> '');
create policy of_nobody on social_cursor to twin_operator using (true) with check (true);
grant select, insert, update on social_cursor to twin_app, twin_operator;

create table social_message (
    user_id text not null references app_user on delete cascade,
    network text not null check (network in ('telegram', 'x')),
    chat_id text not null,
    message_id bigint not null,
    version bigint not null,
    account_id text not null,
    sent_at timestamptz not null,
    part text not null,
    text text,
    content_sha256 text,
    media text,
    document_sha256 text,
    stored_at timestamptz not null,
    deleted_at timestamptz,
    primary key (user_id, network, chat_id, message_id),
    -- of what was deleted it is known that it was there, and nothing of it
    check ((deleted_at is null) = (text is not null) and (text is null) = (content_sha256 is null))
);
create index social_message_of_part on social_message (user_id, network, chat_id, part);
create index social_message_by_content on social_message (user_id, network, content_sha256) where content_sha256 is not null;
create index social_message_of_document on social_message (user_id, document_sha256) where document_sha256 is not null;
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
create policy mapped on social_account for select to twin_operator using (true);
grant select on social_account to twin_operator;
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("social_account", "social_message"):
        op.execute(FENCE.format(table=table))
    op.execute(SEEN)


def downgrade() -> None:
    op.execute("drop table social_message, social_cursor, social_account")
