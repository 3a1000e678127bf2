"""An archive of X: the zip file that X sends, its folder unpacked, or its `tweets.js` alone.

Belongs here: finding the posts and the account in it, and which post goes on which.
Does not belong here: the form of a post (`x_wire.py`) and storing.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lpm_kernel.errors import IngestionError, UserInputError
from lpm_kernel.social.json_stream import JsonWalk
from lpm_kernel.social.records import Chat, Counts, SocialMessage
from lpm_kernel.social.x_notes import Notes
from lpm_kernel.social.x_wire import chat_of, post_of_archive

POSTS = re.compile(r"(?:.*/)?(?:data/)?tweets?(?:-part\d+)?\.js")
NOTES = re.compile(r"(?:.*/)?(?:data/)?note-tweets?(?:-part\d+)?\.js")
ACCOUNT = re.compile(r"(?:.*/)?(?:data/)?account\.js")
MAX_FILES = 500
"""Of posts; X cuts them at a hundred megabytes."""


@dataclass(slots=True)
class XArchive:
    """`account_id` is None of a bare `tweets.js`. Files are opened anew for each pass."""

    posts: Sequence[Callable[[], BinaryIO]]
    max_bytes: int
    account_id: str | None
    notes: Sequence[Callable[[], BinaryIO]] = ()
    """Files of long posts; a bare `tweets.js` shows how they begin."""
    public: bool = False
    """Whether somebody said that the account is not protected: the archive does not."""
    counts: Counts = field(default_factory=Counts)

    def messages(self, account_id: str) -> Iterator[tuple[Chat, SocialMessage]]:
        """Each own post, in the order of the files. Raises: IngestionError of `JsonWalk`, `export_foreign`, `post_foreign`."""
        chat, above = chat_of(account_id, public=self.public), dict[int, int]()
        notes = Notes(self._items(self.notes))
        for post in self._walk():  # which post goes on which must be known before the first is stored
            if post.get("in_reply_to_user_id_str") == account_id and (link := _link_of(post)) is not None:
                above[link[0]] = link[1]
        for post in self._walk():
            own = _number(post.get("id_str"))
            thread = _first_of(own, above) if own in above else None
            message = post_of_archive(post, account_id, thread, self.counts, notes.of_post)
            if message is not None:
                yield chat, message

    def _walk(self) -> Iterator[dict[str, Any]]:
        for item in self._items(self.posts):
            post = item.get("tweet") if isinstance(item, dict) else None
            if not isinstance(post, dict):
                raise _foreign()
            yield post

    def _items(self, files: Sequence[Callable[[], BinaryIO]]) -> Iterator[Any]:
        for open_file in files:
            with open_file() as file, _unzipping():
                walk = JsonWalk(file, self.max_bytes, prefix="=")
                if walk.peek() != "[":
                    raise _foreign()
                for _ in walk.elements():
                    yield walk.value()


@contextmanager
def open_x_archive(path: Path, max_bytes: int, *, public: bool = False) -> Iterator[XArchive]:
    """`public`: whether the account is not protected, which the archive does not say.

    Raises: UserInputError `file_unreadable`; IngestionError `export_foreign` where no posts are in it, `export_damaged`.
    """
    with ExitStack() as opened:
        try:
            names, opener = _files(path, opened)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserInputError("file_unreadable", f"{path} cannot be read: {type(error).__name__}") from error
        posts = sorted(name for name in names if POSTS.fullmatch(name))
        if not posts or len(posts) > MAX_FILES:
            raise _foreign()
        accounts = [name for name in names if ACCOUNT.fullmatch(name)]
        account_id = None
        for name in accounts:
            with opener(name) as file, _unzipping():
                account_id = _account_of(JsonWalk(file, max_bytes, prefix="=").value())
        notes = sorted(name for name in names if NOTES.fullmatch(name))[:MAX_FILES]
        files, long_posts = ([lambda name=name: opener(name) for name in each] for each in (posts, notes))
        yield XArchive(files, max_bytes, account_id, long_posts, public)


def _files(path: Path, opened: ExitStack) -> tuple[list[str], Callable[[str], BinaryIO]]:
    if path.is_dir():
        found = [entry for folder in (path, path / "data") if folder.is_dir() for entry in folder.iterdir() if entry.is_file()]
        return [str(entry.relative_to(path)) for entry in found], lambda name: (path / name).open("rb")
    if path.suffix == ".js":
        return [path.name], lambda name: path.open("rb")
    archive = opened.enter_context(zipfile.ZipFile(path))
    return archive.namelist(), lambda name: archive.open(name)  # type: ignore[return-value]


@contextmanager
def _unzipping() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:  # RuntimeError: a password
        raise IngestionError("export_damaged", f"the archive cannot be unpacked: {type(error).__name__}") from error


def _account_of(told: Any) -> str:
    account = told[0].get("account") if isinstance(told, list) and told and isinstance(told[0], dict) else None
    number = account.get("accountId") if isinstance(account, dict) else None
    if _number(number) is None:
        raise _foreign()
    return str(number)


def _link_of(post: dict[str, Any]) -> tuple[int, int] | None:
    own, answered = _number(post.get("id_str")), _number(post.get("in_reply_to_status_id_str"))
    return (own, answered) if own is not None and answered is not None else None


def _first_of(post: int | None, above: dict[int, int]) -> int | None:
    """The post that a thread begins with; numbers grow with time, so one that goes on a later one ends the way."""
    while post is not None and (earlier := above.get(post)) is not None and earlier < post:
        post = earlier
    return post


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value) else None


def _foreign() -> IngestionError:
    return IngestionError(
        "export_foreign", "this is no archive of X: give the zip file that X sends, its unpacked folder, or the tweets.js in it"
    )
