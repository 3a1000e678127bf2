"""Every route there is, with no token, with another's and with the right one; and who may ask without any."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import Request
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import get_user
from tests.fakes import FakeLlm
from tests.twin_serving.issuer import Issuer
from twin_serving.auth import OPEN_TO_OTHERS, PUBLIC_PATHS
from twin_serving.deps import ServicesDep

Guarded = Callable[..., TestClient]

USER_ELSEWHERE = {
    "/upload": "in the form",
    "/upload/presigned": "in the body; their transaction is refused",
    "/upload/presigned/complete": "in the body; their transaction is refused",
    "/import": "in the archive; their transaction is refused",
    "/vote": "the token's, or one it may act for",
    "/delegations": "the token's, or one it may act for",
    "/delegations/{delegation_id}": "who gave it",
    "/proposals": "the token's, or one it may act for; all members read",
    "/proposals/open": "all members read",
    "/proposals/{proposal_id}/status": "all members read",
    "/proposals/{proposal_id}/ballots": "all members read",
    "/proposals/{proposal_id}/open": "its proposer",
    "/proposals/{proposal_id}/veto": "the token's, or one it may act for",
    "/proposals/{proposal_id}/cancel": "its proposer",
    "/proposals/{proposal_id}/implemented": "its proposer",
    "/plans": "the token's, or one it may act for",
    "/plans/{plan_id}": "whose plan it is",
    "/plans/{plan_id}/events": "whose plan it is",
    "/audit": "all members read",
    "/dao/state": "all members read",
    "/dao/stream": "all members read",
}
"""Routes whose user is not in their path, and how another's is refused: by a test below, by that of the careless route, or
in `test_dao_votes.py` and beside it."""


def routes_of(client: TestClient) -> list[tuple[str, str]]:
    """(method, path with its placeholders) of every route, also those that the OpenAPI does not show."""
    found = []
    for context in iter_route_contexts(client.app.routes):  # type: ignore[attr-defined]
        assert context.path, context
        found += [(method, context.path) for method in sorted(context.methods or {"GET"}) if method != "HEAD"]
    return found


def test_every_route_is_public_by_name_or_asks_who_is_there(guarded: Guarded) -> None:
    client = guarded(metrics_public=False)
    for method, path in routes_of(client):
        response = client.request(method, path.replace("{", "").replace("}", ""))
        if path in PUBLIC_PATHS:
            assert response.status_code in (200, 503) or path.startswith("/hooks/"), path
            continue
        assert (response.status_code, "Bearer" in response.headers.get("WWW-Authenticate", "")) == (401, True), path


def test_every_route_of_a_user_refuses_the_token_of_another(guarded: Guarded, issuer: Issuer) -> None:
    client = guarded()
    headers = issuer.bearer("mallory")
    for method, path in routes_of(client):
        if path in PUBLIC_PATHS or path in OPEN_TO_OTHERS or path == "/metrics":
            continue
        if "{user_id}" not in path:
            assert path in USER_ELSEWHERE or path.startswith("/v1/"), f"{path}: say in USER_ELSEWHERE how it knows its user"
            continue
        asked = path.replace("{user_id}", "ada").replace("{", "").replace("}", "")
        response = client.request(method, asked, headers=headers)
        assert (response.status_code, response.json()["code"]) == (403, "not_yours"), path


def test_an_upload_for_another_is_refused(
    guarded: Guarded, issuer: Issuer, stores: Stores, new_user: Callable[[], str]
) -> None:
    client, ada, mallory = guarded(), new_user(), new_user()
    send = {"data": {"user_id": ada}, "files": [("files", ("notes.md", b"My cat."))]}
    refused = client.post("/upload", headers=issuer.bearer(mallory), **send)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_yours")
    assert list(stores.blobs.list_keys(f"tenant/{ada}/")) == []
    assert client.post("/upload", headers=issuer.bearer(ada), **send).status_code == 202


def test_the_owner_and_the_operator_are_let_in(guarded: Guarded, issuer: Issuer, user_id: str) -> None:
    client = guarded()
    assert client.get(f"/twin/{user_id}/profile", headers=issuer.bearer(user_id)).status_code == 200
    operator = issuer.bearer("ops", scope="twin:operator")
    assert client.get(f"/twin/{user_id}/profile", headers=operator).status_code == 200


def test_a_subject_of_auth0_is_let_in_to_the_id_that_stands_for_it_and_told_it(guarded: Guarded, issuer: Issuer) -> None:
    from twin_serving.auth import user_id_of_claim

    client, own = guarded(), user_id_of_claim("auth0|5f7c")
    refused = client.get("/twin/ada/profile", headers=issuer.bearer("auth0|5f7c"))
    assert own in refused.json()["detail"]
    answer = client.get(f"/twin/{own}/profile", headers=issuer.bearer("auth0|5f7c"))
    assert (answer.status_code, answer.json()["code"]) == (404, "twin_not_found")


def test_anybody_who_is_known_may_talk_with_a_twin(guarded: Guarded, issuer: Issuer, twin: str, llm: FakeLlm) -> None:
    llm.answers.append("Pilchard.")
    response = guarded().post(f"/twin/{twin}/chat", json={"question": "Cat?"}, headers=issuer.bearer("stranger"))
    assert response.status_code == 200


def test_no_route_can_open_the_rows_of_another_even_where_it_forgets_to_ask(
    guarded: Guarded, issuer: Issuer, new_user: Callable[[], str]
) -> None:
    """A user named in a query or a body passes no rule on paths; the transaction itself is bound to the token."""
    client, ada, mallory = guarded(), new_user(), new_user()

    @client.app.get("/careless")  # type: ignore[attr-defined]
    def careless(who: str, services: ServicesDep) -> str:
        with services.stores.tables.transaction(who) as connection:
            return get_user(connection, who).user_id

    assert client.get("/careless", params={"who": ada}, headers=issuer.bearer(ada)).json() == ada
    refused = client.get("/careless", params={"who": ada}, headers=issuer.bearer(mallory))
    assert (refused.status_code, refused.json()["code"]) == (403, "not_yours")
    assert client.get("/careless", params={"who": ada}).status_code == 401


def test_who_talks_with_anothers_twin_opens_the_rows_of_that_twin_and_of_nobody_else(
    guarded: Guarded, issuer: Issuer, new_user: Callable[[], str]
) -> None:
    """Where anybody may ask, the last fence stood open: a request that went astray could have read everyone's rows."""
    client, ada, eve = guarded(), new_user(), new_user()
    path = "/twin/{user_id}/chat/{message_id}/events"
    assert path in OPEN_TO_OTHERS

    @client.app.delete(path)  # type: ignore[attr-defined]
    def careless(user_id: str, message_id: str, services: ServicesDep) -> str:
        with services.stores.tables.transaction(message_id) as connection:
            return get_user(connection, message_id).user_id

    for who, status in ((ada, 200), (eve, 403)):
        response = client.delete(f"/twin/{ada}/chat/{who}/events", headers=issuer.bearer("stranger"))
        assert response.status_code == status
    assert client.delete(f"/twin/{ada}/chat/{eve}/events", headers=issuer.bearer(eve)).status_code == 200


