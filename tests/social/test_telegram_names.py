"""What a group is called where an invitation may not be read, and what is read again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lpm_kernel.settings import SocialSettings
from lpm_kernel.social.telegram import ChatPoll
from lpm_kernel.social.telegram_names import is_key, key_of, names_by_key, without_invitations
from lpm_kernel.social.telegram_reach import OVERLAP, Reach, after_look, after_page, reach_of
from tests.social.said import Speaker
from tests.social.telegram_stand_in import Group, flood, message

HASH = "AbCd_efGH-ijKLmnop"
LINKS = [
    f"https://t.me/+{HASH}", f"t.me/+{HASH}", f"HTTP://T.ME/+{HASH}/", f"https://t.me/joinchat/{HASH}?x=1", f" +{HASH} ",
    f"https://telegram.me/joinchat/{HASH}", f"https://www.telegram.dog/+{HASH}", f"tg://join?invite={HASH}",
]  # fmt: skip


@pytest.mark.parametrize("link", LINKS)
def test_each_way_to_write_an_invitation_has_one_key_that_does_not_tell_it(link: str) -> None:
    assert key_of(link) == key_of(LINKS[0])
    assert is_key(key_of(link))
    assert HASH not in key_of(link)
    told = without_invitations(f"Telegram: '{link}' lets nobody in")
    assert HASH not in told
    assert told.endswith("' lets nobody in")


@pytest.mark.parametrize(
    "name", ["canteen", "@canteen", "https://t.me/canteen", "-1001234567", "+15551234567", f"https://paint.me/+{HASH}"]
)
def test_any_other_name_is_its_own_key(name: str) -> None:
    assert key_of(name) == without_invitations(name) == name
    assert not is_key(name)


def test_groups_are_chosen_by_name_or_by_key_each_once() -> None:
    key = key_of(LINKS[0])
    assert names_by_key([key, "b"], ["a", LINKS[0], "b"]) == {key: LINKS[0], "b": "b"}
    assert list(names_by_key(LINKS, LINKS)) == [key]
    assert names_by_key([key, "c"], ["a"]) == {key: key, "c": "c"}


def test_a_look_reads_again_what_the_last_one_took_and_no_page_a_third_time() -> None:
    first = after_page(reach_of({}), range(401, 501))
    assert reach_of(first.position) == Reach(500, None, 500), "all of the first look, as far as it came"
    second = reach_of(after_look(after_page(first, range(501, 701))).position)
    assert (second.first, second.begun_at) == (None, 700)
    broke_off = after_page(second, range(401, 501))
    assert reach_of(broke_off.position).first == 500, "this much was read twice"
    went_on = after_page(broke_off, range(501, 901))
    third = reach_of(after_look(went_on).position)
    assert (third.first, third.newest) == (700, 900)
    assert reach_of(after_look(third).position).first == 900 - OVERLAP


def test_a_cursor_that_does_not_say_what_was_read_once_is_read_on() -> None:
    assert reach_of({"message_id": 500}).first == 500 - OVERLAP
    assert reach_of({"message_id": 5}).first == 0


@pytest.mark.parametrize("looks_before", [0, 1])
def test_what_was_left_out_of_an_early_page_of_a_long_look_comes_with_the_next(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], looks_before: int
) -> None:
    """Only the last hundred messages were read again: a hole before them stayed for ever."""
    start = 1
    if looks_before:
        group.say(message(1, "Before.", ada.account_id))
        look()
        start = 2
    group.say(*(message(number, f"Line {number}.", ada.account_id) for number in range(start, start + 300)))
    group.hidden = {start + 10, start + 120}
    assert look().counts.new == 298
    group.hidden = set()
    poll = look()
    assert (poll.counts.new, poll.counts.edited, poll.counts.deleted) == (2, 0, 0)
    group.asked.clear()
    assert look().pages == 1, "and it is not read again and again"


def test_looks_that_break_off_go_on_all_the_same(
    ada: Speaker, group: Group, look: Callable[..., ChatPoll], social: SocialSettings
) -> None:
    group.say(*(message(number, f"Line {number}.", ada.account_id) for number in range(1, 451)))
    new = list[int]()
    for _ in range(12):
        group.fails = [flood(2, 60)]
        new.append(look().counts.new)
    assert sum(new) == 450
