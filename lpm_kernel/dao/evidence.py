"""What a person's own memory says of a proposal: lines of documents, of what was said and preferred, and facts, with citations.

Belongs here: asking recall for more than a chat would show, and which of it others may hear.
Does not belong here: how stores rank (`recall/`), and what the lines amount to (`stance_model.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lpm_kernel.errors import UserInputError
from lpm_kernel.recall.plan import Line, Part, document_of, recall_lines, source_of
from lpm_kernel.records import content_id
from lpm_kernel.stores.documents import deleted_documents, shared_documents
from lpm_kernel.stores.releases import live_release
from lpm_kernel.stores.users import get_user

if TYPE_CHECKING:
    from lpm_kernel.records import Release
    from lpm_kernel.stores.open import Stores


@dataclass(frozen=True, slots=True)
class EvidenceLine:
    """`citation`: what it stands on, for a ballot; of a document `sha256:start-end`. `source`: the same for people.
    `shared`: whether others may hear of it: it stands in a document that its writer shares."""

    text: str
    citation: str
    source: str
    cosine: float
    shared: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """`degraded`: the parts of memory that did not answer."""

    lines: tuple[EvidenceLine, ...]
    degraded: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """Which of a person's memories is asked: a generation of their documents, and how it was embedded."""

    user_id: str
    generation: str
    fingerprint: str
    deleted: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()


def memory_of(stores: Stores, user_id: str) -> tuple[Memory, Release]:
    """That of the live release. Raises: UserInputError `twin_not_found`, `no_release`; StoreError."""
    with stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        release = live_release(connection, user_id)
        if release is None:
            raise UserInputError("no_release", f"the twin {user_id!r} has no release yet: it has no stance to vote by")
        deleted, shared = deleted_documents(connection, user_id), shared_documents(connection, user_id)
    return Memory(user_id, release.memory_generation, release.embedding_fingerprint, deleted, shared), release


def gather_evidence(stores: Stores, memory: Memory, asked: str, now: datetime | None = None) -> Evidence:
    """The nearest first; the same words once. `asked`: title and text of what is proposed.

    Raises: RetrievalError `memory_empty`; the error of the documents, when no other part found anything either.
    """
    stance, recall = stores.settings.stance, stores.settings.recall
    wide = recall.model_copy(
        update={
            "lines": stance.lines,
            "memories": stance.memories,
            "facts": stance.facts,
            "pack_tokens": stance.pack_tokens,
            "preference_tokens": stance.preference_tokens,
        }
    )
    found = recall_lines(
        replace(stores, settings=stores.settings.model_copy(update={"recall": wide})),
        *(memory.user_id, memory.generation, asked),
        now=now or datetime.now(UTC),
        fingerprint=memory.fingerprint,
        deleted=memory.deleted,
    )
    lines: dict[str, EvidenceLine] = {}
    for line in sorted(found.lines, key=lambda line: (-line.cosine, line.text)):
        document = document_of(line)
        shared = document is not None and document in memory.shared
        lines.setdefault(line.text, EvidenceLine(line.text, _citation(line), source_of(line), line.cosine, shared))
    return Evidence(tuple(lines.values()), found.degraded)


def _citation(line: Line) -> str:
    if line.evidence:
        place = line.evidence.citation
        return f"{place.document_sha256}:{place.byte_start}-{place.byte_end}"
    if line.memory:
        return line.memory.citation or f"memory:{line.memory.memory_id}"
    return f"fact:{content_id(line.text)[:32]}"
