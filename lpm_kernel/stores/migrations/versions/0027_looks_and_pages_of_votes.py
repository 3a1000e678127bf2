"""What a look at votes reads is found by an index: those that a twin may have a turn in, and a page of proposals by when they
were drafted. And ballots that were drafted in answers before drafts named what they quote name it.
"""

from alembic import op

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

# An answer holds the places of its lines, of which a reason drafted in it may quote any. What names a document that is gone
# already goes now, as it would have gone with it.
QUOTES = """
alter table ballot_draft no force row level security;
alter table chat_message no force row level security;
alter table document no force row level security;
with place as (
    select message.user_id, message.message_id, said.line ->> 'document_sha256' as sha256,
        format('%s:%s-%s', said.line ->> 'document_sha256', said.line ->> 'byte_start', said.line ->> 'byte_end') as named,
        min(said.number) as number
    from ballot_draft draft
    join chat_message message using (user_id, message_id),
        jsonb_array_elements(message.citations) with ordinality said (line, number)
    where draft.citations = '{}'
    group by 1, 2, 3, 4
), cited as (
    select place.user_id, place.message_id,
        coalesce(array_agg(place.named order by place.number) filter (where there.sha256 is not null), '{}') as places,
        bool_or(there.sha256 is null) as gone
    from place
    left join document there
        on there.user_id = place.user_id and there.sha256 = place.sha256 and there.status <> 'deleted'
    group by 1, 2
)
update ballot_draft set
    citations = cited.places,
    reason = case when cited.gone then null else ballot_draft.reason end,
    withdrawn = ballot_draft.withdrawn or cited.gone
from cited
where ballot_draft.user_id = cited.user_id and ballot_draft.message_id = cited.message_id and ballot_draft.citations = '{}';
alter table document force row level security;
alter table chat_message force row level security;
alter table ballot_draft force row level security;
"""

BACK = """
drop index dao_twin_turn_again;
drop index dao_proposal_under_way;
alter table dao_proposal drop column drafted_at;
"""


def upgrade() -> None:
    op.execute(LOOKS)
    op.execute(PAGES)
    op.execute(QUOTES)


def downgrade() -> None:
    op.execute(BACK)
