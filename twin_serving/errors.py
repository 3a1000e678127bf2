"""Errors as HTTP: problem details (RFC 9457), one table of statuses, and OpenAI's form under /v1/.

Belongs here: the translation of the kernel's tree at this border, and how an error is described in the OpenAPI.
Does not belong here: deciding that something is wrong.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from lpm_kernel.errors import (
    AccessError,
    EngineError,
    IngestionError,
    LlmError,
    RetrievalError,
    StoreError,
    SyncError,
    TwinError,
    UserInputError,
    VoteError,
)
from lpm_kernel.request_context import request_id

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
OPENAI_PREFIX = "/v1/"
MAX_DETAIL_CHARACTERS = 2000

STATUS_OF_CODE = {
    "token_missing": 401,
    "token_invalid": 401,
    "token_expired": 401,
    "token_key_unknown": 401,
    "request_malformed": 400,
    "body_too_slow": 408,
    "body_too_large": 413,
    "rate_limited": 429,
    "uploads_busy": 429,
    "too_many_requests": 429,
    "signature_invalid": 401,
    "hook_unsigned": 403,
    "twin_not_found": 404,
    "no_release": 409,
    "memory_empty": 409,
    "document_limit": 409,
    "document_too_large": 413,
    "type_unknown": 415,
    "artefact_unreadable": 500,
    "message_unknown": 404,
    "answerer_refused": 422,
    "document_unknown": 404,
    "pair_unknown": 404,
    "calibration_no_questions": 409,
    "asker_not_allowed": 403,
    "session_unknown": 404,
    "memory_unknown": 404,
    "release_unknown": 404,
    "upload_unknown": 404,
    "upload_missing": 409,
    "uploads_open": 429,
    "memory_superseded": 409,
    "memory_derived": 409,
    "release_stale": 409,
    "release_incomplete": 409,
    "deletion_under_way": 409,
    "user_not_empty": 409,
    "archive_too_large": 413,
    "archive_bomb": 413,
    "direct_upload_unknown": 501,
    "not_a_member": 403,
    "not_in_electorate": 403,
    "no_weight": 403,
    "not_proposer": 403,
    "consent_missing": 403,
    "consent_invalid": 422,
    "operator_only": 403,
    "proposal_unknown": 404,
    "ballot_unknown": 404,
    "draft_unknown": 404,
    "delegate_unknown": 404,
    "delegation_unknown": 404,
    "plan_unknown": 404,
    "choice_unknown": 422,
    "clock_skewed": 422,
    "delegation_to_self": 422,
    "weight_invalid": 422,
    "weight_negative": 422,
    "weight_not_yours": 422,
    "voting_not_open": 409,
    "voting_closed": 409,
    "ballot_late": 409,
    "ballot_final": 409,
    "veto_too_late": 409,
    "delegation_circle": 409,
    "delegation_ended": 409,
    "already_open": 409,
    "already_ended": 409,
    "not_passed": 409,
    "key_reused": 409,
    "too_many_members": 409,
    "plan_moved_on": 409,
    "plans_busy": 429,
    "listeners_busy": 429,
}
CODE_OF_STATUS = {
    400: "request_invalid",
    404: "path_not_found",
    405: "method_not_allowed",
    408: "body_too_slow",
    413: "body_too_large",
}
"""Of what the web framework itself refuses, such as a path that no route has."""

INTERNAL = "INTERNAL_ERROR"
"""The category of what nobody foresaw."""
UNFORESEEN = ("internal", "the server failed; its log says where")

STATUS_OF_CLASS: tuple[tuple[type[TwinError], int], ...] = (
    (UserInputError, 422),
    (IngestionError, 422),
    (AccessError, 403),
    (VoteError, 409),
    (RetrievalError, 503),
    (LlmError, 503),
    (StoreError, 503),
    (SyncError, 503),
    (EngineError, 503),
)


class Problem(BaseModel):
    """What went wrong: `code` is for programs, `category` groups codes by how they are recovered from, `detail` is for people,
    and `request_id` finds it in the log."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    category: str
    request_id: str | None


