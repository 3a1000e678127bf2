"""The statements on Mem0's rows that Mem0 has none of, or only slow ones.

Belongs here: their text, and the condition that a search puts together.
Does not belong here: running them (`mem0_memories.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

# What the planner takes for cheaper where it has no figures yet, or few users: all rows of the table, with vectors and JSON.
# The time limit is of each statement: somebody waits for an answer.
BY_INDEX = """
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('statement_timeout', '10s', true)
"""
SEARCH = """
select id, payload, vector <=> cast(:vector as vector) as distance
from memory join (
    select id from memory where fingerprint = :fingerprint and {among} order by {order}, id limit :candidates
) nearest using (id)
order by distance, id
limit :k
"""
# One parameter has one type, and the vector is given whole.
BY_HALF = "half <=> cast(cast(:vector as vector) as halfvec)"
VERSIONS = "select id, payload from memory where key = :key order by from_s, id"
DELETE = "delete from memory where id = any(cast(:ids as uuid[]))"
# by the indexed column first: whatever expired before today ended before today
PURGE = """
delete from memory where id = any(array(
    select id from memory where until_s <= :began_s and payload ->> 'expiration_date' < :today limit :batch
))
"""
TOUCH = """
insert into memory_version (user_id, version) values (:user_id, 1)
on conflict (user_id) do update set version = memory_version.version + 1
"""
OF_OTHER_MODELS = "select id, payload ->> 'data' as text from memory where fingerprint <> :fingerprint order by id"
REEMBED = """
update memory set vector = cast(:vector as vector), transaction_id = default,
                  payload = jsonb_set(payload, '{fingerprint}', to_jsonb(cast(:fingerprint as text)))
where id = :id
"""


def among(
    ends_after: datetime, begun_by: datetime | None, kinds: Collection[str], domain: str | None
) -> tuple[str, dict[str, Any]]:
    """A condition on rows, and its values. What is not asked for is left out, so that the index alone can answer the rest."""
    parts = ["until_s > :ends_after"]
    values: dict[str, Any] = {"ends_after": ends_after.timestamp()}
    if begun_by is not None:
        parts.append("from_s <= :begun_by")
        values["begun_by"] = begun_by.timestamp()
    if kinds:
        parts.append("kind = any(cast(:kinds as text[]))")
        values["kinds"] = sorted(kinds)
    if domain is not None:
        parts.append("domain = :domain")
        values["domain"] = domain
    return " and ".join(parts), values
