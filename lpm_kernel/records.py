"""What flows between the stages: frozen dataclasses, and the JSON form each of them is stored in.

Belongs here: a record that at least two stages or a stage and the API exchange.
Does not belong here: behaviour beyond checks and ids, and anything that knows where a record is kept (`layout.py`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from lpm_kernel.errors import UserInputError

if TYPE_CHECKING:
    import numpy as np

USER_ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

Source = Literal["upload", "telegram", "x", "chat"]
CreatedBy = Literal["user", "twin"]
DocumentStatus = Literal["received", "read", "refused", "replaced", "deleted"]
Role = Literal["system", "user", "assistant"]
MemoryKind = Literal["fact", "preference", "summary", "voice", "turn"]
ReleaseStatus = Literal["candidate", "live", "retired"]


def check_user_id(user_id: str) -> str:
    """Return the id unchanged, or refuse it.

    Why: the id becomes a partition key and the first part of every storage key; Dagster itself accepts `../x`.
    Raises: UserInputError `user_id_invalid`.
    """
    if not USER_ID_PATTERN.fullmatch(user_id):
        raise UserInputError(
            "user_id_invalid",
            f"{user_id[:80]!r} is not a user id: use 1-63 of a-z, 0-9, '-' and '_', beginning with a letter or digit",
        )
    return user_id


def is_text(words: str) -> bool:
    """Whether UTF-8 and PostgreSQL have a form of it: no NUL, and no half of a UTF-16 pair, as JSON and a terminal may give."""
    return "\x00" not in words and not any("\ud800" <= character <= "\udfff" for character in words)


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_sha256(word: object) -> bool:
    """Whether it has the form of one: whatever else becomes part of a file's name leads anywhere."""
    return isinstance(word, str) and re.fullmatch(r"[0-9a-f]{64}", word) is not None


def content_id(*parts: str | int) -> str:
    """Hex sha256 over the parts, each one delimited, so that ("ab", "c") and ("a", "bc") differ."""
    return sha256_hex("\x1f".join(str(part) for part in parts).encode())


@dataclass(frozen=True, slots=True)
class User:
    user_id: str
    name: str | None = None
    """How the person is called; None until someone says it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a document was not read: the code of the error and its sentence."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Document:
    """One file of one user. Identity is content: the same bytes under two names are one document."""

    user_id: str
    sha256: str
    filename: str
    mime: str
    size_bytes: int
    source: Source
    created_by: CreatedBy
    created_at: datetime
    status: DocumentStatus = "received"
    refusal: Refusal | None = None
    text_size_bytes: int | None = None
    """UTF-8 size of the stored text; None until it is read."""
    also_named: tuple[str, ...] = ()
    """Other names that the same bytes were sent under; `filename` is the one that chunks and citations carry."""
    encoding: str | None = None
    near_duplicate_of: str | None = None
    """sha256 of the older document that has nearly the same words."""
    quarantined: bool = False
    """Whether a refused file's bytes are kept."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.filename, *self.also_named)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A pointer: bytes [byte_start, byte_end) of the stored text of one document."""

    chunk_id: str
    user_id: str
    document_sha256: str
    filename: str
    chunk_index: int
    byte_start: int
    byte_end: int
    tokens: int
    text_key: str
    text_sha256: str
    """Of the chunk's own bytes."""
    chunker: str
    """Fingerprint of the rules that cut it; another fingerprint means cut again."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingTable:
    """Unit vectors of chunks, in chunk order.

    Shapes: vectors float32 (len(chunk_ids), dim), each row of L2 norm 1 ± 1e-3.
    """

    chunk_ids: tuple[str, ...]
    input_sha256s: tuple[str, ...]
    """Of the exact texts that were embedded; what a vector is cached by."""
    vectors: np.ndarray
    fingerprint: str
    """Model, revision, dimension and normalisation; vectors of two fingerprints are never compared."""


@dataclass(frozen=True, slots=True)
class Topic:
    topic_id: str
    label: str
    keywords: tuple[str, ...]
    chunk_ids: tuple[str, ...]
    centroid: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a line that reached the prompt stands: the document and the exact bytes of its stored text."""

    chunk_id: str
    document_sha256: str
    filename: str
    byte_start: int
    byte_end: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """One retrieved line: its text, its citation, the fused score it was ranked by (0 to 1), its own cosine to the question."""

    citation: Citation
    text: str
    score: float
    cosine: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """The manifest a twin is served from: every input by hash. Serving loads this, never a folder."""

    release_id: str
    user_id: str
    documents_sha256: str
    chunker: str
    embedding_fingerprint: str
    memory_generation: str
    """What its chats search."""
    topics_sha256: str
    rows_sha256: str
    adapter_sha256: str
    gguf_sha256: str
    gguf_key: str
    base_sha256: str
    evaluation: dict[str, Any]
    created_at: datetime
    status: ReleaseStatus = "candidate"
    communities_sha256: str | None = None
    """None in a manifest from before there were communities; so is the key."""
    communities_key: str | None = None
    documents: tuple[str, ...] | None = None
    """sha256 of each document it was made from; None in a manifest from before they were named."""
    reasons: tuple[str, ...] = ()
    """Why it does not serve, or serves although it was not shown to be better."""
    stale_reason: str | None = None
    """Set once a document it was made from is deleted: it can never be promoted again."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    message_id: str
    user_id: str
    session_id: str
    sender: CreatedBy
    ts: datetime
    content: str
    citations: tuple[Citation, ...] = ()
    release_id: str | None = None
    degraded: tuple[str, ...] = ()
    """What an answer had to do without: parts of the memory, and models that failed."""
    cut_off: bool = False
    """Whether an answer ended before its end: nobody listened any more, or the model failed in the middle."""
    asker: str | None = None
    """Who talks with the twin here, where it is not the person: their words are nobody's memory and teach nothing."""


