"""Errors as HTTP: one body form, one table of statuses.

Belongs here: the translation of the kernel's tree at this border.
Does not belong here: deciding that something is wrong.
"""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lpm_kernel.errors import IngestionError, LlmError, RetrievalError, StoreError, TwinError, UserInputError

log = logging.getLogger(__name__)

STATUS_OF_CODE = {
    "twin_not_found": 404,
    "no_release": 409,
    "memory_empty": 409,
    "document_limit": 409,
    "document_too_large": 413,
    "type_unknown": 415,
    "artefact_unreadable": 500,
}
CODE_OF_STATUS = {400: "request_invalid", 404: "path_not_found", 405: "method_not_allowed"}
"""Of what the web framework itself refuses, such as a path that no route has."""

UNFORESEEN = ("internal", "the server failed; its log says where")

STATUS_OF_CLASS: tuple[tuple[type[TwinError], int], ...] = (
    (UserInputError, 422),
    (IngestionError, 422),
    (RetrievalError, 503),
    (LlmError, 503),
    (StoreError, 503),
)


def status_of(code: str, error: TwinError | None = None) -> int:
    """The HTTP status of an error: by its code where the code has one of its own, else by its class, else 500."""
    if code in STATUS_OF_CODE:
        return STATUS_OF_CODE[code]
    return next((status for known, status in STATUS_OF_CLASS if isinstance(error, known)), 500 if error else 422)


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    return {"error": {"code": code, "message": message}}


def install_error_responses(app: FastAPI) -> None:
    """Every failure answers with `{"error": {"code", "message"}}`; what nobody foresaw is logged and says nothing of itself."""

    @app.exception_handler(TwinError)
    def known(request: Request, error: TwinError) -> JSONResponse:
        headers = {"Retry-After": "2"} if error.retryable else None
        return JSONResponse(error_body(error.code, error.message), status_of(error.code, error), headers)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
        return JSONResponse(error_body("request_invalid", wrong), 422)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = CODE_OF_STATUS.get(error.status_code, "request_refused")
        return JSONResponse(error_body(code, str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse(error_body(*UNFORESEEN), 500)
