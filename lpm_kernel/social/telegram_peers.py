"""By what a group is asked for: its number and the key that Telegram gave this account for it, as a cursor keeps them.

Belongs here: that form, and back to Telethon's.
Does not belong here: finding a group by its name (`telegram_client.py`).

Why they are kept: Telegram lets an account look up few names, and a session of the environment forgets what it looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Peer = dict[str, int]
"""`channel`, `chat` or `user`: its number; `access_hash`: of a channel or a user. Of use to this account alone."""
_KINDS = {"InputPeerChannel": "channel", "InputPeerChat": "chat", "InputPeerUser": "user"}
_GONE = {"ChannelForbidden", "ChatForbidden", "ChatEmpty", "UserEmpty"}


def kept_peer(found: Any) -> Peer:
    """Of Telethon's input peer."""
    kind = _KINDS[type(found).__name__]
    number: int = getattr(found, f"{kind}_id")
    return {kind: number} if kind == "chat" else {kind: number, "access_hash": found.access_hash}


def input_peer(peer: Mapping[str, int]) -> Any:
    from telethon.tl import types

    if "channel" in peer:
        return types.InputPeerChannel(peer["channel"], peer["access_hash"])
    return types.InputPeerUser(peer["user"], peer["access_hash"]) if "user" in peer else types.InputPeerChat(peer["chat"])


def same_group(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    """Numbers of messages are of use in one group alone."""
    return all(one.get(kind) == other.get(kind) for kind in _KINDS.values())


def is_there(entity: Any) -> bool:
    """False of a group that is closed to the account, or was moved to another number."""
    moved = getattr(entity, "deactivated", None) or getattr(entity, "migrated_to", None)
    return not moved and type(entity).__name__ not in _GONE
