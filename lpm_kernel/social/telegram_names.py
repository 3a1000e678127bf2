"""What groups are called, and what an invitation is called where it may be read.

Belongs here: names as the settings have them, and their keys everywhere else.
Does not belong here: finding the group of a name (`telegram_client.py`).

An invitation admits whoever has it, so it stands in the settings alone: cursors, rows of assets, configurations of runs, errors
and printed settings call its group by a hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lpm_kernel.records import sha256_hex

_INVITATION = re.compile(
    r"(?<![\w.-])(?:(?:https?://)?(?:www\.)?(?:t|telegram)\.(?:me|dog)/(?:\+|joinchat/)|tg://join\?invite=|(?<!/)\+(?=[\w-]{16}))"
    r"(?P<hash>[\w-]+)(?:[/?][^\s'\"]*)?",
    re.ASCII | re.IGNORECASE,
)
_KEY = re.compile(r"invitation-[0-9a-f]{12}")


def invitation_of(name: str) -> str | None:
    """What an invitation is made of; None where the name is none."""
    found = _INVITATION.fullmatch(name.strip())
    return found["hash"] if found else None


def key_of(name: str) -> str:
    """What the group of this name is called everywhere but in the settings: the same for each way to write an invitation."""
    invitation = invitation_of(name)
    return name if invitation is None else _key(invitation)


def is_key(name: str) -> bool:
    return _KEY.fullmatch(name) is not None


def without_invitations(text: str) -> str:
    """A text with keys in the place of invitations."""
    return _INVITATION.sub(lambda found: _key(found["hash"]), text)


def names_by_key(chosen: Iterable[str], named: Iterable[str]) -> dict[str, str]:
    """The names of the groups that are chosen, by name or by key, each once. `named`: the groups of the settings."""
    known = {key_of(name): name for name in named}
    return {key_of(name): known.get(name, name) for name in chosen}


def _key(invitation: str) -> str:
    return f"invitation-{sha256_hex(invitation.encode())[:12]}"
