"""What a person lets their twin do in a vote, and ballots that a twin drafts by itself, which stand in no answer."""

from alembic import op

revision = "0015"
down_revision = "0014"

TABLES = """
create table dao_consent (
    user_id text primary key references app_user on delete cascade,
    mode text not null check (mode in ('never', 'draft', 'autonomous')),
    min_confidence double precision not null check (min_confidence between 0 and 1),
    topics text[],
    own_proposals boolean not null,
    max_weight integer check (max_weight >= 0),
    changed_at timestamptz not null
);
alter table dao_consent enable row level security;
alter table dao_consent force row level security;
create policy tenant on dao_consent
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on dao_consent to twin_app;

alter table ballot_draft
    alter column message_id drop not null,
    add column confidence double precision,
    add column citations text[] not null default '{}',
    add column why text;
"""

BACK = """
delete from ballot_draft where message_id is null;
alter table ballot_draft drop column confidence, drop column citations, drop column why, alter column message_id set not null;
drop table dao_consent;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(BACK)
