"""Cursors: each leads back to its place, and nothing else is taken for one."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import UserInputError
from lpm_kernel.paging import make_cursor, read_cursor, take_page


@given(st.text('aZ0é🍵"\\\x00 \n=-_', max_size=40), st.integers(-(2**62), 2**62))
def test_a_cursor_leads_back_to_its_place(words: str, number: int) -> None:
    assert read_cursor("list", make_cursor("list", words, number), (str, int)) == [words, number]


@given(st.text('aZ09é"=-_+/ {}[]\x00', max_size=500))
def test_nothing_else_is_a_cursor(words: str) -> None:
    with pytest.raises(UserInputError) as caught:
        read_cursor("list", words, (int,))
    assert caught.value.code == "cursor_invalid"


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        make_cursor("other", 1),
        make_cursor("list", "1"),
        make_cursor("list", 1, 2),
        encoded(["list", True]),
        encoded(["list", 1 << 70]),
        encoded({"list": 1}),
        encoded(None),
    ],
)
def test_a_cursor_of_another_list_or_form_is_refused(cursor: str) -> None:
    with pytest.raises(UserInputError):
        read_cursor("list", cursor, (int,))


def test_the_last_page_has_no_cursor() -> None:
    assert take_page([1, 2, 3], 2, str).next_cursor == "2"
    assert take_page([1, 2], 2, str).next_cursor is None
    assert take_page([], 2, str).next_cursor is None
