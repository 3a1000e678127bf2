"""`GET /twin/{user_id}/export` and `POST /import`: everything of a user as one file, and back.

Belongs here: transport.
Does not belong here: the archive (`lpm_kernel/archive/`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import StreamingResponse

from lpm_kernel.archive.restore import import_user
from lpm_kernel.archive.write import open_export
from twin_serving.auth import PrincipalDep, check_may_act_for
from twin_serving.data_schemas import ImportAnswer
from twin_serving.deps import ServicesDep
from twin_serving.form_user import FormRoute

router, forms = APIRouter(), APIRouter(route_class=FormRoute)
ZIP = {200: {"content": {"application/zip": {}}, "description": "The archive, as it is made"}}


@router.get("/twin/{user_id}/export", response_class=StreamingResponse, responses=ZIP)  # type: ignore[arg-type]
def export(user_id: str, services: ServicesDep) -> StreamingResponse:
    """Documents, read texts, messages, memories, feedback, releases, artefacts, adapters and facts, with a manifest of their
    hashes. Equal users give equal bytes. An answer that breaks off has no manifest, and cannot be imported."""
    archive = open_export(services.stores, user_id)
    headers = {"Content-Disposition": f'attachment; filename="twin-{user_id}.zip"', "Cache-Control": "no-store"}
    return StreamingResponse(archive.pieces(), media_type="application/zip", headers=headers)


@forms.post("/import", status_code=201)
def restore(
    user_id: Annotated[str, Form()], file: Annotated[UploadFile, File()], services: ServicesDep, principal: PrincipalDep
) -> ImportAnswer:
    """Make a new user, or one of whom there is nothing, what an export holds. All of it is looked through first; `user_id` is
    to come before the file."""
    check_may_act_for(principal, user_id)
    done = import_user(services.stores, user_id, file.file)
    return ImportAnswer(user_id=done.user_id, was=done.was, counts=done.counts, serves=done.serves)


router.include_router(forms)
