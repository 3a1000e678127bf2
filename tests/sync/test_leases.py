"""Who deletes, takes in or promotes all there is of a user: one at a time; who lost the lease on the way writes no more."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from lpm_kernel.archive.restore import import_user
from lpm_kernel.archive.write import open_export
from lpm_kernel.erase import delete_user
from lpm_kernel.errors import StoreError
from lpm_kernel.L2.release import promote_again, roll_back
from lpm_kernel.stores.deletions import find_deletion
from lpm_kernel.stores.locks import EVERY_STORE, RedisLocks
from lpm_kernel.stores.open import Stores
from tests.forgetful_twin import BOAT, CAT, Twin


@pytest.fixture
def twin(stores: Stores, user_id: str, tmp_path: Path) -> Twin:
    made = Twin(stores, user_id, tmp_path / "adapters")
    made.send("cats.md", CAT)
    made.send("boat.txt", BOAT)
    made.build()
    return made


class Impatient:
    """The same locks, whose callers do not wait."""

    def __init__(self, locks: Any) -> None:
        self._locks = locks

    def hold(self, user_id: str, name: str = EVERY_STORE, **named: Any) -> Any:
        return self._locks.hold(user_id, name, **{**named, "wait_s": 0})


class Robbed:
    """A store in whose call somebody else takes over the user, as if this process had been paused in it."""

    def __init__(self, store: Any, call: str, rob: Callable[[], object]) -> None:
        self._store, self._call, self._rob = store, call, rob

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name != self._call:
            return real

        def robbed(*arguments: Any, **named: Any) -> Any:
            done = real(*arguments, **named)
            self._rob()
            return done

        return robbed


def test_a_deletion_an_import_and_a_promotion_wait_for_whoever_changes_the_user(twin: Twin) -> None:
    stores = replace(twin.stores, locks=Impatient(twin.stores.locks))  # type: ignore[arg-type]
    archive = b"".join(open_export(twin.stores, twin.user_id).pieces())
    release = twin.live()
    assert release is not None
    asks: list[Callable[[], object]] = [
        lambda: delete_user(stores, twin.user_id, twin.adapters),
        lambda: import_user(stores, twin.user_id, io.BytesIO(archive)),
        lambda: promote_again(stores.tables, stores.blobs, stores.vectors, twin.user_id, release.release_id),
        lambda: roll_back(stores.tables, stores.blobs, stores.vectors, twin.user_id),
    ]
    with twin.stores.locks.hold(twin.user_id):
        for ask in asks:
            with pytest.raises(StoreError) as caught:
                ask()
            assert (caught.value.code, caught.value.retryable) == ("lease_held", True)
    assert twin.names() == ["boat.txt", "cats.md"], "nothing of it was begun"
    promote_again(stores.tables, stores.blobs, stores.vectors, twin.user_id, release.release_id)


def test_a_deletion_that_lost_its_lease_stops_and_who_took_over_ends_it(twin: Twin, stores: Stores) -> None:
    """It woke up in the middle, when somebody else had begun the same."""
    with ExitStack() as other:
        # as if its time had run out: whoever asks next gets the lease
        def rob() -> None:
            with twin.stores.tables.transaction(twin.user_id) as connection:
                connection.execute(text("update fence set until = now() - interval '1 minute'"))
            blind = RedisLocks(stores.tables, None)
            other.enter_context(blind.hold(twin.user_id))

        robbed = replace(twin.stores, vectors=Robbed(twin.stores.vectors, "delete_user", rob))  # type: ignore[arg-type]
        with pytest.raises(StoreError) as caught:
            delete_user(robbed, twin.user_id, twin.adapters)
        assert (caught.value.code, caught.value.retryable) == ("lease_lost", True)
        with twin.stores.tables.transaction(twin.user_id) as connection:
            found = find_deletion(connection, twin.user_id)
            assert found is not None
            assert found.done_at is None, "the late one has not ended what another is at"
        assert twin.stores.memories.every(twin.user_id), "nor gone on with it"
    assert delete_user(twin.stores, twin.user_id, twin.adapters).existed
    assert twin.stores.memories.every(twin.user_id) == []


def test_an_import_that_lost_its_lease_writes_no_row(twin: Twin, stores: Stores, new_user: Callable[[], str]) -> None:
    archive = b"".join(open_export(twin.stores, twin.user_id).pieces())
    late = new_user()
    with ExitStack() as other:

        def rob() -> None:
            with stores.tables.transaction(late) as connection:
                connection.execute(text("update fence set until = now() - interval '1 minute'"))
            other.enter_context(RedisLocks(stores.tables, None).hold(late))

        robbed = replace(stores, graph=Robbed(stores.graph, "write_facts", rob))  # type: ignore[arg-type]
        with pytest.raises(StoreError) as caught:
            import_user(robbed, late, io.BytesIO(archive))
        assert caught.value.code == "lease_lost"
        with stores.tables.transaction(late) as connection:
            assert connection.execute(text("select count(*) from document")).scalar_one() == 0
    assert import_user(stores, late, io.BytesIO(archive)).user_id == late, "the same archive completes it"
