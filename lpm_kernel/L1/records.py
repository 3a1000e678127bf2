"""What chunks become in words: shades with dated timelines, the biography, communities. Records that flow from stage to stage.

Belongs here: frozen dataclasses of L1 whose every line names the bytes it stands on.
Does not belong here: how lines are chosen (`shades.py`, `biography.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lpm_kernel.records import Citation

DatedBy = Literal["sentence", "heading", "filename", "sent"]


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """A sentence of the user with a date. `text` is the cited bytes with white space made single, nothing else."""

    date: str
    """ISO year, month or day: as exact as the document is."""
    dated_by: DatedBy
    """Where the date stands: in the sentence, over it, or in the file's name; of a message it is when it was sent."""
    written: str | None
    """The date of the entry the sentence stands in, which an event told later does not have."""
    text: str
    citation: Citation


@dataclass(frozen=True, slots=True)
class BiographyLine:
    """A sentence of the user that tells of one shade. `text` is the cited bytes with white space made single."""

    shade_id: str
    shade: str
    """Its name."""
    text: str
    citations: tuple[Citation, ...]
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Shade:
    """One aspect of the person, from one or more related topics."""

    shade_id: str
    name: str
    topic_ids: tuple[str, ...]
    chunk_ids: tuple[str, ...]
    lines: tuple[BiographyLine, ...]
    """Its most central sentences, best first; never none."""
    timeline: tuple[TimelineEvent, ...]
    """By date."""


@dataclass(frozen=True, slots=True)
class Biography:
    """The person in their own sentences. Where there is nothing to tell, the reason stands in its place and no line does."""

    user_id: str
    lines: tuple[BiographyLine, ...]
    skipped: str | None
    status: tuple[BiographyLine, ...]
    """What was written last."""
    as_of: str | None
    """The newest date that something was written on."""
    status_skipped: str | None


@dataclass(frozen=True, slots=True)
class ChunkSalience:
    """How much a chunk counts beside others of the same person, and out of what; each number from 0 to 1 but the weight."""

    chunk_id: str
    written: str | None
    """ISO year, month or day it was written on, as exact as the document is."""
    recency: float
    recurrence: float
    trust: float
    weight: float
    """What somebody set: 1 changes nothing, 0 mutes, more raises."""
    salience: float


@dataclass(frozen=True, slots=True)
class CitedLine:
    """A sentence of the user. `text` is the cited bytes with white space made single."""

    text: str
    citation: Citation
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Community:
    """Chunks that hang together by what they name and what they mean."""

    community_id: str
    label: str
    key_entities: tuple[str, ...]
    """Names of what it is about, best first."""
    chunk_ids: tuple[str, ...]
    lines: tuple[CitedLine, ...]
    """Its most central sentences, best first; none where the user said none in it."""
    salience: float
    """Mean of its chunks."""
    centroid: tuple[float, ...]
