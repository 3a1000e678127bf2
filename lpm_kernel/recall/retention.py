"""How long memory is kept: what has expired is removed for good, of all users, one after another.

Belongs here: going through users so that one of them who fails keeps no other from it.
Does not belong here: what of one user has expired (`stores/`), and when this runs (`twin_assets/schedules.py`).
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from lpm_kernel.errors import TwinError
from lpm_kernel.stores.memories import Memories

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PurgeReport:
    purged: dict[str, int]
    """How many memories of each user are gone."""
    failed: dict[str, str]
    """Of whom the store could not be asked or written, and the code of the error, or its type."""


def purge_users(
    memories: Memories, user_ids: Sequence[str], today: date, say: Callable[[str], None] = lambda _: None
) -> PurgeReport:
    """Remove of each user what was to be recalled until a day before `today`. Idempotent; what failed is left to the next time.

    Why the error is kept and not raised, one that nobody foresaw too: a user whose rows another transaction holds, or of whom a
    row is of another form, would keep everybody's behind them for another day.
    """
    purged: dict[str, int] = {}
    failed: dict[str, str] = {}
    for user_id in user_ids:
        try:
            purged[user_id] = memories.purge_expired(user_id, today)
            say(f"user {user_id}: {purged[user_id]} memories purged")
        except TwinError as error:
            failed[user_id] = error.code
            say(f"user {user_id}: not purged, {error.code}")
        except Exception as error:  # its words may be those of a memory
            failed[user_id] = type(error).__name__
            where = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("memories of user %s could not be purged: %s\n%s", user_id, failed[user_id], where)
            say(f"user {user_id}: not purged, {failed[user_id]}")
    return PurgeReport(purged, failed)
