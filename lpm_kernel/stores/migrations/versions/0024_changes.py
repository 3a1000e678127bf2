"""One outbox for every write that reaches further stores, in place of the queue of memories alone; and letters of what it gave
up.

What waited in `memory_write` waits in `change`, under the id that the code would give it.
"""

from alembic import op

revision = "0024"
down_revision = "0023"

TABLES = """
create table change (
    user_id text not null references app_user on delete cascade,
    change_id text not null check (change_id ~ '^[0-9a-f]{32}$'),
    seq bigint not null check (seq > 0),
    transaction_id text not null check (transaction_id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$'),
    target text not null check (target in ('vectors', 'memories', 'graph', 'blobs')),
    kind text not null,
    reference jsonb not null,
    attempts integer not null default 0,
    due_at timestamptz not null,
    code text,
    reason text,
    created_at timestamptz not null,
    done_at timestamptz,
    given_up_at timestamptz,
    primary key (user_id, change_id),
    unique (user_id, seq),
    check (given_up_at is null or (done_at is null and code is not null and reason is not null))
);
-- the head of each queue
create index change_undone on change (user_id, target, seq) where done_at is null and given_up_at is null;

-- words that a change is about, which are their person's: they go when it is done, and with its person
create table change_words (
    user_id text not null,
    change_id text not null,
    words text not null,
    primary key (user_id, change_id),
    foreign key (user_id, change_id) references change on delete cascade
);
"""

FENCED = ("change", "change_words")

LETTERS = """
alter table dead_letter add column change_id text;
alter table dead_letter add column transaction_id text;
alter table dead_letter add column discarded_by text;
alter table dead_letter add column discard_reason text;
alter table dead_letter add check (discarded_by is null or (discard_reason is not null and resolved_at is not null));
-- what no one user's work has failed in is told under a name that nobody can have
alter table dead_letter drop constraint dead_letter_user_id_fkey;
alter table dead_letter add column person text generated always as (nullif(user_id, '_shared')) stored
    references app_user (user_id) on delete cascade;
create policy shared on dead_letter to twin_operator using (user_id = '_shared') with check (user_id = '_shared');
grant select, insert, update on dead_letter to twin_operator;
"""

# The owner of a table is held to its row-level security as well.
MOVE = """
alter table memory_write no force row level security;
alter table change no force row level security;
insert into change (user_id, change_id, seq, transaction_id, target, kind, reference, attempts, due_at, code, reason,
                    created_at, given_up_at)
select user_id,
    left(encode(sha256(convert_to(concat_ws(E'\\x1f', user_id, 'memories', 'remember_message',
        '{"message_id":' || to_json(message_id)::text || ',"turn":' || turn || '}'), 'UTF8')), 'hex'), 32),
    row_number() over (partition by user_id order by created_at, message_id),
    coalesce(request_id, replace(gen_random_uuid()::text, '-', '')),
    'memories', 'remember_message', jsonb_build_object('message_id', message_id, 'turn', turn),
    attempts, due_at, code, reason, created_at, case when state = 'failed' then due_at end
from memory_write;
alter table change force row level security;
drop table memory_write;
"""

BACK = """
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
    request_id text check (request_id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$'),
    primary key (user_id, message_id),
    foreign key (user_id, message_id) references chat_message on delete cascade,
    check (state = 'waiting' or (code is not null and reason is not null))
);
create index memory_write_due on memory_write (due_at) where state = 'waiting';
alter table change no force row level security;
alter table chat_message no force row level security;
insert into memory_write (user_id, message_id, turn, state, attempts, due_at, code, reason, created_at, request_id)
select change.user_id, message_id, (reference ->> 'turn')::integer,
    case when given_up_at is null then 'waiting' else 'failed' end, attempts, due_at, code, reason, created_at, transaction_id
from change join chat_message on chat_message.user_id = change.user_id and message_id = reference ->> 'message_id'
where kind = 'remember_message' and done_at is null;
alter table chat_message force row level security;
alter table memory_write enable row level security;
alter table memory_write force row level security;
create policy tenant on memory_write
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on memory_write to twin_app;
create policy due on memory_write for select to twin_operator using (state = 'waiting');
grant select (user_id, due_at, state) on memory_write to twin_operator;
drop table change_words, change;

revoke select, insert, update on dead_letter from twin_operator;
drop policy shared on dead_letter;
alter table dead_letter no force row level security;
delete from dead_letter where user_id = '_shared';
alter table dead_letter force row level security;
alter table dead_letter drop column person, drop column change_id, drop column transaction_id, drop column discarded_by,
    drop column discard_reason;
alter table dead_letter add constraint dead_letter_user_id_fkey foreign key (user_id) references app_user on delete cascade;
"""


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
    # The worker must see whose changes are due, and how late, without being any one user: ids and times, nothing else.
    op.execute("create policy undone on change for select to twin_operator using (done_at is null)")
    op.execute(
        "grant select (user_id, seq, target, attempts, due_at, created_at, done_at, given_up_at) on change to twin_operator"
    )
    op.execute(MOVE)
    op.execute(LETTERS)


def downgrade() -> None:
    op.execute(BACK)
