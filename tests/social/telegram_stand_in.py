"""Telegram behind Telethon's own client: what the client asks is answered here, in the objects of Telegram's schema.

Belongs here: a group, what was said in it, and the answers to what our reader asks. `asked` holds the requests.
Does not belong here: tests.

The client is Telethon's, with its own resolving of names and its own session; only its way to the network ends here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from telethon import TelegramClient
from telethon.errors import FloodWaitError
from telethon.sessions import StringSession
from telethon.tl import functions, types

from lpm_kernel.social.telegram_client import ThonReader
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.social_cursors import Cursor, read_cursor
from tests.social.said import Speaker

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NOW = NOON + timedelta(hours=12)


def message(message_id: int, text: str, sender: str | None, **changes: Any) -> types.Message:
    """As Telegram gives it, one a minute from noon; `sender` None: the group itself, as an anonymous administrator."""
    peer = types.PeerChannel(1234567)
    return types.Message(
        id=message_id,
        peer_id=peer,
        date=changes.pop("date", NOON + timedelta(minutes=message_id)),
        message=text,
        from_id=types.PeerUser(int(sender)) if sender else peer,
        **changes,
    )


def joined(message_id: int) -> types.MessageService:
    return types.MessageService(
        id=message_id,
        peer_id=types.PeerChannel(1234567),
        date=NOON + timedelta(minutes=message_id),
        action=types.MessageActionChatAddUser(users=[5]),
    )


class Group:
    """A group and all that is to be read of it. `shuffle` orders each page; `page_size` cuts it. `invitation`: by which the
    account was let in, or is not where `member` is False. `small`: a group as Telegram has them before they grow."""

    def __init__(self, name: str | None = "canteen", number: int = 1234567, title: str = "Canteen") -> None:
        self.invitation, self.member, self.small = "", True, False
        self.name, self.number, self.title = name, number, title
        self.messages: dict[int, Any] = {}
        self.asked: list[Any] = []
        self.fails: list[Callable[[Any], Exception | None]] = []
        self.shuffle: Callable[[list[Any]], list[Any]] = lambda page: page
        self.page_size = 100
        self.access_hash = 42
        self.hidden: set[int] = set()
        """Left out of the next pages, as Telegram sometimes does."""

    def say(self, *said: Any) -> None:
        self.messages.update({each.id: each for each in said})

    @property
    def channel(self) -> types.Channel | types.Chat:
        if self.small:
            return types.Chat(self.number, self.title, types.ChatPhotoEmpty(), 2, NOON, 1)
        return types.Channel(
            id=self.number,
            title=self.title,
            photo=types.ChatPhotoEmpty(),
            date=NOON,
            username=self.name,
            megagroup=True,
            access_hash=self.access_hash,
        )

    def answer(self, request: Any) -> Any:
        self.asked.append(request)
        for fail in self.fails:
            if (error := fail(request)) is not None:
                raise error
        if isinstance(request, functions.contacts.ResolveUsernameRequest):
            from telethon.errors import UsernameNotOccupiedError

            if request.username != self.name:
                raise UsernameNotOccupiedError(request)
            return types.contacts.ResolvedPeer(types.PeerChannel(self.number), [self.channel], [])
        if isinstance(request, functions.channels.GetChannelsRequest):
            from telethon.errors import ChannelInvalidError

            (asked,) = request.id
            if (asked.channel_id, asked.access_hash) != (self.number, self.access_hash):
                raise ChannelInvalidError(request)
            return types.messages.Chats([self.channel])
        if isinstance(request, functions.messages.GetChatsRequest):
            return types.messages.Chats([self.channel])
        if isinstance(request, functions.messages.CheckChatInviteRequest):
            from telethon.errors import InviteHashExpiredError

            if request.hash != self.invitation:
                raise InviteHashExpiredError(request)
            return types.ChatInviteAlready(self.channel) if self.member else self._invite()
        if isinstance(request, functions.messages.GetDialogsRequest):
            dialog = types.Dialog(types.PeerChannel(self.number), 1, 0, 0, 0, 0, 0, 0, types.PeerNotifySettings(), pts=1)
            return types.messages.Dialogs([dialog], [message(1, "", "5")], [self.channel], [])
        if isinstance(request, functions.messages.GetHistoryRequest):
            return self._wrap(self._history(request))
        if isinstance(request, functions.channels.GetMessagesRequest | functions.messages.GetMessagesRequest):
            wanted = [each.id for each in request.id]
            return self._wrap(
                [self.messages.get(number) or types.MessageEmpty(number, types.PeerChannel(self.number)) for number in wanted]
            )
        raise AssertionError(f"nobody here answers {type(request).__name__}")

    def asked_for(self, *kinds: type[Any]) -> int:
        """How many requests of these kinds."""
        return sum(isinstance(request, kinds) for request in self.asked)

    def _history(self, request: Any) -> list[Any]:
        """As the server pages: the newest first, `add_offset` before and `limit` from the message of the offset."""
        assert request.add_offset == -request.limit, "the reader asks for what came after"
        if request.offset_id:
            after = [m for m in self.messages.values() if m.id >= request.offset_id]
        else:
            assert request.offset_date is not None, "all of a group is never asked for"
            after = [m for m in self.messages.values() if m.date >= request.offset_date]
        page = sorted(after, key=lambda each: each.id)[: min(request.limit, self.page_size)]
        page = [each for each in page if each.id not in self.hidden]
        return self.shuffle(list(reversed(page)))

    def _invite(self) -> types.ChatInvite:
        return types.ChatInvite(self.title, types.PhotoEmpty(1), 2, 0)

    def _wrap(self, messages: list[Any]) -> types.messages.ChannelMessages | types.messages.Messages:
        if self.small:
            return types.messages.Messages(messages, [], [self.channel], [])
        return types.messages.ChannelMessages(
            pts=1, count=len(self.messages), messages=messages, topics=[], chats=[self.channel], users=[]
        )


class ReplayedClient(TelegramClient):
    """Telethon's client whose requests a `Group` answers; `signed_in` False: the session was revoked."""

    def __init__(self, group: Group, *, signed_in: bool = True) -> None:
        super().__init__(StringSession(), 1, "hash", flood_sleep_threshold=0, receive_updates=False)
        self.group, self.signed_in = group, signed_in

    async def connect(self) -> None:
        pass

    async def is_user_authorized(self) -> bool:
        return self.signed_in

    def disconnect(self) -> Any:
        return None

    async def __call__(self, request: Any, ordered: bool = False, flood_sleep_threshold: Any = None) -> Any:
        from telethon import utils

        await request.resolve(self, utils)
        answer = self.group.answer(request)
        self.session.process_entities(answer)
        return answer


def reader_of(group: Group, *, signed_in: bool = True, breaker: Breaker | None = None) -> ThonReader:
    return ThonReader(lambda: ReplayedClient(group, signed_in=signed_in), 5.0, breaker)


def marked(group: Group) -> str:
    """The number of a group as Telegram's clients show it."""
    return str(-(10**12 + group.number))


def cursor_of(speaker: Speaker, name: str | None) -> Cursor:
    with speaker.stores.tables.operator_transaction() as connection:
        return read_cursor(connection, "telegram", str(name))


def flood(after: int, seconds: int) -> Callable[[Any], Exception | None]:
    """From the request of this number on."""
    told = 0

    def fail(request: Any) -> Exception | None:
        nonlocal told
        told += isinstance(request, functions.messages.GetHistoryRequest)
        return FloodWaitError(request, seconds) if told > after else None

    return fail
