"""Changes as Dagster sees them: a run where nobody else has brought them in time, with the lag of each store as its figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import dagster as dg

from lpm_kernel.errors import StoreError
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.changes import list_undone, put_change
from lpm_kernel.stores.open import Stores
from lpm_kernel.sync.lag import Backlog
from twin_assets.changes import LATE_S, build_changes_schedule, figures_of, late_targets, work_off_changes


def tick(stores: object) -> dg.RunRequest | dg.SkipReason:
    schedule = build_changes_schedule(load_settings())
    context = dg.build_schedule_context(resources={"stores": SimpleNamespace(stores=stores)})
    return schedule(context)  # type: ignore[return-value]


def test_only_what_waits_longer_than_an_api_leaves_it_is_late() -> None:
    assert late_targets([Backlog("graph", 9, LATE_S - 1, 0), Backlog("graph/ledger", 9, 10 * LATE_S, 0)]) == []
    assert late_targets([Backlog("graph", 9, LATE_S + 1, 0), Backlog("blobs", 0, 0.0, 5)]) == ["graph"]


def test_its_figures_are_numbers_by_store() -> None:
    assert figures_of([Backlog("graph", 2, 61.54, 1), Backlog("graph/ledger", 3, 4.0, 0)]) == {
        "graph_undone": 2,
        "graph_oldest_s": 61.5,
        "graph_given_up": 1,
        "graph_ledger_undone": 3,
        "graph_ledger_oldest_s": 4.0,
    }


def test_a_late_change_asks_for_a_run_that_brings_it_and_tells_the_lag(stores: Stores, user_id: str) -> None:
    with stores.tables.transaction(user_id) as connection:
        at = datetime.now(UTC) - timedelta(hours=1)
        put_change(connection, user_id, "vectors", "delete_documents", {"sha256s": []}, at=at)
    asked = tick(stores)
    assert isinstance(asked, dg.RunRequest)
    assert "vectors" in asked.tags["twin/late"]
    with dg.build_op_context(resources={"stores": SimpleNamespace(stores=stores)}) as context:
        work_off_changes(context)
        figures = context.get_output_metadata("result")
    assert figures is not None
    assert figures["tried"] >= 1
    assert {"vectors_undone", "vectors_oldest_s", "memories_given_up", "graph_ledger_undone"} <= set(figures)
    with stores.tables.transaction(user_id) as connection:
        assert list_undone(connection, user_id) == []


def test_an_outbox_that_cannot_be_read_is_a_skip() -> None:
    class Tables:
        def operator_transaction(self) -> object:
            raise StoreError("tables_unavailable", "told to")

    skipped = tick(SimpleNamespace(tables=Tables()))
    assert isinstance(skipped, dg.SkipReason)
    assert "cannot be read" in (skipped.skip_message or "")
