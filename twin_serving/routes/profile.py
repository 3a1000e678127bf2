"""`GET /twin/{user_id}/profile`: what a twin is made of.

Belongs here: the form of the answer.
Does not belong here: what may be shown (`lpm_kernel/mind.py`).
"""

from __future__ import annotations

from fastapi import APIRouter

from lpm_kernel.mind import read_mind
from twin_serving.deps import ServicesDep
from twin_serving.errors import problems
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


@router.get("/twin/{user_id}/profile", summary="What a twin is made of", responses=problems(404))
def profile(user_id: str, services: ServicesDep) -> ProfileAnswer:
    """The user, each document with what became of it, topics, communities, biography, voice, preferences, and the live release
    with its evaluation.

    Nothing is shown of a deleted document, though stages may not have been made anew yet. No topics, communities, biography or
    voice means that none were made yet; what cannot be read is an error.
    """
    mind = read_mind(services.stores, user_id)
    release, voice = mind.release, mind.voice
    return ProfileAnswer(
        user_id=mind.user.user_id,
        name=mind.user.name,
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
                private=document.sha256 in mind.private,
            )
            for document in mind.documents
        ],
        topics=[
            TopicOut(topic_id=topic.topic_id, label=topic.label, keywords=list(topic.keywords), chunks=len(topic.chunk_ids))
            for topic in mind.topics
        ],
        communities=[community_out(community) for community in mind.communities],
        biography=biography_out(mind.biography) if mind.biography else None,
        release=ReleaseOut(
            release_id=release.release_id,
            created_at=release.created_at,
            evaluation=release.evaluation,
            lora_path=mind.model.lora_path,
            model_ready=mind.model.model_ready,
            reasons=list(release.reasons),
            stale_reason=release.stale_reason,
        )
        if release
        else None,
        voice=VoiceOut(measured=voice.measured, features=voice.features, absent=voice.absent) if voice else None,
        preferences=[preference_out(item) for item in mind.preferences],
    )
