"""Releases: one is live, the others are kept, and the way back is the way forward."""

from __future__ import annotations

from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import list_releases, live_release, promote_release
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
