"""Real group chats through the storing path, where the public logs are there."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest

from bench.irc import LOGS, most_talkative, read_logs
from lpm_kernel.social.file_import import EVERYTHING
from lpm_kernel.social.store import link_account, store_page
from lpm_kernel.stores.open import Stores
from tests.social.said import NOON, Speaker

pytestmark = pytest.mark.skipif(not LOGS.exists(), reason=f"{LOGS} is not there")


def test_a_thousand_lines_of_a_real_group_are_stored_once_for_who_said_them(
    stores: Stores, new_user: Callable[[], str]
) -> None:
    chat, messages = next(iter(read_logs()))
    messages = list(islice(messages, 1000))
    owners, speakers = {}, []
    for account_id in most_talkative([(chat, messages)], 5):
        speaker = Speaker(stores, new_user())
        link_account(stores.tables, speaker.user_id, "telegram", account_id, NOON)
        owners[account_id] = speaker.user_id
        speakers.append((account_id, speaker))
    of_users = [message for message in messages if message.account_id in owners]
    first, _ = store_page(stores.tables, chat, messages, owners, NOON)
    again, _ = store_page(stores.tables, chat, messages[::-1], owners, NOON)
    assert (first.new, first.of_others.total()) == (len(of_users), len(messages) - len(of_users))
    assert (again.stored, again.known) == (0, len(of_users))
    for account_id, speaker in speakers:
        assert speaker.make(EVERYTHING).made == 1
        (text,) = speaker.documents().values()
        by_time = sorted(messages, key=lambda message: (message.sent_at, message.message_id))
        said = [message.text for message in by_time if message.account_id == account_id and message.text]
        assert text.split("\n\n", 1)[1] == "\n\n".join(said) + "\n"
