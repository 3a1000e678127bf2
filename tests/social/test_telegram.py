"""Groups on Telegram, read by Telethon's client from recorded shapes."""

from __future__ import annotations

import struct
import traceback
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from telethon import errors
from telethon.tl import functions, types

from lpm_kernel.errors import SettingsError
from lpm_kernel.settings import SocialSettings
from lpm_kernel.social.telegram import ChatPoll, poll_telegram
from lpm_kernel.social.telegram_client import BREAKER, open_telegram, telegram_configured
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.open import Stores
from tests.social.said import Speaker
from tests.social.telegram_stand_in import NOON, NOW, Group, cursor_of, flood, joined, marked, message, reader_of


def test_a_group_is_read_and_its_cursor_stands_at_the_last_message(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    group.say(
        message(1, "I like rye.", ada.account_id),
        message(2, "I like wheat.", "77"),
        joined(3),
        message(4, "Rye it is.", ada.account_id, reply_to=types.MessageReplyHeader(reply_to_msg_id=2)),
        message(5, "From the admins.", None),
    )
    poll = look()
    counts = poll.counts
    assert (poll.title, poll.code, counts.new, counts.service, counts.not_own) == ("Canteen", None, 2, 1, 1)
    assert dict(counts.of_others) == {"77": 1}
    assert cursor_of(ada, group.name).position == {
        "message_id": 5,
        "again_after": None,
        "peer": {"channel": group.number, "access_hash": 42},
    }
    ada.make()
    assert ada.documents() == {
        f"telegram-{marked(group)}-2026-03-04.txt": "# Telegram, Canteen, 2026-03-04\n\nI like rye.\n\nRye it is.\n"
    }
    assert look().counts.stored == 0


def test_the_first_look_goes_back_as_far_as_the_settings_say(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], social: SocialSettings
) -> None:
    days = social.first_days
    group.say(
        message(1, "Long ago.", ada.account_id, date=NOW - timedelta(days=days + 1)),
        message(2, "In the window.", ada.account_id, date=NOW - timedelta(days=days - 1)),
    )
    assert look().counts.new == 1
    assert [text.splitlines()[-1] for text in (ada.make(), ada.documents())[1].values()] == ["In the window."]


@pytest.mark.parametrize("page_size", [100, 7, 1])
@pytest.mark.parametrize("order", ["newest first", "oldest first", "crossed", "twice"])
def test_pages_in_any_order_and_of_any_size_lose_nothing_and_store_nothing_twice(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], page_size: int, order: str
) -> None:
    """Telethon's own iterator stops at the first message out of order."""
    orders: dict[str, Callable[[list[Any]], list[Any]]] = {
        "newest first": lambda page: page,
        "oldest first": lambda page: page[::-1],
        "crossed": lambda page: page[::2] + page[1::2],
        "twice": lambda page: [*page, *page],
    }
    group.shuffle, group.page_size = orders[order], page_size
    group.say(*(message(number, f"Line {number}.", ada.account_id) for number in range(1, 31)))
    assert look().counts.new == 30
    group.say(*(message(number, f"Line {number}.", ada.account_id) for number in range(31, 41)))
    assert look().counts.new == 10
    ada.make()
    (text,) = ada.documents().values()
    assert text.split("\n\n")[1:] == [*(f"Line {number}." for number in range(1, 40)), "Line 40.\n"]


def test_what_a_page_left_out_comes_with_the_next_look(ada: Speaker, group: Group, look: Callable[..., ChatPoll]) -> None:
    group.say(*(message(number, f"Line {number}.", ada.account_id) for number in range(1, 6)))
    group.hidden = {2, 4}
    assert look().counts.new == 3
    assert cursor_of(ada, group.name).position["message_id"] == 5
    group.hidden = set()
    assert look().counts.new == 2


def test_an_edit_of_yesterday_is_found_and_a_reaction_is_none(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], social: SocialSettings
) -> None:
    group.say(message(1, "I like ray.", ada.account_id), message(2, "Lunch?", ada.account_id))
    group.say(*(message(number, "Words of others.", "77") for number in range(3, 300)))
    assert look(now=NOON + timedelta(hours=6)).counts.new == 2
    group.say(
        message(1, "I like rye.", ada.account_id, edit_date=NOON + timedelta(hours=7)),
        message(2, "Lunch?", ada.account_id, edit_date=NOON + timedelta(hours=7), edit_hide=True),
    )
    assert look(now=NOON + timedelta(hours=30)).counts.edited == 1
    assert look(now=NOON + timedelta(hours=30)).counts.stored == 0
    ada.make()
    (text,) = ada.documents().values()
    assert text.endswith("I like rye.\n\nLunch?\n")
    group.say(message(1, "I like oats.", ada.account_id, edit_date=NOON + timedelta(days=8)))
    late = look(now=NOON + timedelta(days=social.recheck_days + 8))
    assert late.counts.edited == 0, "how far back edits are looked for is a setting"


