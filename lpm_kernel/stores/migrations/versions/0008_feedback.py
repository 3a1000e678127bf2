"""What a person thinks of a reply of their twin: two ratings and how they would have said it."""

from alembic import op

revision = "0008"
down_revision = "0007"

FEEDBACK = """
create table feedback (
    user_id text not null references app_user on delete cascade,
    message_id text not null,
    voice smallint check (voice in (-1, 0, 1)),
    truth smallint check (truth in (-1, 0, 1)),
    edited text,
    created_at timestamptz not null,
    primary key (user_id, message_id),
    foreign key (user_id, message_id) references chat_message on delete cascade,
    check (voice is not null or truth is not null or edited is not null)
);
alter table feedback enable row level security;
alter table feedback force row level security;
create policy tenant on feedback
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on feedback to twin_app;
"""


def upgrade() -> None:
    op.execute(FEEDBACK)


def downgrade() -> None:
    op.execute("drop table feedback")
