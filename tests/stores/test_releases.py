"""Releases: one is live, the others are kept, and the way back is the way forward."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import (
    LiveTwin,
    earlier_releases,
    keep_candidate,
    list_releases,
    live_release,
    live_release_ids,
    live_twins,
    mark_stale,
    promote_release,
    retire_live,
)
from tests.samples import make_release


def statuses(stores: Stores, user_id: str) -> dict[str, str]:
    with stores.tables.transaction(user_id) as connection:
        return {release.release_id: release.status for release in list_releases(connection, user_id)}


def promote(stores: Stores, user_id: str, number: int) -> None:
    with stores.tables.transaction(user_id) as connection:
        promote_release(connection, make_release(user_id, number))


def test_without_a_release_none_is_live(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        assert live_release(connection, user_id) is None
        assert list_releases(connection, user_id) == []


def test_a_promoted_manifest_comes_back_whole_and_live(stores: Stores, user_id: str) -> None:
    from dataclasses import replace

    promote(stores, user_id, 1)
    with stores.tables.transaction(user_id) as connection:
        assert live_release(connection, user_id) == replace(make_release(user_id, 1), status="live")


def test_promoting_retires_the_one_before(stores: Stores, user_id: str) -> None:
    for number in (1, 2, 3):
        promote(stores, user_id, number)
    assert statuses(stores, user_id) == {"release-3": "live", "release-2": "retired", "release-1": "retired"}
    assert list(statuses(stores, user_id)) == ["release-3", "release-2", "release-1"]


def test_promoting_twice_is_promoting_once(stores: Stores, user_id: str) -> None:
    promote(stores, user_id, 1)
    promote(stores, user_id, 1)
    assert statuses(stores, user_id) == {"release-1": "live"}


def test_an_older_release_can_come_back(stores: Stores, user_id: str) -> None:
    for number in (1, 2, 1):
        promote(stores, user_id, number)
    assert statuses(stores, user_id) == {"release-2": "retired", "release-1": "live"}


def test_an_operator_sees_who_serves_and_a_user_only_themselves(stores: Stores, new_user: Callable[[], str]) -> None:
    one, other, silent = new_user(), new_user(), new_user()
    for user_id in (one, other, silent):
        promote(stores, user_id, 1)
    with stores.tables.transaction(silent) as connection:
        retire_live(connection, silent)
    with stores.tables.operator_transaction() as connection:
        seen = {twin.user_id for twin in live_twins(connection)}
    assert {one, other} <= seen
    assert silent not in seen
    with stores.tables.transaction(one) as connection:
        assert live_twins(connection) == [LiveTwin(one, make_release(one, 1).created_at)]


def test_an_operator_sees_nothing_of_what_a_release_is_made_from(stores: Stores, user_id: str) -> None:
    from sqlalchemy import text

    promote(stores, user_id, 1)
    with pytest.raises(StoreError), stores.tables.operator_transaction() as connection:
        connection.execute(text("select manifest from release"))
    with stores.tables.operator_transaction() as connection:
        assert connection.execute(text("select count(*) from release where status <> 'live'")).scalar_one() == 0


def test_the_operator_sees_in_one_query_which_release_is_live_for_each_of_many(
    stores: Stores, new_user: Callable[[], str]
) -> None:
    one, other, without = new_user(), new_user(), new_user()
    for number in (1, 2):
        promote(stores, one, number)
    promote(stores, other, 3)
    with stores.tables.transaction(without) as connection:
        keep_candidate(connection, make_release(without, 4))
    with stores.tables.operator_transaction() as connection:
        assert live_release_ids(connection, [one, other, without]) == {one: "release-2", other: "release-3"}
        assert live_release_ids(connection, [other]) == {other: "release-3"}
        assert live_release_ids(connection, []) == {}


def test_earlier_releases_are_those_that_served_and_may_serve_again(stores: Stores, user_id: str) -> None:
    from sqlalchemy import text

    for number in (1, 2, 3, 4, 5, 6):
        promote(stores, user_id, number)
    promote(stores, user_id, 5)
    with stores.tables.transaction(user_id) as connection:
        live = live_release(connection, user_id)
        assert live is not None
        keep_candidate(connection, make_release(user_id, 4))
        connection.execute(text("update release set manifest = '{}' where release_id = 'release-2'"))
        assert [release.release_id for release in earlier_releases(connection, live, 3)] == ["release-3", "release-1"]
        mark_stale(connection, user_id, ["a" * 64], "a document was deleted")
        assert earlier_releases(connection, live, 3) == []
