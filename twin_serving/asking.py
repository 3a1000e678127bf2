"""Who talks with a twin: its person, or somebody else.

Belongs here: that one decision, from the path, the token and the request.
Does not belong here: tokens themselves, and what an asker may hear (`lpm_kernel/recall/scopes.py`).
"""

from __future__ import annotations

from lpm_kernel.errors import UserInputError
from twin_serving.auth import Principal


def may_hear(principal: Principal, user_id: str, asker: str | None) -> bool:
    """Whether an answer is to be heard again by who asks for it: it is whose talk it was, or may act for everyone."""
    return principal.operator or principal.user_id == (asker or user_id)


def asker_of(principal_user_id: str | None, user_id: str, named: str | None) -> str | None:
    """None for the twin's own person. With a token the asker is whom it names, and no request can name another; without one
    (`auth: none`, on the own machine) it is whom the request names.

    Raises: UserInputError `asker_not_allowed` when a request names somebody else than its token does.
    """
    if principal_user_id is None:
        return named
    if named is not None and named != principal_user_id:
        raise UserInputError("asker_not_allowed", "the token says who asks; leave `asker` out")
    return None if principal_user_id == user_id else principal_user_id
