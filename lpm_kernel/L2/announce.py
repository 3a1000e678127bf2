"""Announcing a release: what other services are told of it, and what becomes of a message that did not arrive.

Belongs here: the message, and that its failure is kept and changes nothing.
Does not belong here: delivering it (`stores/webhook.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lpm_kernel.errors import StoreError
from lpm_kernel.records import Release
from lpm_kernel.settings import RetrySettings
from lpm_kernel.stores.dead_letters import DeadLetter, put_dead_letter, resolve_dead_letters, write_or_warn
from lpm_kernel.stores.tables import Tables
from lpm_kernel.stores.webhook import Webhook

STAGE = "release_webhook"


def announce_release(
    tables: Tables, webhook: Webhook | None, release: Release, retries: RetrySettings, run_id: str, warn: Callable[[str], None]
) -> bool:
    """Tell of a release that is on record; whether somebody was told.

    A failure is said, kept as a dead letter under this run, and raises nothing: the release stands, whoever knows of it.
    """
    if webhook is None:
        return False
    now = datetime.now(UTC)
    try:
        webhook.post(message_of(release), retries)
    except StoreError as error:
        warn(f"release {release.release_id} was not announced: {error}")
        tries = retries.max_retries + 1 if error.retryable else 1
        letter = DeadLetter(release.user_id, STAGE, run_id, tries, error.code, error.message, now)
        write_or_warn(tables, release.user_id, lambda connection: put_dead_letter(connection, letter), warn)
        return False
    write_or_warn(tables, release.user_id, lambda c: resolve_dead_letters(c, release.user_id, (STAGE,), now), warn)
    return True


def message_of(release: Release) -> dict[str, Any]:
    return {
        "user_id": release.user_id,
        "release_id": release.release_id,
        "status": release.status,
        "created_at": release.created_at.isoformat(),
    }
