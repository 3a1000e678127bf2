"""What members may know of each other: facts of the group of the graph that all of them share.

Belongs here: searching it.
Does not belong here: what is written there (`dao/shared_facts.py`), and the facts of one person (`plan.py`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lpm_kernel.stores.graph import SHARED, FactHit

if TYPE_CHECKING:
    import numpy as np

    from lpm_kernel.stores.open import Stores

DAYS = 36_500
"""How far back it is looked: a decision holds until another one."""


def search_shared_facts(
    stores: Stores, question: str, now: datetime, *, k: int = 10, days: int = DAYS, vector: np.ndarray | None = None
) -> list[FactHit]:
    """The best `k` that hold now, best first. `vector`: of the question, where the caller has it.

    Raises: StoreError `graph_unavailable` (retryable) or `graph_refused`; LlmError.
    """
    return stores.graph.search_facts(
        SHARED,
        question,
        stores.embedder.embed([question])[0] if vector is None else vector,
        since=now - timedelta(days=days),
        at=now,
        k=k,
        keyword_weight=stores.settings.recall.keyword_weight,
    )
