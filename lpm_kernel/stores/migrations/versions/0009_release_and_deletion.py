"""Whose model is ready and where it lies, releases that a deletion made stale, deleted documents until nothing is made of them
any more, and the letters of stages that failed for good."""

from alembic import op

revision = "0009"
down_revision = "0008"

TABLES = """
alter table app_user add column lora_path text, add column model_ready boolean not null default false;
alter table release add column stale_reason text;
alter table document drop constraint document_status_check;
alter table document add constraint document_status_check
    check (status in ('received', 'read', 'refused', 'replaced', 'deleted'));

create table dead_letter (
    user_id text not null references app_user on delete cascade,
    run_id text not null,
    stage text not null,
    attempts integer not null,
    code text not null,
    message text not null,
    created_at timestamptz not null,
    resolved_at timestamptz,
    primary key (user_id, run_id, stage)
);
alter table dead_letter enable row level security;
alter table dead_letter force row level security;
create policy tenant on dead_letter
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on dead_letter to twin_app;

-- the owner of a table is held to its row-level security as well
alter table app_user no force row level security;
alter table release no force row level security;
update app_user set model_ready = true, lora_path = live.manifest ->> 'gguf_key'
from release live where live.user_id = app_user.user_id and live.status = 'live';
alter table app_user force row level security;
alter table release force row level security;
"""

BACK = """
drop table dead_letter;
alter table document no force row level security;
delete from document where status = 'deleted';
alter table document force row level security;
alter table document drop constraint document_status_check;
alter table document add constraint document_status_check check (status in ('received', 'read', 'refused', 'replaced'));
alter table release drop column stale_reason;
alter table app_user drop column lora_path, drop column model_ready;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(BACK)
