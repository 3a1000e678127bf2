"""What the temporal graph should hold of one user, beside what it holds.

Belongs here: the pure decision.
Does not belong here: reading facts (`read_graph.py`), writing any (`repair.py`), and the graph that members share
(`decide_dao.py`).
"""

from __future__ import annotations

from collections.abc import Collection

from lpm_kernel.reconcile.findings import Cause, Finding, Kind, Repair
from lpm_kernel.reconcile.inventory import GraphInventory, HeldFact, Truth


def decide_graph(truth: Truth, found: GraphInventory) -> list[Finding]:
    """Facts about deleted documents, about what nobody knows, and facts that are lacking."""
    releases = {release.release_id for release in truth.releases}
    held = {fact.fact_id for fact in found.held}
    known = {*truth.documents, *truth.deleted}
    deleted = [sha256 for fact in found.held for sha256 in fact.documents & truth.deleted]
    stray = [fact.fact_id for fact in found.held if fact.documents - known]
    nameless = [fact.fact_id for fact in found.held if fact.releases - releases]
    lacking = [
        fact.fact_id for fact in found.expected if fact.fact_id not in held and fact_holds_still(truth, fact)
    ]  # fmt: skip
    findings: list[Finding] = []

    def find(kind: Kind, what: str, cause: Cause, items: Collection[str], repair: Repair | None = None) -> None:
        if items:
            findings.append(Finding(truth.user_id, "graph", kind, what, cause, tuple(sorted(set(items))), "", repair))

    find("surplus", "facts about deleted documents", "deletion", deleted, "go_on_deleting")
    find("surplus", "facts about documents that nobody knows", "unexplained", stray)
    find("surplus", "facts about releases that nobody knows", "unexplained", nameless)
    find("lacking", "facts", "lost", lacking, "rewrite_facts")
    return findings


def fact_holds_still(truth: Truth, fact: HeldFact) -> bool:
    """Whether all that it is about is there and read."""
    documents = [truth.documents.get(sha256) for sha256 in fact.documents]
    return all(document is not None and document.status == "read" for document in documents) and (
        not fact.releases or fact.releases <= {release.release_id for release in truth.releases}
    )
