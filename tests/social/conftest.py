"""A group on Telegram of each test's own, and a look at it.

Belongs here: what several tests of groups are given.
Does not belong here: Telegram's answers (`telegram_stand_in.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime

import pytest

from lpm_kernel.settings import SocialSettings
from lpm_kernel.social.telegram import ChatPoll, poll_telegram
from lpm_kernel.stores.open import Stores
from tests.social.said import Speaker
from tests.social.telegram_stand_in import NOW, Group, reader_of


@pytest.fixture
def ada(stores: Stores, new_user: Callable[[], str]) -> Speaker:
    return Speaker(stores, new_user())


@pytest.fixture
def group(ada: Speaker) -> Group:
    """A cursor belongs to no user, so each test reads a group of its own."""
    number = int(ada.account_id) % 10**9 + 1
    return Group(name=f"canteen{number}", number=number)


@pytest.fixture
def social(stores: Stores) -> SocialSettings:
    return stores.settings.social


@pytest.fixture
def look(ada: Speaker, group: Group, social: SocialSettings) -> Callable[..., ChatPoll]:
    def take(name: str | None = None, now: datetime = NOW, settings: SocialSettings = social) -> ChatPoll:
        with closing(reader_of(group)) as reader:
            (poll,) = poll_telegram(ada.stores.tables, reader, settings, [name or str(group.name)], now)
        return poll

    return take
