"""The forms of requests and answers on the wire.

Belongs here: pydantic models of the REST interface, and how a record becomes one.
Does not belong here: rules; the kernel checks what is allowed.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from lpm_kernel.chat import Turn
from lpm_kernel.L1.records import Biography, BiographyLine, Community
from lpm_kernel.records import Citation, Evidence, Memory, Preference
from lpm_kernel.stores.ballot_drafts import KeptDraft

PROFILE_LINES = 2  # of a community


class ChatRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    question: str
    session_id: str | None = None
    asker: str | None = None
    """Who asks, where it is not the person: they hear what is shared, and are remembered nowhere."""


class PlaceOut(BaseModel):
    """Bytes [byte_start, byte_end) of the stored text of a document."""

    document_sha256: str
    filename: str
    byte_start: int
    byte_end: int
    chunk_id: str


class CitationOut(PlaceOut):
    """Those words, and the score they were ranked by."""

    text: str
    score: float


class RememberedOut(BaseModel):
    """What the person said in a chat, or a preference of theirs; `citation` says where, of one out of a document."""

    memory_id: str
    text: str
    citation: str | None
    created_at: datetime
    session_id: str | None
    score: float


class FactOut(BaseModel):
    """A fact of the temporal graph, and since when it holds."""

    text: str
    valid_at: datetime
    score: float


class TurnOut(BaseModel):
    """`degraded` names what the answer is without: parts of the memory, and models that failed; `confidence`, 0 to 1: that the
    lines found answer at all."""

    session_id: str
    message_id: str
    release_id: str
    citations: list[CitationOut]
    memories: list[RememberedOut]
    facts: list[FactOut]
    degraded: list[str]
    confidence: float
    answerable: bool
    route: str
    """`own_memory`, `shared_graph` (facts of any age were looked for too) or `act` (a ballot was asked for)."""


class BallotDraftOut(BaseModel):
    """What the twin would vote; nothing of it is cast. `proposal` is the reference as it was written.

    `message_id`: the answer that it stands in; null where the twin drafted it by itself: then `confidence`, and `why` it was
    not cast, are there. `withdrawn`: its reason is gone with a document that it quoted.
    """

    draft_id: str
    message_id: str | None
    created_at: datetime
    proposal: str
    choice: str
    reason: str | None
    confidence: float | None = None
    citations: list[str] = []
    why: str | None = None
    withdrawn: bool = False


class ChatAnswer(TurnOut):
    answer: str
    cut_off: bool = False
    ballot_drafts: list[BallotDraftOut] = []


class DoneOut(BaseModel):
    """The last event of an answer. `cut_off`: it ended before its end, since nobody listened or the model failed."""

    answer: str
    message_id: str
    session_id: str
    answerable: bool
    cut_off: bool
    degraded: list[str]
    citations: list[PlaceOut]
    ballot_drafts: list[BallotDraftOut]


class BallotDraftsAnswer(BaseModel):
    user_id: str
    drafts: list[BallotDraftOut]


class FileOut(BaseModel):
    filename: str
    status: str
    sha256: str | None = None
    size_bytes: int
    code: str | None = None
    reason: str | None = None


class UploadAnswer(BaseModel):
    user_id: str
    files: list[FileOut]


class DocumentOut(BaseModel):
    filename: str
    also_named: list[str]
    sha256: str
    status: str
    size_bytes: int
    created_at: datetime
    code: str | None = None
    reason: str | None = None
    quarantined: bool = False
    """Whether a refused file's bytes are kept, to be tried again."""
    encoding: str | None = None
    near_duplicate_of: str | None = None
    """sha256 of the older document whose words it nearly repeats."""
    private: bool = False
    """Whether it is for the person alone."""


class ReleaseOut(BaseModel):
    """`reasons`: why it serves although it was not shown to be better. `stale_reason`: why another is to take its place."""

    release_id: str
    created_at: datetime
    evaluation: dict[str, object]
    lora_path: str | None
    model_ready: bool
    reasons: list[str]
    stale_reason: str | None


class TopicOut(BaseModel):
    topic_id: str
    label: str
    keywords: list[str]
    chunks: int


class PreferenceOut(BaseModel):
    text: str
    domain: str
    kind: str
    polarity: str
    strength: float
    filename: str
    document_sha256: str
    byte_start: int
    byte_end: int


