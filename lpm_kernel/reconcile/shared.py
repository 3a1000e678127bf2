"""What all members have in common: the ledger of votes, and the graph that is told of it.

Belongs here: reading both, and repairing the graph from the ledger.
Does not belong here: what is wrong (`decide_dao.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.projection import TARGET, project_due
from lpm_kernel.dao.service import Dao
from lpm_kernel.dao.shared_facts import SharedFact, facts_of
from lpm_kernel.reconcile.findings import Finding
from lpm_kernel.reconcile.inventory import DaoInventory
from lpm_kernel.stores.dao_ledger import events_after, every_resolution, list_proposals
from lpm_kernel.stores.dao_members import list_members
from lpm_kernel.stores.dao_projections import list_cursors
from lpm_kernel.stores.graph import SHARED, Graph
from lpm_kernel.stores.graphiti_clients import fact_id

BATCH = 1000
ENDED = ("passed", "failed", "implemented")


def read_dao(dao: Dao, graph: Graph) -> DaoInventory:
    """Reads the whole ledger, twice: once to count it again, once for what the graph should hold. Raises: StoreError."""
    report = audit(dao)
    with dao.tables.operator_transaction() as connection:
        told_seq = next((cursor.last_seq for cursor in list_cursors(connection) if cursor.target == TARGET), 0)
        times = Counter(resolution.proposal_id for _, resolution in every_resolution(connection))
        ended = [row.proposal_id for row in list_proposals(connection, ENDED)]
        members = frozenset(list_members(connection))
    resolutions = {proposal_id: times[proposal_id] for proposal_id in {*ended, *times}}
    if report.broken:  # what a ledger that is not whole tells is nothing to hold a graph against
        return DaoInventory(report.broken, report.last_seq, report.last_seq, resolutions, {}, frozenset(), members)
    held = frozenset(map(fact_id, graph.list_facts(SHARED)))
    told = {fact_id(each.fact): each.persons for each in told_facts(dao, told_seq)}
    return DaoInventory(
        report.broken,
        report.last_seq,
        told_seq,
        resolutions,
        told,
        held,
        members,
    )


def told_facts(dao: Dao, until_seq: int) -> list[SharedFact]:
    """Of every event up to this one, whoever has left since among its persons."""
    facts: list[SharedFact] = []
    with dao.session() as session:
        seq = 0
        while seq < until_seq and (events := events_after(session.connection, seq, BATCH)):
            for event in events:
                if event.seq <= until_seq:
                    facts += facts_of(event, session.find, session.delegations)
            seq = events[-1].seq
    return facts


def repair_shared(dao: Dao, graph: Graph, finding: Finding) -> None:
    """Raises: StoreError; `projection_waits` where the graph failed a moment ago."""
    if finding.repair == "project":
        project_due(dao, graph)
        return
    with dao.tables.operator_transaction() as connection:
        until_seq = next((cursor.last_seq for cursor in list_cursors(connection) if cursor.target == TARGET), 0)
    wanted = [each.fact for each in told_facts(dao, until_seq) if fact_id(each.fact) in finding.items]
    write: Callable[..., object] = graph.write_facts if finding.repair == "rewrite_shared_facts" else graph.forget_facts
    if wanted:
        write(SHARED, list(dict.fromkeys(wanted)))


def strangers(tenants: Collection[str], known: Collection[str]) -> list[str]:
    """Whose objects lie in the store while no table knows them."""
    return sorted(set(tenants) - set(known))
