"""Who works on a plan and until when, so that no two do; and plans that cannot go on, with the code that says why."""

from alembic import op

revision = "0021"
down_revision = "0020"

LEASES = """
alter table dao_plan
    add column worker text,
    add column leased_until timestamptz,
    add column failure jsonb,
    drop constraint dao_plan_status_check,
    add constraint dao_plan_status_check check (status in ('running', 'done', 'failed')),
    add constraint dao_plan_failure_check check ((status = 'failed') = (failure is not null)),
    add constraint dao_plan_lease_check check ((worker is null) = (leased_until is null));
grant select (leased_until) on dao_plan to twin_operator;
"""

BACK = """
alter table dao_plan no force row level security;
delete from dao_plan where status = 'failed';
alter table dao_plan force row level security;
revoke select (leased_until) on dao_plan from twin_operator;
alter table dao_plan
    drop constraint dao_plan_failure_check,
    drop constraint dao_plan_lease_check,
    drop column worker,
    drop column leased_until,
    drop column failure,
    drop constraint dao_plan_status_check,
    add constraint dao_plan_status_check check (status in ('running', 'done'));
"""


def upgrade() -> None:
    op.execute(LEASES)


def downgrade() -> None:
    op.execute(BACK)
