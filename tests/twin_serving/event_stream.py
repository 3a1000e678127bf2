"""A reader of event streams, written from the HTML standard and not from the code that writes them.

Belongs here: that reader.
Does not belong here: tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Read:
    id: str
    name: str
    data: str


def read_events(stream: bytes) -> list[Read]:
    """Section 9.2.6: lines end with CRLF, LF or CR; an event without data is dropped, and so is what no blank line ends."""
    found: list[Read] = []
    last_id, name, data = "", "", list[str]()
    for line in re.split(r"\r\n|\n|\r", stream.decode("utf-8").removeprefix("\ufeff"))[:-1]:
        if not line:
            if data:
                found.append(Read(last_id, name or "message", "\n".join(data)))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_id = value
    return found
