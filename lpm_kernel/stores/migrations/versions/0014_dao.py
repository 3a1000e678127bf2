"""The DAO: its ledger that only grows, what is kept beside it to be found quickly, and the words of reasons, which are their
author's and can be erased.

The operator writes, for it must see all members; what it writes is by whoever the transaction is of, or by the clock.
"""

from alembic import op

revision = "0014"
down_revision = "0013"

TABLES = """
create table dao_event (
    seq bigint primary key check (seq > 0),
    at timestamptz not null,
    actor text not null,
    kind text not null,
    proposal_id text,
    payload jsonb not null,
    previous_hash text not null,
    hash text not null unique,
    idempotency_key text,
    request_sha256 text,
    unique (actor, idempotency_key),
    check ((idempotency_key is null) = (request_sha256 is null))
);
create index dao_event_of_proposal on dao_event (proposal_id, seq);
create index dao_event_of_members on dao_event (seq) where kind in ('delegated', 'delegation_revoked', 'attributes_set');
create index dao_event_of_tasks on dao_event (seq) where kind = 'task_assigned';

create table dao_resolution (
    proposal_id text not null,
    rules_version text not null,
    seq bigint not null references dao_event,
    outcome text not null check (outcome in ('passed', 'failed')),
    reason text not null,
    closed_by text not null check (closed_by in ('decided', 'deadline')),
    tally jsonb not null,
    resolved_at timestamptz not null,
    primary key (proposal_id, rules_version)
);

create table dao_proposal (
    proposal_id text primary key,
    proposer text not null,
    topic text not null,
    status text not null check (status in ('draft', 'open', 'voting', 'passed', 'failed', 'implemented', 'cancelled')),
    ends_at timestamptz,
    next_due_at timestamptz,
    last_seq bigint not null
);
create index dao_proposal_due on dao_proposal (next_due_at) where next_due_at is not null;
create index dao_proposal_by_status on dao_proposal (status);

create table dao_projection (
    target text primary key,
    last_seq bigint not null,
    attempts integer not null,
    due_at timestamptz,
    code text
);

create table dao_ballot_words (
    user_id text not null references app_user on delete cascade,
    reasons_sha256 text not null,
    words text not null,
    primary key (user_id, reasons_sha256)
);
"""

ONLY_GROWS = """
create function dao_event_only_grows() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger only grows: % is refused', lower(tg_op) using errcode = 'restrict_violation';
end $$;
create trigger only_grows before update or delete or truncate on dao_event
    for each statement execute function dao_event_only_grows();
alter table dao_event enable always trigger only_grows;

create function dao_event_follows() returns trigger language plpgsql as $$
declare
    last_seq bigint;
    last_hash text;
begin
    select seq, hash into last_seq, last_hash from dao_event order by seq desc limit 1;
    if new.seq <> coalesce(last_seq, 0) + 1 or (last_hash is not null and new.previous_hash <> last_hash) then
        raise exception 'event % does not follow the last of the ledger', new.seq using errcode = 'unique_violation';
    end if;
    return new;
end $$;
create trigger follows before insert on dao_event for each row execute function dao_event_follows();
alter table dao_event enable always trigger follows;
"""

FENCE = """
alter table {table} enable row level security;
alter table {table} force row level security;
create policy read_by_operator on {table} for select to twin_operator using (true);
create policy read_by_member on {table} for select to twin_app using (current_setting('app.user_id', true) <> '');
grant select on {table} to twin_app, twin_operator;
"""

WRITES = """
create policy append on dao_event for insert to twin_operator
    with check (actor = 'clock' or actor = current_setting('app.user_id', true));
grant insert on dao_event to twin_operator;
create policy append on dao_resolution for insert to twin_operator with check (true);
grant insert on dao_resolution to twin_operator;
create policy add on dao_proposal for insert to twin_operator with check (true);
create policy change on dao_proposal for update to twin_operator using (true) with check (true);
grant insert, update on dao_proposal to twin_operator;
create policy add on dao_projection for insert to twin_operator with check (true);
create policy change on dao_projection for update to twin_operator using (true) with check (true);
grant insert, update on dao_projection to twin_operator;

alter table dao_ballot_words enable row level security;
alter table dao_ballot_words force row level security;
create policy tenant on dao_ballot_words
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on dao_ballot_words to twin_app;
-- whoever may vote may read why others voted as they did
create policy read_by_operator on dao_ballot_words for select to twin_operator using (true);
grant select, insert on dao_ballot_words to twin_operator;

-- all who have a twin are members: ids, nothing else
create policy members on app_user for select to twin_operator using (true);
grant select (user_id) on app_user to twin_operator;
"""

BACK = """
revoke select (user_id) on app_user from twin_operator;
drop policy members on app_user;
drop table dao_ballot_words, dao_projection, dao_proposal, dao_resolution, dao_event;
drop function dao_event_only_grows();
drop function dao_event_follows();
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(ONLY_GROWS)
    for table in ("dao_event", "dao_resolution", "dao_proposal", "dao_projection"):
        op.execute(FENCE.format(table=table))
    op.execute(WRITES)


def downgrade() -> None:
    op.execute(BACK)
