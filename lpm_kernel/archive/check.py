"""Trusting an archive: whatever somebody sends is looked through before anything of it is written.

Belongs here: that it is one of ours, whole, and no larger than it may be; reading its parts afterwards.
Does not belong here: writing them (`restore.py`). Nothing is ever unpacked under a name that the archive gives.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar

from lpm_kernel.archive.form import (
    BLOBS,
    FORMAT,
    MANIFEST,
    PIECE_BYTES,
    VERSION,
    Entry,
    Manifest,
    is_known_path,
    sha256_in_name,
)
from lpm_kernel.errors import TwinError, UserInputError
from lpm_kernel.records import check_user_id, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")
MAX_ENTRIES = 100_000
MAX_MANIFEST_BYTES = 32 << 20
MAX_RECORD_BYTES = 16 << 20
"""Of a part that is one record: it is read whole, and takes many times that in memory."""
MAX_LINES = 1_000_000
MAX_LINE_BYTES = 4 << 20
"""Of a part that is records line by line; no more than one of them is held at a time."""
MAX_PACKING = 200
"""Times smaller that a whole archive may be than what is in it. Ours are 3 to 10."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True)
class Archive:
    """One that was looked through. `sign` is the same for the same content."""

    manifest: Manifest
    sign: str
    _file: zipfile.ZipFile

    @property
    def blobs(self) -> list[Entry]:
        return [entry for entry in self.manifest.entries if entry.path.startswith(BLOBS)]

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        with _zip_errors(), self._file.open(path) as part:
            yield part

    def read(self, path: str) -> bytes:
        return b"".join(self.pieces(path))

    def pieces(self, path: str) -> Iterator[bytes]:
        """Lines, where it has lines."""
        with self.open(path) as part:
            yield from _pieces(part, path)

    def records(self, path: str, record_type: type[T]) -> Iterator[T]:
        """Raises: UserInputError `archive_damaged`."""
        from lpm_kernel.artefacts import decode_record

        for line in self.pieces(path):
            try:
                record = decode_record(line, record_type)
            except TwinError:
                raise _damaged(f"{path} holds something else than {record_type.__name__} records") from None
            yield record

    def lines(self, path: str) -> Iterator[Any]:
        """Raises: UserInputError `archive_damaged`."""
        return (parse_line(line, path) for line in self.pieces(path))


def open_archive(file: BinaryIO, max_mb: int) -> Archive:
    """Look the whole of it through: names, sizes, every sha256.

    Raises: UserInputError `archive_foreign` (none of ours), `archive_damaged` (not whole, or changed), `archive_path` (a name
    that leads elsewhere), `archive_too_large`, `archive_bomb`.
    """
    with _zip_errors(foreign=True):
        packed = zipfile.ZipFile(file)
    infos = packed.infolist()
    _check_names(infos)
    _check_sizes(infos, max_mb, _size_of(file))
    with _zip_errors():
        manifest, sign = _read_manifest(packed)
        _check_against(manifest, infos)
        for entry in manifest.entries:
            _check_content(packed, entry)
    return Archive(manifest, sign, packed)


def parse_line(line: bytes, path: str) -> Any:
    import json

    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise _damaged(f"{path} has a line that is no JSON") from None


def _check_names(infos: list[zipfile.ZipInfo]) -> None:
    if len(infos) > MAX_ENTRIES:
        raise UserInputError("archive_too_large", f"it has {len(infos)} parts, and {MAX_ENTRIES} are allowed")
    for info in infos:
        name = info.filename
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
            raise UserInputError("archive_path", "a part of it has a name that leads out of its place")
    names = {info.filename for info in infos}
    if MANIFEST not in names:
        raise UserInputError("archive_foreign", "it has no manifest: it is no export of a twin, or one that broke off")
    if len(names) != len(infos):
        raise _damaged("two parts of it have one name")
    if not all(is_known_path(name) for name in names):
        raise UserInputError("archive_foreign", "a part of it is none that an export of this version has")


