"""`/upload/presigned`: large files by way of the blob store.

Belongs here: transport.
Does not belong here: what may be sent and is taken in (`lpm_kernel/L0/staging.py`).
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from lpm_kernel.L0.staging import promise_upload, take_in_upload
from twin_serving.auth import PrincipalDep, check_may_act_for
from twin_serving.data_schemas import CompleteRequest, PresignAnswer, PresignRequest, presign_out
from twin_serving.deps import ServicesDep
from twin_serving.routes.documents import upload_answer
from twin_serving.schemas import UploadAnswer

router = APIRouter()


@router.post("/upload/presigned", status_code=201)
def presign(asked: PresignRequest, services: ServicesDep, principal: PrincipalDep) -> PresignAnswer:
    """A form that one file may be sent with to the blob store itself, for a short time. What the door refuses is refused here,
    before anything is sent. What is never finished is removed."""
    check_may_act_for(principal, asked.user_id)
    promised = promise_upload(services.stores, asked.user_id, asked.filename, asked.size_bytes, asked.sha256)
    return presign_out(asked.user_id, promised)


@router.post("/upload/presigned/complete", status_code=202, response_model=UploadAnswer)
def complete(asked: CompleteRequest, services: ServicesDep, principal: PrincipalDep) -> JSONResponse:
    """Take in what was sent, by the rules of `/upload`. Asked again, the answer is the same."""
    check_may_act_for(principal, asked.user_id)
    return upload_answer(asked.user_id, [take_in_upload(services.stores, asked.user_id, asked.upload_id)])
