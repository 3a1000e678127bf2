"""`POST /hooks/release`: being told of a release, by the signed message that the pipeline sends.

Belongs here: whose message is believed.
Does not belong here: what follows from it (`engine/releases.py`). Of the message only the user's id is used: what is live is
read in the database, so that a message which is repeated or late does no harm.
"""

from __future__ import annotations

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ValidationError

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.webhook import check_signature
from twin_serving.deps import ServicesDep

router = APIRouter()


class ReleaseMessage(BaseModel):
    """What `lpm_kernel/L2/announce.py` says; other keys are left alone."""

    user_id: str


class Heard(BaseModel):
    """`followed`: whether this process serves the user, and makes the adapter ready."""

    followed: bool


BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": ReleaseMessage.model_json_schema()}}}
}


@router.post("/hooks/release", status_code=202, response_model=Heard, openapi_extra=BODY)
async def release(
    request: Request, services: ServicesDep, x_twin_signature: Annotated[str, Header(max_length=200)] = ""
) -> Heard:
    """Signed by HMAC-SHA256 over the bytes of the body, in `X-Twin-Signature: sha256=<hex>`."""
    body = await request.body()
    await to_thread.run_sync(check_signature, services.stores.settings, body, x_twin_signature)
    try:
        message = ReleaseMessage.model_validate_json(body)
    except ValidationError:
        raise UserInputError("message_invalid", "the message is no JSON that names a user_id") from None
    user_id = check_user_id(message.user_id)
    return Heard(followed=services.releases is not None and services.releases.tell(user_id))
