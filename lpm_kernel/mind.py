"""What may be shown of a twin: its documents, and the finished stages of L1 without a word of what was deleted.

Belongs here: reading rows and artefacts for those who show them, and leaving out what rests on a deleted document.
Does not belong here: making them (`L1/`), and how they are shown (`wiki.py`, `twin_serving`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from lpm_kernel.artefacts import decode_record, decode_records, read_artefact
from lpm_kernel.L1.records import Biography, BiographyLine, Community
from lpm_kernel.records import Chunk, Document, Preference, Release, Topic, User, VoiceProfile, check_user_id
from lpm_kernel.stores.documents import deleted_documents, list_documents, private_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import ServedModel, live_release, served_model
from lpm_kernel.stores.users import get_user

Group = TypeVar("Group", Topic, Community)


@dataclass(frozen=True, slots=True)
class Mind:
    """None, or nothing: that stage has not run yet."""

    user: User
    documents: tuple[Document, ...]
    private: frozenset[str]
    """sha256 of those that nobody but the person may hear of."""
    release: Release | None
    model: ServedModel
    topics: tuple[Topic, ...]
    communities: tuple[Community, ...]
    biography: Biography | None
    voice: VoiceProfile | None
    preferences: tuple[Preference, ...]


def read_mind(stores: Stores, user_id: str) -> Mind:
    """Everything that may be shown now, though stages may not have been made anew since a deletion.

    Raises: UserInputError `user_id_invalid`, `twin_not_found`; StoreError, `artefact_unreadable` too: what is there and cannot
    be read is not nothing.
    """
    check_user_id(user_id)
    with stores.tables.transaction(user_id) as connection:
        user = get_user(connection, user_id)
        documents = list_documents(connection, user_id)
        release, model = live_release(connection, user_id), served_model(connection, user_id)
        deleted, private = deleted_documents(connection, user_id), private_documents(connection, user_id)
    read = partial(read_artefact, stores.blobs, user_id)
    topics = read("topics", "jsonl", partial(decode_records, record_type=Topic)) or []
    communities = read("communities", "jsonl", partial(decode_records, record_type=Community)) or []
    if deleted:
        chunks = read("chunks", "jsonl", partial(decode_records, record_type=Chunk)) or []
        there = {chunk.chunk_id for chunk in chunks if chunk.document_sha256 not in deleted}
        topics, communities = _without_the_deleted(topics, there), _without_the_deleted(communities, there)
    voice = read("voice_profile", "json", partial(decode_record, record_type=VoiceProfile))
    biography = read("biography", "json", partial(decode_record, record_type=Biography))
    return Mind(
        user=user,
        documents=tuple(documents),
        private=frozenset(private),
        release=release,
        model=model,
        topics=tuple(topics),
        communities=tuple(communities),
        biography=_biography_without(biography, deleted) if biography else None,
        voice=voice,
        preferences=tuple(
            item for item in (voice.preferences if voice else ()) if item.citation.document_sha256 not in deleted
        ),
    )


def _without_the_deleted(groups: Sequence[Group], there: set[str]) -> list[Group]:
    """Only those of whose chunks none is of a deleted document: its words are in their labels, and nobody can tell which."""
    return [group for group in groups if there.issuperset(group.chunk_ids)]


def _biography_without(biography: Biography, deleted: Collection[str]) -> Biography:
    def kept(lines: Sequence[BiographyLine]) -> tuple[BiographyLine, ...]:
        return tuple(line for line in lines if not any(place.document_sha256 in deleted for place in line.citations))

    return replace(biography, lines=kept(biography.lines), status=kept(biography.status))
