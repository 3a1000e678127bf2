"""Locks: short leases on one user, for what changes several stores: deleting, importing, and reconciling.

Belongs here: the Protocol, and its class over Redis and PostgreSQL.
Does not belong here: the order of writes under a lease, and locks that end with one transaction (`releases.py`, and others).

A lease can be lost while its holder believes in it: the process was paused, and somebody else went on. So each has a token,
greater than all before it, in the row `fence` of its user; a transaction of the holder writes only if that row has its token
still (`Lease.check`), and holds the row until it ends. A late holder is refused (`lease_lost`) and has written nothing twice.

Redis is the door: it turns away at once who would only wait, and forgets a dead holder by itself. PostgreSQL decides. While
Redis does not answer, or has forgotten everything, the row alone says who holds the lease and until when, taken under an
advisory lock: callers who see Redis and callers who do not are turned away alike. A lease is to be had whenever the tables are.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from lpm_kernel.errors import StoreError, TwinError
from lpm_kernel.records import check_user_id
from lpm_kernel.stores.breaker import Breaker
from lpm_kernel.stores.change_schema import fence

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from lpm_kernel.stores.tables import Tables

LEASE_S = 30.0
"""After which a holder that says nothing has lost it; each step of its work prolongs it."""
WAIT_S = 5.0
"""How long a caller waits for whoever holds it."""
AGAIN_S = 0.1
REDIS_TIMEOUT_S = 0.5
BREAKER = 1, 5.0
EVERY_STORE = "every store"
"""The name of the lease on all that there is of a user."""
_LOG = logging.getLogger(__name__)

_EXTEND = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_LET_GO = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class Lease(Protocol):
    """What somebody holds. `token`: greater than that of every lease on this user before it."""

    @property
    def token(self) -> int: ...

    def check(self, connection: Connection) -> None:
        """Within a transaction of the user, before it writes: nobody else takes the lease until it ends.

        Raises: StoreError `lease_lost`.
        """
        ...

    def keep(self) -> None:
        """Before a step that no transaction can guard: prolong it. Raises: StoreError `lease_lost`."""
        ...


class Locks(Protocol):
    def hold(
        self, user_id: str, name: str = EVERY_STORE, *, lease_s: float = LEASE_S, wait_s: float = WAIT_S
    ) -> AbstractContextManager[Lease]:
        """One holder at a time, of each user and name. Not reentrant.

        Raises: StoreError `lease_held` (retryable) when somebody else holds it longer than `wait_s`; those of the tables.
        """
        ...

    def close(self) -> None: ...


class FencedLease:
    def __init__(self, locks: RedisLocks, user_id: str, name: str, token: int, lease_s: float) -> None:
        self._locks, self._user_id, self._name, self._lease_s = locks, user_id, name, lease_s
        self._token = token

    @property
    def token(self) -> int:
        return self._token

    def check(self, connection: Connection) -> None:
        from sqlalchemy import update

        own = _row_of(self._user_id, self._name)
        kept = connection.execute(update(fence).where(*own, fence.c.token == self._token).values(until=_until(self._lease_s)))
        if kept.rowcount == 0:
            lost = f"somebody else changes {self._name} of user {self._user_id} now: ask again"
            raise StoreError("lease_lost", lost)

    def keep(self) -> None:
        with self._locks.tables.transaction(self._user_id) as connection:
            self.check(connection)
        self._locks.prolong(self._user_id, self._name, self._token, self._lease_s)


class RedisLocks:
    """Safe to share between threads. Without `redis_url`, and while Redis does not answer, PostgreSQL alone decides."""

    def __init__(self, tables: Tables, redis_url: str | None, breaker: Breaker | None = None) -> None:
        self.tables = tables
        self._redis_url = redis_url
        self._breaker = breaker or Breaker(*BREAKER)
        self._client: Any = None

    @contextmanager
    def hold(
        self, user_id: str, name: str = EVERY_STORE, *, lease_s: float = LEASE_S, wait_s: float = WAIT_S
    ) -> Iterator[FencedLease]:
        check_user_id(user_id)
        asked_at = time.monotonic()
        while (token := self._take(user_id, name, lease_s)) is None:
            if time.monotonic() - asked_at >= wait_s:
                held = f"somebody else changes {name} of user {user_id}: ask again"
                raise StoreError("lease_held", held, retry_after_s=wait_s)
            time.sleep(min(AGAIN_S, wait_s))
        try:
            yield FencedLease(self, user_id, name, token, lease_s)
        finally:
            self._let_go(user_id, name, token)

    def _take(self, user_id: str, name: str, lease_s: float) -> int | None:
        """The token, or None while somebody else holds it."""
        waiting = uuid.uuid4().hex
        opened = self._ask(lambda client: client.set(_key(user_id, name), waiting, nx=True, px=_ms(lease_s)), True)
        if not opened:
            return None
        token = None
        try:
            with self.tables.transaction(user_id) as connection:
                token = _take_row(connection, user_id, name, lease_s)
        finally:  # the key names the token from now on, or lets the next one in
            if token is None:
                self._ask(lambda client: client.eval(_LET_GO, 1, _key(user_id, name), waiting), 0)
        if token is not None:
            self._ask(lambda client: client.set(_key(user_id, name), str(token), xx=True, px=_ms(lease_s)), True)
        return token

    def prolong(self, user_id: str, name: str, token: int, lease_s: float) -> None:
        self._ask(lambda client: client.eval(_EXTEND, 1, _key(user_id, name), str(token), _ms(lease_s)), 0)

    def _let_go(self, user_id: str, name: str, token: int) -> None:
        """Where this fails the lease runs out by itself; it must not hide how the work under it has ended."""
        from sqlalchemy import delete

        try:
            with self.tables.transaction(user_id) as connection:
                connection.execute(delete(fence).where(*_row_of(user_id, name), fence.c.token == token))
        except TwinError as error:
            _LOG.warning("%s of user %s is let go by time alone: %s", name, user_id, error)
        self._ask(lambda client: client.eval(_LET_GO, 1, _key(user_id, name), str(token)), 0)

    def _ask(self, question: Callable[[Any], Any], otherwise: Any) -> Any:
        """What Redis says, or `otherwise` while it does not answer."""
        if self._redis_url is None or not self._breaker.allows():
            return otherwise
        from redis.exceptions import RedisError

        try:
            answer = question(self._opened())
        except (RedisError, OSError) as error:
            self._breaker.failed()
            _LOG.warning("Redis does not answer (%s): PostgreSQL alone decides who holds a lease", type(error).__name__)
            return otherwise
        self._breaker.succeeded()
        return answer

    def _opened(self) -> Any:
        if self._client is None:
            from redis import Redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            limits = {"socket_timeout": REDIS_TIMEOUT_S, "socket_connect_timeout": REDIS_TIMEOUT_S}
            self._client = Redis.from_url(str(self._redis_url), retry=Retry(NoBackoff(), 0), **limits)
        return self._client

    def close(self) -> None:
        """Idempotent; the next use opens it again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def refuse_while_held(connection: Connection, user_id: str, name: str = EVERY_STORE) -> None:
    """For what is done in this one transaction of the user and needs no lease of its own: nobody takes one until it ends.

    Raises: StoreError `lease_held` (retryable).
    """
    from sqlalchemy import func, select

    _queue_up(connection, user_id, name)
    holds = select(fence.c.token).where(*_row_of(user_id, name), fence.c.until > func.clock_timestamp())
    if connection.execute(holds).first() is not None:
        held = f"somebody else changes {name} of user {user_id}: ask again"
        raise StoreError("lease_held", held, retry_after_s=WAIT_S)


