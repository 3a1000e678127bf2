"""`POST /upload` and `DELETE /twin/{user_id}/documents/{named}`: files of a user.

Belongs here: moving files from a form to the kernel's intake, one by one, and having one forgotten.
Does not belong here: reading them; a sensor starts the pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import JSONResponse

from lpm_kernel.forget import delete_document
from lpm_kernel.L0.intake import receive_file
from lpm_kernel.L0.records import UploadResult
from lpm_kernel.records import check_user_id
from twin_serving.auth import PrincipalDep, check_may_act_for
from twin_serving.data_schemas import DeletedFileOut, DocumentDeletion
from twin_serving.deps import Services, ServicesDep
from twin_serving.errors import error_response, problems, status_of
from twin_serving.form_user import FormRoute
from twin_serving.schemas import FileOut, UploadAnswer

router, forms = APIRouter(), APIRouter(route_class=FormRoute)


@forms.post(
    "/upload", summary="Send documents", status_code=202, response_model=UploadAnswer, responses=problems(403, 409, 413, 415)
)
def upload(
    user_id: Annotated[str, Form()], files: Annotated[list[UploadFile], File()], services: ServicesDep, principal: PrincipalDep
) -> JSONResponse:
    """Take in each file on its own. 202 when one was taken in or is known; else the status of the first refusal.

    The user is made known by their first file. `user_id` is to come before the files, so that they are refused unread.
    """
    check_user_id(user_id)
    check_may_act_for(principal, user_id)
    return upload_answer(user_id, [_receive(services, user_id, file) for file in files])


@router.delete("/twin/{user_id}/documents/{named}")
def delete(user_id: str, named: str, services: ServicesDep) -> DocumentDeletion:
    """Delete a document, by file name or the beginning of its sha256: from memory now, from the weights with the next twin."""
    check_user_id(user_id)
    done = delete_document(services.stores, user_id, named, services.adapters)
    return DocumentDeletion(
        user_id=user_id,
        documents=[DeletedFileOut(filename=document.filename, sha256=document.sha256) for document in done.documents],
        stale_releases=list(done.stale_releases),
        silent=done.silent,
        waiting=done.waiting,
    )


router.include_router(forms)


def upload_answer(user_id: str, results: Sequence[UploadResult]) -> JSONResponse:
    """202 when one was taken in or is known; else the status of the first refusal."""
    answer = UploadAnswer(user_id=user_id, files=[_file_out(result) for result in results]).model_dump()
    refusals = [result.refusal for result in results if result.refusal]
    if results and len(refusals) == len(results):
        first = refusals[0]
        return error_response("/upload", first.code, first.reason, status_of(first.code), **answer)
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
