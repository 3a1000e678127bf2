"""How likely the lines that were found answer the question at all, from the lines and the question alone.

Belongs here: what is measured of them, and the one logistic rule over it.
Does not belong here: finding lines, and what is said when they do not answer (`chat.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lpm_kernel.stores.stems import stems_of
from lpm_kernel.stores.text_index import asks, speaker_of

LINES = 10
"""Of the best lines, how many are looked at."""
FIRST = 5
_COURTESY = re.compile(
    r"(?:(?:good \w+|hi|hello|hey)\b[,!. ]*)*"
    r"(?:how (?:are|is|'s) (?:you|it going|things|everything)\b|how do you do\b|what's up\b)"
    r"|(?:can|could|would|will) you (?:please )?(?:write|help|tell me a|make|give|explain|show|read|translate|repeat)\b"
)
# Without a question mark: "what a day" and "how about that" are none.
_BARE_QUESTION = re.compile(r"(?:who|whom|whose|what|when|where|which|why|how)\b(?!,? (?:an?|about)\b)")


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line as it was found: its own cosine to the question, and the fused score it was ranked by (0 to 1)."""

    text: str
    cosine: float
    score: float


@dataclass(frozen=True, slots=True)
class Signs:
    """What tells an answered question from one that only sounds like the notes. Shares are 0 to 1, gaps 0 or less."""

    closest: float
    """The highest cosine."""
    words_in_one: float
    """Share of the question's words, names of speakers apart, that one single line holds."""
    said_by_named: float
    """Share of the first five lines that are said by somebody whom the question names; 1 where it names nobody."""
    gap_in_words: float
    """How much less of the words a single line of those named holds."""
    gap_in_all: float
    """How much less of the words all their lines hold together."""
    first_asks: float
    """1 if the best line is itself a question."""


# Of a logistic regression over the signs, rounded: `python -m bench choose_recall` fits it on half of LoCoMo's conversations
# and on the golden questions of one of the two demo people; the other halves are only reported on.
WEIGHTS = {
    "closest": 5.9,
    "words_in_one": 2.9,
    "said_by_named": 4.1,
    "gap_in_words": 4.6,
    "gap_in_all": 1.6,
    "first_asks": -2.1,
}
BIAS = -6.5


def read_signs(question: str, lines: Sequence[FoundLine]) -> Signs:
    """Of the best ten; more lines than those tell who else is heard of.

    Raises: ValueError when there is no line: that nothing was found is not for this rule to judge.
    """
    if not lines:
        raise ValueError("no lines to judge")
    best = sorted(lines, key=lambda line: -line.score)[:LINES]
    asked, heard = set(stems_of(question)), {speaker_of(line.text) for line in lines}
    named = heard & asked
    told_apart = bool(named) and heard != named
    theirs = [not told_apart or speaker_of(line.text) in named for line in best]
    words = asked - heard
    held = [words & set(stems_of(line.text)) for line in best]

    def share(found: set[str]) -> float:
        return len(found) / max(1, len(words))

    shares = [share(found) for found in held]
    their_shares = [value for value, mine in zip(shares, theirs, strict=True) if mine]
    their_words = set[str]().union(*(found for found, mine in zip(held, theirs, strict=True) if mine))
    return Signs(
        closest=max(line.cosine for line in best),
        words_in_one=max(shares),
        said_by_named=sum(theirs[:FIRST]) / len(theirs[:FIRST]),
        gap_in_words=max(their_shares, default=0.0) - max(shares),
        gap_in_all=share(their_words) - share(set[str]().union(*held)),
        first_asks=float(asks(best[0].text)),
    )


def confidence_of(signs: Signs) -> float:
    """Units: 0 to 1, the share of such questions whose answer stood in the notes."""
    total = BIAS + sum(weight * getattr(signs, name) for name, weight in WEIGHTS.items())
    return 1 / (1 + math.exp(-total))


def seeks_knowledge(said: str) -> bool:
    """Whether it asks for something that may or may not be known; a greeting, a statement and a request are none of that."""
    plain = " ".join(said.casefold().split())
    if " " not in plain or _COURTESY.match(plain):
        return False
    return asks(plain) or bool(_BARE_QUESTION.match(plain))


def judge(question: str, lines: Sequence[FoundLine]) -> float:
    """`confidence_of` the lines; 0 where there are none."""
    return confidence_of(read_signs(question, lines)) if lines else 0.0
