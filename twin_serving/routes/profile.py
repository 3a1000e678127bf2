"""`GET /twin/{user_id}/profile`: what a twin is made of.

Belongs here: reading rows and finished assets.
Does not belong here: making them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from fastapi import APIRouter

from lpm_kernel.artefacts import decode_record, decode_records, read_artefact
from lpm_kernel.L1.records import Biography, BiographyLine, Community
from lpm_kernel.records import Chunk, Topic, VoiceProfile, check_user_id
from lpm_kernel.stores.documents import deleted_documents, list_documents
from lpm_kernel.stores.releases import live_release, served_model
from lpm_kernel.stores.users import get_user
from twin_serving.deps import ServicesDep
from twin_serving.schemas import (
    DocumentOut,
    ProfileAnswer,
    ReleaseOut,
    TopicOut,
    VoiceOut,
    biography_out,
    community_out,
    preference_out,
)

router = APIRouter()
Group = TypeVar("Group", Topic, Community)


@router.get("/twin/{user_id}/profile")
def profile(user_id: str, services: ServicesDep) -> ProfileAnswer:
    """The user, each document with what became of it, topics, communities, biography, voice, preferences, and the live release
    with its evaluation.

    Nothing is shown of a deleted document, though stages may not have been made anew yet. No topics, communities, biography or
    voice means that none were made yet; what cannot be read is an error.
    """
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        user = get_user(connection, user_id)
        documents = list_documents(connection, user_id)
        release, model = live_release(connection, user_id), served_model(connection, user_id)
        deleted = deleted_documents(connection, user_id)
    read = partial(read_artefact, services.stores.blobs, user_id)
    topics = read("topics", "jsonl", partial(decode_records, record_type=Topic))
    communities = read("communities", "jsonl", partial(decode_records, record_type=Community))
    if deleted:
        chunks = read("chunks", "jsonl", partial(decode_records, record_type=Chunk)) or []
        there = {chunk.chunk_id for chunk in chunks if chunk.document_sha256 not in deleted}
        topics, communities = _without_the_deleted(topics, there), _without_the_deleted(communities, there)
    voice = read("voice_profile", "json", partial(decode_record, record_type=VoiceProfile))
    biography = read("biography", "json", partial(decode_record, record_type=Biography))
    return ProfileAnswer(
        user_id=user.user_id,
        name=user.name,
        documents=[
            DocumentOut(
                filename=document.filename,
                also_named=list(document.also_named),
                sha256=document.sha256,
                status=document.status,
                size_bytes=document.size_bytes,
                created_at=document.created_at,
                code=document.refusal.code if document.refusal else None,
                reason=document.refusal.reason if document.refusal else None,
                quarantined=document.quarantined,
                encoding=document.encoding,
                near_duplicate_of=document.near_duplicate_of,
            )
            for document in documents
        ],
        topics=[
            TopicOut(topic_id=topic.topic_id, label=topic.label, keywords=list(topic.keywords), chunks=len(topic.chunk_ids))
            for topic in topics or []
        ],
        communities=[community_out(community) for community in communities or []],
        biography=biography_out(_biography_without(biography, deleted)) if biography else None,
        release=ReleaseOut(
            release_id=release.release_id,
            created_at=release.created_at,
            evaluation=release.evaluation,
            lora_path=model.lora_path,
            model_ready=model.model_ready,
            reasons=list(release.reasons),
            stale_reason=release.stale_reason,
        )
        if release
        else None,
        voice=VoiceOut(measured=voice.measured, features=voice.features, absent=voice.absent) if voice else None,
        preferences=[
            preference_out(item)
            for item in (voice.preferences if voice else ())
            if item.citation.document_sha256 not in deleted
        ],
    )


def _without_the_deleted(groups: Sequence[Group] | None, there: set[str]) -> list[Group]:
    """Only those of whose chunks none is of a deleted document: its words are in their labels, and nobody can tell which."""
    return [group for group in groups or () if there.issuperset(group.chunk_ids)]


def _biography_without(biography: Biography, deleted: Collection[str]) -> Biography:
    def kept(lines: Sequence[BiographyLine]) -> tuple[BiographyLine, ...]:
        return tuple(line for line in lines if not any(place.document_sha256 in deleted for place in line.citations))

    return replace(biography, lines=kept(biography.lines), status=kept(biography.status))
