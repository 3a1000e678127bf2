"""A search entry belongs to memory generations: what a release was built from stays searchable while the next one is built."""

from alembic import op

revision = "0003"
down_revision = "0002"

GENERATIONS = """
create table memory_generation (
    user_id text not null references app_user on delete cascade,
    generation text not null,
    synced_at timestamptz not null,
    primary key (user_id, generation)
);

truncate chunk_vector;  -- of no known generation; `embeddings` writes them again
truncate release;       -- their memory is gone, and their manifests name none
-- so every document is to be built anew; the owner of the table is held to its row-level security as well
alter table document no force row level security;
update document set pending = true where status = 'read';
alter table document force row level security;
alter table chunk_vector drop constraint chunk_vector_pkey;
alter table chunk_vector add column entry_id text not null;
alter table chunk_vector add column generations text[] not null;
alter table chunk_vector add primary key (user_id, entry_id);

alter table memory_generation enable row level security;
alter table memory_generation force row level security;
create policy tenant on memory_generation
    using (user_id = current_setting('app.user_id', true))
    with check (user_id = current_setting('app.user_id', true));
grant select, insert, update, delete on memory_generation to twin_app;
"""


def upgrade() -> None:
    op.execute(GENERATIONS)


def downgrade() -> None:
    op.execute("drop table memory_generation")
    op.execute("truncate chunk_vector")
    op.execute("alter table chunk_vector drop constraint chunk_vector_pkey")
    op.execute("alter table chunk_vector drop column entry_id, drop column generations")
    op.execute("alter table chunk_vector add primary key (user_id, chunk_id)")
