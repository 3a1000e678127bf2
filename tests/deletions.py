"""A deletion that is under way, as tests of what races with one need it: on record in a transaction that is still open.

Belongs here: beginning it, and seeing that somebody waits for its end.
Does not belong here: what a deletion does (`lpm_kernel/forget.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from lpm_kernel.stores.documents import lock_documents, mark_deleted
from lpm_kernel.stores.tables import Tables

PATIENCE_S = 30.0


Result = TypeVar("Result")


def during_deletion(
    tables: Tables,
    user_id: str,
    sha256s: Sequence[str],
    done_meanwhile: Callable[[], Result],
    forget: Callable[[Connection], Any] = lambda _: None,
) -> Result:
    """What this comes to that began when a deletion was on record, and that ends with it, or waited for its end. `forget`: what
    the deletion takes out of the tables."""
    with ThreadPoolExecutor(1) as pool:
        with tables.transaction(user_id) as connection:
            lock_documents(connection, user_id)
            mark_deleted(connection, user_id, sha256s, pending=False)
            forget(connection)
            doing = pool.submit(done_meanwhile)
            until = time.monotonic() + PATIENCE_S
            while not doing.done() and not _is_waited_for(connection) and time.monotonic() < until:
                time.sleep(0.01)
            assert doing.done() or _is_waited_for(connection)
        return doing.result(PATIENCE_S)


def _is_waited_for(connection: Connection) -> bool:
    """Whether anybody waits for a lock that this transaction holds."""
    waiting = "select exists (select from pg_locks where not granted and pg_backend_pid() = any (pg_blocking_pids(pid)))"
    return bool(connection.execute(text(waiting)).scalar())
