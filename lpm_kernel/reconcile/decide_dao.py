"""What is the DAO's: its ledger beside itself, and the graph that all members share beside the ledger.

Belongs here: the pure decision.
Does not belong here: counting votes again (`dao/audit.py`), and repairing a ledger; nothing repairs one.
"""

from __future__ import annotations

from collections.abc import Collection

from lpm_kernel.reconcile.findings import SHARED, Cause, Finding, Kind, Repair
from lpm_kernel.reconcile.inventory import DaoInventory


def decide_dao(found: DaoInventory) -> list[Finding]:
    """A ledger that is broken, a vote without its one resolution, and a graph that is behind, lacks facts or has others."""
    findings: list[Finding] = []

    def find(kind: Kind, what: str, cause: Cause, items: Collection[str], repair: Repair | None = None) -> None:
        if items:
            findings.append(Finding(SHARED, "dao", kind, what, cause, tuple(sorted(set(items))), "", repair))

    find("damaged", "ledger", "unexplained", found.broken)
    find("damaged", "proposals that ended without one resolution", "unexplained", _not_one(found))
    behind = [str(seq) for seq in range(found.told_seq + 1, found.last_seq + 1)]
    find("behind", "events of which the graph has not heard", "pending change", behind, "project")
    stay = {fact_id for fact_id, persons in found.told.items() if persons <= found.members}
    find("lacking", "facts of the ledger", "lost", stay - found.held, "rewrite_shared_facts")
    find("surplus", "facts about somebody who left", "deletion", (found.told.keys() - stay) & found.held, "forget_leavers")
    find("surplus", "facts that no event tells", "unexplained", found.held - found.told.keys())
    return findings


def _not_one(found: DaoInventory) -> list[str]:
    return [proposal_id for proposal_id, times in found.resolutions.items() if times != 1]