class OpenAiError(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiProblem(BaseModel):
    """An error as OpenAI's clients read it."""

    error: OpenAiError


def status_of(code: str, error: TwinError | None = None) -> int:
    """The HTTP status of an error: by its code where the code has one of its own, else by its class, else 500."""
    if code in STATUS_OF_CODE:
        return STATUS_OF_CODE[code]
    return next((status for known, status in STATUS_OF_CLASS if isinstance(error, known)), 500 if error else 422)


def error_body(code: str, message: str, status: int | None = None, category: str | None = None) -> dict[str, Any]:
    """The members of one problem. Without `status` the one that the code has of its own, else 500; without `category` it is of
    the request, or of nobody's foresight."""
    status = STATUS_OF_CODE.get(code, 500) if status is None else status
    return {
        "type": f"urn:digital-twin:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": _readable(message),
        "code": code,
        "category": category or (UserInputError.category if status < 500 else INTERNAL),
        "request_id": request_id(),
    }


def problem_of(error: Exception) -> dict[str, Any]:
    """The same object for an error that is told in a stream, where its status cannot be sent any more."""
    if isinstance(error, TwinError):
        return error_body(error.code, error.message, status_of(error.code, error), error.category)
    return error_body(*UNFORESEEN, 500)


def openai_error_body(code: str, message: str, status: int, param: str | None = None) -> dict[str, Any]:
    """The form of OpenAI's interface, which its clients turn into exceptions; `param`: what is wrong of a request."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": _readable(message), "type": kind, "param": param, "code": code}}


def error_response(
    path: str, code: str, message: str, status: int, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The answer to a request of this path; `more` are further members of the problem."""
    if path.startswith(OPENAI_PREFIX):
        return JSONResponse(openai_error_body(code, message, status), status, headers)
    return JSONResponse({**error_body(code, message, status), **more}, status, headers, media_type=PROBLEM_TYPE)


def twin_error_response(path: str, error: TwinError) -> JSONResponse:
    """With the headers its status asks for: when to come back, or how to say who asks."""
    status = status_of(error.code, error)
    headers: dict[str, str] = {"Retry-After": str(math.ceil(error.retry_after_s or 2))} if error.retryable else {}
    if status == 401:
        reason = "" if error.code == "token_missing" else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="digital-twin"{reason}'
    if status >= 500:  # what was wrong of a request is its sender's, and stands in the answer alone
        log.warning("%s %s is answered with %d", error.category, error.code, status)
    return error_response(path, error.code, error.message, status, headers, category=error.category)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route that answers with these error statuses. What every route may answer is added by `openapi.py`."""
    return {status: {"model": Problem, "content": {PROBLEM_TYPE: {}}, "description": _meaning(status)} for status in statuses}


def _meaning(status: int) -> str:
    return _MEANING.get(status) or f"{HTTPStatus(status).phrase}."


_MEANING = {
    400: "The request cannot be read.",
    401: "No token, or not a valid one.",
    403: "The token does not allow it.",
    404: "There is no such thing.",
    406: "No form that is offered is accepted.",
    408: "The body did not arrive in time.",
    409: "What is there does not allow it.",
    410: "It is no longer there.",
    413: "Too large.",
    415: "Of a kind that is not read.",
    422: "What was sent cannot be used.",
    429: "Too many requests; `Retry-After` says when to come back.",
    500: "The server failed.",
    503: "A store or the model does not answer; it may later.",
}


def install_error_responses(app: FastAPI) -> None:
    """Every failure answers with a problem; what nobody foresaw is logged and says nothing of itself."""

    # coroutines: plain functions would wait for one of the threads that turns wait in, and no refusal would get through
    @app.exception_handler(TwinError)
    async def known(request: Request, error: TwinError) -> JSONResponse:
        return twin_error_response(request.url.path, error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
        return error_response(request.url.path, "request_invalid", wrong, 422)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = CODE_OF_STATUS.get(error.status_code, "request_refused")
        return error_response(request.url.path, code, str(error.detail), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_response(request.url.path, *UNFORESEEN, 500)


def _readable(message: str) -> str:
    """Short, and without the halves of characters that a request may hold: no answer could be encoded with them."""
    return message[:MAX_DETAIL_CHARACTERS].encode("utf-8", "replace").decode()
