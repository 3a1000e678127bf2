"""Conditions that consulted twins name, and the amended text that is put together of them.

Belongs here: finding conditions in lines, and the text: quoted, cited, and marked as what it is.
Does not belong here: whether it is proposed (`outcome.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lpm_kernel.dao.heard import Quote
from lpm_kernel.dao.orders import speaks_to_reader
from lpm_kernel.dao.planner.records import Condition, Consulted, Line, Standpoint
from lpm_kernel.dao.planner.statements import quoted, sign_of
from lpm_kernel.dao.proposing import MOST_TEXT

_MARKERS = (
    "i would accept", "i could accept", "i would agree", "on condition that", "on the condition that", "provided that",
    "provided", "only if", "only when", "only once", "as soon as", "as long as", "so long as", "not before", "not until",
    "unless", "except", "if",
)  # fmt: skip
"""Longer ones first: the first that is found names the condition."""
_MARKER = re.compile(
    r"(?<![\w'’])(?:" + "|".join(re.escape(marker).replace(r"\ ", r"\s+") for marker in _MARKERS) + r")(?![\w'’])",
    re.IGNORECASE,
)
_NO_CONDITION = re.compile(
    r"\b(?:as|even|what|ask(?:ed|s)?|wonder(?:ed|s)?|know|knew|see|saw|check(?:ed)?|sure|tell|told)\s+if\b|\bif\s+(?:only|not|so|any)\b",
    re.IGNORECASE,
)
MIN_WORDS = 5
"""Of a line that says a condition, what it is for included."""


def marker_of(text: str) -> str | None:
    """The word by which a line makes a condition; None: it makes none. A question makes none."""
    if text.rstrip().endswith("?") or len(text.split()) < MIN_WORDS or speaks_to_reader(text):
        return None
    found = {" ".join(match.group().casefold().split()) for match in _MARKER.finditer(_NO_CONDITION.sub(" ", text))}
    return next((marker for marker in _MARKERS if marker in found), None)


def conditions_of(
    consulted: Sequence[Consulted],
    standpoints: Sequence[Standpoint],
    lines: Mapping[str, Line],
    *,
    min_cosine: float,
    most: int,
) -> tuple[Condition, ...]:
    """What stands in the lines of those who count, the weightiest first. The same words are one condition, whoever says them,
    and of one voice only the nearest to what is asked counts: copies raise a condition by their weight and bring no others."""
    people = {person.member: person for person in consulted if person.counts}
    by_voice: dict[str, tuple[Line, str]] = {}
    weights: dict[str, int] = {}
    for standpoint in standpoints:
        person = people.get(standpoint.member)
        if person is None or standpoint.opinion is None:
            continue
        weights[person.voice] = weights.get(person.voice, 0) + person.weight
        for line_id in standpoint.lines:
            line = lines.get(line_id)
            marker = marker_of(line.text) if line and line.cosine >= min_cosine else None
            best = by_voice.get(person.voice)
            if line and marker and (best is None or (line.cosine, line_id) > (best[0].cosine, best[0].line_id)):
                by_voice[person.voice] = line, marker
    merged: dict[tuple[str, ...], Condition] = {}
    nearness: dict[str, float] = {}
    for voice, (line, marker) in sorted(by_voice.items()):
        same = merged.get(sign_of(line.text))
        weight = weights[voice] + (same.weight if same else 0)
        first = same or Condition(line.line_id, line.member, marker, 0)
        merged[sign_of(line.text)] = Condition(first.line_id, first.member, first.marker, weight)
        nearness.setdefault(first.line_id, line.cosine)
    ordered = sorted(merged.values(), key=lambda item: (-item.weight, -nearness[item.line_id], item.line_id))
    return tuple(ordered[:most])


def quotes_of(conditions: Sequence[Condition], lines: Mapping[str, Line]) -> list[Quote]:
    """Each condition in its person's own words, with where they stand; what is proposed keeps it as a row of theirs."""
    said = [lines[condition.line_id] for condition in conditions if condition.line_id in lines]
    return [
        Quote(
            line.member,
            f"“{quoted(line.text)}” ({line.member}, {line.citation.filename}, "
            f"bytes {line.citation.byte_start}-{line.citation.byte_end})",
            line.citation.document_sha256,
        )
        for line in said
    ]


def amended_text(text: str, conditions: Sequence[Condition], lines: Mapping[str, Line]) -> str:
    """What is proposed with the conditions under it, each in its person's own words. Left out are those whose line is gone, and
    the last where the ledger would not take a text so long."""
    said = quotes_of(conditions, lines)
    if not said:
        return text
    points = [f"{number}. {quote.words}" for number, quote in enumerate(said, start=1)]
    head = "On these conditions, quoted from members' memories and put together by a plan, not worded by anybody:"
    while points:
        amended = "\n".join([text.strip(), "", head, *points])
        if len(amended) <= MOST_TEXT:
            return amended
        points.pop()
    return text
