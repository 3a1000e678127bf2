"""What a look at votes reads is found by an index: those that a twin may have a turn in, and a page of proposals by when they
were drafted. And ballots that were drafted in answers before drafts named what they quote name it.
"""

from alembic import op
from sqlalchemy import text

from lpm_kernel.stores.draft_places import NAME_PLACES

revision = "0027"
down_revision = "0026"

LOOKS = """
create index dao_proposal_under_way on dao_proposal (last_seq) where status = 'voting';
create index dao_twin_turn_again on dao_twin_turn (again_at) where again_at is not null;
"""

# The owner of a table is held to its row-level security as well.
PAGES = """
alter table dao_proposal no force row level security;
alter table dao_event no force row level security;
alter table dao_proposal add column drafted_at timestamptz;
update dao_proposal set drafted_at = drafted.at
from dao_event drafted
where drafted.proposal_id = dao_proposal.proposal_id and drafted.kind = 'proposal_drafted';
alter table dao_proposal alter column drafted_at set not null;
create index dao_proposal_by_age on dao_proposal (drafted_at, proposal_id);
alter table dao_event force row level security;
alter table dao_proposal force row level security;
"""

QUOTED = ("ballot_draft", "chat_message", "document")

BACK = """
drop index dao_twin_turn_again;
drop index dao_proposal_under_way;
alter table dao_proposal drop column drafted_at;
"""


def upgrade() -> None:
    op.execute(LOOKS)
    op.execute(PAGES)
    for table in QUOTED:
        op.execute(f"alter table {table} no force row level security")
    op.execute(text(NAME_PLACES).bindparams(user_id=None))
    for table in QUOTED:
        op.execute(f"alter table {table} force row level security")


def downgrade() -> None:
    op.execute(BACK)
