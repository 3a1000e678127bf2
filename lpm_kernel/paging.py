"""Pages of a long list: where one page ended, as a word that only this program reads.

Belongs here: cursors and the bounds of a page.
Does not belong here: the queries (`stores/`), which go on behind the place that a cursor names.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lpm_kernel.errors import UserInputError

T = TypeVar("T")
Key = str | int
PAGE_ITEMS = 50
MAX_PAGE_ITEMS = 200
MAX_CURSOR_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next_cursor` is None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None


def make_cursor(of: str, *place: Key) -> str:
    """`of` names the list, so that a cursor of one list is none of another."""
    return base64.urlsafe_b64encode(json.dumps([of, *place], ensure_ascii=False).encode()).decode().rstrip("=")


def read_cursor(of: str, cursor: str, form: Sequence[type]) -> list[Key]:
    """The place that a cursor names. Raises: UserInputError `cursor_invalid` for whatever `make_cursor` did not make."""
    try:
        if len(cursor) > MAX_CURSOR_CHARACTERS:
            raise ValueError
        data = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = json.loads(data.decode())
        fits = isinstance(found, list) and len(found) == len(form) + 1 and found[0] == of
        if not fits or any(type(part) is not kind for part, kind in zip(found[1:], form, strict=True)):
            raise ValueError
        if any(isinstance(part, int) and abs(part) >= 1 << 63 for part in found):
            raise ValueError
    except (ValueError, binascii.Error, RecursionError):
        raise UserInputError(
            "cursor_invalid", "this is no cursor of that list: take `next_cursor` of the page before"
        ) from None
    return found[1:]


def take_page(rows: Sequence[T], limit: int, cursor_of: Callable[[T], str]) -> Page[T]:
    """A page of `limit` out of rows of which one more than that was asked for: the one more says that another page follows."""
    items = tuple(rows[:limit])
    return Page(items, cursor_of(items[-1]) if items and len(rows) > limit else None)
