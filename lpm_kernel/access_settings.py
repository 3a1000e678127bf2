"""How the API is guarded: the part of the settings under `serving` that lets people in or keeps them out.

Belongs here: those keys, and that no combination of them lets strangers in.
Does not belong here: the rest of `serving` (`settings.py`) and the guarding itself (`twin_serving/middleware`).
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from lpm_kernel.settings_section import Section

Origin = Annotated[str, Field(pattern=r"^https?://[^/*\s]+$")]


class AccessSettings(Section):
    """Where the API listens, who may ask, and how much of it. `none` lets everybody in, and so listens on loopback alone."""

    host: str
    auth: Literal["none", "jwt"]
    auth_issuer: str
    auth_audience: str
    auth_jwks_url: str
    auth_user_claim: str = Field(min_length=1)
    auth_scope_claim: str = Field(min_length=1)
    auth_operator_scope: str
    auth_leeway_s: int = Field(ge=0, le=300)
    auth_jwks_refresh_s: int = Field(ge=1)
    auth_jwks_retry_s: int = Field(ge=1)
    requests_per_minute: int = Field(ge=0)
    body_mb: int = Field(ge=1)
    body_timeout_s: float = Field(gt=0)
    uploads_at_once: int = Field(ge=1)
    cors_origins: tuple[Origin, ...]
    hsts_s: int = Field(ge=0)
    docs: bool
    metrics_public: bool

    @property
    def ui_host(self) -> str:
        """Dagster's UI asks nobody who they are, so it never leaves this machine."""
        return self.host if is_loopback(self.host) else "127.0.0.1"

    @model_validator(mode="after")
    def closed_to_strangers(self) -> Self:
        if self.auth == "none" and not is_loopback(self.host):
            raise ValueError(
                f"auth is none, which lets everybody who reaches {self.host!r} do everything: "
                "set host to 127.0.0.1, or auth to jwt with its issuer, audience and JWKS address"
            )
        if self.auth == "jwt":
            missing = [name for name in ("auth_issuer", "auth_audience", "auth_jwks_url") if not getattr(self, name)]
            if missing:
                raise ValueError(f"auth is jwt, and {', '.join(missing)} is empty")
            address = urlsplit(self.auth_jwks_url)
            if address.scheme != "https" and not (address.scheme == "http" and is_loopback(address.hostname or "")):
                raise ValueError("auth_jwks_url must begin with https://, or whoever is in between can sign in as anybody")
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
