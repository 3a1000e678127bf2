"""What a person lets their twin do: drafts until they say otherwise, each person's own, and only what is a consent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.errors import UserInputError
from lpm_kernel.stores.dao_consent import Consent, get_consent, set_consent
from lpm_kernel.stores.open import Stores

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_whoever_said_nothing_has_their_ballots_drafted(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        assert get_consent(connection, user_id) == Consent(user_id, "draft")


@pytest.mark.parametrize(
    "said",
    [
        {"mode": "never"},
        {"mode": "autonomous", "min_confidence": 0.95, "topics": ("park", "money"), "own_proposals": True, "max_weight": 3},
        {"mode": "autonomous", "topics": ()},
    ],
)
def test_what_is_said_is_kept_and_replaces_what_was(stores: Stores, user_id: str, said: dict[str, Any]) -> None:
    with stores.tables.transaction(user_id) as connection:
        set_consent(connection, Consent(user_id, "autonomous", topics=("boats",)), AT)
        kept = set_consent(connection, Consent(user_id, **said), AT)
    assert kept == Consent(user_id, changed_at=AT, **said)
    with stores.tables.transaction(user_id) as connection:
        assert get_consent(connection, user_id) == kept


def test_nobody_reads_or_sets_anothers(stores: Stores, new_user: Callable[[], str]) -> None:
    mabel, ravi = new_user(), new_user()
    with stores.tables.transaction(mabel) as connection:
        set_consent(connection, Consent(mabel, "autonomous"), AT)
    with stores.tables.transaction(ravi) as connection:
        assert get_consent(connection, mabel) == Consent(mabel, "draft")
        assert connection.execute(text("select count(*) from dao_consent")).scalar_one() == 0
    with pytest.raises(UserInputError), stores.tables.transaction(ravi) as connection:
        set_consent(connection, Consent(mabel, "never"), AT)
    with stores.tables.transaction(mabel) as connection:
        assert get_consent(connection, mabel).mode == "autonomous"


@pytest.mark.parametrize(
    "said",
    [
        {"mode": "always"},
        {"min_confidence": 1.5},
        {"min_confidence": float("nan")},
        {"max_weight": -1},
        {"topics": ("x",) * 101},
        {"topics": ("",)},
        {"topics": ("a\0b",)},
    ],
)
def test_what_is_no_consent_is_refused(stores: Stores, user_id: str, said: dict[str, Any]) -> None:
    with stores.tables.transaction(user_id) as connection, pytest.raises(UserInputError) as raised:
        set_consent(connection, Consent(user_id, **said), AT)
    assert raised.value.code == "consent_invalid"
