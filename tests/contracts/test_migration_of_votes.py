"""The upgrade of votes over rows that an older version left: when proposals were drafted, and what drafts in answers quote."""

from __future__ import annotations

import json

from sqlalchemy import create_engine, text

from lpm_kernel.stores.tables import upgrade_tables
from tests.contracts.test_migrations import empty_schema

__all__ = ["empty_schema"]  # a fixture
THERE, GONE, NEVER = ("a" * 64, "b" * 64, "c" * 64)
BEFORE = "0025"


def cited(*sha256s: str) -> str:
    return json.dumps([{"document_sha256": each, "byte_start": 3, "byte_end": 9} for each in sha256s])


def test_drafts_name_what_their_answers_quoted_and_go_with_what_is_gone(empty_schema: str) -> None:
    """A document was deleted, and the reasons that quoted it stayed: they were older than the names of what they quote."""
    from alembic import command

    from lpm_kernel.stores.tables import _alembic_config

    engine = create_engine(empty_schema)
    answers = {"m-there": cited(THERE, THERE), "m-gone": cited(THERE, GONE), "m-never": cited(NEVER), "m-none": cited()}
    try:
        with engine.begin() as connection:
            command.upgrade(_alembic_config(connection), BEFORE)
            connection.execute(text("set local app.user_id = 'ada'"))
            connection.execute(text("insert into app_user (user_id) values ('ada')"))
            for sha256, status in ((THERE, "read"), (GONE, "deleted")):
                row = (
                    "insert into document (user_id, sha256, filename, mime, size_bytes, source, created_by, created_at, "
                    "status, pending, change_id) values ('ada', :sha256, :status, 'text/plain', 1, 'upload', 'user', now(), "
                    ":status, false, 'c')"
                )
                connection.execute(text(row), {"sha256": sha256, "status": status})
            for message_id, citations in answers.items():
                said = (
                    "insert into chat_message (user_id, message_id, session_id, sender, ts, content, citations) "
                    "values ('ada', :id, 's', 'twin', now(), 'I vote.', cast(:citations as jsonb))"
                )
                connection.execute(text(said), {"id": message_id, "citations": citations})
                draft = (
                    "insert into ballot_draft (user_id, draft_id, message_id, proposal, choice, reason, created_at) "
                    "values ('ada', 'd-' || :id, :id, 'p', 'for', 'It is so.', now())"
                )
                connection.execute(text(draft), {"id": message_id})
            connection.execute(
                text(
                    "insert into ballot_draft (user_id, draft_id, proposal, choice, reason, created_at, citations) "
                    f"values ('ada', 'own', 'p', 'for', 'It is so.', now(), array['{GONE}:0-1'])"
                )
            )
        upgrade_tables(empty_schema)
        with engine.begin() as connection:
            connection.execute(text("set local app.user_id = 'ada'"))
            rows = connection.execute(text("select draft_id, citations, reason, withdrawn from ballot_draft")).all()
            found = {row.draft_id: (row.citations, row.reason, row.withdrawn) for row in rows}
            forced = "select bool_and(relforcerowsecurity) from pg_class where oid = any (array[{}])"
            fenced = ("ballot_draft", "chat_message", "document", "dao_event", "dao_proposal")
            named = ", ".join(f"'{each}'::regclass" for each in fenced)
            assert connection.execute(text(forced.format(named))).scalar_one()
    finally:
        engine.dispose()
    assert found == {
        "d-m-there": ([f"{THERE}:3-9"], "It is so.", False),
        "d-m-gone": ([f"{THERE}:3-9"], None, True),
        "d-m-never": ([], None, True),
        "d-m-none": ([], "It is so.", False),
        "own": ([f"{GONE}:0-1"], "It is so.", False),
    }


def test_proposals_of_before_know_when_they_were_drafted(empty_schema: str) -> None:
    from alembic import command

    from lpm_kernel.stores.tables import _alembic_config

    engine = create_engine(empty_schema)
    event = (
        "insert into dao_event (seq, at, actor, kind, proposal_id, payload, previous_hash, hash) "
        "values (:seq, :at, 'ada', :kind, 'p-1', '{}', :previous, :hash)"
    )
    try:
        with engine.begin() as connection:
            command.upgrade(_alembic_config(connection), BEFORE)
            connection.execute(text("set local app.user_id = 'ada'"))
            connection.execute(text("alter table dao_event no force row level security"))
            connection.execute(text("alter table dao_proposal no force row level security"))
            for seq, kind in ((1, "proposal_drafted"), (2, "proposal_opened")):
                said = {"seq": seq, "at": f"2026-03-0{seq} 12:00+00", "kind": kind, "previous": str(seq - 1), "hash": str(seq)}
                connection.execute(text(event), said)
            connection.execute(
                text(
                    "insert into dao_proposal (proposal_id, proposer, topic, status, last_seq) "
                    "values ('p-1', 'ada', 't', 'open', 2)"
                )
            )
            connection.execute(text("alter table dao_event force row level security"))
            connection.execute(text("alter table dao_proposal force row level security"))
        upgrade_tables(empty_schema)
        with engine.begin() as connection:
            forced = text("select relforcerowsecurity from pg_class where oid = 'dao_proposal'::regclass")
            assert connection.execute(forced).scalar_one()
            connection.execute(text("alter table dao_proposal no force row level security"))
            when = text("select drafted_at at time zone 'utc' from dao_proposal")
            assert str(connection.execute(when).scalar_one()) == "2026-03-01 12:00:00"
    finally:
        engine.dispose()
