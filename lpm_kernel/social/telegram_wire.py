"""A message of Telegram's API, as Telethon gives it, to one of ours.

Belongs here: what of it is the sender's own words.
Does not belong here: asking for messages (`telegram_client.py`), and what Telegram Desktop exports (`telegram_export.py`).
"""

from __future__ import annotations

import re
from typing import Any

from lpm_kernel.social.records import Chat, Counts, SocialMessage, clean_text

QUOTATION = "MessageEntityBlockquote"
_MEDIA = re.compile(r"^MessageMedia(?P<kind>\w+)$")
NO_MEDIA = frozenset({"Empty", "WebPage"})
"""Of these nothing is left out: a web page is Telegram's preview of a link that stands in the text."""


def message_of(wire: Any, chat: Chat, counts: Counts) -> SocialMessage | None:
    """None for what is nobody's own words; `counts` says of what kind.

    Why not what was forwarded or made by a bot: it stands under the sender's name and is another's. What somebody answers is
    not in the text; quotations in it are left out.
    """
    kind = type(wire).__name__
    if kind == "MessageService":
        counts.service += 1
        return None
    if kind != "Message" or wire.date is None:
        return None
    account_id = _account_of(wire)
    if wire.fwd_from is not None or wire.via_bot_id is not None or account_id is None:
        counts.not_own += 1
        return None
    media = media_of(wire.media)
    text = without_quotations(wire.message or "", wire.entities or ())
    edited = wire.edit_date
    return SocialMessage(
        "telegram",
        chat.chat_id,
        wire.id,
        account_id,
        wire.date,
        clean_text(text),
        version=int(edited.timestamp()) if edited is not None else 0,
        media=media,
    )


def media_of(media: Any) -> str | None:
    """In a word: photo, document, poll."""
    if media is None:
        return None
    found = _MEDIA.match(type(media).__name__)
    kind = found["kind"] if found else "Unsupported"
    return None if kind in NO_MEDIA else kind.lower()


def without_quotations(text: str, entities: Any) -> str:
    """Units: Telegram counts in UTF-16, in which an emoji is two."""
    quoted = sorted((entity.offset, entity.offset + entity.length) for entity in entities if type(entity).__name__ == QUOTATION)
    if not quoted:
        return text
    wide, kept, last = text.encode("utf-16-le", "surrogatepass"), bytearray(), 0
    for start, end in quoted:
        kept += wide[last * 2 : max(start, last) * 2]
        last = max(last, end)
    kept += wide[last * 2 :]
    return kept.decode("utf-16-le", "surrogatepass")


def _account_of(wire: Any) -> str | None:
    """The person who sent it; None where a channel or an anonymous administrator did."""
    sender = wire.from_id
    return str(sender.user_id) if type(sender).__name__ == "PeerUser" else None