class VoiceOut(BaseModel):
    measured: dict[str, int]
    features: dict[str, float] | None
    absent: str | None


class BiographyLineOut(BaseModel):
    """A sentence of the user's own; `date` as exact as the document is."""

    text: str
    shade: str
    date: str | None
    citations: list[PlaceOut]


class BiographyOut(BaseModel):
    lines: list[BiographyLineOut]
    skipped: str | None
    """Why there is no line."""
    status: list[BiographyLineOut]
    as_of: str | None
    status_skipped: str | None


class CommunityLineOut(PlaceOut):
    """A sentence of the user's own, and where it stands."""

    text: str
    date: str | None


class CommunityOut(BaseModel):
    """What hangs together: `lines` are its two most central sentences."""

    community_id: str
    label: str
    key_entities: list[str]
    chunks: int
    salience: float
    lines: list[CommunityLineOut]


class ProfileAnswer(BaseModel):
    user_id: str
    name: str | None
    documents: list[DocumentOut]
    topics: list[TopicOut]
    communities: list[CommunityOut]
    biography: BiographyOut | None
    release: ReleaseOut | None
    voice: VoiceOut | None = None
    preferences: list[PreferenceOut] = []


def turn_out(turn: Turn) -> TurnOut:
    return TurnOut(
        session_id=turn.session_id,
        message_id=turn.answer_id,
        release_id=turn.release.release_id,
        citations=[citation_out(line) for line in turn.evidence],
        memories=[remembered_out(line.memory, line.score) for line in turn.lines if line.memory and turn.answerable],
        facts=[
            FactOut(text=line.fact.text, valid_at=line.fact.valid_at, score=round(line.score, 4))
            for line in turn.lines
            if line.fact and turn.answerable
        ],
        degraded=list(turn.degraded),
        confidence=round(turn.confidence, 4),
        answerable=turn.answerable,
        route=turn.route,
    )


def draft_out(kept: KeptDraft) -> BallotDraftOut:
    draft = kept.draft
    return BallotDraftOut(
        draft_id=kept.draft_id,
        message_id=kept.message_id,
        created_at=kept.created_at,
        proposal=draft.proposal,
        choice=draft.choice,
        reason=draft.reason,
        confidence=kept.confidence,
        citations=list(kept.citations),
        why=kept.why,
        withdrawn=kept.withdrawn,
    )


def remembered_out(memory: Memory, score: float) -> RememberedOut:
    return RememberedOut(
        memory_id=memory.memory_id,
        text=memory.text,
        citation=memory.citation,
        created_at=memory.created_at,
        session_id=memory.session_id,
        score=round(score, 4),
    )


def citation_out(line: Evidence) -> CitationOut:
    return CitationOut(**place_out(line.citation).model_dump(), text=line.text, score=round(line.score, 4))


def preference_out(item: Preference) -> PreferenceOut:
    return PreferenceOut(
        text=item.text,
        domain=item.domain,
        kind=item.kind,
        polarity=item.polarity,
        strength=item.strength,
        filename=item.citation.filename,
        document_sha256=item.citation.document_sha256,
        byte_start=item.citation.byte_start,
        byte_end=item.citation.byte_end,
    )


def place_out(place: Citation) -> PlaceOut:
    return PlaceOut(
        document_sha256=place.document_sha256,
        filename=place.filename,
        byte_start=place.byte_start,
        byte_end=place.byte_end,
        chunk_id=place.chunk_id,
    )


def community_out(community: Community) -> CommunityOut:
    return CommunityOut(
        community_id=community.community_id,
        label=community.label,
        key_entities=list(community.key_entities),
        chunks=len(community.chunk_ids),
        salience=community.salience,
        lines=[
            CommunityLineOut(text=line.text, date=line.date, **place_out(line.citation).model_dump())
            for line in community.lines[:PROFILE_LINES]
        ],
    )


def biography_out(biography: Biography) -> BiographyOut:
    def line_out(line: BiographyLine) -> BiographyLineOut:
        places = [place_out(place) for place in line.citations]
        return BiographyLineOut(text=line.text, shade=line.shade, date=line.date, citations=places)

    return BiographyOut(
        lines=[line_out(line) for line in biography.lines],
        skipped=biography.skipped,
        status=[line_out(line) for line in biography.status],
        as_of=biography.as_of,
        status_skipped=biography.status_skipped,
    )
