"""Users, documents, chat messages, releases and chunk vectors, each fenced by row-level security."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
create table app_user (
    user_id text primary key check (user_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text,
    created_at timestamptz not null default now()
);

create table document (
    user_id text not null references app_user on delete cascade,
    sha256 text not null,
    filename text not null,
    mime text not null,
    size_bytes bigint not null,
    source text not null check (source in ('upload', 'telegram', 'x', 'chat')),
    created_by text not null check (created_by in ('user', 'twin')),
    created_at timestamptz not null,
    status text not null check (status in ('received', 'read', 'refused', 'replaced')),
    refusal_code text,
    refusal_reason text,
    text_size_bytes bigint,
    pending boolean not null,
    change_id text not null,
    primary key (user_id, sha256)
);
create index document_by_filename on document (user_id, filename);

create sequence chat_message_position;
create table chat_message (
    user_id text not null references app_user on delete cascade,
    message_id text not null,
    session_id text not null,
    position bigint not null default nextval('chat_message_position'),
    sender text not null check (sender in ('user', 'twin')),
    ts timestamptz not null,
    content text not null,
    citations jsonb not null default '[]'::jsonb,
    release_id text,
    primary key (user_id, message_id)
);
create index chat_message_by_session on chat_message (user_id, session_id, position);

create table release (
    user_id text not null references app_user on delete cascade,
    release_id text not null,
    status text not null check (status in ('candidate', 'live', 'retired')),
    manifest jsonb not null,
    created_at timestamptz not null,
    primary key (user_id, release_id)
);
create unique index release_one_live on release (user_id) where status = 'live';

create table chunk_vector (
    user_id text not null references app_user on delete cascade,
    chunk_id text not null,
    fingerprint text not null,
    document_sha256 text not null,
    filename text not null,
    byte_start integer not null,
    byte_end integer not null,
    text text not null,
    lexemes tsvector not null,
    own_lexemes double precision not null,
    near_lexemes double precision not null,
    input_sha256 text not null,
    embedding vector not null,
    primary key (user_id, chunk_id)
);
create index chunk_vector_lexemes on chunk_vector using gin (lexemes);
"""

FENCED = ("app_user", "document", "chat_message", "release", "chunk_vector")


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
    op.execute("grant usage on sequence chat_message_position to twin_app")
    # The sensor must see who has waiting documents without being any one user: ids and change marks, nothing else.
    op.execute("create policy waiting on document for select to twin_operator using (pending)")
    op.execute("grant select (user_id, sha256, pending, change_id) on document to twin_operator")


def downgrade() -> None:
    for table in reversed(FENCED):
        op.execute(f"drop table {table}")
    op.execute("drop sequence chat_message_position")
