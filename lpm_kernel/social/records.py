"""What flows here: a message, the document it belongs to, and what became of a page of messages.

Belongs here: records that a reader, the store and the documents exchange.
Does not belong here: the forms in which Telegram and X write them (`telegram_wire.py`, `x_wire.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from lpm_kernel.records import content_id, is_text

Network = Literal["telegram", "x"]
NETWORKS: tuple[Network, ...] = ("telegram", "x")
MAX_TEXT = 40_000
"""Characters of one message that are kept; Telegram allows 4,096 and X 25,000."""


@dataclass(frozen=True, slots=True)
class SocialMessage:
    """One message as its network tells it. Ids are the network's own; a chat on X is the account that posts.

    `text` is the writer's own: quotations and whom it answers are left out. `version` grows with each edit.
    """

    network: Network
    chat_id: str
    message_id: int
    account_id: str
    sent_at: datetime
    text: str
    version: int = 0
    thread_id: int | None = None
    """Of a post that goes on an own one: the first of them."""
    media: str | None = None
    """What came with it and was not taken, in a word."""

    @property
    def content_sha256(self) -> str:
        """Who said what, and in which second: equal wherever the message is found again."""
        return content_id(self.network, self.account_id, int(self.sent_at.timestamp()), self.text)

    @property
    def part(self) -> str:
        """Which document it belongs to: that of its thread, else of its day."""
        return f"thread-{self.thread_id}" if self.thread_id is not None else f"{self.sent_at:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class Chat:
    """`public`: anybody may read it there, so others may hear of it here."""

    network: Network
    chat_id: str
    title: str
    public: bool


@dataclass(slots=True)
class Counts:
    """What became of messages. `of_others`: by an account that belongs to no user; each is named."""

    new: int = 0
    edited: int = 0
    deleted: int = 0
    known: int = 0
    """Stored before, as it is, or told in a version older than the stored one."""
    repeated: int = 0
    """Said in the same second in the same words in another chat: a group that was moved."""
    media: int = 0
    """Something came with the message and was not taken."""
    not_own: int = 0
    """Forwarded, reposted or written by a bot: not the sender's own words."""
    service: int = 0
    """Nobody's words: somebody joined, a title changed."""
    of_others: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        for name in ("new", "edited", "deleted", "known", "repeated", "media", "not_own", "service"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.of_others.update(other.of_others)

    @property
    def stored(self) -> int:
        """Messages that changed what is stored."""
        return self.new + self.edited + self.deleted


def clean_text(text: str) -> str:
    """In a form that PostgreSQL and UTF-8 can keep: without NUL and halves of characters, and not without end."""
    text = text[:MAX_TEXT]
    if is_text(text):
        return text.strip()
    return "".join(letter for letter in text if is_text(letter)).strip()
