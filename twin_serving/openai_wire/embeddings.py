"""Vectors of texts in OpenAI's form, made by the model that this server's stores use.

Belongs here: what may be asked for, and the two encodings of a vector.
Does not belong here: the model.
"""

from __future__ import annotations

import base64

from lpm_kernel.records import is_text
from lpm_kernel.stores.open import Stores
from twin_serving.openai_wire.errors import MODEL_NOT_FOUND, RequestRefused
from twin_serving.openai_wire.schemas import EmbeddingOut, EmbeddingRequest, EmbeddingsAnswer, EmbeddingUsage

MAX_TEXT_CHARACTERS = 32_768


def embed_texts(stores: Stores, request: EmbeddingRequest) -> EmbeddingsAnswer:
    """Raises: RequestRefused; LlmError `embedder_unavailable`."""
    known = stores.settings.models.embedder
    if request.model != known:
        raise RequestRefused(MODEL_NOT_FOUND, f"the one embedding model here is {known!r}", "model")
    embedder = stores.embedder
    if request.dimensions not in (None, embedder.dim):
        message = f"dimensions: {known!r} makes vectors of {embedder.dim}, and a part of one is no vector of it"
        raise RequestRefused("unsupported_parameter", message, "dimensions")
    texts = _texts_of(request, stores.settings.serving.openai_embedding_texts)
    vectors = embedder.embed(texts).astype("<f4")
    as_base64 = request.encoding_format == "base64"
    data = [
        EmbeddingOut(index=i, embedding=base64.b64encode(row.tobytes()).decode() if as_base64 else row.tolist())
        for i, row in enumerate(vectors)
    ]
    tokens = sum(embedder.tokens_read(texts))
    return EmbeddingsAnswer(data=data, model=known, usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens))


def _texts_of(request: EmbeddingRequest, limit: int) -> list[str]:
    given = [request.input] if isinstance(request.input, str) else request.input
    if not given:
        raise RequestRefused("request_invalid", "input: there is no text", "input")
    if len(given) > limit:
        raise RequestRefused("batch_too_large", f"input: {len(given)} texts, and {limit} a request are allowed", "input")
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) < len(given):
        message = (
            "input: send text; numbers of tokens mean another text to each model (LangChain: check_embedding_ctx_length=False)"
        )
        raise RequestRefused("tokens_unsupported", message, "input")
    for number, text in enumerate(texts):
        place = "input" if isinstance(request.input, str) else f"input[{number}]"
        if not text.strip():
            raise RequestRefused("text_empty", f"{place}: an empty text has no embedding", place)
        if len(text) > MAX_TEXT_CHARACTERS:
            raise RequestRefused(
                "text_too_long", f"{place}: {len(text)} characters, and {MAX_TEXT_CHARACTERS} are allowed", place
            )
        if not is_text(text):
            raise RequestRefused("request_invalid", f"{place}: it holds a NUL or half of a character", place)
    return texts
