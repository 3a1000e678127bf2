"""A heavy stage as a letter: the call that goes to another machine and the outcome that comes back, both JSON.

Belongs here: what the two sides must agree on, and the check that they do. Rows and weights travel through blobs, not here.
Does not belong here: how a letter is carried (`stores/modal_compute.py`, `run_stage.py`), and the stages' work (`stages.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from lpm_kernel import errors
from lpm_kernel.errors import SettingsError, TrainingError, TwinError
from lpm_kernel.L2 import stages
from lpm_kernel.settings import ModelSettings

MAX_NAMED = 8
"""Of wrong keys, in a message."""


@dataclass(frozen=True, slots=True)
class StageCall:
    stage: str
    models: ModelSettings
    """Of the caller: the other side may have been set up under other settings."""
    request: Any
    transaction_id: str | None = None
    """Of the request or run that calls: what the stage writes there names it."""


KEYS = {"stage", "trainer", "models", "request", "transaction_id"}
"""Of a call."""


def find_stage(stage: str) -> Callable[..., Any]:
    """Raises: SettingsError `stage_unknown`."""
    try:
        return stages.STAGES[stage]
    except KeyError:
        raise SettingsError("stage_unknown", f"no stage {stage!r}; known are {', '.join(sorted(stages.STAGES))}") from None


def encode_call(call: StageCall) -> str:
    """Raises: SettingsError `stage_unknown`."""
    request = _as_json(call.request, _types(call.stage)[0])
    models = call.models.model_dump(mode="json")
    letter = {"stage": call.stage, "trainer": stages.TRAINER_VERSION, "models": models, "request": request}
    return json.dumps(letter | {"transaction_id": call.transaction_id}, separators=(",", ":"))


def decode_call(text: str) -> StageCall:
    """Raises: SettingsError `stage_unknown`, `compute_outdated` when the caller's code is another; TrainingError
    `compute_call_invalid`."""
    letter = _mapping(text, "compute_call_invalid")
    if letter.get("trainer", stages.TRAINER_VERSION) != stages.TRAINER_VERSION:  # before its keys, which that may have changed
        raise SettingsError(
            "compute_outdated",
            f"the caller's trainer is version {letter['trainer']}, this one's {stages.TRAINER_VERSION}: bring both to the same "
            "code (Modal: modal deploy -m twin_assets.modal_app)",
        )
    if letter.keys() != KEYS:
        raise _invalid("compute_call_invalid", "a call", KEYS - letter.keys(), letter.keys() - KEYS)
    models = _decoded(letter["models"], ModelSettings, "compute_call_invalid", "model settings")
    stage = str(letter["stage"])
    request = _decoded(letter["request"], _types(stage)[0], "compute_call_invalid", f"a request of {stage}")
    return StageCall(stage, models, request, letter["transaction_id"] and str(letter["transaction_id"]))


def encode_result(stage: str, result: Any) -> str:
    return json.dumps({"result": _as_json(result, _types(stage)[1])}, separators=(",", ":"))


def encode_error(error: TwinError) -> str:
    """Why as data: a pickled exception needs the very same code on the other side, and says more than its message."""
    told = {"kind": _kind(error), "code": error.code, "message": error.message, "retryable": error.retryable}
    return json.dumps({"error": told}, separators=(",", ":"))


def decode_outcome(stage: str, text: Any) -> Any:
    """The stage's own record, whole.

    Raises: the stage's error, as it was raised there; TrainingError `compute_result_invalid`, naming missing and foreign keys.
    """
    letter = _mapping(text, "compute_result_invalid")
    if letter.keys() == {"error"}:
        raise error_of(letter["error"])
    if letter.keys() != {"result"}:
        raise _invalid("compute_result_invalid", "an outcome", {"result"} - letter.keys(), letter.keys() - {"result"})
    return _decoded(letter["result"], _types(stage)[1], "compute_result_invalid", f"a result of {stage}")


def _types(stage: str) -> tuple[Any, Any]:
    """Of request and result, as the stage's function declares them."""
    hints = get_type_hints(find_stage(stage))
    return hints["request"], hints["return"]


def _as_json(record: Any, record_type: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(record_type).dump_python(record, mode="json")


def _decoded(found: Any, record_type: Any, code: str, what: str) -> Any:
    """Every key of the record and no other. Why stricter than pydantic: it fills what has a default and drops what it does not
    know, and both mean that the two sides run different code."""
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(record_type)
    try:
        record = adapter.validate_python(found, strict=False)
    except ValidationError as error:
        wrong = sorted({f"{'.'.join(map(str, e['loc'])) or '(all)'} {e['type']}" for e in error.errors()})
        # not chained: it quotes what it found
        raise TrainingError(code, f"{what} cannot be read: {', '.join(wrong[:MAX_NAMED])}") from None
    expected, sent = set(_paths(adapter.dump_python(record, mode="json"))), set(_paths(found))
    if expected != sent:
        raise _invalid(code, what, expected - sent, sent - expected)
    return record


def _paths(value: Any, prefix: str = "") -> Iterator[str]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield f"{prefix}{key}"
        yield from _paths(inner, f"{prefix}{key}.")


def _mapping(text: Any, code: str) -> dict[str, Any]:
    try:
        letter = json.loads(text)
    except (TypeError, ValueError):
        letter = None
    if not isinstance(letter, dict):
        raise TrainingError(code, "what came over is no JSON object: both sides must run the same code")
    return letter


def _invalid(code: str, what: str, missing: set[str], foreign: set[str]) -> TrainingError:
    wrong = [
        f"{word} {', '.join(sorted(keys)[:MAX_NAMED])}" for word, keys in (("lacks", missing), ("has foreign", foreign)) if keys
    ]
    return TrainingError(code, f"{what} {' and '.join(wrong)}: both sides must run the same code")


def _kind(error: TwinError) -> str:
    return next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _kinds()), TwinError.__name__)


def _kinds() -> dict[str, type[TwinError]]:
    return {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TwinError)}


def error_of(told: Any) -> TwinError:
    """The error of the other side, as it was raised there."""
    try:
        kind = _kinds()[told["kind"]]
        code, message, retryable = told["code"], told["message"], told["retryable"]
    except (KeyError, TypeError):
        return TrainingError("compute_result_invalid", "an error came over in a form that is not known here: update both sides")
    return kind(str(code), str(message), retryable=bool(retryable))
