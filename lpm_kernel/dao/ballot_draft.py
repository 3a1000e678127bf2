"""`## VOTE:` in an answer, read as the draft of a ballot. A draft is shown to its person; nothing here casts it.

Belongs here: the form of a ballot in words, when a person asks for one, and what the model is told to write.
Does not belong here: whether the proposal exists (the draft keeps the reference as written) and what may be cast.

    ## VOTE: for
    Proposal: P-12
    Reason: The park needs its benches back.

The reference may also stand in the first line ("## VOTE: against on #7"), or only in the question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Choice = Literal["for", "against", "abstain"]
CHOICES: tuple[Choice, ...] = get_args(Choice)

INSTRUCTION = (
    "You are asked for a vote. If your notes tell what you would choose, answer with three lines: "
    "'## VOTE: for', '## VOTE: against' or '## VOTE: abstain'; then 'Proposal:' and its name; then 'Reason:' in one sentence."
)

MAX_REFERENCE_CHARACTERS = 200
MAX_REASON_CHARACTERS = 2000

_HEADING = re.compile(r"^[ \t]{0,3}##[ \t]*VOTE[ \t]*:(?P<rest>[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_NEXT_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]*\S", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(```|~~~).*?(^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^[ \t>*-]*\**(?P<name>proposal|reason|because)\b\**[ \t]*:\**[ \t]*(?P<said>.*)$", re.IGNORECASE)
_MARKS = " \t*_`\"'“”‘’"

_SAID_AS: dict[str, Choice] = {
    "for": "for", "yes": "for", "yea": "for", "aye": "for", "in favour": "for", "in favor": "for", "approve": "for",
    "against": "against", "no": "against", "nay": "against", "reject": "against", "oppose": "against",
    "abstain": "abstain", "abstention": "abstain", "abstaining": "abstain",
}  # fmt: skip
_CHOICE = re.compile(
    r"(?P<choice>" + "|".join(sorted(_SAID_AS, key=len, reverse=True)) + r")(?![\w-])[*_`]*"
    r"(?P<rest>.*)$",
    re.IGNORECASE,
)
_ON = re.compile(
    r"^[ \t]*(?:,|:|-|–|—)?[ \t]*(?:on|to)?[ \t]*(?:the[ \t]+)?(?P<named>proposal\b|#(?=\w))?[ \t]*(?P<said>.*)$", re.I
)
_ON_WORD = re.compile(r"^[ \t]*(?:on|to)[ \t]", re.IGNORECASE)
_REASON_MARK = re.compile(r"[ \t]+[–—-][ \t]+|[ \t]*:[ \t]+|,?[ \t]*\bbecause\b[ \t]*", re.IGNORECASE)

_IN_QUESTION = re.compile(
    r"(?:\bproposal[ \t]+|(?=#\d))(?P<said>[\"“'‘][^\"”'’\n]+[\"”'’]|#?[\w][\w-]*\d[\w-]*|#\d[\w-]*|\d[\w-]*)", re.IGNORECASE
)
_ASKS = re.compile(
    r"\b(?:cast|draft|prepare|fill in|write|submit) (?:(?:a|an|my|your|our|the|me|us) ){0,3}(?:vote|ballot)s?\b"
    r"|\b(?:how|what) (?:would|will|do|shall|should) (?:you|we|i) vote\b"
    r"|\b(?:would|will|do|shall|should) (?:you|we|i) vote\b"
    r"|^(?:please[ ,]+)?vote\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class BallotDraft:
    """What a twin would choose. `proposal`: the reference as it was written; `reason`: None where none was given."""

    proposal: str
    choice: Choice
    reason: str | None


def asks_for_ballot(question: str) -> bool:
    """Whether a person wants to hear how the twin would vote, or to have a ballot written."""
    return bool(_ASKS.search(" ".join(question.split())))


def read_ballots(answer: str, question: str = "") -> tuple[BallotDraft, ...]:
    """The drafts in an answer, in order. A heading without a clear choice, or without a proposal, is none; of two that
    contradict each other about one proposal neither is. What stands in a code block is an example."""
    answer = _FENCE.sub("", answer.replace("\r\n", "\n").replace("\r", "\n"))
    found: dict[str, list[BallotDraft]] = {}
    for heading in _HEADING.finditer(answer):
        below = _NEXT_HEADING.split(answer[heading.end() :], maxsplit=1)[0]  # the next ballot is a heading too
        draft = _read(heading["rest"], below.splitlines(), question)
        if draft is not None:
            found.setdefault(draft.proposal.casefold(), []).append(draft)
    return tuple(drafts[0] for drafts in found.values() if len({draft.choice for draft in drafts}) == 1)


def _read(first_line: str, below: Sequence[str], question: str) -> BallotDraft | None:
    said = _CHOICE.fullmatch(first_line.strip(_MARKS))
    if said is None:
        return None
    proposal, reason = _read_rest(said["rest"])
    free: list[str] = []
    for line in below:
        field = _FIELD.match(line)
        if field is None:
            free.append(line.strip())
        elif field["name"].casefold() == "proposal":
            proposal = _tidy(field["said"]) or proposal
        else:
            reason = _tidy(field["said"]) or reason
    proposal = proposal or _only_reference(question)
    if not proposal or len(proposal) > MAX_REFERENCE_CHARACTERS:
        return None
    reason = reason or " ".join(line for line in free if line) or None
    return BallotDraft(proposal, _SAID_AS[said["choice"].casefold()], reason[:MAX_REASON_CHARACTERS] if reason else None)


def _read_rest(rest: str) -> tuple[str | None, str | None]:
    """Reference and reason behind the choice; words that name no proposal are the reason."""
    match = _ON.match(rest)
    if match is None or (not (named := match["named"]) and not _ON_WORD.match(rest)):
        return None, _tidy(re.sub(r"^[ \t]*(?:,|:|-|–|—|\bbecause\b)+[ \t]*", "", rest, flags=re.IGNORECASE))
    head, *tail = _REASON_MARK.split(match["said"], maxsplit=1)
    reference = _tidy(("#" if named == "#" else "") + head.strip(" \t.,;"))
    return reference, _tidy(tail[0]) if tail else None


def _only_reference(question: str) -> str | None:
    """The proposal that a question names, if it is one."""
    named = {reference for match in _IN_QUESTION.finditer(question) if (reference := _tidy(match["said"]))}
    return next(iter(named)) if len(named) == 1 else None


def _tidy(words: str) -> str | None:
    return " ".join(words.split()).strip(_MARKS) or None
