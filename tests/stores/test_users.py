"""Users: known by an upload, named later, never unnamed again."""

from __future__ import annotations

import pytest

from lpm_kernel.errors import UserInputError
from lpm_kernel.records import User
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import add_user, find_user, get_user


def test_a_user_is_known_once_added_and_only_to_the_own_transaction(stores: Stores) -> None:
    with stores.tables.transaction("users-added") as connection:
        assert find_user(connection, "users-added") is None
        add_user(connection, User("users-added"))
        assert find_user(connection, "users-added") == User("users-added", None)
    with stores.tables.transaction("users-other") as connection:
        assert find_user(connection, "users-added") is None


def test_a_name_that_is_given_replaces_and_one_that_is_not_does_not(stores: Stores, user_id: str) -> None:
    """An upload makes the user known again without a name; the twin must not forget how its person is called."""
    with stores.tables.transaction(user_id) as connection:
        for given, known in ((None, None), ("Nora", "Nora"), (None, "Nora"), ("Nora Whitlock", "Nora Whitlock")):
            add_user(connection, User(user_id, given))
            assert get_user(connection, user_id) == User(user_id, known)


def test_an_unknown_user_is_a_named_error(stores: Stores) -> None:
    with stores.tables.transaction("nobody-yet") as connection, pytest.raises(UserInputError) as caught:
        get_user(connection, "nobody-yet")
    assert caught.value.code == "twin_not_found"
    assert "nobody-yet" in caught.value.message
