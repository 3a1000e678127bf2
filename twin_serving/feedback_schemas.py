"""The forms of feedback, calibration and scopes on the wire.

Belongs here: pydantic models, and how a record becomes one.
Does not belong here: rules; the kernel checks what is allowed. Which answer of a pair is the twin's is told nowhere.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from lpm_kernel.calibrate import PickCount
from lpm_kernel.stores.calibration import CalibrationPair, Choice
from lpm_kernel.stores.feedback import RatedReply


class FeedbackRequest(BaseModel):
    """`voice`: whether it sounds like the person, `truth`: whether it is so; -1, 0 or 1. `edited`: how they would say it."""

    model_config = ConfigDict(extra="forbid")

    message_id: str
    voice: int | None = None
    truth: int | None = None
    edited: str | None = None


class FeedbackOut(BaseModel):
    message_id: str
    session_id: str
    question: str
    reply: str
    voice: int | None
    truth: int | None
    edited: str | None
    created_at: datetime


class FeedbackAnswer(BaseModel):
    feedback: list[FeedbackOut]


class PairOut(BaseModel):
    """Two answers, one of them the twin's; `picked` once the person took one, or `neither`."""

    pair_id: str
    question: str
    answers: list[str]
    picked: Choice | None


class PickRequest(BaseModel):
    """Which answer the person would have given."""

    model_config = ConfigDict(extra="forbid")

    pick: Choice


class PickCountOut(BaseModel):
    """Of one release: how often its answer was taken. `share` among the pairs of which one was, with its interval of 95 %."""

    release_id: str
    shown: int
    twin: int
    base: int
    neither: int
    share: float | None
    low: float
    high: float


class CalibrationAnswer(BaseModel):
    pairs: list[PairOut]


class CalibrationSummary(BaseModel):
    """`open`: pairs that wait for a pick."""

    open: list[PairOut]
    counts: list[PickCountOut]


class ScopeForm(BaseModel):
    """`private`: nobody but the person hears of the document."""

    model_config = ConfigDict(extra="forbid")

    scope: Literal["private", "shared"]


def feedback_out(rated: RatedReply) -> FeedbackOut:
    return FeedbackOut(
        message_id=rated.message_id,
        session_id=rated.session_id,
        question=rated.question,
        reply=rated.reply,
        voice=rated.voice,
        truth=rated.truth,
        edited=rated.edited,
        created_at=rated.created_at,
    )


def pair_out(pair: CalibrationPair) -> PairOut:
    return PairOut(pair_id=pair.pair_id, question=pair.question, answers=list(pair.answers), picked=pair.picked)


def pick_count_out(count: PickCount) -> PickCountOut:
    return PickCountOut(
        release_id=count.release_id,
        shown=count.shown,
        twin=count.twin,
        base=count.base,
        neither=count.neither,
        share=None if count.share is None else round(count.share, 4),
        low=count.low,
        high=count.high,
    )
