"""Question to evidence: the lines of a user's notes that may answer it, best first.

Belongs here: asking the stores and making citations.
Does not belong here: how a store ranks (`stores/vectors.py`) and how lines stand in a prompt (`L2/prompt.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from lpm_kernel.errors import RetrievalError
from lpm_kernel.records import Evidence
from lpm_kernel.settings import RecallSettings
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.vectors import Vectors

if TYPE_CHECKING:
    import numpy as np


def recall_evidence(
    user_id: str,
    generation: str,
    question: str,
    vectors: Vectors,
    embedder: Embedder,
    recall: RecallSettings,
    *,
    lines: int | None = None,
    vector: np.ndarray | None = None,
    withheld: Collection[str] = (),
) -> list[Evidence]:
    """The best `lines` chunks (default: the setting) of one generation of the user's memory, by fused score.

    `vector` is that of the question, where the caller has it already. `withheld`: documents that are no candidates.

    Raises: RetrievalError `memory_empty` when the generation has no chunk of the present embedding model; StoreError.
    """
    hits = vectors.search(
        user_id,
        generation,
        question,
        embedder.embed([question])[0] if vector is None else vector,
        fingerprint=embedder.fingerprint,
        k=lines or recall.lines,
        keyword_weight=recall.keyword_weight,
        neighbour_weight=recall.neighbour_weight,
        withheld=withheld,
    )
    if not hits and not withheld:
        raise RetrievalError(
            "memory_empty",
            f"user {user_id} has no chunk of memory {generation[:8]} embedded by {embedder.fingerprint}: "
            "materialize `embeddings` and what follows",
        )
    return [Evidence(hit.citation, hit.text, hit.score, hit.cosine) for hit in hits]
