"""How far the stores are behind: counted of everybody, one line a target, and of the ledger too."""

from __future__ import annotations

from datetime import timedelta

from lpm_kernel.stores.changes import claim_change, give_up_change, put_change
from lpm_kernel.stores.open import Stores
from lpm_kernel.sync.lag import Backlog, list_backlogs
from tests.samples import NOON

LONG_AGO = NOON - timedelta(days=4000)


def test_it_tells_of_each_target_how_many_wait_how_long_and_what_was_given_up(stores: Stores, user_id: str) -> None:
    def told(target: str) -> Backlog:
        return next(item for item in list_backlogs(stores.tables, NOON) if item.target == target)

    before = told("vectors")
    with stores.tables.transaction(user_id) as connection:
        for number in (1, 2):
            put_change(connection, user_id, "vectors", "told", {"number": number}, at=LONG_AGO)
    after = told("vectors")
    assert after.undone == before.undone + 2
    assert after.oldest_s == timedelta(days=4000).total_seconds()
    with stores.tables.transaction(user_id) as connection:
        claimed = claim_change(connection, user_id, "vectors", NOON, 60)
        assert claimed is not None
        give_up_change(connection, claimed, NOON, "vectors_refused", "it said no")
    assert (told("vectors").undone, told("vectors").given_up) == (before.undone + 1, before.given_up + 1)


def test_the_ledger_of_the_dao_is_counted_too(stores: Stores) -> None:
    targets = [item.target for item in list_backlogs(stores.tables, NOON)]
    assert targets[:4] == ["vectors", "memories", "graph", "blobs"]
    assert "graph/ledger" in targets