def _check_sizes(infos: list[zipfile.ZipInfo], max_mb: int, packed_bytes: int) -> None:
    """By what the parts say of themselves: no more is read of any of them later."""
    unpacked = sum(info.file_size for info in infos)
    if unpacked > MAX_PACKING * packed_bytes:
        raise UserInputError("archive_bomb", f"it says that it is {MAX_PACKING} times larger than it is")
    if unpacked > max_mb * 1_000_000:
        raise UserInputError("archive_too_large", f"unpacked it has {unpacked / 1e6:.0f} MB, and {max_mb} MB are allowed")
    for info in infos:
        if info.compress_type not in _METHODS or info.flag_bits & 1:
            raise UserInputError("archive_foreign", "a part of it is packed or locked in a way that no export is")
        if info.filename == MANIFEST and info.file_size > MAX_MANIFEST_BYTES:
            raise UserInputError("archive_too_large", "its manifest is larger than any is")
        if info.filename.endswith(".json") and info.filename != MANIFEST and info.file_size > MAX_RECORD_BYTES:
            raise UserInputError("archive_too_large", f"{info.filename} is larger than a record may be")


def _read_manifest(packed: zipfile.ZipFile) -> tuple[Manifest, str]:
    from lpm_kernel.artefacts import decode_record

    data = packed.read(MANIFEST)
    try:
        manifest = decode_record(data, Manifest)
        check_user_id(manifest.user_id)
    except TwinError:
        raise UserInputError("archive_foreign", "its manifest is none of an export of a twin") from None
    if (manifest.format, manifest.version) != (FORMAT, VERSION):
        raise UserInputError("archive_foreign", f"it is of another form than version {VERSION} of an export")
    return manifest, sha256_hex(data)


def _check_against(manifest: Manifest, infos: list[zipfile.ZipInfo]) -> None:
    named = {entry.path: entry.size_bytes for entry in manifest.entries}
    there = {info.filename: info.file_size for info in infos if info.filename != MANIFEST}
    if len(named) != len(manifest.entries) or named != there:
        raise _damaged("its parts are not those that its manifest names")


def _check_content(packed: zipfile.ZipFile, entry: Entry) -> None:
    digest = hashlib.sha256()
    with packed.open(entry.path) as part:
        for piece in _pieces(part, entry.path):
            digest.update(piece)
    if digest.hexdigest() != entry.sha256 or sha256_in_name(entry.path) not in (None, entry.sha256):
        raise _damaged("a part of it has other bytes than it says")


def _pieces(part: IO[bytes], path: str) -> Iterator[bytes]:
    """Raises: UserInputError `archive_too_large`, where it has more or longer lines than it may."""
    if not path.endswith(".jsonl"):
        yield from iter(partial(part.read, PIECE_BYTES), b"")
        return
    for number, line in enumerate(iter(partial(part.readline, MAX_LINE_BYTES + 1), b"")):
        if number == MAX_LINES or len(line) > MAX_LINE_BYTES:
            raise UserInputError(
                "archive_too_large", f"{path} has more than {MAX_LINES} lines, or one of more than {MAX_LINE_BYTES >> 20} MiB"
            )
        yield line


def _size_of(file: BinaryIO) -> int:
    file.seek(0, 2)
    return file.tell()


def _damaged(what: str) -> UserInputError:
    return UserInputError("archive_damaged", f"the archive is damaged: {what}; export it again")


@contextmanager
def _zip_errors(*, foreign: bool = False) -> Iterator[None]:
    """What the zip format's reader finds wrong. Its own words stay out: they quote names."""
    problems: Iterable[type[Exception]] = (
        zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError,
        RuntimeError, KeyError, struct.error,
    )  # fmt: skip
    try:
        yield
    except TwinError:
        raise
    except tuple(problems) as error:
        if foreign:
            raise UserInputError("archive_foreign", "it is no zip file, or one that broke off") from error
        raise _damaged("it cannot be unpacked") from error
