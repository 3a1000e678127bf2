"""What a twin says in a plan: lines of its memory, quoted. It says nothing else, so nothing can be put into its mouth.

Belongs here: which lines make a statement, which of them may be put to others, and who says the same as another.
Does not belong here: how a twin stands (`weighing.py`) and where lines come from (`minds.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from lpm_kernel.dao.planner.records import Line
from lpm_kernel.dao.reported import sentences_of
from lpm_kernel.stores.stems import stems_of

MAX_QUOTED_CHARACTERS = 240
"""Of a line as it is put to others; a longer one is cut at a word and says so."""

_INTEREST = re.compile(
    r"\bI(?:['’]d|\s+(?:would|will|shall|stand\s+to|could|may|might))?\s+(?:personally\s+)?(?:earn|profit|gain|make\s+(?:good\s+)?money|be\s+paid"
    r"|get\s+paid|get\s+the\s+(?:contract|order|commission))\b"
    r"|\bI\s+(?:also\s+)?(?:sell|supply|import|rent\s+out|lease\s+out|deal\s+in|own\s+(?:the\s+)?(?:shares|part|land|field|firm|company"
    r"|shop|building))\b"
    r"|\bI\s+(?:have|hold|declare|own)\s+(?:a\s+|an\s+|some\s+)?(?:financial\s+|personal\s+)?(?:stake|shares|interest|money)\s+in\b"
    r"|\b(?:conflict\s+of\s+interest|I\s+am\s+(?:an\s+)?interested\s+part(?:y|ies)|I\s+cannot\s+judge\s+(?:it|this|that)"
    r"\s+with\s+clean\s+hands)\b"
    r"|\bmy\s+(?:own\s+)?(?:(?:brother|sister|wife|husband|son|daughter|father|mother|cousin|uncle|aunt|partner)(?:['’]s)?\s+)?"
    r"(?:firm|company|business|shop|employer|workshop)?\s*(?:sells|supplies|would\s+(?:build|deliver|supply|sell|install|get)"
    r"|made\s+the\s+offer|bids|has\s+bid|owns)\b",
    re.IGNORECASE,
)


def interest_in(text: str) -> bool:
    """Whether its writer says, of themself, that they have something to gain or to lose. What another says of them is none."""
    return any(_INTEREST.search(each.own) for each in sentences_of(text))


def choose_lines(lines: Sequence[Line], most: int, max_characters: int) -> tuple[Line, ...]:
    """The nearest first, none twice in the same words, as many as fit; a long one is shown as far as it fits."""
    chosen: list[Line] = []
    said: set[tuple[str, ...]] = set()
    left = max_characters
    for line in sorted(lines, key=lambda line: (-line.cosine, line.line_id)):
        sign = sign_of(line.text)
        if len(chosen) == most:
            break
        if sign not in said and min(len(line.text), MAX_QUOTED_CHARACTERS) <= left:
            chosen.append(line)
            said.add(sign)
            left -= min(len(line.text), MAX_QUOTED_CHARACTERS)
    return tuple(chosen)


def quoted(text: str) -> str:
    """One line of plain text, as others are shown it: no line break, no control character, no mark that a prompt is made of."""
    plain = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    plain = re.sub(r"<\|.*?\|>|[<>|`]{2,}|#{2,}", " ", plain).replace('"', "'")
    plain = " ".join(plain.split())
    if len(plain) <= MAX_QUOTED_CHARACTERS:
        return plain
    return plain[:MAX_QUOTED_CHARACTERS].rsplit(" ", 1)[0] + " …"


def sign_of(text: str) -> tuple[str, ...]:
    """Equal for lines that say the same in the same words."""
    return tuple(stems_of(text)) or (text,)


def same_by_lines(statements: Mapping[str, Sequence[Line]], share: float) -> list[tuple[str, str]]:
    """Pairs of members whose statements have this share of all their lines in common, each line without regard to order and
    to the forms of its words."""
    signs = {member: {frozenset(sign_of(line.text)) for line in lines} for member, lines in statements.items() if lines}
    members = sorted(signs)
    return [
        (one, other)
        for place, one in enumerate(members)
        for other in members[:place]
        if overlap(signs[one], signs[other]) >= share
    ]


def overlap(one: Collection[frozenset[str]], other: Collection[frozenset[str]]) -> float:
    """Of two sets of lines, 0 to 1: two lines are the same where four in five of their words are."""
    matched = sum(any(_near(line, theirs) for theirs in other) for line in one)
    matched_back = sum(any(_near(line, ours) for ours in one) for line in other)
    return (matched + matched_back) / max(1, len(one) + len(other))


def _near(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= 0.8 * len(one | other)


def words_of(lines: Iterable[Line]) -> frozenset[str]:
    return frozenset(word for line in lines for word in stems_of(line.text))
