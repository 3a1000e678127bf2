"""Telegram by Telethon: a group and pages of what was said in it, oldest first.

Belongs here: the port that the poll reads through, and its class over Telethon.
Does not belong here: what is done with a page (`telegram.py`), and Telethon's errors as ours (`telegram_errors.py`).
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from lpm_kernel.errors import IngestionError, SettingsError, TwinError
from lpm_kernel.settings import Settings
from lpm_kernel.social.records import Chat
from lpm_kernel.social.telegram_errors import telegram_errors
from lpm_kernel.social.telegram_names import invitation_of, is_key, key_of
from lpm_kernel.social.telegram_peers import Peer, input_peer, is_there, kept_peer
from lpm_kernel.stores.addresses import connection_environment
from lpm_kernel.stores.breaker import Breaker, Breakers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from telethon import TelegramClient

PAGE = 100
"""Messages that Telegram gives at once, at most."""
BREAKER = 3, 60.0
"""Requests in a row without an answer, and seconds for which Telegram is then left alone: there may be many groups."""


class TelegramReader(Protocol):
    """Raises, in every method: IngestionError `telegram_flood` (retryable, with `retry_after_s`), `telegram_no_access`,
    `telegram_refused`, `telegram_unreachable` (retryable); SettingsError `telegram_not_signed_in`."""

    def open_chat(self, name: str, peer: Peer | None = None) -> tuple[Chat, Peer]:
        """A group, and by what it is asked for the next time. `peer`: that of the last time; its name is looked up only where
        that holds no more."""
        ...

    def pages(self, chat: Chat, *, after_id: int | None, since: datetime) -> Iterator[Sequence[Any]]:
        """What came after a message, or since a time where `after_id` is None; each page as Telegram gives it, in any order and
        of any size. One request a page, made when it is asked for."""
        ...

    def by_ids(self, chat: Chat, message_ids: Sequence[int]) -> dict[int, Any | None]:
        """Messages as they are now; None for one that is gone. At most PAGE at once."""
        ...

    def close(self) -> None: ...


def telegram_configured(settings: Settings, environ: Mapping[str, str] | None = None) -> str | None:
    """None where Telegram can be read; else what is missing, in words."""
    if not settings.social.telegram_chats:
        return "social.telegram_chats names no group"
    found = connection_environment(environ)
    missing = [name for name in _variables(settings) if not found.get(name)]
    return f"not set: {', '.join(missing)}" if missing else None


def open_telegram(settings: Settings, environ: Mapping[str, str] | None = None, breakers: Breakers | None = None) -> ThonReader:
    """Signed in with the session of the environment. Raises: SettingsError `telegram_not_configured`, `address_invalid`, and
    what a `TelegramReader` raises."""
    if lacks := telegram_configured(settings, environ):
        raise SettingsError("telegram_not_configured", lacks)
    found = connection_environment(environ)
    api_id, api_hash, session = (found[name] for name in _variables(settings))
    timeout_s = settings.social.request_timeout_s

    def make() -> TelegramClient:
        from telethon import TelegramClient
        from telethon.sessions import StringSession

        try:
            return TelegramClient(
                StringSession(session),
                int(api_id),
                api_hash,
                timeout=int(timeout_s),
                flood_sleep_threshold=0,  # a pause that Telegram asks for is ours to keep, over the end of this process
                receive_updates=False,
                request_retries=2,
                connection_retries=2,
            )
        except (ValueError, struct.error):  # Python's own errors quote what is no number, and chains of errors are kept
            raise SettingsError("address_invalid", "TELEGRAM_API_ID is no number, or TELEGRAM_SESSION no session") from None

    return ThonReader(make, timeout_s, breakers.named("telegram", *BREAKER) if breakers else None)


class ThonReader:
    """A `TelegramReader`. Telethon lives in an event loop; ours runs while a request is under way and rests between."""

    def __init__(self, make_client: Callable[[], TelegramClient], timeout_s: float, breaker: Breaker | None = None) -> None:
        logging.getLogger("telethon").setLevel(logging.WARNING)  # below that it logs messages
        self._timeout_s = timeout_s
        self._breaker = breaker or Breaker(*BREAKER)
        self._loop = asyncio.Runner()
        self._peers: dict[str, Any] = {}
        try:
            with self._breaker.guarding(_resting, _no_answer):
                self._client = self._loop.run(self._connected(make_client))
        except BaseException:
            self._loop.close()
            raise

    def open_chat(self, name: str, peer: Peer | None = None) -> tuple[Chat, Peer]:
        from telethon import utils

        entity = self._found_before(key_of(name), peer) if peer is not None else None
        if entity is None:
            entity = self._run(key_of(name), lambda: self._entity(name))
        chat_id = str(utils.get_peer_id(entity))
        self._peers[chat_id] = found = utils.get_input_peer(entity)
        # a person has a public name too, and what is said to them is between two
        public = type(entity).__name__ == "Channel" and bool(getattr(entity, "username", None))
        return Chat("telegram", chat_id, utils.get_display_name(entity), public=public), kept_peer(found)

    def _found_before(self, about: str, peer: Peer) -> Any:
        """None where Telegram does not show it any more under that number. It is asked for all the same: its title may be
        another, and it may have become private."""

        async def ask() -> Any:
            try:
                return await self._client.get_entity(input_peer(peer))
            except KeyError:  # Telethon's own, where the answer lacks it
                return None

        try:
            entity = self._run(about, ask)
        except IngestionError as error:
            if error.code != "telegram_no_access":
                raise
            return None
        return entity if entity is not None and is_there(entity) else None

    def pages(self, chat: Chat, *, after_id: int | None, since: datetime) -> Iterator[Sequence[Any]]:
        """Why not Telethon's own iterator: it stops at the first message that stands out of order, and what follows is lost."""
        from telethon.tl.functions.messages import GetHistoryRequest

        after, offset_date = after_id or 0, None if after_id is not None else since
        while True:
            request = GetHistoryRequest(
                peer=self._peers[chat.chat_id],
                offset_id=0 if offset_date else after + 1,
                offset_date=offset_date,
                add_offset=-PAGE,
                limit=PAGE,
                max_id=0,
                min_id=0,
                hash=0,
            )
            answer = self._run(chat.title, lambda request=request: self._client(request))
            found = [m for m in answer.messages if m.id > after and not (offset_date and m.date and m.date < since)]
            if not found:
                return
            yield found
            after, offset_date = max(message.id for message in found), None

    def by_ids(self, chat: Chat, message_ids: Sequence[int]) -> dict[int, Any | None]:
        async def ask() -> Any:
            return await self._client.get_messages(self._peers[chat.chat_id], ids=list(message_ids))

        found = self._run(chat.title, ask)
        there = {message.id: message for message in found if message is not None}
        return {message_id: there.get(message_id) for message_id in message_ids}

    def close(self) -> None:
        async def leave() -> None:
            left: Any = self._client.disconnect()
            if left is not None:
                await left

        try:
            self._loop.run(leave())
        finally:
            self._loop.close()

    async def _connected(self, make_client: Callable[[], TelegramClient]) -> TelegramClient:
        with telegram_errors("Telegram"):
            client = make_client()
            await asyncio.wait_for(client.connect(), self._timeout_s * 2)
            if not await client.is_user_authorized():
                left: Any = client.disconnect()
                if left is not None:
                    await left
                raise SettingsError(
                    "telegram_not_signed_in", "the session in TELEGRAM_SESSION is signed in no more: make another"
                )
        return client

    async def _entity(self, name: str) -> Any:
        """A private group is known by its number only after the account's own groups were listed."""
        if is_key(name):
            raise IngestionError("telegram_no_access", f"the settings have no invitation any more that is {name}")
        if (invitation := invitation_of(name)) is not None:
            from telethon.tl.functions.messages import CheckChatInviteRequest

            invite: Any = await self._client(CheckChatInviteRequest(invitation))
            if type(invite).__name__ != "ChatInviteAlready":
                raise IngestionError(
                    "telegram_no_access", f"this account is not in the group of {key_of(name)}: let it join by that invitation"
                )
            return invite.chat
        if not re.fullmatch(r"-?\d+", name):
            return await self._client.get_entity(name)
        number = int(name)
        async for dialog in self._client.iter_dialogs():
            if number in (dialog.id, getattr(dialog.entity, "id", None)):
                return dialog.entity
        raise IngestionError("telegram_no_access", f"this account is in no group of the number {name}: let it join, or name it")

    def _run(self, about: str, ask: Callable[[], Awaitable[Any]]) -> Any:
        async def within_time() -> Any:
            return await asyncio.wait_for(ask(), self._timeout_s)

        with self._breaker.guarding(_resting, _no_answer), telegram_errors(about):
            return self._loop.run(within_time())


def _resting() -> IngestionError:
    return IngestionError(
        "telegram_unreachable", "Telegram did not answer a moment ago and is left alone for a while", retryable=True
    )


def _no_answer(error: TwinError) -> bool:
    """A pause that Telegram asks for is an answer, and so is a group that may not be read."""
    return error.code in ("telegram_unreachable", "telegram_refused") and error.retryable


def _variables(settings: Settings) -> tuple[str, str, str]:
    names = settings.stores
    return names.telegram_api_id, names.telegram_api_hash, names.telegram_session
