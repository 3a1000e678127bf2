"""Tokens to principals: what is let in, what is not, and which user a claim stands for."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.access_settings import AccessSettings
from lpm_kernel.errors import AccessError, TwinError
from lpm_kernel.records import check_user_id
from tests.twin_serving.issuer import Issuer, rsa_key
from twin_serving.auth import Principal, TokenReader, user_id_of_claim


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def reader(issuer: Issuer) -> TokenReader:
    return TokenReader(issuer.settings().serving)


def read(reader: TokenReader, header: str | None) -> Principal:
    return anyio.run(reader.read, header)


def code_of(reader: TokenReader, token: str) -> str:
    with pytest.raises(TwinError) as caught:
        read(reader, f"Bearer {token}")
    assert token not in caught.value.message
    return caught.value.code


def test_a_token_names_its_user_and_scopes(reader: TokenReader, issuer: Issuer) -> None:
    principal = read(reader, "bearer " + issuer.token("ada", scope="read write"))
    assert principal == Principal("ada", frozenset({"read", "write"}))
    assert principal.may_act_for("ada")
    assert not principal.may_act_for("bob")


def test_the_operator_scope_may_act_for_everyone(issuer: Issuer) -> None:
    reader = TokenReader(issuer.settings(auth_scope_claim="permissions", auth_operator_scope="twins:all").serving)
    assert read(reader, "Bearer " + issuer.token("ops", permissions=["twins:all", 7])).may_act_for("bob")
    assert not read(reader, "Bearer " + issuer.token("ops", scope="twins:all")).may_act_for("bob")


def test_no_operator_scope_makes_no_operator(issuer: Issuer) -> None:
    reader = TokenReader(issuer.settings(auth_scope_claim="permissions", auth_operator_scope="").serving)
    assert not read(reader, "Bearer " + issuer.token("ops", permissions=["", " "])).operator
    assert not read(reader, "Bearer " + issuer.token("ops")).operator


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "token"])
def test_without_a_bearer_token_it_is_missing(reader: TokenReader, header: str | None) -> None:
    with pytest.raises(AccessError) as caught:
        read(reader, header)
    assert caught.value.code == "token_missing"


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": int(time.time()) - 120}, "token_expired"),
        ({"exp": None}, "token_invalid"),
        ({"exp": "soon"}, "token_invalid"),
        ({"nbf": int(time.time()) + 86_400}, "token_invalid"),
        ({"iss": "https://evil.example/"}, "token_invalid"),
        ({"iss": None}, "token_invalid"),
        ({"aud": "another-api"}, "token_invalid"),
        ({"aud": None}, "token_invalid"),
        ({"sub": None}, "token_invalid"),
        ({"sub": ""}, "token_invalid"),
    ],
)
def test_a_claim_that_is_not_right_lets_nobody_in(
    reader: TokenReader, issuer: Issuer, claims: dict[str, Any], code: str
) -> None:
    assert code_of(reader, issuer.token(**claims)) == code


def test_clocks_may_differ_by_the_leeway(reader: TokenReader, issuer: Issuer) -> None:
    assert read(reader, "Bearer " + issuer.token(exp=int(time.time()) - 10)).user_id == "ada"


def test_an_audience_among_others_is_ours(reader: TokenReader, issuer: Issuer) -> None:
    assert read(reader, "Bearer " + issuer.token(aud=["https://tenant/userinfo", "twin-api"])).user_id == "ada"


def test_a_token_without_signature_is_refused(reader: TokenReader, issuer: Issuer) -> None:
    head, body, _ = issuer.token().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"key-0"}').rstrip(b"=").decode()
    assert code_of(reader, f"{none}.{body}.") == "token_invalid"
    assert code_of(reader, f"{head}.{body}.") == "token_invalid"


def test_the_public_key_is_no_shared_secret(reader: TokenReader, issuer: Issuer) -> None:
    """Libraries that trusted `alg` took HS256 with the public key as its secret for a signature of the issuer."""
    pem = rsa_key(0).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _, body, _ = issuer.token().split(".")
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "key-0"}).encode()).rstrip(b"=").decode()
    sign = base64.urlsafe_b64encode(hmac.digest(pem, f"{head}.{body}".encode(), sha256)).rstrip(b"=").decode()
    assert code_of(reader, f"{head}.{body}.{sign}") == "token_invalid"


def test_another_key_under_a_known_name_is_refused(reader: TokenReader, issuer: Issuer) -> None:
    assert code_of(reader, issuer.token(number=9, head={"kid": "key-0"})) == "token_invalid"


def test_another_algorithm_of_the_same_key_is_refused(reader: TokenReader, issuer: Issuer) -> None:
    claims = {"sub": "ada", "iss": issuer.name, "aud": "twin-api", "exp": int(time.time()) + 60}
    for algorithm in ("RS512", "PS256"):
        assert code_of(reader, jwt.encode(claims, rsa_key(0), algorithm, {"kid": "key-0"})) == "token_invalid"


def test_a_token_that_names_no_key_or_is_endless_is_refused(reader: TokenReader, issuer: Issuer) -> None:
    assert code_of(reader, issuer.token(head={"kid": ""})) == "token_invalid"
    assert code_of(reader, "x" * 20_000) == "token_invalid"


_PART = st.one_of(
    st.text(alphabet="AZaz09-_=.", max_size=40),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "exp", "sub", "b64"]), inner, max_size=4),
        max_leaves=6,
    ).map(lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()),
)


@given(st.lists(_PART, min_size=1, max_size=5).map(".".join))
def test_whatever_is_sent_is_a_refusal_and_no_failure(token: str) -> None:
    serving = AccessSettings.model_construct(auth_jwks_url="http://127.0.0.1:9/", auth_jwks_refresh_s=600, auth_jwks_retry_s=30)

    class NoKeys:
        def at_hand(self, kid: str) -> None:
            raise AccessError("token_key_unknown", "no")

    with pytest.raises(AccessError):
        # to its end at once: with no key to wait for, no loop is needed
        TokenReader(serving, NoKeys()).read(f"Bearer {token}").send(None)  # type: ignore[arg-type]


def test_a_claim_that_is_a_user_id_is_that_user() -> None:
    assert user_id_of_claim("ada") == "ada"
    assert user_id_of_claim("twin-1_b") == "twin-1_b"


def test_any_other_claim_is_a_user_of_its_own() -> None:
    found = user_id_of_claim("auth0|5f7c8ec7c33c6c004bbafe82")
    assert found == "u-" + sha256(b"auth0|5f7c8ec7c33c6c004bbafe82").hexdigest()[:40]
    assert user_id_of_claim("Ada") != user_id_of_claim("ada")


def test_nobody_becomes_another_by_claiming_their_derived_id() -> None:
    victim = user_id_of_claim("auth0|victim")
    assert user_id_of_claim(victim) not in (victim, "auth0|victim")


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_claims_are_never_one_user(one: str, other: str) -> None:
    assert check_user_id(user_id_of_claim(one))
    assert (user_id_of_claim(one) == user_id_of_claim(other)) is (one == other)