def test_what_is_no_route_asks_for_a_token_too(guarded: Guarded, issuer: Issuer) -> None:
    client = guarded()
    assert client.get("/nothing/here").status_code == 401
    assert client.get("/nothing/here", headers=issuer.bearer()).status_code == 404
    assert client.get("/healthz/").status_code == 401


def test_keys_that_rotate_and_an_issuer_that_is_away(guarded: Guarded, issuer: Issuer, new_user: Callable[[], str]) -> None:
    client, user_id = guarded(auth_jwks_retry_s=1, auth_jwks_refresh_s=1), new_user()
    path = f"/twin/{user_id}/profile"
    issuer.away = True
    response = client.get(path, headers=issuer.bearer(user_id))
    assert (response.status_code, response.json()["code"]) == (503, "keys_unavailable")
    assert response.headers["retry-after"]
    issuer.away = False
    issuer.numbers = [0, 1]
    other = guarded()
    assert other.get(path, headers=issuer.bearer(user_id)).status_code == 200
    issuer.away = True
    assert other.get(path, headers=issuer.bearer(user_id)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8000"}, 403),
        ({"Host": "192.168.1.7:8000"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_without_tokens_a_page_of_another_server_is_kept_out(
    client: TestClient, user_id: str, headers: dict[str, str], status: int
) -> None:
    """A page may point its own name at 127.0.0.1, or send a form there: the browser of the owner would ask on its behalf."""
    response = client.get(f"/twin/{user_id}/profile", headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.json()["code"] == "not_from_here"


def test_without_tokens_an_address_of_the_network_answers_nobody(client: TestClient) -> None:
    """`uvicorn --host 0.0.0.0` goes past the settings, which allow loopback alone."""
    with TestClient(client.app, base_url="http://192.168.1.7:8000", raise_server_exceptions=False) as outside:
        assert outside.get("/healthz", headers={"Host": "localhost"}).status_code == 403


def test_a_route_that_asks_who_is_there_fails_where_no_gate_let_anybody_in() -> None:
    from lpm_kernel.errors import AccessError
    from twin_serving.auth import principal_of

    with pytest.raises(AccessError):
        principal_of(Request({"type": "http"}))
