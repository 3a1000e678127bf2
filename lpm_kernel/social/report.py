"""One look at one group, as a row that is kept and shown.

Belongs here: the form of such a row, and its figures.
Does not belong here: looking (`telegram.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lpm_kernel.social.documents import MadeCounts
from lpm_kernel.social.records import Counts
from lpm_kernel.social.telegram import ChatPoll

NAMED = 20
"""Accounts of nobody that are named, those first that say most."""
COLUMNS = ("group", "title", "new", "edited", "deleted", "known", "media", "not own", "of others", "state")


@dataclass(frozen=True, slots=True)
class GroupLook:
    """What a look at a group found. No word of what was said stands here."""

    chat: str
    title: str
    pages: int
    new: int
    edited: int
    deleted: int
    known: int
    repeated: int
    media: int
    not_own: int
    service: int
    of_others: dict[str, int]
    code: str | None = None
    reason: str | None = None
    not_before: str | None = None
    more_is_left: bool = False


def group_look(poll: ChatPoll) -> GroupLook:
    counts = poll.counts
    return GroupLook(
        poll.chat,
        poll.title,
        poll.pages,
        counts.new,
        counts.edited,
        counts.deleted,
        counts.known,
        counts.repeated,
        counts.media,
        counts.not_own,
        counts.service,
        dict(counts.of_others.most_common(NAMED)),
        poll.code,
        poll.reason,
        poll.not_before.isoformat() if poll.not_before else None,
        poll.left,
    )


def look_row(look: GroupLook) -> tuple[str | int, ...]:
    state = look.code or ("more is left" if look.more_is_left else "read")
    counted = (look.new, look.edited, look.deleted, look.known, look.media, look.not_own, sum(look.of_others.values()))
    return (look.chat, look.title, *counted, state)


def count_figures(counts: Counts) -> dict[str, int]:
    return {
        "messages_new": counts.new,
        "messages_edited": counts.edited,
        "messages_deleted": counts.deleted,
        "messages_known": counts.known,
        "messages_repeated": counts.repeated,
        "media_skipped": counts.media,
        "messages_not_own": counts.not_own,
        "messages_of_others": counts.of_others.total(),
    }


def made_figures(made: MadeCounts) -> dict[str, int]:
    return {
        "documents_made": made.made,
        "documents_emptied": made.emptied,
        "contents_withdrawn": made.withdrawn,
        "documents_refused": sum(made.refused.values()),
    }


def total(polls: Sequence[ChatPoll]) -> Counts:
    counts = Counts()
    for poll in polls:
        counts.add(poll.counts)
    return counts
