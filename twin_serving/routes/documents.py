"""`POST /upload`: files of a user.

Belongs here: moving files from a form to the kernel's intake, one by one.
Does not belong here: reading them; a sensor starts the pipeline.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import JSONResponse

from lpm_kernel.L0.intake import receive_file
from lpm_kernel.L0.records import UploadResult
from lpm_kernel.records import check_user_id
from twin_serving.deps import Services, ServicesDep
from twin_serving.errors import error_body, status_of
from twin_serving.schemas import FileOut, UploadAnswer

router = APIRouter()


@router.post("/upload", status_code=202, response_model=UploadAnswer)
def upload(user_id: Annotated[str, Form()], files: Annotated[list[UploadFile], File()], services: ServicesDep) -> JSONResponse:
    """Take in each file on its own. 202 when one was taken in or is known; else the status of the first refusal.

    The user is made known by their first file.
    """
    check_user_id(user_id)
    results = [_receive(services, user_id, file) for file in files]
    answer = UploadAnswer(user_id=user_id, files=[_file_out(result) for result in results]).model_dump()
    refusals = [result.refusal for result in results if result.refusal]
    if results and len(refusals) == len(results):
        first = refusals[0]
        return JSONResponse({**error_body(first.code, first.reason), **answer}, status_of(first.code))
    return JSONResponse(answer, 202)


def _receive(services: Services, user_id: str, file: UploadFile) -> UploadResult:
    stores = services.stores
    return receive_file(stores.tables, stores.blobs, stores.settings.limits, user_id, file.filename or "", file.file)


def _file_out(result: UploadResult) -> FileOut:
    return FileOut(
        filename=result.filename,
        status=result.status,
        sha256=result.sha256,
        size_bytes=result.size_bytes,
        code=result.refusal.code if result.refusal else None,
        reason=result.refusal.reason if result.refusal else None,
    )
