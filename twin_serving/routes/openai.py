"""`GET /v1/models`, `GET /v1/models/{model}` and `POST /v1/embeddings`, as OpenAI's clients know them.

Belongs here: transport.
Does not belong here: what is answered (`openai_wire/`), and chats (`openai_chat.py`).
"""

from __future__ import annotations

import anyio
from anyio import to_thread
from fastapi import APIRouter

from lpm_kernel.stores.releases import LiveTwin
from twin_serving.auth import PrincipalDep
from twin_serving.deps import Services, ServicesDep
from twin_serving.errors import problems
from twin_serving.openai_wire.embeddings import embed_texts
from twin_serving.openai_wire.errors import OpenAiRoute
from twin_serving.openai_wire.models import live_twin, model_of, twins_for
from twin_serving.openai_wire.schemas import EmbeddingRequest, EmbeddingsAnswer, ModelOut, ModelsAnswer

router = APIRouter(route_class=OpenAiRoute, tags=["OpenAI"])


@router.get("/v1/models", summary="The twins as models")
def models(services: ServicesDep, principal: PrincipalDep) -> ModelsAnswer:
    """One model for each twin that serves and that the caller may use: `twin-1` is the twin of user 1."""
    return ModelsAnswer(data=[_model_out(services, twin) for twin in twins_for(services.stores.tables, principal)])


@router.get("/v1/models/{model}", summary="A twin as a model", responses=problems(404))
def model(model: str, services: ServicesDep, principal: PrincipalDep) -> ModelOut:
    """One of them; a twin that the caller may not use is told of like one that is not there."""
    return _model_out(services, live_twin(services.stores.tables, model, principal))


@router.post("/v1/embeddings", summary="Vectors of texts")
async def embeddings(request: EmbeddingRequest, services: ServicesDep, principal: PrincipalDep) -> EmbeddingsAnswer:
    """Unit vectors of the model named in the settings (`models.embedder`); a text is read as far as the model reads."""
    # a thread of its own: long texts must not keep other requests waiting for one
    return await to_thread.run_sync(embed_texts, services.stores, request, limiter=anyio.CapacityLimiter(1))


def _model_out(services: Services, twin: LiveTwin) -> ModelOut:
    owner = services.stores.settings.project
    return ModelOut(id=model_of(twin.user_id), created=int(twin.since.timestamp()), owned_by=owner)
