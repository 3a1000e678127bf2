"""Settings as they may be shown: which variables are set and never to what, and no secret that stands where none should.

Belongs here: the decision what of a settings file may be read aloud.
Does not belong here: how it is printed (`twin_assets/cli_settings.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from lpm_kernel.settings import Settings
from lpm_kernel.social.telegram_names import without_invitations

MASK = "***"
NAME = re.compile(r"[A-Z][A-Z0-9_]*")
SHORTEST_SECRET = 6
_WITH_PASSWORD = re.compile(r"://[^/\s]*@")
_QUERY = re.compile(r"\?\S*")


def masked_settings(settings: Settings, found: Mapping[str, str]) -> dict[str, Any]:
    """The settings as plain values. `found`: the variables that are there.

    Under `stores` stands each variable's name and whether it is set; what is no name of a variable is hidden: somebody may have
    put the secret itself there. Elsewhere an address loses its password and its query, the value of such a variable is hidden,
    and an invitation to a group is called by its key.
    """
    content: dict[str, Any] = settings.model_dump(mode="json")
    names: dict[str, str] = content.pop("stores")
    secrets = {found[name] for name in names.values() if len(found.get(name, "")) >= SHORTEST_SECRET}
    shown = {section: _masked(value, secrets) for section, value in content.items()}
    return {**shown, "stores": {key: _variable(name, found) for key, name in names.items()}}


def _variable(name: str, found: Mapping[str, str]) -> str:
    if not NAME.fullmatch(name):
        return f"{MASK} is no name of a variable"
    return f"{name} is {'set' if found.get(name) else 'not set'}"


def _masked(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, secrets) for item in value]
    if not isinstance(value, str):
        return value
    if any(secret in value for secret in secrets):
        return MASK
    value = without_invitations(value)
    if "://" in value:
        return _QUERY.sub(f"?{MASK}", _WITH_PASSWORD.sub(f"://{MASK}@", value))
    return value
