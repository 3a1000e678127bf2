"""What Telegram Desktop exports as `result.json`: one chat, or all of an account.

Belongs here: that form, and which chats of it are read.
Does not belong here: the form of Telegram's API (`telegram_wire.py`) and storing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from lpm_kernel.errors import IngestionError
from lpm_kernel.social.json_stream import JsonWalk
from lpm_kernel.social.records import Chat, Counts, SocialMessage, clean_text

PUBLIC = frozenset({"public_supergroup", "public_channel"})
GROUP = "private_group"
LARGE = frozenset({"private_supergroup", "public_supergroup", "private_channel", "public_channel"})
"""Telegram numbers these apart from people and small groups."""
SHIFT = 10**12
"""By which clients of its API keep the two apart."""


@dataclass(slots=True)
class TelegramExport:
    """One pass over a file. `chats`: how many were met, `counts`: what in them was nobody's own words."""

    file: BinaryIO
    max_bytes: int
    counts: Counts = field(default_factory=Counts)
    chats: int = 0

    def messages(self) -> Iterator[tuple[Chat, SocialMessage]]:
        """Each message of a person, in the order of the file. Raises: IngestionError of `JsonWalk`, `export_foreign`."""
        walk = JsonWalk(self.file, self.max_bytes)
        if walk.peek() != "{":
            raise _foreign()
        yield from self._account_or_chat(walk)
        if self.chats == 0:
            raise _foreign()

    def _account_or_chat(self, walk: JsonWalk) -> Iterator[tuple[Chat, SocialMessage]]:
        """A whole account holds lists of chats; a chat holds messages, after what tells which it is."""
        told: dict[str, Any] = {}
        for name in walk.members():
            if name in ("chats", "left_chats") and walk.peek() == "{":
                for inner in walk.members():
                    if inner == "list" and walk.peek() == "[":
                        for _ in walk.elements():
                            yield from self._account_or_chat(walk)
                    else:
                        walk.skip()
            elif name == "messages" and walk.peek() == "[":
                chat = _chat_of(told)
                self.chats += 1
                for _ in walk.elements():
                    message = message_of(walk.value(), chat, self.counts)
                    if message is not None:
                        yield chat, message
            elif name in ("name", "type", "id"):
                told[name] = walk.value()
            else:
                walk.skip()


def message_of(wire: Any, chat: Chat, counts: Counts) -> SocialMessage | None:
    """None for what is nobody's own words; `counts` says of what kind. Raises: IngestionError `export_foreign`."""
    if not isinstance(wire, dict) or not isinstance(wire.get("id"), int):
        raise _foreign()
    if wire.get("type") != "message":
        counts.service += 1
        return None
    account_id = _account_of(wire.get("from_id"))
    forwarded = any(name in wire for name in ("forwarded_from", "forwarded_from_id", "saved_from"))
    if account_id is None or forwarded or wire.get("via_bot"):
        counts.not_own += 1
        return None
    sent_at = _moment(wire, "date")
    if sent_at is None:
        raise _foreign()
    edited = _moment(wire, "edited")
    return SocialMessage(
        "telegram",
        chat.chat_id,
        wire["id"],
        account_id,
        sent_at,
        clean_text(text_of(wire.get("text"))),
        version=int(edited.timestamp()) if edited else 0,
        media=media_of(wire),
    )


def text_of(text: Any) -> str:
    """Telegram writes plain text as text, and formatted text as a list of texts and entities; quotations are left out."""
    if isinstance(text, str):
        return text
    pieces = []
    for piece in text if isinstance(text, list) else ():
        if isinstance(piece, str):
            pieces.append(piece)
        elif isinstance(piece, dict) and piece.get("type") != "blockquote" and isinstance(piece.get("text"), str):
            pieces.append(piece["text"])
    return "".join(pieces)


def media_of(wire: dict[str, Any]) -> str | None:
    if isinstance(kind := wire.get("media_type"), str):
        return kind[:40]
    kinds = ("photo", "file", "poll", "contact_information", "location_information", "place_name", "invoice_information")
    return next((kind.removesuffix("_information") for kind in kinds if kind in wire), None)


def _chat_of(told: dict[str, Any]) -> Chat:
    """Under the id that Telegram's API gives it, so that a file and a poll of the same group are the same messages."""
    number, kind, name = told.get("id"), told.get("type"), told.get("name")
    if not isinstance(number, int) or not isinstance(kind, str):
        raise _foreign()
    chat_id = -(SHIFT + number) if kind in LARGE else -number if kind == GROUP else number
    title = name if isinstance(name, str) else ""
    return Chat("telegram", str(chat_id), clean_text(title)[:200], public=kind in PUBLIC)


def _account_of(from_id: Any) -> str | None:
    """Of a person; None of a channel or an anonymous administrator. Older exports write the bare number."""
    if isinstance(from_id, int) and from_id > 0:
        return str(from_id)
    number = from_id.removeprefix("user") if isinstance(from_id, str) else ""
    return number if number.isascii() and number.isdigit() and len(number) <= 20 else None


def _moment(wire: dict[str, Any], name: str) -> datetime | None:
    """Older exports lack the seconds since 1970, and give a time of the exporting machine without its zone: taken as UTC."""
    try:
        if seconds := wire.get(f"{name}_unixtime"):
            return datetime.fromtimestamp(int(seconds), UTC)
        return datetime.fromisoformat(wire[name]).replace(tzinfo=UTC) if wire.get(name) else None
    except (TypeError, ValueError, OverflowError, OSError):
        raise _foreign() from None


def _foreign() -> IngestionError:
    return IngestionError(
        "export_foreign",
        "the file is no result.json of Telegram Desktop: export a chat or all data there, as machine-readable JSON",
    )
