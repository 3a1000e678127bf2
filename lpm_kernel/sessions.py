"""Conversations, looked through page by page.

Belongs here: which sessions a user has had, and what was said in one.
Does not belong here: holding one (`chat.py`).
"""

from __future__ import annotations

from lpm_kernel.chat import check_session_id
from lpm_kernel.errors import UserInputError
from lpm_kernel.paging import Page, make_cursor, read_cursor, take_page
from lpm_kernel.records import ChatMessage, check_user_id
from lpm_kernel.stores.conversations import Session, list_messages, list_sessions
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import get_user


def page_of_sessions(stores: Stores, user_id: str, *, cursor: str | None = None, limit: int) -> Page[Session]:
    """The one that began last first. Raises: UserInputError `twin_not_found`, `cursor_invalid`; StoreError."""
    check_user_id(user_id)
    before = int(read_cursor("sessions", cursor, (int,))[0]) if cursor is not None else None
    with stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        rows = list_sessions(connection, user_id, before=before, limit=limit + 1)
    return take_page(rows, limit, lambda session: make_cursor("sessions", session.first))


def page_of_messages(
    stores: Stores, user_id: str, session_id: str, *, cursor: str | None = None, limit: int
) -> Page[tuple[int, ChatMessage]]:
    """As they were said, each with its place; the cursor of the last page's end finds what is said later.

    Raises: UserInputError `twin_not_found`, `session_id_invalid`, `session_unknown`, `cursor_invalid`; StoreError.
    """
    check_user_id(user_id)
    check_session_id(session_id)
    of = f"messages {session_id}"
    after = int(read_cursor(of, cursor, (int,))[0]) if cursor is not None else 0
    with stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        rows = list_messages(connection, user_id, session_id, after=after, limit=limit + 1)
    if not rows and cursor is None:
        raise UserInputError("session_unknown", f"user {user_id} has no session {session_id!r}")
    return take_page(rows, limit, lambda row: make_cursor(of, row[0]))
