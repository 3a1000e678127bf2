"""Leases on one user: one holder at a time, over Redis and without it, and a holder that wakes too late writes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from redis import Redis
from sqlalchemy import text

from lpm_kernel.errors import StoreError
from lpm_kernel.stores import locks as module
from lpm_kernel.stores.locks import EVERY_STORE, Lease, RedisLocks, refuse_while_held
from lpm_kernel.stores.open import Stores
from tests.embedded.fixtures import EngineHome

SHORT_S, LONG_S = 0.05, 60.0


@pytest.fixture(autouse=True)
def redis_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow for a moment does not make Redis one that is away."""
    monkeypatch.setattr(module, "REDIS_TIMEOUT_S", 20.0)


@pytest.fixture(params=["redis", "no redis", "redis away"])
def locks(request: pytest.FixtureRequest, stores: Stores, engine_home: EngineHome, free_port: int) -> Iterator[RedisLocks]:
    """The same rules hold whoever decides."""
    away = f"redis://127.0.0.1:{free_port}/0"
    urls = {"redis": engine_home.redis_url, "no redis": None, "redis away": away}
    opened = RedisLocks(stores.tables, urls[request.param])
    yield opened
    opened.close()


@pytest.fixture
def redis(engine_home: EngineHome) -> Iterator[Redis]:
    with Redis.from_url(engine_home.redis_url) as client:
        yield client


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def refused(stores: Stores, user_id: str, lease: Lease) -> str | None:
    """The code with which a write of this holder is refused; None where it went through."""
    try:
        with stores.tables.transaction(user_id) as connection:
            lease.check(connection)
            connection.execute(text("update app_user set name = :name"), {"name": f"holder {lease.token}"})
    except StoreError as error:
        return error.code
    return None


def name_of(stores: Stores, user_id: str) -> str | None:
    with stores.tables.transaction(user_id) as connection:
        return connection.execute(text("select name from app_user")).scalar_one()


def fences(stores: Stores, user_id: str) -> int:
    with stores.tables.transaction(user_id) as connection:
        return connection.execute(text("select count(*) from fence")).scalar_one()


def test_one_holds_it_and_others_are_turned_away_until_it_is_let_go(locks: RedisLocks, stores: Stores, user_id: str) -> None:
    with locks.hold(user_id, lease_s=LONG_S) as lease:
        assert refused(stores, user_id, lease) is None
        with pytest.raises(StoreError) as caught, locks.hold(user_id, wait_s=0):
            raise AssertionError("two hold it")
        assert (caught.value.code, caught.value.retryable) == ("lease_held", True)
    with locks.hold(user_id, wait_s=0) as following:
        assert following.token > lease.token
    assert fences(stores, user_id) == 0, "nothing is left of who let go"


def test_it_is_let_go_when_the_work_under_it_fails(locks: RedisLocks, user_id: str) -> None:
    with pytest.raises(RuntimeError), locks.hold(user_id, lease_s=LONG_S):
        raise RuntimeError("told to")
    with locks.hold(user_id, wait_s=0):
        pass


def test_each_user_and_name_has_its_own(locks: RedisLocks, new_user: Callable[[], str]) -> None:
    one, two = new_user(), new_user()
    with locks.hold(one, lease_s=LONG_S), locks.hold(two, wait_s=0), locks.hold(one, "something else", wait_s=0):
        pass


def test_whoever_waits_gets_it_next(locks: RedisLocks, user_id: str) -> None:
    held, got = threading.Event(), []

    def wait() -> None:
        held.wait(30)
        with locks.hold(user_id, wait_s=30) as lease:
            got.append(lease.token)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        with locks.hold(user_id, lease_s=LONG_S) as lease:
            held.set()
            assert got == []
        waiting.result()
    assert got > [lease.token]


def test_of_many_at_once_each_gets_it_alone_and_tokens_only_grow(locks: RedisLocks, user_id: str) -> None:
    inside, tokens, together = [], [], threading.Barrier(4)

    def work(number: int) -> None:
        together.wait(30)
        with locks.hold(user_id, lease_s=LONG_S, wait_s=60) as lease:
            inside.append(number)
            tokens.append(lease.token)
            assert inside == [number]
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result()
    assert tokens == sorted(set(tokens))


def test_a_holder_that_slept_too_long_is_refused_and_writes_nothing(locks: RedisLocks, stores: Stores, user_id: str) -> None:
    """The point of a token: the one who was paused does not know that it was."""
    with ExitStack() as asleep:
        late = asleep.enter_context(locks.hold(user_id, lease_s=SHORT_S))
        with locks.hold(user_id, lease_s=LONG_S, wait_s=30) as following:
            assert following.token > late.token
            assert refused(stores, user_id, following) is None
            assert refused(stores, user_id, late) == "lease_lost"
            with pytest.raises(StoreError) as caught:
                late.keep()
            assert (caught.value.code, caught.value.retryable) == ("lease_lost", True)
            assert name_of(stores, user_id) == f"holder {following.token}"
            asleep.close()  # and its end takes nothing away from the one that holds it now
            assert refused(stores, user_id, following) is None
        assert refused(stores, user_id, late) == "lease_lost", "nor does it get it back when that one is done"


