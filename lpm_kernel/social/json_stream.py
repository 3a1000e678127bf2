"""JSON that is larger than memory: its objects and lists walked through, its small values read whole.

Belongs here: reading a text piece by piece.
Does not belong here: what the values mean (`telegram_export.py`, `x_archive.py`).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from lpm_kernel.errors import IngestionError

PIECE_BYTES = 1 << 18
MAX_VALUE = 4_000_000
"""Characters of one value that is read whole; a message has a few thousand."""
LONGEST_WORD = 10
"""Characters before the end within which a cut may look like a mistake: `-Infinity`, half an escape."""
_SPACE = " \t\r\n"


class JsonWalk:
    """One pass over a JSON text. Whoever meets a value must take it: by `value`, `skip`, `members` or `elements`.

    Raises: IngestionError `export_damaged` where it is no JSON, ends too early or is no UTF-8; `export_too_large` past
    `max_bytes` or where one value passes MAX_VALUE.
    """

    def __init__(self, file: BinaryIO, max_bytes: int, prefix: str = "") -> None:
        """`prefix`: up to this character there is no JSON, as in a script."""
        self._file, self._left = file, max_bytes
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._text, self._at, self._ended = "", 0, False
        self._json = json.JSONDecoder()
        if prefix:
            while prefix not in self._text and not self._ended and len(self._text) < PIECE_BYTES:
                self._more()
            found = self._text.find(prefix)
            if found < 0:
                raise self._damaged(f"has no {prefix!r}")
            self._at = found + len(prefix)

    def peek(self) -> str:
        """The character that the next value begins with, or what follows the last one; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def members(self) -> Iterator[str]:
        """The names in the object that comes next; the value of each must be taken before the next name is asked for."""
        for _ in self._items("{", "}"):
            name = self.value()
            if not isinstance(name, str):
                raise self._damaged("has a name that is no text")
            self._take(":")
            yield name

    def elements(self) -> Iterator[None]:
        """Once for each value of the list that comes next; it must be taken before the next is asked for."""
        yield from self._items("[", "]")

    def value(self) -> Any:
        """The next value, read whole."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._damaged("is no JSON") from None
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - LONGEST_WORD
                if not cut_off or not self._more():
                    raise self._damaged("is no JSON") from None
            else:
                if end < len(self._text) or self._ended or not self._more():  # a number may go on
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_VALUE:
                raise IngestionError("export_too_large", f"one value of the file has more than {MAX_VALUE:,} characters")

    def skip(self) -> None:
        """Pass over the next value, whatever its size, and keep nothing of it."""
        first = self.peek()
        try:
            if first == "{":
                for _ in self.members():
                    self.skip()
            elif first == "[":
                for _ in self.elements():
                    self.skip()
            else:
                self.value()
        except RecursionError:
            raise self._damaged("is nested without end") from None

    def _items(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self.peek() == closing:
            self._at += 1
            return
        while True:
            yield None
            found = self.peek()
            if found == closing:
                self._at += 1
                return
            self._take(",")

    def _take(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise self._damaged(f"has no {wanted!r} where there must be one")
        self._at += 1

    def _more(self) -> bool:
        """Read on, and forget what was taken; False at the end."""
        if self._ended:
            return False
        data = self._file.read(PIECE_BYTES)
        self._left -= len(data)
        if self._left < 0:
            raise IngestionError("export_too_large", "the file is larger than social.import_mb allows")
        try:
            piece = self._decode.decode(data, final=not data)
        except UnicodeDecodeError:
            raise self._damaged("is no UTF-8") from None
        self._text, self._at = self._text[self._at :] + piece, 0
        self._ended = not data
        return True

    def _damaged(self, how: str) -> IngestionError:
        return IngestionError("export_damaged", f"the file {how}: export it again")
