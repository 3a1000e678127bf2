"""A post of X's API (v2), or of an archive of X, to one of our messages.

Belongs here: what of a post is its writer's own words, and which thread it goes on.
Does not belong here: asking for posts (`x_client.py`) and opening an archive (`x_archive.py`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lpm_kernel.errors import IngestionError
from lpm_kernel.social.records import Chat, Counts, SocialMessage, clean_text

FIELDS = (
    "attachments", "author_id", "conversation_id", "created_at", "edit_history_tweet_ids", "entities", "in_reply_to_user_id",
    "note_tweet", "referenced_tweets",
)  # fmt: skip
"""What a request must ask for."""
_REPOST = re.compile(r"RT @\w+:")
_ANSWERED = re.compile(r"\s*(?:@\w{1,30}\s+)+")
_PICTURE = re.compile(r"pic\.(?:twitter|x)\.com/")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ARCHIVE_TIME = re.compile(r"\w{3} (\w{3}) (\d\d) (\d\d):(\d\d):(\d\d) \+0000 (\d{4})")


@dataclass(frozen=True, slots=True)
class LongText:
    """`links`: as those of a post, each with `url` and `expanded_url`."""

    text: str
    links: tuple[Mapping[str, Any], ...] = ()


def chat_of(account_id: str, *, public: bool = True) -> Chat:
    """What X shows to a token of nobody's is public; an archive does not say whether its account is protected."""
    return Chat("x", account_id, "", public=public)


def post_of_api(wire: Mapping[str, Any], account_id: str, counts: Counts) -> SocialMessage | None:
    """None for a repost. Raises: IngestionError `post_foreign`."""
    referred = {item.get("type") for item in wire.get("referenced_tweets") or ()}
    long_text = (wire.get("note_tweet") or {}).get("text")
    text = long_text or wire.get("text") or ""
    if "retweeted" in referred or _REPOST.match(text):
        counts.not_own += 1
        return None
    try:
        own_id, thread = int(wire["id"]), int(wire.get("conversation_id") or wire["id"])
        sent_at = datetime.fromisoformat(wire["created_at"].replace("Z", "+00:00"))
        ids = [int(item) for item in wire.get("edit_history_tweet_ids") or (own_id,)]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _foreign() from None
    answers = wire.get("in_reply_to_user_id")
    entities = ((wire.get("note_tweet") or {}).get("entities") if long_text else None) or wire.get("entities") or {}
    return _post(
        account_id,
        own_id,
        ids,
        sent_at,
        words_of(text, entities.get("urls") or (), is_answer=answers is not None or "replied_to" in referred),
        thread if str(answers) == account_id and thread != own_id else None,
        "media" if (wire.get("attachments") or {}).get("media_keys") else None,
        whole=bool(long_text),
    )


def post_of_archive(
    wire: Mapping[str, Any],
    account_id: str,
    thread_id: int | None,
    counts: Counts,
    long_text: Callable[[datetime, str], LongText | None] = lambda sent_at, text: None,
) -> SocialMessage | None:
    """`thread_id`: of a post that goes on an own one. `long_text`: all that a post says of which the archive shows how it
    begins. None for a repost. Raises: IngestionError `post_foreign`.
    """
    text = wire.get("full_text") or wire.get("text")
    if not isinstance(text, str):
        raise _foreign()
    if _REPOST.match(text):
        counts.not_own += 1
        return None
    try:
        own_id, sent_at = int(wire["id_str"]), _archive_time(wire["created_at"])
        info = wire.get("edit_info") or {}
        edits = info.get("initial") or (info.get("edit") or {}).get("editControlInitial") or {}
        ids = [int(item) for item in edits.get("editTweetIds") or (own_id,)]
        entities = wire.get("entities") or {}
        media = (wire.get("extended_entities") or entities).get("media") or ()
        links = [*(entities.get("urls") or ()), *media]
        kind = str(media[0].get("type") or "media") if media else None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _foreign() from None
    is_answer = bool(wire.get("in_reply_to_status_id_str") or wire.get("in_reply_to_user_id_str"))
    told = long_text(sent_at, text)
    if told is not None:
        text, links = told.text, [*told.links, *media]
    words = words_of(text, links, is_answer=is_answer)
    return _post(account_id, own_id, ids, sent_at, words, thread_id, kind, whole=told is not None)


def words_of(text: str, links: Sequence[Mapping[str, Any]], *, is_answer: bool) -> str:
    """The writer's words: without the names of whom they answer, which X puts before them, and with links as they were meant.

    Why: X writes each link as one of its own, and & < > as HTML does.
    """
    if is_answer and (names := _ANSWERED.match(text + " ")):
        text = text[names.end() :]
    for link in links:
        short, meant = link.get("url"), link.get("expanded_url")
        if isinstance(short, str) and short:
            of_picture = _PICTURE.match(str(link.get("display_url") or ""))
            text = text.replace(short, "" if of_picture or not isinstance(meant, str) else meant)
    return html.unescape(text)


def _post(
    account_id: str,
    own_id: int,
    ids: list[int],
    sent_at: datetime,
    text: str,
    thread_id: int | None,
    media: str | None,
    *,
    whole: bool,
) -> SocialMessage:
    """An edit has an id of its own on X: all versions of a post are one message, under the id of the first. `whole`: of a long
    post all of it, which counts as a later version than its beginning."""
    version = 2 * (ids.index(own_id) if own_id in ids else len(ids)) + whole
    first = ids[0] if own_id in ids else own_id
    return SocialMessage("x", account_id, first, account_id, sent_at, clean_text(text), version, thread_id, media)


def _archive_time(text: str) -> datetime:
    """As `Wed Oct 10 20:19:24 +0000 2018`. Why not strptime: its months are of the machine's language."""
    found = _ARCHIVE_TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    month, *numbers = found.groups()
    day, hour, minute, second, year = map(int, numbers)
    return datetime(year, _MONTHS.index(month) + 1, day, hour, minute, second, tzinfo=UTC)


def _foreign() -> IngestionError:
    return IngestionError(
        "post_foreign", "a post is not of the form that X gives it: it is of a newer version of X than this reader"
    )
