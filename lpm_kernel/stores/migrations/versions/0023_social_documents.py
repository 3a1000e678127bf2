"""Days and threads of what people said on Telegram and X: which have changed, and which documents were made of them."""

from alembic import op

revision = "0023"
down_revision = "0022"

TABLES = """
create table social_document (
    user_id text not null references app_user on delete cascade,
    network text not null check (network in ('telegram', 'x')),
    chat_id text not null,
    part text not null,
    title text not null,
    public boolean not null,
    due boolean not null,
    withdraw boolean not null default false,
    change_id text not null,
    newest_at timestamptz not null,
    made_sha256s text[] not null default '{}',
    versions integer not null default 0,
    primary key (user_id, network, chat_id, part)
);
create index social_document_due on social_document (user_id) where due;
alter table social_document enable row level security;
alter table social_document force row level security;
create policy tenant on social_document to twin_app
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on social_document to twin_app;
create policy due on social_document for select to twin_operator using (due);
grant select (user_id, due, withdraw, newest_at) on social_document to twin_operator;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("drop table social_document")
