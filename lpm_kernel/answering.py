"""Who answers a turn: the model of the settings, else the twin, else its base, else the best line as it stands.

Belongs here: that order, which failures are a step down, and tidying the pieces.
Does not belong here: storing what was said (`chat.py`) and the models themselves.

A step down is taken before the first word only: what a listener has heard cannot be unsaid, so a model that fails in the middle
of its answer ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lpm_kernel.errors import LlmError, StoreError, TwinError
from lpm_kernel.L2.prompt import as_line
from lpm_kernel.recall.plan import Line
from lpm_kernel.stores.answerer import BAD_QUESTION

StepName = Literal["answerer", "adapter", "base"]
_LOG = logging.getLogger(__name__)

BUSY = "engine_busy"
"""The code of a model for which the question has waited in vain: every other would be waited for in the same queue."""

LEFT = "listener_left"
"""The code of an answer that nobody waits for any more, whether it had begun or not."""

NO_STEP_DOWN = {
    *(BAD_QUESTION, "prompt_too_long", "answer_empty"),
    *(BUSY, "too_many_requests", "model_loading"),
    *("engine_closed", LEFT),
}
"""Codes of failures that another model would not mend: the question is at fault, the engine is to be asked again in a moment
(only a quoted line needs none), or nobody waits any more."""


@dataclass(frozen=True, slots=True)
class Step:
    """`open` begins an answer; it may fail at once or at its first piece."""

    name: StepName
    open: Callable[[], Iterator[str]]


def may_step_down(error: TwinError) -> bool:
    """Whether someone else is to answer."""
    return isinstance(error, LlmError | StoreError) and error.code not in NO_STEP_DOWN


def first_that_answers(
    steps: Sequence[Step], stepped_down: Callable[[StepName], None], otherwise: Callable[[TwinError], Iterator[str]]
) -> Iterator[str]:
    """Pieces of the first step that has one; `stepped_down` hears of each that failed before, and `otherwise` is what is said
    after the last, or once one is busy: who has waited for its turn is not to wait for the next. Closing this closes the answer
    under way.

    Raises: the error of a step that is no reason for another, and of one that fails after its first piece; what `otherwise`
    raises.
    """
    failure: TwinError | None = None
    for place, step in enumerate(steps):
        try:
            pieces = step.open()
            first = next(pieces, "")
        except TwinError as error:
            if error.code == BUSY:
                _LOG.warning("the answer goes on without a model: %s", error)
                for other in steps[place:]:
                    stepped_down(other.name)
                failure = error
                break
            if not may_step_down(error):
                raise
            _LOG.warning("the answer goes on without its %s: %s", step.name, error)
            stepped_down(step.name)
            failure = error
            continue
        try:
            yield first
            yield from pieces
        finally:
            close(pieces)
        return
    yield from otherwise(failure or LlmError("answer_unavailable", "nobody is there to answer", retryable=False))


def close(pieces: Iterator[str]) -> None:
    """End an answer early, where it can be."""
    end = getattr(pieces, "close", None)
    if end is not None:
        end()


def quoted_line(lines: Sequence[Line], failure: TwinError) -> Line:
    """The line that is said where no model answers: the best of the person's documents, else the best of all others.

    Raises: LlmError `answer_unavailable` without one: nothing is made up in its place; `engine_busy` where that is why.
    """
    said = [line for line in lines if not line.on_board and as_line(line.text)]
    quotable = [line for line in said if line.evidence] or said
    if not quotable:
        if failure.code == BUSY:
            raise failure  # it says when to come again
        raise LlmError(
            "answer_unavailable", f"no model can answer now ({failure.code}), and no line of memory answers by itself"
        ) from failure
    return max(quotable, key=lambda line: line.score)


def tidy(pieces: Iterator[str]) -> Iterator[str]:
    """The same text without space around it, none of the pieces empty: put together they are the answer as it is stored."""
    held, begun = "", False
    try:
        for piece in pieces:
            text = held + piece
            if not begun:
                text = text.lstrip()
            said = text.rstrip()
            held = text[len(said) :]
            if said:
                begun = True
                yield said
    finally:
        close(pieces)
