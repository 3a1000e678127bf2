"""Frozen records to JSON and back, by their types alone, and the one form of JSON that is hashed.

Belongs here: the forms of the types that events are made of. What does not fit a type exactly is refused, both ways.
Does not belong here: which events there are (`events.py`) and where they are kept (`stores/dao_ledger.py`).
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")
ABSENT = "absent"
"""In a field's metadata: the value that stands for its absence. A field that came later has one: else what was hashed before
could not be read, nor hashed alike, any more."""


def canonical_json(value: object) -> bytes:
    """The same bytes for the same value, whatever the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def time_as_text(at: datetime) -> str:
    """Raises: ValueError for a time without a zone."""
    if at.tzinfo is None:
        raise ValueError(f"a time without a zone is no moment: {at.isoformat()}")
    return at.astimezone(UTC).isoformat()


def as_json(value: Any) -> Any:
    """A record as JSON holds it.

    Raises: ValueError for a time without a zone, or a number that is none; TypeError for what has no form here.
    """
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{value} has no form in JSON")
        return value
    if isinstance(value, datetime):
        return time_as_text(value)
    if is_dataclass(value):
        written = {name: form(getattr(value, name)) for name, form in _writers_of(kind)}
        return {name: told for name, told in written.items() if name not in (late := _absent_in(kind)) or told != late[name]}
    if isinstance(value, tuple):
        return [as_json(each) for each in cast("tuple[Any, ...]", value)]
    if isinstance(value, Mapping):
        return {_key(name): as_json(each) for name, each in cast("Mapping[Any, Any]", value).items()}
    raise TypeError(f"{kind.__name__} has no form in the ledger")


def from_json(record: type[Record], payload: object) -> Record:
    """The record again, as `as_json` wrote it.

    Raises: ValueError that names the field, for anything else: a field missing or unknown, a value of another type.
    """
    return _reader_of(record)(payload)


def _key(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"keys are words, not {type(name).__name__}")
    return name


@cache
def _names_of(record: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(record))


@cache
def _absent_in(record: type) -> dict[str, Any]:
    """Name of a field that may be absent to the value that it then has."""
    return {each.name: each.metadata[ABSENT] for each in fields(record) if ABSENT in each.metadata}


@cache
def _writers_of(record: type) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    hints = get_type_hints(record)
    floats = {name for name in _names_of(record) if float in (hints[name], *get_args(hints[name]))}
    return tuple((name, _float_as_json if name in floats else as_json) for name in _names_of(record))


def _float_as_json(value: float | None) -> float | None:
    """A whole number where a float may stand is read back as a float, which has another form and so another hash."""
    return as_json(None if value is None else float(value))


@cache
def _reader_of(kind: Any) -> Callable[[Any], Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _union_reader(arguments)
    if origin is Literal:
        return _literal_reader(arguments)
    if origin is tuple:
        return _tuple_reader(_reader_of(arguments[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_reader(_reader_of(arguments[1]))
    if is_dataclass(kind):
        return _record_reader(cast("type", kind))
    if kind is datetime:
        return _read_time
    if kind is float:
        return _read_float
    return _plain_reader(kind)


def _plain_reader(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind:  # True is an int to isinstance
            raise ValueError(f"not {kind.__name__}")
        return value

    return read


def _read_float(value: Any) -> float:
    if type(value) not in (float, int) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)


def _read_time(value: Any) -> datetime:
    at = datetime.fromisoformat(value) if isinstance(value, str) else None
    if at is None or at.tzinfo is None:
        raise ValueError("not a time with a zone")
    return at.astimezone(UTC)


def _union_reader(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    readers = [_reader_of(each) for each in kinds if each is not type(None)]
    optional = len(readers) < len(kinds)

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        for each in readers[:-1]:
            try:
                return each(value)
            except ValueError:
                continue
        return readers[-1](value)

    return read


def _literal_reader(allowed: tuple[Any, ...]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"none of {', '.join(allowed)}")
        return value

    return read


def _tuple_reader(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError("not a list")
        return tuple(reader(each) for each in cast("list[Any]", value))

    return read


def _mapping_reader(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError("not an object")
        return {_key(name): reader(each) for name, each in cast("Mapping[Any, Any]", value).items()}

    return read


def _record_reader(record: type) -> Callable[[Any], Any]:
    hints = get_type_hints(record)
    readers = {name: _reader_of(hints[name]) for name in _names_of(record)}

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError(f"{record.__name__} is not an object")
        given = {**_absent_in(record), **cast("Mapping[str, Any]", value)}
        if given.keys() != readers.keys():
            raise ValueError(f"{record.__name__} has other fields: {', '.join(sorted(given.keys() ^ readers.keys()))}")
        found: dict[str, Any] = {}
        for name, reader in readers.items():
            try:
                found[name] = reader(given[name])
            except ValueError as error:
                raise ValueError(f"{record.__name__}.{name}: {error}") from None
        return record(**found)

    return read
