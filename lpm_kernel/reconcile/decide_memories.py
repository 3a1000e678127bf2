"""What memory should hold of one user, beside what it holds.

Belongs here: the pure decision.
Does not belong here: reading memories (`read_memories.py`), and writing any (`repair.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta

from lpm_kernel.reconcile.findings import Cause, Finding, Kind, Repair
from lpm_kernel.reconcile.inventory import HeldMemory, MemoryInventory, Truth

LONG_AGO = timedelta(days=2)
"""Before the last purge: what expired so long before it, it should have removed."""


def decide_memories(truth: Truth, found: MemoryInventory, purged_on: date | None) -> list[Finding]:
    """Memories of deleted documents, of what nobody knows, expired ones, and those of documents that are lacking.
    `purged_on`: the day of the last nightly purge; where none is known nothing is taken to be left of it."""
    held = {memory.memory_id for memory in found.held}
    known = {*truth.documents, *truth.deleted}
    deleted = [m.cites for m in found.held if m.cites and m.cites in truth.deleted]
    stray = [m.memory_id for m in found.held if m.cites and m.cites not in known]
    silent = [m.memory_id for m in found.held if m.session and m.session not in truth.sessions]
    expired = [m.memory_id for m in found.held if m.expires and purged_on and m.expires < purged_on - LONG_AGO]
    lacking = [m.memory_id for m in found.expected if m.memory_id not in held and memory_holds_still(truth, m)]
    findings: list[Finding] = []

    def find(kind: Kind, what: str, cause: Cause, items: Collection[str], repair: Repair | None = None) -> None:
        if items:
            findings.append(Finding(truth.user_id, "memories", kind, what, cause, tuple(sorted(set(items))), "", repair))

    find("surplus", "memories of deleted documents", "deletion", deleted, "go_on_deleting")
    find("surplus", "memories of documents that nobody knows", "unexplained", stray)
    find("surplus", "memories of talks that nobody knows", "unexplained", silent)
    find("expired", "memories", "expiry", expired, "purge_memories")
    find("lacking", "memories of documents", "lost", lacking, "rewrite_memories")
    if found.versioned and found.held and found.version is None:
        findings.append(Finding(truth.user_id, "memories", "lacking", "version", "lost", repair="count_memories"))
    return findings


def memory_holds_still(truth: Truth, memory: HeldMemory) -> bool:
    """Whether what it stands on is still read: of a replaced or deleted document nothing is to be remembered."""
    document = truth.documents.get(memory.cites) if memory.cites else None
    return memory.cites is None or (document is not None and document.status == "read")
