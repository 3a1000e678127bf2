"""What drafts in answers quote, of drafts from before they named it themselves.

Belongs here: the one statement, for the upgrade of the tables and for archives from before it.
Does not belong here: drafts of today (`ballot_drafts.py`). Migration 0027 runs this statement: it is not to name what is newer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

NAME_PLACES = """
with place as (
    select message.user_id, message.message_id, said.line ->> 'document_sha256' as sha256,
        format('%s:%s-%s', said.line ->> 'document_sha256', said.line ->> 'byte_start', said.line ->> 'byte_end') as named,
        min(said.number) as number
    from ballot_draft draft
    join chat_message message using (user_id, message_id),
        jsonb_array_elements(message.citations) with ordinality said (line, number)
    where draft.citations = '{}' and draft.user_id = coalesce(cast(:user_id as text), draft.user_id)
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
where ballot_draft.user_id = cited.user_id and ballot_draft.message_id = cited.message_id and ballot_draft.citations = '{}'
"""
"""An answer holds the places of its lines, of which a reason drafted in it may quote any. What names a document that is gone
already goes now, as it would have gone with it. `user_id`: None for everybody's."""


def name_places(connection: Connection, user_id: str) -> int:
    """Of this user's drafts, in a transaction of theirs; how many. Idempotent."""
    from sqlalchemy import text

    return connection.execute(text(NAME_PLACES), {"user_id": user_id}).rowcount
