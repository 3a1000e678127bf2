"""Dates as people write them, to ISO dates no more exact than what was written.

Belongs here: finding a date in a sentence, a heading or a file's name.
Does not belong here: which sentence a date belongs to (`sentences.py`).
"""

from __future__ import annotations

import re
from datetime import date

MAX_DAYS_AWAY = 120  # a day without a year is taken for the nearest one; half a year away either year would do

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_MONTH = rf"(?P<month>{'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in MONTHS if name != 'May')}|May|Sept)\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)\b"
_FORMS = (
    re.compile(r"\b(?P<year>(?:19|20)\d\d)-(?P<number>0[1-9]|1[0-2])(?:-(?P<day>0[1-9]|[12]\d|3[01]))?(?!\d|-\d)"),
    re.compile(rf"(?<![\d.,£$€])\b{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?"),
    re.compile(rf"\b{_MONTH} {_DAY}(?!\d|[.,:]\d|%)(?:,? {_YEAR})?"),
    re.compile(rf"\b{_MONTH},? {_YEAR}"),
)
_BARE_YEAR = re.compile(rf"\b(?:[Ii]n|[Ss]ince|[Uu]ntil|[Ff]rom|[Bb]y|[Dd]uring) (?:early |late |about )?{_YEAR}(?!-)")
_COMPACT = re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<number>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])(?!\d)")
_ANY_YEAR = re.compile(rf"(?<!\d){_YEAR}")


def find_date(text: str, near: str | None) -> str | None:
    """The first date in a sentence: a day, a month, or after "in" and the like a year.

    A day without a year is the one nearest to `near`, the date it was written on; without that, or too far from it, none.
    """
    found = [
        (match.start(), -match.end(), iso)
        for form in _FORMS
        for match in form.finditer(text)
        if (iso := _iso(match.groupdict(), near))
    ]
    found += [(match.start(), -match.end(), match["year"]) for match in _BARE_YEAR.finditer(text)]
    return min(found)[2] if found else None


def date_of_title(text: str, near: str | None = None) -> str | None:
    """The date in a heading or a file's name, where a year may stand alone, and a day as cameras write it: 20250213."""
    words = text.replace("_", "-")
    if found := find_date(words, near):
        return found
    for compact in _COMPACT.finditer(words):
        if day := _iso(compact.groupdict(), near):
            return day
    year = _ANY_YEAR.search(words)
    return year["year"] if year else None


def days_between(one: str, other: str) -> int:
    """Units: days between the first days of two ISO dates, whatever their exactness."""
    return abs((first_day(one) - first_day(other)).days)


def first_day(iso: str) -> date:
    """Of an ISO year, month or day."""
    return date.fromisoformat(f"{iso}-01-01"[:10] if len(iso) == 4 else f"{iso}-01"[:10])


def _iso(parts: dict[str, str | None], near: str | None) -> str | None:
    number = int(parts["number"] or 0) if "number" in parts else _month_number(parts["month"] or "")
    day = int(parts.get("day") or 0)
    if year := parts.get("year"):
        return _valid(int(year), number, day)
    if near is None or not day:
        return None
    if len(near) == 4:
        return _valid(int(near), number, day)
    candidates = [iso for year in _years_around(near) if (iso := _valid(year, number, day))]
    best = min(candidates, key=lambda iso: days_between(iso, near), default=None)
    return best if best and days_between(best, near) <= MAX_DAYS_AWAY else None


def _years_around(near: str) -> range:
    year = int(near[:4])
    return range(max(1, year - 1), year + 2)


def _month_number(name: str) -> int:
    return next(i for i, month in enumerate(MONTHS, start=1) if month[:3] == name[:3])


def _valid(year: int, month: int, day: int) -> str | None:
    try:
        whole = date(year, month, day or 1)
    except ValueError:
        return None
    return whole.isoformat() if day else whole.isoformat()[:7]
