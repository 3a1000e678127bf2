"""When what failed is tried again: one rule for everything that has to reach a further store.

Belongs here: the decision, without a clock or a store.
Does not belong here: carrying it out (`worker.py`, `dao/projection.py`), and tries within one call, which are the clients' own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from lpm_kernel.errors import TwinError
from lpm_kernel.settings import ChangeSettings

LEASE_S = 120.0
"""How long a change is left to whoever claimed it; then it was lost, and the next may try."""
JITTER = 0.2
"""The share by which a pause is longer or shorter than the rule says."""
LOST = ("change_lost", "no try came to its end, and none could say why")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a try failed, in the words of the error and no others: what nobody foresaw is told by its type alone."""

    code: str
    reason: str
    retryable: bool


def failure_of(error: Exception) -> Failure:
    """Why what nobody foresaw is tried again: a store's own library says much that no error of ours covers."""
    if isinstance(error, TwinError):
        return Failure(error.code, error.message, error.retryable)
    return Failure("internal", f"it failed with {type(error).__name__}; the log says where", True)


def is_given_up(failure: Failure, attempts: int, settings: ChangeSettings) -> bool:
    return not failure.retryable or attempts >= settings.attempts


def pause_after(attempts: int, changes: ChangeSettings, of: str) -> timedelta:
    return timedelta(seconds=pause_s(attempts, changes.delay_s, changes.longest_pause_s, of))


def pause_s(attempts: int, first_s: float, longest_s: float, of: str) -> float:
    """Twice as long after each try, up to the longest, and a little longer or shorter for each thing: what failed together does
    not come back together. `of` names it; the same pause for the same name and number of tries.
    """
    drawn = int.from_bytes(hashlib.sha256(f"{of}:{attempts}".encode()).digest()[:4], "big") / 2**32
    seconds = min(longest_s, first_s * 2 ** min(max(attempts - 1, 0), 20))
    return seconds * (1 + JITTER * (2 * drawn - 1))
