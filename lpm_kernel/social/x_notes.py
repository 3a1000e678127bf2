"""Long posts of an archive of X: `tweets.js` holds how each begins, and `note-tweet.js` all of it under another number.

Belongs here: that file's form, and which of its texts is which post's.
Does not belong here: the posts (`x_archive.py`, `x_wire.py`).

Nothing in the archive names one by the other, so both must agree: written in the same moment, and beginning with the same
words. Where that fits several or none, the post stays as it is shown.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from lpm_kernel.social.x_wire import LongText

APART_S = 2
"""Between the moments that the two files give one post; that of a post is a whole second."""
SHORTEST = 100
"""Characters that must be shown and the same: what is cut off by X shows more than twice as many."""
_MORE = re.compile(r"(?:\s*https://t\.co/\w+)*\s*$")
_ANSWERED = re.compile(r"\s*(?:@\w{1,30}\s+)+")


class Notes:
    """All long texts of an archive, by the second in which they were written."""

    def __init__(self, notes: Iterable[Any]) -> None:
        self._by_second: dict[int, list[LongText]] = {}
        for item in notes:
            found = _note_of(item)
            if found is not None:
                self._by_second.setdefault(found[0], []).append(found[1])

    def of_post(self, sent_at: datetime, shown: str) -> LongText | None:
        """`shown`: the text of the post, as it stands in the archive."""
        beginning = _plain(_MORE.sub("", shown).removesuffix("…"))
        if len(beginning) < SHORTEST:
            return None
        at = _second_of(sent_at)
        near = [note for second in range(at - APART_S, at + APART_S + 1) for note in self._by_second.get(second, ())]
        fits = [note for note in near if _plain(note.text).startswith(beginning)]
        return fits[0] if len(fits) == 1 else None


def _second_of(at: datetime) -> int:
    """Since 1970. Why not a time: in another zone, or two seconds apart, the first and the last there are would be none."""
    return math.floor(at.timestamp())


def _plain(text: str) -> str:
    """Without whom it answers, which either file may leave out, and without what is written in two ways."""
    named = _ANSWERED.match(text + " ")
    return " ".join(html.unescape(text[named.end() :] if named else text).split())


def _note_of(item: Any) -> tuple[int, LongText] | None:
    """None for what has another form: its post is then what is shown of it."""
    note = item.get("noteTweet") if isinstance(item, dict) else None
    core = note.get("core") if isinstance(note, dict) else None
    text = core.get("text") if isinstance(core, dict) else None
    if not isinstance(note, dict) or not isinstance(core, dict) or not isinstance(text, str):
        return None
    urls = core.get("urls") or []
    if not isinstance(urls, list):
        return None
    try:
        at = datetime.fromisoformat(str(note.get("createdAt")).replace("Z", "+00:00"))
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    links = tuple(
        {
            "url": link.get("shortUrl", link.get("url")),
            "expanded_url": link.get("expandedUrl", link.get("expanded_url")),
            "display_url": link.get("displayUrl", link.get("display_url")),
        }
        for link in urls
        if isinstance(link, dict)
    )
    return _second_of(at), LongText(text, links)
