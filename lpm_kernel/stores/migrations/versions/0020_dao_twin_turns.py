"""Which twin has weighed which proposal, by which of its releases: so that twins vote by themselves, each once.

The operator sees who has said what their twin may do, and which turns are taken: it looks for those that are left.
"""

from alembic import op

revision = "0020"
down_revision = "0018"

TABLES = """
create table dao_twin_turn (
    user_id text not null references app_user on delete cascade,
    proposal_id text not null,
    basis text not null,
    tries integer not null check (tries > 0),
    again_at timestamptz,
    outcome text,
    why text,
    at timestamptz not null,
    primary key (user_id, proposal_id)
);
alter table dao_twin_turn enable row level security;
alter table dao_twin_turn force row level security;
create policy tenant on dao_twin_turn to twin_app
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
create policy taken on dao_twin_turn for select to twin_operator using (true);
grant select, insert, update, delete on dao_twin_turn to twin_app;
grant select (user_id, proposal_id, basis, again_at) on dao_twin_turn to twin_operator;
create policy willing on dao_consent for select to twin_operator using (mode <> 'never');
grant select (user_id, mode, changed_at) on dao_consent to twin_operator;
"""

BACK = """
revoke select (user_id, mode, changed_at) on dao_consent from twin_operator;
drop policy willing on dao_consent;
drop table dao_twin_turn;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(BACK)
