"""`PUT /twin/{user_id}/documents/{sha256}/scope`: whether others who talk with the twin may hear of a document.

Belongs here: setting it.
Does not belong here: what follows (`lpm_kernel/recall/scopes.py`).
"""

from __future__ import annotations

from fastapi import APIRouter

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.documents import set_private
from lpm_kernel.stores.users import get_user
from twin_serving.deps import ServicesDep
from twin_serving.feedback_schemas import ScopeForm

router = APIRouter()


@router.put("/twin/{user_id}/documents/{sha256}/scope")
def set_scope(user_id: str, sha256: str, request: ScopeForm, services: ServicesDep) -> ScopeForm:
    """Keep a document private, or share it again. A later file of the same name is kept as this one is."""
    check_user_id(user_id)
    with services.stores.tables.transaction(user_id) as connection:
        get_user(connection, user_id)
        if not set_private(connection, user_id, sha256, request.scope == "private"):
            raise UserInputError("document_unknown", f"the user {user_id!r} has no such document")
    return request
