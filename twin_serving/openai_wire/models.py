"""Twins under the names of models: `twin-1` is the twin of user 1.

Belongs here: names, and which of them a caller may use.
Does not belong here: who the caller is (`twin_serving/auth.py`).
"""

from __future__ import annotations

from lpm_kernel.records import USER_ID_PATTERN
from lpm_kernel.stores.releases import LiveTwin, live_twins
from lpm_kernel.stores.tables import Tables
from twin_serving.auth import Principal
from twin_serving.openai_wire.errors import MODEL_NOT_FOUND, RequestRefused

PREFIX = "twin-"


def model_of(user_id: str) -> str:
    return PREFIX + user_id


def user_of(model: str, principal: Principal) -> str:
    """Whose twin it is. A twin that the caller may not use is told of like one that is not there.

    Raises: RequestRefused `model_not_found`.
    """
    user_id = model.removeprefix(PREFIX)
    if not model.startswith(PREFIX) or not USER_ID_PATTERN.fullmatch(user_id) or not principal.may_act_for(user_id):
        raise no_such_model(model)
    return user_id


def twins_for(tables: Tables, principal: Principal) -> list[LiveTwin]:
    """The twins that serve and that the caller may use. Raises: StoreError."""
    if principal.operator:
        with tables.operator_transaction() as connection:
            return live_twins(connection)
    if principal.user_id is None:
        return []
    with tables.transaction(principal.user_id) as connection:
        return live_twins(connection)


def live_twin(tables: Tables, model: str, principal: Principal) -> LiveTwin:
    """Raises: RequestRefused `model_not_found`; StoreError."""
    user_id = user_of(model, principal)
    with tables.transaction(user_id) as connection:
        twins = live_twins(connection)
    if not twins:
        raise no_such_model(model)
    return twins[0]


def no_such_model(model: str) -> RequestRefused:
    shown = ascii(model[:80])
    return RequestRefused(
        MODEL_NOT_FOUND, f"there is no model {shown}, or you may not use it; GET /v1/models names those there are", "model"
    )
