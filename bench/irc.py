"""Public chat logs as messages: each log a group, each name an account.

Belongs here: reading those logs, which lie outside the project.
Does not belong here: measuring (`social.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lpm_kernel.records import sha256_hex
from lpm_kernel.social.records import Chat, SocialMessage, clean_text

LOGS = Path(__file__).resolve().parents[2] / "shared" / "data" / "chat" / "irc"
"""jkkummerfeld/irc-disentanglement, CC-BY-4.0."""
_LINE = re.compile(r"\[(\d\d):(\d\d)\] <([^>]+)> (.*)")
_DAY = re.compile(r"(\d{4}-\d\d-\d\d)_")


def account_of(name: str) -> str:
    return str(int(sha256_hex(name.casefold().encode())[:12], 16))


def read_logs(folder: Path = LOGS) -> Iterator[tuple[Chat, list[SocialMessage]]]:
    """Group by group. Of a minute's lines each is a second later than the one before; who joins or acts says nothing."""
    for number, path in enumerate(sorted(folder.glob("*.raw.txt")), start=1):
        found = _DAY.match(path.name)
        if found is None:
            continue
        day = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
        chat = Chat("telegram", f"-{number}", path.name.removesuffix(".raw.txt"), public=True)
        messages: list[SocialMessage] = []
        in_minute = Counter[str]()
        last_hour, half_days = 0, 0
        for message_id, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if (told := _LINE.match(line)) is None:
                continue
            hour, minute, name, text = told.groups()
            half_days += int(hour) < last_hour  # some logs count hours to twelve
            last_hour = int(hour)
            second = in_minute[hour + minute]
            in_minute[hour + minute] += 1
            sent_at = day + timedelta(hours=int(hour) + 12 * half_days, minutes=int(minute), seconds=second)
            account_id = account_of(name)
            messages.append(SocialMessage("telegram", chat.chat_id, message_id, account_id, sent_at, clean_text(text)))
        yield chat, messages


def most_talkative(groups: list[tuple[Chat, list[SocialMessage]]], number: int) -> list[str]:
    said = Counter(message.account_id for _, messages in groups for message in messages)
    return [account_id for account_id, _ in said.most_common(number)]
