"""The OpenAPI, completed: what is the same for every route is said once here.

Belongs here: tokens, the errors that any route may answer with, the form of a user id.
Does not belong here: what one route takes and gives; that stands at the route.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from fastapi import FastAPI

from lpm_kernel.access_settings import AccessSettings
from lpm_kernel.records import USER_ID_PATTERN
from twin_serving.auth import is_public
from twin_serving.errors import OPENAI_PREFIX, PROBLEM_TYPE, OpenAiProblem, Problem, problems

SCHEME = "bearer"
ANY_ROUTE = (400, 401, 429, 500, 503)
PUBLIC_ROUTE = (400, 429, 500, 503)
WITH_BODY = (408, 413, 422)
REF = "#/components/schemas/{model}"


def complete_openapi(app: FastAPI, serving: AccessSettings) -> None:
    """Replace `app.openapi` by one that describes tokens and problems at every route, also of routes that are added later."""
    app.openapi = cache(_completed(app.openapi, serving))  # type: ignore[method-assign]


def _completed(describe: Callable[[], dict[str, Any]], serving: AccessSettings) -> Callable[[], dict[str, Any]]:
    def described() -> dict[str, Any]:
        found = describe()
        components = found.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for model in (Problem, OpenAiProblem):
            schema = model.model_json_schema(ref_template=REF)
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        components["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
        for path, operations in found["paths"].items():
            for method, operation in operations.items():
                _complete(path, method, operation, public=is_public(path, serving))
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return found

    return described


def _complete(path: str, method: str, operation: dict[str, Any], *, public: bool) -> None:
    operation["security"] = [] if public else [{SCHEME: []}]
    statuses: set[int] = set(PUBLIC_ROUTE if public else ANY_ROUTE)
    if "requestBody" in operation:
        statuses.update(WITH_BODY, (401, 403))  # of a public one, too: what comes to a hook is signed
    if operation.get("parameters"):
        statuses.update((422,) if public else (403, 422))
    if "{" in path or "requestBody" in operation:  # somebody or something is named there
        statuses.add(404)
        if method != "get":
            statuses.add(409)
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path" and parameter["name"] == "user_id":
            parameter["schema"] = {**parameter.get("schema", {}), "type": "string", "pattern": f"^{USER_ID_PATTERN.pattern}$"}
            parameter.setdefault("description", "Whose twin.")
    responses = operation["responses"]
    for status, told in problems(*sorted(statuses)).items():
        response = responses.setdefault(str(status), {"description": told["description"]})
        if str(status) == "422":
            response["description"] = told["description"]
    for status, response in responses.items():
        for media, form in response.get("content", {}).items():
            if "json" not in media:
                form.setdefault("schema", {"type": "string"})
        if status.startswith(("4", "5")) and not _own_form(response):
            response["content"] = _error_content(path)


def _own_form(response: dict[str, Any]) -> bool:
    """Whether a route has described more than an error there, such as what else it says of its health."""
    refs = [str(form.get("schema", {})) for form in response.get("content", {}).values()]
    return any(ref != "{}" and "Problem" not in ref and "HTTPValidationError" not in ref for ref in refs)


def _error_content(path: str) -> dict[str, Any]:
    if path.startswith(OPENAI_PREFIX):
        return {"application/json": {"schema": {"$ref": REF.format(model=OpenAiProblem.__name__)}}}
    return {PROBLEM_TYPE: {"schema": {"$ref": REF.format(model=Problem.__name__)}}}
