"""The one worker: brings to each store what was decided in PostgreSQL, whatever it is and whoever wanted it.

Belongs here: working off `change`: who is next, what a failure leads to, and when it is given up for good.
Does not belong here: what a change does (`appliers.py`), when it is tried again (`retry.py`) and the threads that do it
(`twin_serving/change_worker.py`, `twin_assets/changes.py`).

Three kinds of writes go this way: what memory has yet to take in of a chat; memories that their person corrects or forgets; the
deletion of documents and of persons. Whoever asked makes the first try at once and hears of its failure; the rest is done
here. The ledger of the DAO is its own outbox and keeps its own place (`dao/projection.py`), by the same rule and with the same
letters. Whether a document is private is known to PostgreSQL alone, so nothing follows from it here.

A process that dies between the write and its mark leaves the change undone: it is done again, to no effect. Any number of
workers may run: of one user and target only the oldest change can be claimed, so nothing overtakes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING

from lpm_kernel.errors import StoreError, UserInputError
from lpm_kernel.request_context import RequestContext, within_request
from lpm_kernel.stores.changes import (
    TARGETS,
    Change,
    Target,
    claim_change,
    database_time,
    drop_done_changes,
    finish_change,
    give_up_change,
    put_off_change,
    users_with_due_changes,
)
from lpm_kernel.stores.dead_letters import keep_letter_of_change, resolve_letter_of_change
from lpm_kernel.stores.open import Stores
from lpm_kernel.sync.appliers import Applier, applier_of
from lpm_kernel.sync.retry import LEASE_S, LOST, failure_of, is_given_up, pause_after

if TYPE_CHECKING:
    from sqlalchemy import Connection

USERS_AT_ONCE = 100
A_TURN = 10
"""Changes of one person and target before it is the next one's turn."""
Clock = Callable[[], datetime]
"""In place of PostgreSQL's, by which everything else is due: those of machines differ, and may jump."""
_LOG = logging.getLogger(__name__)


def _moment(connection: Connection, clock: Clock | None) -> datetime:
    return database_time(connection) if clock is None else clock()


def _go_on() -> bool:
    return False


def work_due_changes(
    stores: Stores,
    clock: Clock | None = None,
    stopped: Callable[[], bool] = _go_on,
    targets: Collection[Target] = TARGETS,
) -> int:
    """Everybody's changes that are due, of these targets, each queue in order, until none is left; how many were tried.

    In rounds, of each person A_TURN of a target at most: who has ten thousand waiting lets everybody else go on.
    Raises: StoreError when the outbox itself cannot be read. Idempotent.
    """
    tried, before, served = 0, 0, set[str]()
    while not stopped():
        with stores.tables.operator_transaction() as connection:
            users = users_with_due_changes(connection, _moment(connection, clock), USERS_AT_ONCE, targets, but=served)
        for user_id in users:
            if stopped():
                break
            served.add(user_id)
            tried += work_changes_of(stores, user_id, clock, stopped, targets, A_TURN)
        if not users:  # the round is over
            if tried == before:  # none is due, or others hold what is
                break
            before = tried
            served.clear()
    return tried


def work_changes_of(
    stores: Stores,
    user_id: str,
    clock: Clock | None = None,
    stopped: Callable[[], bool] = _go_on,
    targets: Collection[Target] = TARGETS,
    at_most: int | None = None,
) -> int:
    """One user's changes that are due, `at_most` of each target; how many were tried.

    Raises: StoreError of the outbox. Idempotent.
    """
    tried = 0
    for target in targets:
        for _ in repeat(None) if at_most is None else range(at_most):
            if stopped():
                break
            with stores.tables.transaction(user_id) as connection:
                change = claim_change(connection, user_id, target, _moment(connection, clock), LEASE_S)
            if change is None:
                break
            tried += 1
            try_change(stores, change, clock)
    if tried:
        with stores.tables.transaction(user_id) as connection:
            kept = timedelta(days=stores.settings.changes.kept_days)
            drop_done_changes(connection, user_id, _moment(connection, clock) - kept)
    return tried


def try_change(stores: Stores, change: Change, clock: Clock | None = None, apply: Applier | None = None) -> Exception | None:
    """Bring a claimed change to its target and say on its row what came of it; the error, where it failed. `apply`: in place of
    the applier of its kind, by whoever wants to know more of what it did.

    Raises: StoreError where that cannot be said; its lease runs out then, and it is tried again.
    """
    # logs and stores name the request that it came with
    with within_request(RequestContext(change.transaction_id, frozenset({change.user_id}))):
        try:
            _check_attempts(change, stores.settings.changes.attempts)
            finish = (apply or applier_of(change))(stores, change)
            with stores.tables.transaction(change.user_id) as connection:
                finish(connection)
                now = _moment(connection, clock)
                if finish_change(connection, change, now):
                    resolve_letter_of_change(connection, change.user_id, change.change_id, now)
            return None
        except Exception as error:
            _say_why(stores, change, error, clock)
            return error


def _check_attempts(change: Change, allowed: int) -> None:
    """Of the one try too many the one before said nothing: it took its process along."""
    if change.attempts > allowed:
        told = (change.code, change.reason) if change.code and change.reason else LOST
        raise StoreError(*told, retryable=False)


def _say_why(stores: Stores, change: Change, error: Exception, clock: Clock | None) -> None:
    failure = failure_of(error)
    with stores.tables.transaction(change.user_id) as connection:
        now = _moment(connection, clock)
        if isinstance(error, UserInputError):  # what was asked cannot be: whoever asked has heard it, and nobody can mend it
            if finish_change(connection, change, now, failure.code):
                resolve_letter_of_change(connection, change.user_id, change.change_id, now)  # of when it was given up before
        elif is_given_up(failure, change.attempts, stores.settings.changes):
            give_up_change(connection, change, now, failure.code, failure.reason)
            keep_letter_of_change(connection, change, failure.code, failure.reason, now)
        else:
            due_at = now + pause_after(change.attempts, stores.settings.changes, change.change_id)
            put_off_change(connection, change, due_at, failure.code, failure.reason)
    told = change.kind, change.user_id, change.target, change.change_id, change.attempts, failure.code
    unforeseen = error if failure.code == "internal" else None
    _LOG.warning("%s of user %s has not reached %s (%s) after try %d: %s", *told, exc_info=unforeseen)
