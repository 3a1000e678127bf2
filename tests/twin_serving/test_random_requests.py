"""Requests made from the OpenAPI, right ones and wrong ones, find no failure: over the real stores and a fake model.

Belongs here: what is sent, and what no answer may be. A new route is covered by being described.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import services_over
from twin_serving.app import create_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about its own dependencies
    import schemathesis
    from schemathesis.config import SchemathesisConfig
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

EXAMPLES = 12
"""Of each route and kind: enough for every field to be wrong once, and few enough for a minute."""
BASE = "http://testserver"
DESCRIBED = create_app().openapi()
SCHEMA = schemathesis.openapi.from_dict(DESCRIBED, config=SchemathesisConfig(seed=7))
OPERATIONS = {operation.ok().label: operation.ok() for operation in SCHEMA.get_all_operations()}


def kinds_of(label: str) -> list[GenerationMode]:
    """Where a route takes nothing, nothing can be wrong."""
    method, path = label.split(" ", 1)
    described = DESCRIBED["paths"][path][method.lower()]
    takes = described.get("parameters") or described.get("requestBody")
    return list(GenerationMode) if takes else [GenerationMode.POSITIVE]


@pytest.fixture(scope="module")
def open_client(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """No limit on the number of requests: this test is made of them."""
    short = {"stream_life_s": 0.05, "worker_poll_s": 0, "max_members": 1000}  # everybody of this session is a member
    unlimited = load_settings(overrides={"serving": {"requests_per_minute": 0}, "dao": short})
    stores = replace(stores, settings=unlimited)
    llm = FakeLlm(["An answer."] * 100_000)
    app = create_app(lambda: services_over(stores, llm, tmp_path_factory.mktemp("random")), unlimited)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.filterwarnings(  # Hypothesis compares the state of `random` around a draw; threads of the app draw from it too
    "ignore:Do not use the `random` module inside strategies:hypothesis.errors.HypothesisDeprecationWarning"
)
@pytest.mark.parametrize(("label", "mode"), [(label, mode) for label in OPERATIONS for mode in kinds_of(label)])
def test_no_request_makes_the_api_fail(
    label: str, mode: GenerationMode, open_client: TestClient, stores: Stores, request: pytest.FixtureRequest
) -> None:
    send = sender(open_client)
    talks = "/chat" in label or " /v1/" in label
    twin = request.getfixturevalue("twin" if talks else "user_id")  # without a release, which takes longer to make
    join_first(stores, twin)
    if talks:
        load_what_a_turn_needs(open_client, twin)
    if "/plans" in label:
        load_what_a_plan_needs(open_client, twin)
    proposal = a_proposal(open_client, twin) if "proposal" in label or "vote" in label or "ballots" in label else ""

    @given(data=st.data())
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def ask(data: st.DataObject) -> None:
        case = data.draw(OPERATIONS[label].as_strategy(mode))
        parameters = case.path_parameters or {}
        if "user_id" in parameters and data.draw(st.booleans()):
            case.path_parameters = {**parameters, "user_id": twin}  # else almost every request ends at a twin there is not
        name_what_there_is(case, data, twin, proposal)
        response = send(case.as_transport_kwargs(base_url=BASE))
        unready = label == "GET /readyz" and response.status_code == 503
        assert response.status_code < 500 or unready, (response.status_code, response.text)
        case.validate_response(
            response, checks=[status_code_conformance, content_type_conformance, response_schema_conformance]
        )

    ask()


def join_first(stores: Stores, user_id: str) -> None:
    """Of more than `max_members` those who joined first have a voice, and earlier tests have made about as many."""
    with stores.tables.transaction(user_id) as connection:
        connection.execute(text("update app_user set created_at = '2000-01-01Z'"))


def load_what_a_plan_needs(client: TestClient, asker: str) -> None:
    plan = client.post("/plans", json={"goal": "Plant oaks.", "asker": asker}).json()["plan_id"]
    deadline = time.monotonic() + 60
    while client.get(f"/plans/{plan}", params={"asker": asker}).json()["status"] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.1)


OF_MEMBERS = ("proposer", "voter", "actor", "asker", "delegator", "delegate")
OF_PROPOSALS = ("proposal", "amends")


def a_proposal(client: TestClient, proposer: str) -> str:
    answer = client.post("/proposals", json={"title": "Trees", "text": "Ten oaks by the river.", "proposer": proposer})
    assert answer.status_code == 201, answer.text
    return answer.json()["proposal_id"]


def name_what_there_is(case: Any, data: st.DataObject, member: str, proposal: str) -> None:
    """In every other request, where it names a member or a proposal: else almost all end at one that there is not."""
    if "proposal_id" in (case.path_parameters or {}) and data.draw(st.booleans()):
        case.path_parameters = {**case.path_parameters, "proposal_id": proposal}
    if not isinstance(case.body, dict):
        return
    known = {**dict.fromkeys(OF_MEMBERS, member), **(dict.fromkeys(OF_PROPOSALS, proposal) if proposal else {})}
    named = {name: value for name, value in known.items() if name in case.body and data.draw(st.booleans())}
    case.body = {**case.body, **named}


_LOADED: list[bool] = []


def load_what_a_turn_needs(client: TestClient, twin: str) -> None:
    """Hypothesis goes through `sys.modules` and fails when another thread imports meanwhile, as the first turn's threads do."""
    if _LOADED:
        return
    assert client.post(f"/twin/{twin}/chat", json={"question": "What is your cat called?"}).status_code == 200
    before = 0
    while before != len(sys.modules):
        before = len(sys.modules)
        time.sleep(0.5)
    _LOADED.append(True)


def sender(client: TestClient) -> Callable[[dict[str, Any]], Any]:
    """What schemathesis would give to `requests`, sent to the app of this process instead: whose services are open."""

    def send(given_to_requests: dict[str, Any]) -> Any:
        kwargs = {key: value for key, value in given_to_requests.items() if value is not None}
        prepared = requests.Request(**kwargs).prepare()
        body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
        # as bytes: httpx refuses what a careless client sends
        headers = {name: value.encode() if isinstance(value, str) else value for name, value in prepared.headers.items()}
        return client.request(str(prepared.method), str(prepared.url), headers=headers, content=body)

    return send
