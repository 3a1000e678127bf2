"""An issuer of tokens on loopback, as Auth0 is one: RSA keys made here, told as a JWKS, rotated and taken away by a test.

Belongs here: keys, tokens, and how the issuer behaves.
Does not belong here: what the API makes of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from lpm_kernel.settings import Settings, load_settings
from tests.json_server import JsonServer

AUDIENCE = "twin-api"


@cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    """Made once for all tests: a key takes a tenth of a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Issuer(JsonServer):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = [0]
        """Keys it tells; tokens are signed with the last."""
        self.fetches = 0
        self.away = False
        self.extra: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        return f"{self.url}/"

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        self.fetches += 1
        if self.away:
            return 503, {}
        return 200, {"keys": [*self.extra, *(self.jwk(number) for number in self.numbers)]}

    @staticmethod
    def jwk(number: int) -> dict[str, Any]:
        told = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(number).public_key()))
        return {**told, "kid": f"key-{number}", "use": "sig", "alg": "RS256"}

    def token(
        self, sub: object = "ada", *, number: int | None = None, head: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """Valid for five minutes, unless `claims` say otherwise; a claim that is None is left out."""
        number = self.numbers[-1] if number is None else number
        said = {"sub": sub, "iss": self.name, "aud": AUDIENCE, "exp": int(time.time()) + 300, **claims}
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, rsa_key(number), algorithm="RS256", headers={"kid": f"key-{number}", **(head or {})})

    def bearer(self, sub: object = "ada", **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(sub, **claims)}"}

    def settings(self, **serving: Any) -> Settings:
        own = {
            "auth": "jwt",
            "auth_issuer": self.name,
            "auth_audience": AUDIENCE,
            "auth_jwks_url": f"{self.url}/.well-known/jwks.json",
        }
        return load_settings(overrides={"serving": {**own, **serving}})
