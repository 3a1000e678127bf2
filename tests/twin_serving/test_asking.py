"""Who talks with a twin: by the token where there is one, else by what the request says."""

from __future__ import annotations

import pytest

from lpm_kernel.errors import UserInputError
from twin_serving.asking import asker_of


@pytest.mark.parametrize(
    ("principal", "named", "asker"),
    [
        (None, None, None),
        (None, "bob", "bob"),
        ("maya", None, None),
        ("maya", "maya", None),
        ("bob", None, "bob"),
        ("bob", "bob", "bob"),
    ],
)
def test_the_asker_is_whom_the_token_names(principal: str | None, named: str | None, asker: str | None) -> None:
    assert asker_of(principal, "maya", named) == asker


@pytest.mark.parametrize("named", ["maya", "eve"])
def test_nobody_asks_in_the_name_of_another(named: str) -> None:
    """An asker that named the twin's own person would hear all that is private."""
    with pytest.raises(UserInputError, match="asker_not_allowed"):
        asker_of("bob", "maya", named)