@dataclass(frozen=True, slots=True)
class Mention:
    document_sha256: str
    chunk_id: str
    byte_start: int
    byte_end: int
    text: str
    extractor: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Entity:
    entity_id: str
    user_id: str
    name: str
    type: str
    aliases: tuple[str, ...]
    mentions: tuple[Mention, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """What a person likes, wants or decides by, in a sentence of theirs; `strength`, 0 to 1: how firmly the grammar says it."""

    preference_id: str
    text: str
    domain: str
    kind: Literal["attitude", "wish", "choice", "rule", "stance", "norm"]
    polarity: Literal["for", "against", "undecided"]
    strength: float
    citation: Citation


@dataclass(frozen=True, slots=True)
class VoiceProfile:
    """Features are None only with the reason in `absent`; `measured` counts documents, sentences and words behind them."""

    user_id: str
    measured: dict[str, int]
    features: dict[str, float] | None
    absent: str | None
    preferences: tuple[Preference, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """One thing worth remembering of a user, in words. `key` names what it tells (subject and attribute), if one is known."""

    memory_id: str
    user_id: str
    kind: MemoryKind
    text: str
    domain: str
    source: Source
    importance: float
    created_at: datetime
    session_id: str | None = None
    turn: int | None = None
    expiration_date: date | None = None
    """The last day (UTC) on which it is recalled."""
    key: str | None = None
    superseded_by: str | None = None
    superseded_at: datetime | None = None
    citation: str | None = None
    """Of what a document says: its sha256 and the exact bytes, `sha256:start-end`."""
    written_by: str | None = None
    """Who put it into these words by hand; None for what was taken from a document or a chat."""
    message_ids: tuple[str, ...] = ()
    """Of a summary: the messages its sentences were said in."""


@dataclass(frozen=True, slots=True)
class GraphEntity:
    kind: Literal["User", "DigitalTwin", "Proposal", "Vote", "DAOResolution", "PolicyTopic", "Document"]
    name: str
    """Tells it from others of its kind, for ever: a user id, a release id, the sha256 of a document."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What held between two entities of one user's graph: from `valid_at` until `invalid_at`, as known from `created_at`."""

    user_id: str
    subject: GraphEntity
    relation: Literal[
        "HAS_TWIN", "VOTED", "ON", "AUTHORED", "MENTIONS", "CHATTED", "RESOLVES", "IMPLEMENTED", "CANCELLED", "DELEGATED"
    ]
    object: GraphEntity
    text: str
    valid_at: datetime
    created_at: datetime
    invalid_at: datetime | None = None
    expired_at: datetime | None = None
    """When it became known that the fact had ended."""
