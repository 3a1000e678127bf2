"""Whether an answer is right, by fixed rules and without a language model.

Belongs here: one rule a kind of question, each on the words of question, answer and what is known.
Does not belong here: the facts of golden questions (`golden.holds_fact`), asking (`evaluate.py`), the manner of an answer
(`manner.py`).
"""

from __future__ import annotations

import re

from lpm_kernel.L2.prompt import declines
from lpm_kernel.L2.records import Side, Stance
from lpm_kernel.stores.stems import stems_of

TELLS_SHARE = 0.5
"""Of what a sentence adds to its question, how much an answer must repeat to tell the same."""

PREFERS_SHARE = 0.34
"""The same for a preference. Lower, because people say it in other words, and one in three still tells the wrong ones apart."""

_UNDECIDED = re.compile(
    r"\babstain|\bundecided\b|\bneither for nor against\b|\bnot (?:yet )?(?:sure|decided)\b"
    r"|\b(?:not|n't) (?:yet )?(?:made up my mind|take (?:a )?sides?)"
)
_AGAINST = re.compile(
    r"\bagainst\b|\boppos(?:e|ed|ing)\b|\bvot(?:e|ed|ing) (?:it )?(?:no|down)\b|\bdisagree|\bdistrust|\bdislike|\bhate\b"
    r"|\breject(?:ed)?\b|\b(?:bad|poor|terrible|wrong) idea\b|\bunconvinced\b"
)
_FOR = re.compile(
    r"\bi(?:'m| am)(?: \w+)? for\b|\bin favou?r\b|\bvot(?:e|ed|ing) (?:for|yes)\b|\b(?:support|agree|approve|back|like|love"
    r"|want|prefer|trust|enjoy|welcome)(?:s|ed)?\b|\b(?:good|great|excellent|wise) idea\b|\bconvinced\b"
)
_MISFIT = re.compile(
    r"(?:\bnot|n't|\bnever|\bhardly)(?: \w+)? (?:fit|suit|match|agree)|\bconflict|\bclash|\bdisagree|\bleaves? out\b|\bwrong\b"
)
_FIT = re.compile(r"\b(?:fit|suit|match|agree)(?:s|es|ed)?\b")
_NEGATED = re.compile(r"(?:\bnot|n't|\bnever|\bno longer|\bcannot|\bnobody|\bhardly)(?: \w+){0,2} $")


def tells(reply: str, question: str, sentence: str, share: float = TELLS_SHARE) -> bool:
    """Whether the reply says what the sentence adds to the question: a share of its content words, as stems, and a number of it
    where it has any."""
    added = set(stems_of(sentence)) - set(stems_of(question))
    told = added & set(stems_of(reply))
    numbers = {stem for stem in added if stem.isdigit()}
    return bool(added) and len(told) >= share * len(added) and bool(told & numbers or not numbers)


def takes_stance(reply: str, question: str, stance: Stance) -> bool:
    """Whether the reply stands where the person stands: on the same side, or with the preference's own words and not against
    them."""
    if declines(reply):
        return False
    side = side_of(reply)
    if stance.side is not None:
        return side == stance.side
    return any(
        tells(reply, question, sentence, PREFERS_SHARE) and not _opposed(side, side_of(sentence)) for sentence in stance.told
    )


def judges_otherwise(reply: str, verdict: str) -> bool:
    """Whether the reply finds that an expert's words fit where the verdict says that they do not, or the other way round. One
    that says neither may still tell the reason."""
    found = _fits(reply)
    return found is not None and found != _fits(verdict)


def _fits(text: str) -> bool | None:
    """By the first words that say so: what follows them may be the person's own sentence."""
    plain = " ".join(text.casefold().replace("’", "'").split())
    misfit, fit = _MISFIT.search(plain), _FIT.search(plain)
    if misfit and (not fit or misfit.start() < fit.start()):
        return False
    return True if fit else None


def side_of(text: str) -> Side | None:
    """Which side these words take, by the first that takes one; "not" before it turns it round. None where they take none."""
    plain = " ".join(text.casefold().replace("’", "'").split())
    if _UNDECIDED.search(plain):
        return "undecided"
    sides: tuple[tuple[re.Pattern[str], Side, Side], ...] = ((_AGAINST, "against", "for"), (_FOR, "for", "against"))
    found: list[tuple[int, Side]] = [
        (match.start(), turned if _NEGATED.search(plain[: match.start()]) else side)
        for pattern, side, turned in sides
        for match in pattern.finditer(plain)
    ]
    return min(found)[1] if found else None


def _opposed(one: Side | None, other: Side | None) -> bool:
    return {one, other} == {"for", "against"}
