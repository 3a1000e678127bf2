"""The forms of requests and answers about a user's data: status, wiki, sessions, memories, releases, uploads, the whole of it.

Belongs here: pydantic models of these routes, and how a record becomes one.
Does not belong here: rules; the kernel checks what is allowed.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from lpm_kernel.L0.staging import PromisedUpload
from lpm_kernel.records import ChatMessage, Memory, Release
from lpm_kernel.status import TwinStatus
from lpm_kernel.stores.conversations import Session
from lpm_kernel.stores.releases import ReleaseState
from lpm_kernel.wiki import Wiki, section_markdown
from twin_serving.schemas import PlaceOut, place_out


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LiveOut(BaseModel):
    release_id: str
    stale_reason: str | None


class DeadLetterOut(BaseModel):
    """A stage that failed for good: `code` and `message` of its last attempt."""

    stage: str
    run_id: str
    attempts: int
    code: str
    message: str
    created_at: datetime


class StatusAnswer(BaseModel):
    """`work`: `waiting` until the pipeline looks at the documents, `building` until a release holds them, then `none`.

    `memories` counts what holds now by kind; null where their store did not answer, which `degraded` then names.
    """

    user_id: str
    name: str | None
    documents: dict[str, int]
    work: str
    failed: list[DeadLetterOut]
    release: LiveOut | None
    releases: dict[str, int]
    model_ready: bool
    lora_path: str | None
    sessions: int
    messages: int
    memories: dict[str, int] | None
    degraded: list[str]


class NumberedPlaceOut(PlaceOut):
    number: int


class WikiSectionOut(BaseModel):
    """`markdown` names its citations `[^number]`; `absent` says why there is no line."""

    section_id: str
    title: str
    markdown: str
    absent: str | None
    citations: list[NumberedPlaceOut]


class WikiAnswer(BaseModel):
    user_id: str
    title: str
    sections: list[WikiSectionOut]


class SessionOut(BaseModel):
    session_id: str
    messages: int
    began: datetime
    ended: datetime


class SessionsAnswer(BaseModel):
    user_id: str
    sessions: list[SessionOut]
    next_cursor: str | None


class MessageOut(BaseModel):
    message_id: str
    sender: str
    ts: datetime
    content: str
    citations: list[PlaceOut]
    release_id: str | None


class MessagesAnswer(BaseModel):
    user_id: str
    session_id: str
    messages: list[MessageOut]
    next_cursor: str | None


class MemoryOut(BaseModel):
    """`citation` says where in a document it stands; `written_by` who put it into these words by hand.

    `score` is that of a search, and null in a list.
    """

    memory_id: str
    kind: str
    text: str
    domain: str
    source: str
    importance: float
    created_at: datetime
    session_id: str | None
    expiration_date: str | None
    citation: str | None
    written_by: str | None
    score: float | None = None


class MemoriesAnswer(BaseModel):
    user_id: str
    memories: list[MemoryOut]
    next_cursor: str | None


class CorrectionRequest(Asked):
    text: str


class ForgottenAnswer(BaseModel):
    """`versions`: how many versions of it went."""

    memory_id: str
    versions: int


class ReleaseItemOut(BaseModel):
    """`reasons`: why it does not serve, or serves although it was not shown to be better. One with a `stale_reason` can
    never be promoted again. `documents`: how many it was made from, where it says.
    """

    release_id: str
    status: str
    created_at: datetime
    documents: int | None
    evaluation: dict[str, object]
    reasons: list[str]
    stale_reason: str | None


class ReleasesAnswer(BaseModel):
    user_id: str
    releases: list[ReleaseItemOut]


class DeletedFileOut(BaseModel):
    filename: str
    sha256: str


class DocumentDeletion(BaseModel):
    """`stale_releases` cannot serve again; `silent`: none serves now; `waiting`: a twin without them is still to be built."""

    user_id: str
    documents: list[DeletedFileOut]
    stale_releases: list[str]
    silent: bool
    waiting: bool


class UserDeletionAnswer(BaseModel):
    """`existed`: whether there was anybody. Of somebody who was not there nothing is deleted, and that is no error."""

    user_id: str
    existed: bool
    blobs: int
    memories: int


class PresignRequest(Asked):
    """`size_bytes` is the most that may be sent."""

    user_id: str
    filename: str
    size_bytes: int
    sha256: str | None = None


class PresignAnswer(BaseModel):
    """Send a multipart form of `fields`, then the file as `file`, to `url`; then tell `/upload/presigned/complete`."""

    user_id: str
    upload_id: str
    method: str
    url: str
    fields: dict[str, str]
    expires_at: datetime


class CompleteRequest(Asked):
    user_id: str
    upload_id: str


class ImportAnswer(BaseModel):
    """`was`: whose the archive was. `serves`: whether its release answers chats now."""

    user_id: str
    was: str
    counts: dict[str, int]
    serves: bool


def status_out(status: TwinStatus) -> StatusAnswer:
    return StatusAnswer(
        user_id=status.user.user_id,
        name=status.user.name,
        documents=status.documents,
        work=status.work,
        failed=[
            DeadLetterOut(
                stage=letter.stage,
                run_id=letter.run_id,
                attempts=letter.attempts,
                code=letter.code,
                message=letter.message,
                created_at=letter.created_at,
            )
            for letter in status.dead_letters
        ],
        release=_live_out(status.live) if status.live else None,
        releases={str(name): count for name, count in status.releases.items()},
        model_ready=status.model.model_ready,
        lora_path=status.model.lora_path,
        sessions=status.sessions,
        messages=status.messages,
        memories=status.memories,
        degraded=list(status.degraded),
    )


def _live_out(state: ReleaseState) -> LiveOut:
    return LiveOut(release_id=state.release_id, stale_reason=state.stale_reason)


def wiki_out(wiki: Wiki) -> WikiAnswer:
    return WikiAnswer(
        user_id=wiki.user_id,
        title=wiki.title,
        sections=[
            WikiSectionOut(
                section_id=section.section_id,
                title=section.title,
                markdown=section_markdown(section),
                absent=section.absent,
                citations=[
                    NumberedPlaceOut(number=number, **place_out(place).model_dump())
                    for number, place in wiki.cited_by(section).items()
                ],
            )
            for section in wiki.sections
        ],
    )


def session_out(session: Session) -> SessionOut:
    return SessionOut(session_id=session.session_id, messages=session.messages, began=session.began, ended=session.ended)


def message_out(message: ChatMessage) -> MessageOut:
    return MessageOut(
        message_id=message.message_id,
        sender=message.sender,
        ts=message.ts,
        content=message.content,
        citations=[place_out(place) for place in message.citations],
        release_id=message.release_id,
    )


def memory_out(memory: Memory, score: float | None = None) -> MemoryOut:
    return MemoryOut(
        memory_id=memory.memory_id,
        kind=memory.kind,
        text=memory.text,
        domain=memory.domain,
        source=memory.source,
        importance=memory.importance,
        created_at=memory.created_at,
        session_id=memory.session_id,
        expiration_date=memory.expiration_date.isoformat() if memory.expiration_date else None,
        citation=memory.citation,
        written_by=memory.written_by,
        score=None if score is None else round(score, 4),
    )


def release_out(release: Release) -> ReleaseItemOut:
    return ReleaseItemOut(
        release_id=release.release_id,
        status=release.status,
        created_at=release.created_at,
        documents=None if release.documents is None else len(release.documents),
        evaluation=release.evaluation,
        reasons=list(release.reasons),
        stale_reason=release.stale_reason,
    )


def presign_out(user_id: str, promised: PromisedUpload) -> PresignAnswer:
    return PresignAnswer(
        user_id=user_id,
        upload_id=promised.upload_id,
        method="POST",
        url=promised.form.url,
        fields=promised.form.fields,
        expires_at=promised.expires_at,
    )
