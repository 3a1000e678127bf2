"""Forms with files, looked at while they come: for whom they are is checked before the files are taken in.

Belongs here: finding `user_id` in the parts of a form that is still on its way, and refusing it there.
Does not belong here: reading the form for the route, which the framework does, and how large it may be (`body_limit.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from lpm_kernel.errors import AccessError, TwinError, UserInputError
from lpm_kernel.records import check_user_id
from twin_serving.auth import Principal, check_may_act_for, principal_of
from twin_serving.errors import twin_error_response

FIELD = "user_id"
MOST_BEFORE_BYTES = 1_000_000
"""Of a form that may come before the field. Clients write fields before files; a small form may be in any order."""
MOST_FIELD_BYTES = 1000


class FormRoute(APIRoute):
    """A route whose form names the user in `user_id`; the rest of a form for somebody else is not waited for."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                watch = FormWatch(request.receive, request.headers.get("content-type", ""), principal_of(request))
            except AccessError as error:
                return twin_error_response(request.url.path, error)
            try:
                return await answer(Request(request.scope, watch.receive, request._send))
            except HTTPException:
                if watch.refusal is None:
                    raise
                response = twin_error_response(request.url.path, watch.refusal)
                response.headers["connection"] = "close"  # what follows would be taken for the next request
                return response

        return answered


class FormWatch:
    """`receive` of one request. Raises HTTPException, which FastAPI hands on, once `refusal` is set."""

    def __init__(self, receive: Receive, content_type: str, principal: Principal) -> None:
        self.refusal: TwinError | None = None
        self._receive = receive
        self._principal = principal
        self._parser = self._parser_of(content_type)
        """None once there is nothing to look for any more."""
        self._before = 0
        self._header = b""
        self._headers: dict[bytes, bytes] = {}
        self._value: bytes | None = None
        """Of the field, while it comes."""
        self._found: bytes | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if self._parser is not None and message["type"] == "http.request":
            self._look_at(message.get("body", b""))
            if self.refusal is not None:
                raise HTTPException(400, "the form is refused")
        return message

    def _look_at(self, piece: bytes) -> None:
        from python_multipart.exceptions import FormParserError

        self._before += len(piece)
        try:
            assert self._parser is not None
            self._parser.write(piece)
        except FormParserError:
            self._parser = None  # the framework reads it too, and says what is wrong
            return
        if self._found is not None:
            self._parser = None
            self.refusal = self._refusal_of(self._found)
        elif self._before > MOST_BEFORE_BYTES:
            self.refusal = UserInputError("user_id_late", f"a form this large has to begin with the field {FIELD}")

    def _refusal_of(self, value: bytes) -> TwinError | None:
        try:
            user_id = check_user_id(value.decode(errors="replace"))
            check_may_act_for(self._principal, user_id)
        except (UserInputError, AccessError) as error:
            return error
        return None

    def _parser_of(self, content_type: str) -> Any:
        from python_multipart.multipart import MultipartParser, parse_options_header

        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            return None
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._name_header,
                "on_header_value": self._fill_header,
                "on_header_end": self._end_header,
                "on_headers_finished": self._look_at_headers,
                "on_part_data": self._fill,
                "on_part_end": self._end,
            },
        )

    def _begin(self) -> None:
        self._header, self._headers, self._value = b"", {}, None

    def _name_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end].lower()

    def _fill_header(self, data: bytes, start: int, end: int) -> None:
        self._headers[self._header] = self._headers.get(self._header, b"") + data[start:end]

    def _end_header(self) -> None:
        self._header = b""

    def _look_at_headers(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") == FIELD.encode() and b"filename" not in options:
            self._value = b""

    def _fill(self, data: bytes, start: int, end: int) -> None:
        if self._value is not None and len(self._value) < MOST_FIELD_BYTES:
            self._value += data[start:end]

    def _end(self) -> None:
        if self._value is not None and self._found is None:
            self._found = self._value
