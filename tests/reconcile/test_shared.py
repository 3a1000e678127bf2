"""What members share, on a ledger of its own: the graph held against it, broken on purpose and repaired from it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lpm_kernel.dao.projection import project_due
from lpm_kernel.dao.records import Scope
from lpm_kernel.dao.service import Dao
from lpm_kernel.reconcile.run import reconcile_shared
from lpm_kernel.records import Fact, GraphEntity
from lpm_kernel.stores.graph import SHARED
from lpm_kernel.stores.users import remove_user
from tests.dao.ledgers import NOON, Clock, Ledger, own_ledger
from tests.embedded.fixtures import EngineHome
from tests.fake_graph import MemoryGraph, WideFakeEmbedder
from tests.fakes import MemoryBlobs
from tests.reconcile.whole_twin import told


@pytest.fixture(scope="module")
def ledgers(engine_home: EngineHome) -> Iterator[Ledger]:
    with own_ledger(engine_home) as made:
        yield made


@pytest.fixture
def ledger(ledgers: Ledger) -> Ledger:
    ledgers.empty()
    return ledgers


class Town:
    """Three members, a vote that passed, a delegation; the graph has heard of all of it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.clock, self.graph, self.blobs = ledger, Clock(), MemoryGraph(WideFakeEmbedder()), MemoryBlobs()
        ledger.join("ada", "ben", "cleo")
        self.dao: Dao = ledger.dao(self.clock, close="deadline")
        self.name = self.dao.propose("ada", "Benches", "The park needs its benches back.", topic="parks").proposal_id
        for voter in ("ada", "ben", "cleo"):
            self.clock.moves(minutes=1)
            self.dao.vote(voter, self.name, "for")
        self.dao.delegate("ada", "ben", Scope("topic", "parks"))
        self.clock.moves(hours=80)
        self.dao.advance(self.name)
        project_due(self.dao, self.graph)

    def findings(self) -> list[tuple[str, str, str, str]]:
        stores: Any = SimpleNamespace(tables=self.ledger.tables, graph=self.graph, blobs=self.blobs)
        return [told(finding) for finding in reconcile_shared(stores, self.dao).findings]


@pytest.fixture
def town(ledger: Ledger) -> Town:
    return Town(ledger)


def test_where_the_graph_has_heard_of_everything_nothing_is_found(town: Town) -> None:
    assert town.findings() == []


def test_a_graph_that_is_behind_hears_of_the_rest(town: Town) -> None:
    town.dao.propose("ben", "Lamps", "More light.")
    assert town.findings() == [("dao", "behind", "events of which the graph has not heard", "repaired")]
    assert town.findings() == []


def test_facts_that_were_lost_are_told_again_with_their_ends(town: Town) -> None:
    before = town.graph.list_facts(SHARED)
    town.graph.forget_facts(SHARED, before[1:4])
    assert town.findings() == [("dao", "lacking", "facts of the ledger", "repaired")]
    assert town.graph.list_facts(SHARED) == before
    assert town.findings() == []


def test_a_fact_that_no_event_tells_is_reported_and_stays(town: Town) -> None:
    strange = Fact(SHARED, GraphEntity("DigitalTwin", "ada"), "VOTED", GraphEntity("Vote", "x/ada"), "x", NOON, NOON)
    town.graph.write_facts(SHARED, [strange])
    assert town.findings() == [("dao", "surplus", "facts that no event tells", "reported")]
    assert strange in town.graph.list_facts(SHARED)


def test_what_names_somebody_who_left_goes(town: Town) -> None:
    with town.ledger.tables.transaction("cleo") as connection:
        remove_user(connection, "cleo")
    assert town.findings() == [("dao", "surplus", "facts about somebody who left", "repaired")]
    assert not [fact for fact in town.graph.list_facts(SHARED) if "cleo" in fact.text.split()]
    assert town.findings() == []


def test_a_ledger_that_was_changed_is_reported_and_left_as_it_is(town: Town) -> None:
    town.ledger.tampers("update dao_event set payload = '{}' where kind = 'proposal_implemented' or seq = 1")
    assert ("dao", "damaged", "ledger", "reported") in town.findings()


def test_a_resolution_that_is_gone_is_reported(town: Town) -> None:
    town.ledger.tampers("delete from dao_resolution")
    assert ("dao", "damaged", "proposals that ended without one resolution", "reported") in town.findings()


def test_objects_of_somebody_whom_nobody_knows_are_reported_and_stay(town: Town) -> None:
    for key in ("tenant/ada/raw/x", "tenant/stranger/raw/x", "tenant/stranger/text/x.txt", "tenant/asker/staging/x"):
        town.blobs.put(key, b"?")
    assert town.findings() == [("blobs", "surplus", "objects of users whom nobody knows", "reported")]
    assert town.blobs.exists("tenant/stranger/raw/x")


def test_a_first_upload_that_broke_off_is_named_and_fails_no_run(town: Town) -> None:
    """Its bytes come before the row of its user, so that every hourly run failed from then on."""
    town.blobs.put("tenant/stranger/raw/x", b"?")
    assert town.findings() == [("blobs", "surplus", "first uploads of users whom nobody knows", "kept")]
    assert town.blobs.exists("tenant/stranger/raw/x")
