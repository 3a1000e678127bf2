"""What a change does to its target, by target and kind. Each is idempotent: it may be done twice, and then changes nothing.

Belongs here: which function brings about which kind.
Does not belong here: those functions (they lie with their subject), and when they are called (`worker.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from lpm_kernel.errors import StoreError
from lpm_kernel.stores.changes import Change
from lpm_kernel.stores.memory_writes import REMEMBER

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lpm_kernel.stores.open import Stores

Finish = Callable[["Connection"], None]
"""What belongs into the transaction that marks the change as done."""
Applier = Callable[["Stores", Change], Finish]


NAMED: dict[str, dict[str, type]] = {
    REMEMBER: {"message_id": str, "turn": int},
    "correct_memory": {"memory_id": str, "by": str},
    "forget_memory": {"memory_id": str},
    "delete_documents": {"sha256s": list},
    "remove_stale": {"sha256s": list},
}
"""What the reference of each kind must say."""


def nothing_more(_: Connection) -> None:
    pass


def applier_of(change: Change) -> Applier:
    """Raises: StoreError `change_unknown` for a kind that this version does not know; `change_invalid` for one that does not
    say what it is about, which no later try would mend either.
    """
    applier = _appliers().get(change.step)
    if applier is None:
        raise StoreError("change_unknown", f"a change {change.step} is of another version", retryable=False)
    lacking = [name for name, kind in NAMED.get(change.kind, {}).items() if not isinstance(change.reference.get(name), kind)]
    if lacking:
        raise StoreError("change_invalid", f"a change {change.step} does not say its {', '.join(lacking)}", retryable=False)
    return applier


@lru_cache(maxsize=1)
def _appliers() -> dict[str, Applier]:
    # their modules put changes themselves, and so stand above this one
    from lpm_kernel.corrections import correction_steps
    from lpm_kernel.erase import erasure_steps
    from lpm_kernel.forget import deletion_steps
    from lpm_kernel.L2.engine import adapter_folder

    adapters = adapter_folder()
    return {
        f"memories/{REMEMBER}": _remember_message,
        **correction_steps(),
        **deletion_steps(adapters),
        **erasure_steps(adapters),
    }


def _remember_message(stores: Stores, change: Change) -> Finish:
    from lpm_kernel.recall.memory_queue import remember_message
    from lpm_kernel.stores.memory_writes import to_memory_write

    remember_message(stores, to_memory_write(change))
    return nothing_more