def test_a_message_that_is_gone_is_withdrawn(ada: Speaker, group: Group, look: Callable[..., ChatPoll]) -> None:
    group.say(message(1, "My PIN is 4711.", ada.account_id), message(2, "Lunch?", ada.account_id))
    look()
    ada.make()
    del group.messages[1]
    assert look().counts.deleted == 1
    assert ada.make().withdrawn == 1
    assert list(ada.documents().values()) == ["# Telegram, Canteen, 2026-03-04\n\nLunch?\n"]


def test_media_forwards_bots_and_quotations_are_not_the_persons_words(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    quoted = "🙂 She said so.\nI do not."
    group.say(
        message(1, "", ada.account_id, media=types.MessageMediaPhoto()),
        message(2, "My photograph.", ada.account_id, media=types.MessageMediaPhoto()),
        message(3, "Another's words.", ada.account_id, fwd_from=types.MessageFwdHeader(date=NOON)),
        message(4, "A bot's words.", ada.account_id, via_bot_id=9),
        message(5, quoted, ada.account_id, entities=[types.MessageEntityBlockquote(offset=0, length=16)]),
        message(6, "https://example.org", ada.account_id, media=types.MessageMediaWebPage(types.WebPageEmpty(1))),
    )
    poll = look()
    assert (poll.counts.new, poll.counts.media, poll.counts.not_own) == (4, 2, 2)
    ada.make()
    (text,) = ada.documents().values()
    assert text.split("\n\n")[1:] == ["My photograph.", "I do not.", "https://example.org\n"]


def test_a_pause_that_telegram_asks_for_keeps_the_cursor_and_what_was_read(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    group.page_size = 2
    group.say(*(message(number, f"Line {number}.", ada.account_id) for number in range(1, 7)))
    group.fails = [flood(2, 420)]
    poll = look()
    assert (poll.code, poll.counts.new, poll.not_before) == ("telegram_flood", 4, NOW + timedelta(seconds=420))
    held = cursor_of(ada, group.name)
    assert (held.position["message_id"], held.code) == (4, "telegram_flood")
    assert held.not_before == NOW + timedelta(seconds=420)
    group.fails = []
    again = look(now=NOW + timedelta(seconds=421))
    assert (again.code, again.counts.new) == (None, 2)
    assert cursor_of(ada, group.name).not_before is None


def test_a_pause_holds_for_all_groups_and_a_closed_one_for_itself(ada: Speaker, group: Group, social: SocialSettings) -> None:
    group.say(message(1, "I like rye.", ada.account_id))
    closed, name = f"closed{group.number}", str(group.name)
    with closing(reader_of(group)) as reader:
        polls = poll_telegram(ada.stores.tables, reader, social, [closed, name], NOW)
        assert [poll.code for poll in polls] == ["telegram_no_access", None]
        assert polls[0].not_before == NOW + timedelta(hours=1)
        assert closed in (polls[0].reason or "")
        group.fails = [flood(0, 60)]
        polls = poll_telegram(ada.stores.tables, reader, social, [name, closed], NOW)
    assert [poll.code for poll in polls] == ["telegram_flood"], "nothing more is asked"


@pytest.mark.parametrize("error", [errors.ChannelPrivateError, errors.ChatAdminRequiredError, errors.UserBannedInChannelError])
def test_a_group_that_the_account_may_not_read_says_so(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], error: type[Exception]
) -> None:
    history = functions.messages.GetHistoryRequest
    group.fails = [lambda request: error(request) if isinstance(request, history) else None]  # type: ignore[call-arg]
    poll = look()
    assert poll.code == "telegram_no_access"
    assert "join" in (poll.reason or "")
    group.fails = []
    group.say(message(1, "Here again.", ada.account_id))
    assert look().code is None
    assert cursor_of(ada, group.name).code is None


def test_a_group_that_can_be_read_again_with_nothing_new_is_no_longer_marked(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    group.fails = [lambda request: errors.ChannelPrivateError(request)]
    look()
    group.fails = []
    assert look().code is None
    assert cursor_of(ada, group.name).code is None


def test_a_private_group_is_found_by_its_number_and_its_words_stay_private(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    from lpm_kernel.stores.documents import private_documents

    group.name = None
    group.say(message(1, "Between us.", ada.account_id))
    assert look(marked(group)).counts.new == 1
    ada.make()
    with ada.stores.tables.transaction(ada.user_id) as connection:
        assert len(private_documents(connection, ada.user_id)) == 1
    foreign = look("-100999")
    assert foreign.code == "telegram_no_access"


def test_one_look_reads_so_much_and_the_next_goes_on(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], social: SocialSettings
) -> None:
    group.say(*(message(number, f"Line {number}.", ada.account_id) for number in range(1, 451)))
    few = social.model_copy(update={"messages_a_poll": 200})
    looks = [look(settings=few) for _ in range(4)]
    assert [(poll.counts.new, poll.left) for poll in looks] == [(200, True), (200, True), (50, False), (0, False)]


def test_an_account_that_becomes_known_has_what_it_said_read(
    stores: Stores, new_user: Callable[[], str], ada: Speaker, group: Group, look: Callable[..., ChatPoll]
) -> None:
    ben = Speaker.__new__(Speaker)
    ben.stores, ben.user_id, ben.account_id, ben.adapters = stores, new_user(), f"8{ada.account_id}", ada.adapters
    group.say(message(1, "I am Ben.", ben.account_id), *(message(n, "Ada.", ada.account_id) for n in range(2, 300)))
    assert dict(look().counts.of_others) == {ben.account_id: 1}
    from lpm_kernel.social.store import link_account

    link_account(stores.tables, ben.user_id, "telegram", ben.account_id, NOW)
    assert look().counts.new == 1
    ben.make()
    assert [text.splitlines()[-1] for text in ben.documents().values()] == ["I am Ben."]


def test_a_session_that_is_signed_in_no_more_is_named(ada: Speaker, group: Group, social: SocialSettings) -> None:
    with pytest.raises(SettingsError) as caught:
        reader_of(group, signed_in=False)
    assert caught.value.code == "telegram_not_signed_in"
    group.fails = [lambda request: errors.AuthKeyUnregisteredError(request)]
    with closing(reader_of(group)) as reader, pytest.raises(SettingsError):
        poll_telegram(ada.stores.tables, reader, social, [str(group.name)], NOW)


def test_without_groups_or_keys_telegram_is_off_and_says_what_lacks(stores: Stores) -> None:
    settings = stores.settings
    assert "telegram_chats" in str(telegram_configured(settings, {}))
    named = settings.model_copy(update={"social": settings.social.model_copy(update={"telegram_chats": ("canteen",)})})
    lacks = telegram_configured(named, {"TELEGRAM_API_ID": "1"})
    assert lacks == "not set: TELEGRAM_API_HASH, TELEGRAM_SESSION"
    keys = {"TELEGRAM_API_ID": "1", "TELEGRAM_API_HASH": "h", "TELEGRAM_SESSION": "no session"}
    assert telegram_configured(named, keys) is None
    with pytest.raises(SettingsError) as caught:
        open_telegram(settings, keys)
    assert caught.value.code == "telegram_not_configured"
    with pytest.raises(SettingsError) as broken:
        open_telegram(named, keys)
    assert broken.value.code == "address_invalid"
    assert "no session" not in broken.value.message.replace("no session", "", 1)


def test_a_number_that_is_none_is_not_quoted_with_its_error(stores: Stores) -> None:
    """Somebody may have mixed up the three, and what Dagster keeps of an error are its causes too."""
    named = stores.settings.model_copy(
        update={"social": stores.settings.social.model_copy(update={"telegram_chats": ("canteen",)})}
    )
    session = "1" + urlsafe_b64encode(struct.pack(">B4sH256s", 2, bytes((127, 0, 0, 1)), 443, bytes(256))).decode()
    keys = {"TELEGRAM_API_ID": "h4sh-of-" + "telegram", "TELEGRAM_API_HASH": "h", "TELEGRAM_SESSION": session}
    with pytest.raises(SettingsError) as broken:
        open_telegram(named, keys)
    assert broken.value.code == "address_invalid"
    assert keys["TELEGRAM_API_ID"] not in "".join(traceback.format_exception(broken.value))


def test_one_that_answers_late_is_a_failure_of_this_look(
    ada: Speaker, group: Group, social: SocialSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    group.fails = [lambda request: ConnectionResetError("gone")]
    with closing(reader_of(group)) as reader:
        (poll,) = poll_telegram(ada.stores.tables, reader, social, [str(group.name)], NOW)
    assert (poll.code, poll.not_before) == ("telegram_unreachable", None)
    assert replace(cursor_of(ada, group.name), reason=None).code == "telegram_unreachable"


def test_where_telegram_does_not_answer_no_group_waits_for_it_any_more(
    ada: Speaker, group: Group, social: SocialSettings
) -> None:
    """With fifty groups a look waited fifty times for a network that was gone. A pause that Telegram asks for is an answer."""
    breaker = Breaker(*BREAKER, name="telegram")
    names = [f"{group.name}{number}" for number in range(BREAKER[0] + 5)]

    def look_until(fails: Callable[[Any], Exception]) -> tuple[list[str | None], int]:
        asked: list[Any] = []
        group.fails = [lambda request: (asked.append(request), fails(request))[1]]
        with closing(reader_of(group, breaker=breaker)) as reader:
            polls = poll_telegram(ada.stores.tables, reader, social, names, NOW)
        return [poll.code for poll in polls], len(asked)

    codes, _ = look_until(lambda request: errors.FloodWaitError(request, capture=60))
    assert codes == ["telegram_flood"]
    look_until(lambda request: errors.ChannelPrivateError(request))
    assert breaker.circuit().state == "closed"
    codes, asked = look_until(lambda _: ConnectionResetError("gone"))
    assert codes == ["telegram_unreachable"] * len(names)
    assert asked == BREAKER[0]
    assert (breaker.circuit().state, breaker.circuit().trips) == ("open", 1)
