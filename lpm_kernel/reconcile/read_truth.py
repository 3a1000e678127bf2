"""What PostgreSQL says of one user: the side of every comparison that is right.

Belongs here: reading it in one transaction, and changes that have yet to reach their store.
Does not belong here: what other stores hold (`read_blobs.py`, `read_memory.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from lpm_kernel.reconcile.findings import Finding
from lpm_kernel.reconcile.inventory import NamedRelease, Truth
from lpm_kernel.stores.changes import Change, list_undone
from lpm_kernel.stores.dead_letters import list_dead_letters
from lpm_kernel.stores.documents import deleted_documents, list_documents
from lpm_kernel.stores.reconciliation import list_manifests, own_sessions
from lpm_kernel.stores.tables import Tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

LATE = timedelta(hours=1)
"""Undone for longer, a change is no longer on its way."""


def read_truth(tables: Tables, user_id: str) -> Truth:
    """Raises: StoreError when the tables do not answer."""
    with tables.transaction(user_id) as connection:
        return truth_within(connection, user_id)


def truth_within(connection: Connection, user_id: str) -> Truth:
    """As it stands in this transaction of the user's."""
    return Truth(
        user_id,
        {document.sha256: document for document in list_documents(connection, user_id)},
        deleted_documents(connection, user_id),
        tuple(_named(*row) for row in list_manifests(connection, user_id)),
        own_sessions(connection, user_id),
    )


def read_undone(tables: Tables, user_id: str) -> list[Change]:
    """Without those that a person has taken off the list of dead letters: they know that it stays undone."""
    with tables.transaction(user_id) as connection:
        gone = {each.change_id for each in list_dead_letters(connection, user_id, resolved=True) if each.discarded_by}
        return [each for each in list_undone(connection, user_id) if each.given_up_at is None or each.change_id not in gone]


def decide_outbox(user_id: str, undone: Sequence[Change], now: datetime) -> list[Finding]:
    """Changes that were given up, and that have waited for too long."""
    late = sorted(c.change_id for c in undone if c.given_up_at is None and now - c.created_at > LATE)
    gone = sorted(c.change_id for c in undone if c.given_up_at is not None)
    findings: list[Finding] = []
    if late:
        about = Finding(user_id, "outbox", "waiting", "changes for more than an hour", "pending change", tuple(late))
        findings.append(replace(about, outcome="waits", by="the worker of changes"))
    if gone:
        about = Finding(user_id, "outbox", "waiting", "changes that were given up", "pending change", tuple(gone))
        findings.append(replace(about, by="`twin dead-letters` lists them, and tries them again"))
    return findings


def explain_by_changes(findings: Sequence[Finding], undone: Sequence[Change], now: datetime) -> list[Finding]:
    """What a change that is on its way to this very store will mend is left to it: two writers would undo each other's work."""
    on_their_way = {c.target for c in undone if c.given_up_at is None and now - c.created_at <= LATE}

    def explained(finding: Finding) -> Finding:
        if finding.store not in on_their_way or finding.explained_by not in ("lost", "deletion", "unexplained"):
            return finding
        return replace(
            finding, explained_by="pending change", repair=None, outcome="waits", by="a change that is on its way there"
        )

    return [explained(finding) for finding in findings]


def _named(release_id: str, status: str, stale: bool, created_at: datetime, manifest: dict[str, Any]) -> NamedRelease:
    def said(field: str) -> str:
        return str(manifest.get(field) or "")

    return NamedRelease(
        release_id,
        cast(Any, status),
        stale,
        gguf_key=said("gguf_key"),
        gguf_sha256=said("gguf_sha256"),
        adapter_sha256=said("adapter_sha256"),
        communities_key=manifest.get("communities_key"),
        communities_sha256=manifest.get("communities_sha256"),
        memory_generation=said("memory_generation"),
        fingerprint=said("embedding_fingerprint"),
        documents=None if manifest.get("documents") is None else frozenset(map(str, manifest["documents"])),
        created_at=created_at,
    )
