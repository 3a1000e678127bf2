"""How far a group was read, as its cursor keeps it.

Belongs here: from where a look begins, and how its place moves with each page.
Does not belong here: reading pages (`telegram.py`), and rows of cursors (`stores/social_cursors.py`).

What one look took in is read again by the next one as a whole: Telegram tells messages out of order, and leaves some out of a
page. What was read twice is not read a third time, also where a look breaks off, so that it goes on however short each is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

OVERLAP = 100
"""Messages before the newest that are read again in any case."""


@dataclass(frozen=True, slots=True)
class Reach:
    """`newest`: the last message that was read, None before the first look. `again_after`: what came after it was read once;
    None: all of the first look. `begun_at`: the newest when this look began, 0 at the first."""

    newest: int | None
    again_after: int | None
    begun_at: int

    @property
    def first(self) -> int | None:
        """After which message a look begins; None: with the window of the settings."""
        if self.newest is None or self.again_after is None:
            return None
        return max(0, min(self.again_after, self.newest - OVERLAP))

    @property
    def position(self) -> dict[str, Any]:
        return {} if self.newest is None else {"message_id": self.newest, "again_after": self.again_after}


def reach_of(position: Mapping[str, Any]) -> Reach:
    """Of a cursor, also of one that was written before it said what was read once."""
    newest: int | None = position.get("message_id")
    return Reach(newest, position.get("again_after", newest), newest or 0)


def after_page(reach: Reach, ids: Collection[int]) -> Reach:
    again_after = reach.again_after
    if reach.begun_at:
        again_after = max(again_after or 0, min(max(ids), reach.begun_at))
    return replace(reach, newest=max(reach.newest or 0, *ids), again_after=again_after)


def after_look(reach: Reach) -> Reach:
    """All that was read once before it was read again, as far as it is still there."""
    return replace(reach, again_after=reach.begun_at or None)
