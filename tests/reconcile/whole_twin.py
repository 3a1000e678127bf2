"""A twin whose every store is as a run of all stages leaves it, for tests that break one of them.

Belongs here: that twin, and looking at it.
Does not belong here: tests.
"""

from __future__ import annotations

from datetime import UTC, datetime

from lpm_kernel.artefacts import encode_records, encode_table
from lpm_kernel.L0.embed import chunk_texts, embed_chunks
from lpm_kernel.L0.library import chunk_documents, fetch_texts
from lpm_kernel.L2.promotion import Verdict
from lpm_kernel.layout import asset_key
from lpm_kernel.reconcile.findings import Finding, UserReport
from lpm_kernel.reconcile.run import reconcile_user
from lpm_kernel.stores.documents import list_documents
from tests.fakes import no_progress
from tests.forgetful_twin import PASSED, Twin

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


class WholeTwin(Twin):
    """With the artefacts that stages leave beside the stores."""

    def build(self, verdict: Verdict = PASSED, *, first_serves: bool = True) -> str:
        release_id = super().build(verdict, first_serves=first_serves)
        stores, user_id = self.stores, self.user_id
        with stores.tables.transaction(user_id) as connection:
            documents = [row for row in list_documents(connection, user_id) if row.status == "read"]
        chunks, _ = chunk_documents(documents, stores.blobs, stores.settings.chunking, [])
        table, _ = embed_chunks(chunk_texts(chunks, fetch_texts(chunks, stores.blobs)), stores.embedder, None, no_progress)
        self.own.put(asset_key(user_id, "chunks", "jsonl"), encode_records(chunks))
        self.own.put(asset_key(user_id, "embeddings", "parquet"), encode_table(table))
        self.own.put(asset_key(user_id, "memories", "jsonl"), encode_records(stores.memories.every(user_id)))
        self.own.put(asset_key(user_id, "memory_graph", "jsonl"), encode_records(stores.graph.list_facts(user_id)))
        return release_id

    def reconcile(self, now: datetime | None = None) -> UserReport:
        moment = now or datetime.now(UTC)
        return reconcile_user(self.stores, self.user_id, self.adapters, clock=lambda: moment, purged_on=moment.date())

    def findings(self, now: datetime | None = None) -> list[tuple[str, str, str, str]]:
        """Store, kind, what and what became of each."""
        return [told(finding) for finding in self.reconcile(now).findings]


def told(finding: Finding) -> tuple[str, str, str, str]:
    return finding.store, finding.kind, finding.what, finding.outcome
