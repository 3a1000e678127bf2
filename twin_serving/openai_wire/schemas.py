"""The forms of OpenAI's requests, as far as a twin can keep what they promise, and of its lists of models and vectors.

Belongs here: pydantic models, and which parameters are taken, taken without effect, or refused by name.
Does not belong here: what a talk means (`conversation.py`).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from twin_serving.openai_wire.errors import RequestRefused

MAX_MESSAGES = 2048
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 200


class WireForm(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ContentPart(BaseModel):
    """Text is taken; what else there may be is refused by its type."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str
    text: str | None = None
    refusal: str | None = None


class WireMessage(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None


class StreamOptions(WireForm):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Taken without effect."""


class ChatCompletionRequest(WireForm):
    """Answers are greedy: `temperature`, `top_p` and `seed` are taken and change nothing.

    `max_tokens` cannot raise `models.answer_tokens` of the settings. The sentence by which a twin says that it does not know is
    always whole.
    """

    model: str
    messages: list[WireMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    user: str | None = Field(None, max_length=512)
    """Whom the caller asks for: talks of two are two sessions."""
    metadata: dict[str, str] | None = None
    """`session_id`: the session this turn belongs to, as in `/twin/{user_id}/chat`."""
    n: int | None = None

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    parallel_tool_calls: bool | None = None

    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    web_search_options: Any = None

    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
}
"""Parameters that no twin can keep, and the values that ask for nothing."""


def refuse_unsupported(request: ChatCompletionRequest) -> None:
    """Raises: RequestRefused `unsupported_parameter`, naming it."""
    if request.n not in (None, 1):
        raise RequestRefused("unsupported_parameter", "n: a twin gives one answer", "n")
    for name, neutral in NEUTRAL.items():
        value = getattr(request, name)
        if value is not None and value not in neutral:
            raise RequestRefused("unsupported_parameter", f"{name}: a twin cannot do this; leave it out", name)
    stops = request.stops()
    if len(stops) > MAX_STOPS or not all(0 < len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
        message = f"stop: {MAX_STOPS} sequences of 1 to {MAX_STOP_CHARACTERS} characters are allowed"
        raise RequestRefused("request_invalid", message, "stop")
    if request.stream_options is not None and not request.stream:
        raise RequestRefused("request_invalid", "stream_options: only where stream is true", "stream_options")


class AnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None = None


class CompletionChoice(BaseModel):
    index: int
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class CompletionUsage(BaseModel):
    """Tokens of the model's own tokenizer; the prompt as it was rendered, notes and all."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """`twin`: where the turn is stored and what it rests on, as `/twin/{user_id}/chat` says it. `usage` is null where an answer
    is told again out of what is stored, which does not say what it took."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[CompletionChoice]
    usage: CompletionUsage | None
    twin: dict[str, Any]


class EmbeddingRequest(WireForm):
    """Vectors of the model that this server's stores use."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = Field(None, max_length=512)


class ModelOut(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    """Unix seconds: since when this release of the twin serves."""
    owned_by: str


class ModelsAnswer(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]


class EmbeddingOut(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """With `encoding_format` base64: little-endian float32."""


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    object: Literal["list"] = "list"
    data: list[EmbeddingOut]
    model: str
    usage: EmbeddingUsage
