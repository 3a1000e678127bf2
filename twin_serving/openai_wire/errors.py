"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`, with statuses its clients have an exception for.

Belongs here: the statuses that differ under `/v1/`, and the route class that answers so.
Does not belong here: what is raised outside a route, such as by a limit or an unknown path (`twin_serving/errors.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from lpm_kernel.errors import TwinError, UserInputError
from twin_serving.errors import CODE_OF_STATUS, openai_error_body, status_of

MODEL_NOT_FOUND = "model_not_found"
NO_MODEL = ("twin_not_found", "no_release")
"""What keeps a twin, which the caller may ask, from being a model."""

AGAIN = (408, 409, 429)
"""Statuses besides 5xx after which OpenAI's client asks again, unless it is told not to."""

PARAM_OF_CODE = {
    "question_empty": "messages",
    "question_invalid": "messages",
    "question_too_long": "messages",
    "session_id_invalid": "metadata",
    MODEL_NOT_FOUND: "model",
    "text_empty": "input",
}


class RequestRefused(UserInputError):
    """A request that is wrong or asks for what is not there; `param` names the part of it."""

    def __init__(self, code: str, message: str, param: str | None) -> None:
        super().__init__(code, message)
        self.param = param


class OpenAiRoute(APIRoute):
    """A route whose failures are answered in OpenAI's form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except TwinError as error:
                return refusal_of(error)
            except RequestValidationError as error:
                return malformed(error)
            except HTTPException as error:
                code = CODE_OF_STATUS.get(error.status_code, "request_refused")
                return refusal(code, str(error.detail), error.status_code, headers=error.headers)

        return answered


def refusal(
    code: str, message: str, status: int, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    param = param or PARAM_OF_CODE.get(code)
    return JSONResponse(openai_error_body(code, message, status, param), status, dict(headers or {}))


def refusal_of(error: TwinError) -> JSONResponse:
    code, message, status = wire_error(error)
    headers = {"x-should-retry": "false"} if asked_again(status) else {}
    if error.retryable:
        headers = {"Retry-After": str(math.ceil(error.retry_after_s or 2))}
    return refusal(code, message, status, getattr(error, "param", None), headers)


def wire_error(error: TwinError) -> tuple[str, str, int]:
    """Code, message and status under `/v1/`: a request that is wrong is 400, and a twin that cannot be asked is no model."""
    if error.code in NO_MODEL:
        return MODEL_NOT_FOUND, error.message, 404
    status = 404 if error.code == MODEL_NOT_FOUND else status_of(error.code, error)
    return error.code, error.message, 400 if status == 422 else status


def asked_again(status: int) -> bool:
    return status >= 500 or status in AGAIN


def malformed(error: RequestValidationError) -> JSONResponse:
    """The first thing that is wrong, and where."""
    first = error.errors()[0]
    param = param_of(first["loc"])
    unknown = first["type"] == "extra_forbidden"
    message = "this parameter is not known here" if unknown else str(first["msg"])
    code = "unknown_parameter" if unknown else "request_invalid"
    return refusal(code, f"{param}: {message}" if param else message, 400, param)


def param_of(place: Sequence[Any]) -> str | None:
    """`messages[0].content` of ("body", "messages", 0, "content", "str"); names of a union's branches are left out.

    Why ASCII: a key may hold half of a character, which no answer can be encoded with.
    """
    path = ""
    for part in place[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in ("str", "int") and "[" not in part:
            path += f".{part}" if path else part
    return path.encode("ascii", "backslashreplace").decode()[:80] or None