def _take_row(connection: Connection, user_id: str, name: str, lease_s: float) -> int | None:
    from sqlalchemy import func, select
    from sqlalchemy.dialects.postgresql import insert

    _queue_up(connection, user_id, name)
    holds = select(fence.c.token).where(*_row_of(user_id, name), fence.c.until > func.clock_timestamp())
    if connection.execute(holds).first() is not None:
        return None
    token = connection.execute(select(func.nextval("fence_token"))).scalar_one()
    values = {"token": token, "until": _until(lease_s)}
    put = insert(fence).values(user_id=user_id, name=name, **values)
    connection.execute(put.on_conflict_do_update(index_elements=[fence.c.user_id, fence.c.name], set_=values))
    return int(token)


def _queue_up(connection: Connection, user_id: str, name: str) -> None:
    """One at a time, until the end of the transaction, though there may be no row yet to lock."""
    from sqlalchemy import text

    lock = text("select pg_advisory_xact_lock(hashtext('lease:' || :name), hashtext(:user_id))")
    connection.execute(lock, {"name": name, "user_id": user_id})


def _until(lease_s: float) -> ColumnElement[Any]:
    """By the clock of PostgreSQL: those of machines may differ."""
    from sqlalchemy import func, text

    return func.clock_timestamp() + text(f"interval '{_ms(lease_s)} milliseconds'")


def _row_of(user_id: str, name: str) -> tuple[ColumnElement[bool], ...]:
    return fence.c.user_id == user_id, fence.c.name == name


def _key(user_id: str, name: str) -> str:
    return f"twin:lease:{name}:{user_id}"


def _ms(seconds: float) -> int:
    return max(1, int(1000 * seconds))
