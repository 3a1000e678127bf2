"""Bytes to characters: which encoding a text file is in, when it does not say so itself.

Belongs here: byte order marks, and the guess for texts that are not UTF-8.
Does not belong here: file types, and what is done with the text (`read.py`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import NamedTuple

from lpm_kernel.errors import IngestionError

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
WESTERN = "cp1252"
LEGACY = (
    *(f"cp{page}" for page in (1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258, 874, 437, 850, 852, 866, 932, 949)),
    *(f"iso8859-{part}" for part in (2, 5, 6, 7, 8, 9, 13, 15, 16)),
    *("koi8-r", "koi8-u", "tis-620", "mac-roman", "mac-cyrillic"),
    *("shift_jis", "euc-jp", "iso2022_jp_2", "gb18030", "big5", "euc-kr"),
)
"""What people's files are in. Why a list: with every code page that ever was, "naïve" is read as Latvian."""

WESTERN_CHARACTERS = frozenset("£€¥¢°²³½¼¾©®™§«»¿¡“”‘’„–—…•·×µ´\xa0ÀÂÄÅÁÃÆÇÉÈÊËÍÎÏÑÓÔÖÕØÚÜßàâäåáãæçéèêëíìîïñóòôöõøœŒúùûü")
MAX_WESTERN_SHARE = 0.35
"""Of all letters: in Western text the accented are few; in Russian read as Western all are."""
TOO_FEW_TO_TELL = 3
"""So many characters are no evidence against Western: the detector took a lone "©" for Russian."""
HALF_AS_SURE = 0.5
SAMPLE_BYTES = 100_000

_HIGH_LINE = re.compile(rb"[^\n]*[\x80-\xff][^\n]*\n?")
_C1_CONTROL = re.compile(r"[\x80-\x84\x86-\x9f]")
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


class Decoded(NamedTuple):
    text: str
    encoding: str


def decode_text(data: bytes) -> Decoded:
    """The characters of a text file and the encoding they were found in.

    Raises: IngestionError `encoding_unknown`, `binary_content`.
    Why a guess can still be wrong: some encodings share most bytes ("ș" of Romanian, the degree sign of old Macs). The chosen
    one is kept with the document, so that a person can see it.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return Decoded(_decode_as_marked(data, encoding), encoding)
    if b"\x00" in data:
        return _decode_wide(data)
    if b"\x1b$" in data or b"\x1b(" in data:
        found = _guess(data)
        if found is not None and found.encoding.startswith("iso2022"):
            return found
    try:
        return Decoded(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        found = _guess(data)
    if found is None:
        raise IngestionError("encoding_unknown", "the text is not UTF-8 and its encoding cannot be told; save it as UTF-8")
    return found


def _decode_as_marked(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise IngestionError("encoding_unknown", f"the file begins like {encoding} but is not: {error.reason}") from error


def _decode_wide(data: bytes) -> Decoded:
    """UTF-16 and UTF-32 without a mark: text of which hardly a byte pair is anything but a character and no control is left."""
    for encoding in WIDE:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        ascii_share = sum(character < "\x80" for character in text) / max(1, len(text))
        if ascii_share > 0.1 and not _NOT_TEXT.search(text):
            return Decoded(text, encoding)
    raise IngestionError("binary_content", "the file is named as text but holds binary data")


def _guess(data: bytes) -> Decoded | None:
    """The most likely encoding that decodes all of it; None when there is none, as for noise."""
    import chardet

    high = b"".join(_HIGH_LINE.findall(data))[:SAMPLE_BYTES]
    sample = high or data[:SAMPLE_BYTES]
    if chardet.detect(sample, compat_names=False)["encoding"] is None:
        return None
    found = chardet.detect_all(
        sample, include_encodings=LEGACY, ignore_threshold=True, prefer_superset=False, compat_names=False
    )
    likely = {item["encoding"]: item["confidence"] for item in found if item["encoding"]}
    western = _decoded(data, WESTERN)
    if western is not None and likely and _is_plainly_western(western.text, likely):
        return western
    decoded = (_decoded(data, encoding) for encoding in likely)  # the likeliest first
    return next((item for item in decoded if item is not None), None)


def _is_plainly_western(text: str, likely: Mapping[str, float]) -> bool:
    """Whether nothing speaks against cp1252, which among its equals is by far the most frequent.

    Why: every "£265" became "Ł265" and every "ñ" an "ń" where the detector alone decided on a short note.
    """
    high = [character for character in text if character > "\x7f"]
    if not high or not WESTERN_CHARACTERS.issuperset(high):
        return False
    if len(high) <= TOO_FEW_TO_TELL:
        return True
    letters = sum(character.isalpha() for character in text)
    if sum(character.isalpha() for character in high) > MAX_WESTERN_SHARE * letters:
        return False
    return likely.get(WESTERN, 0.0) >= HALF_AS_SURE * max(likely.values())


def _decoded(data: bytes, encoding: str) -> Decoded | None:
    """None when the bytes are not in it: bytes without a character, or those that only the ISO tables have as controls."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if _C1_CONTROL.search(text) else Decoded(text, encoding)
