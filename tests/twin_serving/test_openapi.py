"""The OpenAPI is complete: of every route, whoever adds it, what it takes, gives and refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from twin_serving.app import create_app
from twin_serving.auth import PUBLIC_PATHS
from twin_serving.errors import PROBLEM_TYPE

DESCRIBED = create_app().openapi()
OPERATIONS = [
    pytest.param(path, method, operation, id=f"{method.upper()} {path}")
    for path, methods in DESCRIBED["paths"].items()
    for method, operation in methods.items()
]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from [inner] if key == "$ref" else references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_a_route_says_what_it_is_for(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert len(operation["description"]) > 20, "its docstring is what the page of the API shows"
    assert operation["operationId"]


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_a_route_says_what_it_gives(path: str, method: str, operation: dict[str, Any]) -> None:
    good = {status: told for status, told in operation["responses"].items() if status.startswith(("2", "3"))}
    assert good
    for status, told in good.items():
        if status in ("204", "205") or status.startswith("3"):
            continue
        assert told["content"], "give the route a response model"
        for media, form in told["content"].items():
            assert form.get("schema"), f"{status} {media}: give the route a response model"


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_a_route_says_how_it_refuses(path: str, method: str, operation: dict[str, Any]) -> None:
    refusals = {status: told for status, told in operation["responses"].items() if status[0] in "45"}
    assert {"400", "429", "500", "503"} <= set(refusals)
    for status, told in refusals.items():
        assert told["description"], status
        if path.startswith("/v1/"):
            assert set(references(told)) == {"#/components/schemas/OpenAiProblem"}, status
        elif PROBLEM_TYPE in told["content"]:
            assert set(references(told["content"])) == {"#/components/schemas/Problem"}, status
        else:
            assert path in PUBLIC_PATHS, f"{status}: `responses=problems({status})`"


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_a_route_says_who_may_ask(path: str, method: str, operation: dict[str, Any]) -> None:
    if operation["security"]:
        assert operation["security"] == [{"bearer": []}]
        assert "401" in operation["responses"]
        assert "{user_id}" not in path or "403" in operation["responses"]
    else:
        assert path in PUBLIC_PATHS | {"/metrics"}


def test_every_reference_leads_somewhere_and_the_frameworks_own_errors_are_gone() -> None:
    schemas = DESCRIBED["components"]["schemas"]
    assert {name.rsplit("/", 1)[1] for name in references(DESCRIBED)} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    assert DESCRIBED["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_a_user_id_is_described_as_it_is_checked() -> None:
    for methods in DESCRIBED["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "user_id" and parameter["in"] == "path":
                    assert parameter["schema"]["pattern"] == "^[a-z0-9][a-z0-9_-]{0,62}$"
