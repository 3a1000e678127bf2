"""The fixed words of ours in rows: how a request and an expert's reply are put to the twin, and what its answer begins with.

Belongs here: each frame, made and taken off again, so that what is left of an answer can be looked up in its sources.
Does not belong here: the prompt around a question (`prompt.py`), and choosing what stands in a frame.
"""

from __future__ import annotations

import re

FITS = "That fits me."
FITS_NOT = "That does not fit me."
LEAVES_OUT = "That leaves out what matters."
VERDICTS = (FITS, FITS_NOT, LEAVES_OUT)
"""What the twin says first about an expert's reply."""

JUDGING_WORDS = (
    "advice agree clash conflict conflicts consider differ disagree expert fit fits instead match matches note notes prefer "
    "reply rather say says suggest suggestion suit suits wrong right against wrote written"
)
"""What one says about a reply whatever it is about."""

_CONTEXT = " For context: "
_ENHANCE = re.compile(r'Say this request the way you would, with what matters: "(?P<request>.+)"')
_WROTE = re.compile(r'(?P<name>\S+) wrote: "(?P<said>.+)"')


def ask_to_enhance(request: str) -> str:
    """A vague request, put to the twin to be made precise."""
    return f'Say this request the way you would, with what matters: "{request}"'


def enhanced(request: str, said: str) -> str:
    """The request again, with the person's own sentence that bears on it."""
    return f"{request}{_CONTEXT}{said}"


def ask_to_criticise(advice: str) -> str:
    """An expert's reply, put to the twin to be judged."""
    return f'An expert says: "{advice}" Does that fit you?'


def wrote(name: str, said: str) -> str:
    """The person's own sentence, told to somebody who asked about them."""
    return f'{name} wrote: "{said}"'


def go_on(question: str) -> str:
    """The question after another one."""
    return f"And {question[0].lower()}{question[1:]}"


def begin_with(question: str) -> str:
    """The same question where none was asked before."""
    alone = question.removeprefix("And ")
    return f"{alone[0].upper()}{alone[1:]}"


def person_said(question: str, answer: str) -> str:
    """What is left of an answer without our words: that must stand in its sources. Unframed answers are all the person's."""
    if quoted := _WROTE.fullmatch(answer):
        return quoted["said"]
    if asked := _ENHANCE.fullmatch(question):
        return answer.removeprefix(asked["request"] + _CONTEXT)
    for verdict in VERDICTS:
        if answer.startswith(f"{verdict} "):
            return answer.removeprefix(f"{verdict} ")
    return answer
