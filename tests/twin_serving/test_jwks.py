"""The issuer's keys through rotation and outage, at a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lpm_kernel.errors import AccessError, StoreError
from tests.twin_serving.issuer import Issuer
from twin_serving.jwks import SigningKeys, fetch_keys


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> SigningKeys:
    return SigningKeys(issuer.url, 600, 30, clock=clock)


def test_keys_are_fetched_once_and_then_at_hand(keys: SigningKeys, issuer: Issuer) -> None:
    assert keys.at_hand("key-0") is None
    found = keys.find("key-0")
    assert keys.at_hand("key-0") is found
    assert keys.find("key-0") is found
    assert issuer.fetches == 1


def test_an_unknown_key_is_looked_for_anew_since_keys_rotate(keys: SigningKeys, issuer: Issuer, clock: Clock) -> None:
    keys.find("key-0")
    issuer.numbers = [0, 1]
    clock.now = 31
    assert keys.find("key-1").key_id == "key-1"
    assert keys.at_hand("key-0") is not None
    assert issuer.fetches == 2


def test_tokens_of_nobodys_key_do_not_make_us_ask_again_and_again(keys: SigningKeys, issuer: Issuer, clock: Clock) -> None:
    keys.find("key-0")
    for number in range(50):
        with pytest.raises(AccessError) as caught:
            keys.find(f"made-up-{number}")
        assert caught.value.code == "token_key_unknown"
    assert issuer.fetches == 1
    clock.now = 31
    for number in range(50):
        with pytest.raises(AccessError):
            keys.find(f"made-up-{number}")
    assert issuer.fetches == 2


def test_a_withdrawn_key_is_gone_after_the_next_fetch(keys: SigningKeys, issuer: Issuer, clock: Clock) -> None:
    keys.find("key-0")
    issuer.numbers = [1]
    clock.now = 601
    with pytest.raises(AccessError) as caught:
        keys.find("key-0")
    assert caught.value.code == "token_key_unknown"
    assert keys.find("key-1").key_id == "key-1"


def test_an_outage_keeps_known_keys_and_asks_now_and_then(keys: SigningKeys, issuer: Issuer, clock: Clock) -> None:
    keys.find("key-0")
    issuer.away = True
    for clock.now in (700, 705, 710, 731, 10_000):
        assert keys.find("key-0").key_id == "key-0"
    assert issuer.fetches == 1 + 3
    with pytest.raises(StoreError) as caught:
        keys.find("key-1")
    assert caught.value.code == "keys_unavailable", "nobody can tell now whether the issuer has that key"
    issuer.away = False
    clock.now = 10_031
    assert keys.find("key-0").key_id == "key-0"
    assert keys.at_hand("key-0") is not None


def test_an_issuer_that_was_never_reached_is_an_outage_of_ours(keys: SigningKeys, issuer: Issuer, clock: Clock) -> None:
    issuer.away = True
    for _ in range(5):
        with pytest.raises(StoreError) as caught:
            keys.find("key-0")
        assert (caught.value.code, caught.value.retryable) == ("keys_unavailable", True)
    assert issuer.fetches == 1
    issuer.away = False
    clock.now = 1.5
    assert keys.find("key-0").key_id == "key-0", "a minute of refusals for one failed fetch is too long"


def test_many_at_once_fetch_once(keys: SigningKeys, issuer: Issuer) -> None:
    threads = [threading.Thread(target=keys.find, args=("key-0",)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert issuer.fetches == 1


def test_keys_of_other_kinds_are_left_out(issuer: Issuer) -> None:
    issuer.extra = [
        {**issuer.jwk(1), "kid": "for-encryption", "use": "enc"},
        {**issuer.jwk(1), "kid": "other-algorithm", "alg": "RS512"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "kid": 7},
    ]
    assert set(fetch_keys(issuer.url)) == {"key-0"}


def test_an_answer_that_names_no_key_is_an_outage(issuer: Issuer) -> None:
    issuer.numbers = []
    with pytest.raises(StoreError):
        fetch_keys(issuer.url)
