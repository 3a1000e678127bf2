"""Which documents words in votes quote, so that they go with them; and when members joined, since only so many have a vote."""

from alembic import op

revision = "0018"
down_revision = "0017"

QUOTES = """
alter table dao_ballot_words add column document_sha256s text[] not null default '{}';
alter table ballot_draft add column withdrawn boolean not null default false;

-- words that are there quote what their ballots cite
alter table dao_ballot_words no force row level security;
alter table dao_event no force row level security;
update dao_ballot_words set document_sha256s = cited.documents
from (
    select event.actor, event.payload -> 'ballot' ->> 'reasons_sha256' as digest,
        array_agg(distinct split_part(place, ':', 1)) as documents
    from dao_event event, jsonb_array_elements_text(event.payload -> 'ballot' -> 'citations') place
    where event.kind = 'ballot_cast' and place ~ '^[0-9a-f]{64}:'
    group by 1, 2
) cited
where cited.actor = dao_ballot_words.user_id and cited.digest = dao_ballot_words.reasons_sha256;
alter table dao_ballot_words force row level security;
alter table dao_event force row level security;

grant update (document_sha256s) on dao_ballot_words to twin_operator;
grant select (created_at) on app_user to twin_operator;
"""

BACK = """
revoke select (created_at) on app_user from twin_operator;
revoke update (document_sha256s) on dao_ballot_words from twin_operator;
alter table ballot_draft drop column withdrawn;
alter table dao_ballot_words drop column document_sha256s;
"""


def upgrade() -> None:
    op.execute(QUOTES)


def downgrade() -> None:
    op.execute(BACK)