def test_a_holder_that_tells_in_time_keeps_it_beyond_its_first_term(locks: RedisLocks, user_id: str) -> None:
    with locks.hold(user_id, lease_s=3.0) as lease:
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            lease.keep()
            with pytest.raises(StoreError), locks.hold(user_id, wait_s=0):
                raise AssertionError("two hold it")
            time.sleep(0.05)


def test_nobody_takes_it_within_a_transaction_that_has_looked(locks: RedisLocks, stores: Stores, user_id: str) -> None:
    """Else the late holder would look, the next one begin, and both write."""
    with locks.hold(user_id, lease_s=SHORT_S) as late, ThreadPoolExecutor(1) as pool:

        def take() -> int:
            with locks.hold(user_id, lease_s=LONG_S, wait_s=60) as following:
                return following.token

        with stores.tables.transaction(user_id) as connection:
            lease_row = text("select token from fence")
            late.check(connection)
            taking = pool.submit(take)
            time.sleep(4 * SHORT_S)  # the term is over: nothing but the transaction keeps it
            assert not taking.done()
            assert connection.execute(lease_row).scalar_one() == late.token
        assert taking.result() > late.token


def test_what_needs_one_transaction_is_refused_while_somebody_holds_it(locks: RedisLocks, stores: Stores, user_id: str) -> None:
    def promote() -> None:
        with stores.tables.transaction(user_id) as connection:
            refuse_while_held(connection, user_id)

    promote()
    with locks.hold(user_id, lease_s=LONG_S):
        with pytest.raises(StoreError) as caught:
            promote()
        assert caught.value.code == "lease_held"
    promote()


def test_whoever_sees_redis_and_whoever_does_not_turn_each_other_away(
    stores: Stores, engine_home: EngineHome, user_id: str
) -> None:
    sees, blind = RedisLocks(stores.tables, engine_home.redis_url), RedisLocks(stores.tables, None)
    try:
        for holder, other in ((sees, blind), (blind, sees)):
            with holder.hold(user_id, lease_s=LONG_S):
                with pytest.raises(StoreError) as caught, other.hold(user_id, wait_s=0):
                    raise AssertionError("two hold it")
                assert caught.value.code == "lease_held"
            with other.hold(user_id, wait_s=0):
                pass
    finally:
        sees.close()


def test_a_redis_that_has_forgotten_everything_lets_nobody_else_in(
    stores: Stores, engine_home: EngineHome, redis: Redis, user_id: str
) -> None:
    locks = RedisLocks(stores.tables, engine_home.redis_url)
    try:
        with locks.hold(user_id, lease_s=LONG_S) as lease:
            assert redis.delete(f"twin:lease:{EVERY_STORE}:{user_id}") == 1
            with pytest.raises(StoreError), locks.hold(user_id, wait_s=0):
                raise AssertionError("two hold it")
            assert refused(stores, user_id, lease) is None
    finally:
        locks.close()


def test_redis_forgets_a_holder_that_died_by_itself(
    stores: Stores, engine_home: EngineHome, redis: Redis, user_id: str
) -> None:
    locks = RedisLocks(stores.tables, engine_home.redis_url)
    key = f"twin:lease:{EVERY_STORE}:{user_id}"
    try:
        with locks.hold(user_id, lease_s=LONG_S) as lease:
            assert redis.get(key) == str(lease.token).encode()
            assert 0 < int(redis.pttl(key)) <= 1000 * LONG_S  # type: ignore[arg-type]
        assert redis.get(key) is None
        with locks.hold(user_id, lease_s=SHORT_S):
            eventually(lambda: redis.get(key) is None)
    finally:
        locks.close()


def test_where_the_tables_are_away_nobody_holds_anything(
    engine_home: EngineHome, free_port: int, user_id: str, redis: Redis
) -> None:
    from sqlalchemy import make_url

    from lpm_kernel.stores.tables import Tables

    url = make_url(engine_home.app_dsn.replace("postgresql:", "postgresql+psycopg:")).set(host="127.0.0.1", port=free_port)
    tables = Tables(url.render_as_string(hide_password=False))
    locks = RedisLocks(tables, engine_home.redis_url)
    try:
        with pytest.raises(StoreError) as caught, locks.hold(user_id, wait_s=0):
            raise AssertionError("it was held")
        assert caught.value.code == "tables_unavailable"
        assert redis.get(f"twin:lease:{EVERY_STORE}:{user_id}") is None, "and the door is open for the next"
    finally:
        locks.close()
        tables.close()
