"""Texts that no store has a form of are refused once, for every route.

Belongs here: the check of a body that has been parsed.
Does not belong here: paths and queries (`middleware/gate.py`), and what a text means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import is_text

NAMED = frozenset({"question", "session_id", "user_id"})
"""Fields whose own code the kernel gives as well."""


async def refuse_broken_text(request: Request) -> None:
    """JSON can hold NUL and half of a character; PostgreSQL, tokenizers and UTF-8 cannot, and each fails in its own way.

    Raises: UserInputError `text_invalid`, or `question_invalid` and the like.
    """
    # what FastAPI has parsed stands there already: asking for it would read a body that no route wants
    body: Any = getattr(request, "_json", None)
    form: Any = getattr(request, "_form", None)
    fields: Iterable[tuple[Any, Any]] = ()
    if isinstance(body, dict):
        fields = body.items()
    elif isinstance(form, FormData):
        fields = form.multi_items()
    elif body is not None:
        fields = [("", body)]
    for name, value in fields:
        if not _is_text(name) or not _is_text(value):
            shown = name if name in NAMED else "text"
            raise UserInputError(
                f"{shown}_invalid", f"the {shown} holds a NUL character or half of a character, which no text may"
            )


def _is_text(value: Any) -> bool:
    waiting = [value]  # no recursion: a body may be nested deeper than Python's stack
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if not is_text(item):
                return False
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return True
