"""One run of reconciliation: everybody in turn, each store looked at, what can be explained repaired, and looked at again.

Belongs here: the order of looks and repairs, and that one user or store that fails keeps no other from being looked at.
Does not belong here: the looks (`read_*.py`), the decisions (`decide_*.py`) and the repairs (`repair.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

from lpm_kernel.dao.service import Dao, open_dao
from lpm_kernel.errors import TwinError
from lpm_kernel.layout import import_mark_key
from lpm_kernel.reconcile.decide_blobs import decide_blobs
from lpm_kernel.reconcile.decide_dao import decide_dao
from lpm_kernel.reconcile.decide_graph import decide_graph
from lpm_kernel.reconcile.decide_memories import decide_memories
from lpm_kernel.reconcile.decide_vectors import decide_vectors
from lpm_kernel.reconcile.findings import SHARED, Finding, Report, Store, UserReport, seen_twice, what_is_left
from lpm_kernel.reconcile.inventory import Truth
from lpm_kernel.reconcile.read_blobs import keep_note, read_blobs
from lpm_kernel.reconcile.read_memory import read_graph, read_memories, read_vectors
from lpm_kernel.reconcile.read_truth import decide_outbox, explain_by_changes, read_truth, read_undone
from lpm_kernel.reconcile.repair import Workplace, repair
from lpm_kernel.reconcile.shared import read_dao, repair_shared, strangers
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.deletions import find_deletion, list_deletions
from lpm_kernel.stores.locks import LEASE_S
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import list_user_ids

_LOG = logging.getLogger(__name__)
Busy = Callable[[str], str | None]
"""Why a user is not to be looked at now, such as a run of theirs that is under way."""


@dataclass(frozen=True, slots=True)
class _Look:
    findings: list[Finding]
    counts: dict[str, int]
    suspects: frozenset[str]
    truth: Truth


def reconcile_all(
    stores: Stores,
    adapters: Path,
    busy: Busy = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    purged_on: date | None = None,
) -> Report:
    """Everybody, one after another, and then what they share. `adapters`: the folder of local copies of adapters.
    `purged_on`: the day of the last nightly purge, by which memories past their days are known; no clock says it here, since
    one that jumped would have them all removed for good.

    Raises: StoreError when it is not known who there is: the tables do not answer.
    """
    started_at, began = clock(), time.monotonic()
    with stores.tables.operator_transaction() as connection:
        user_ids = list_user_ids(connection)
    reports: list[UserReport] = []
    for done, user_id in enumerate(user_ids, start=1):
        reports.append(reconcile_user(stores, user_id, adapters, busy, clock, purged_on))
        say(f"{done} of {len(user_ids)}: {describe(reports[-1])}")
    reports.append(reconcile_shared(stores, open_dao(stores), clock))
    say(describe(reports[-1]))
    return Report(started_at, round(time.monotonic() - began, 2), tuple(reports))


def describe(report: UserReport) -> str:
    if report.skipped:
        return f"user {report.user_id} skipped: {report.skipped}"
    repaired = sum(finding.outcome == "repaired" for finding in report.findings)
    return f"user {report.user_id}: {len(report.findings)} findings, {repaired} repaired, {report.seconds:.1f} s"


def reconcile_user(
    stores: Stores,
    user_id: str,
    adapters: Path,
    busy: Busy = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    purged_on: date | None = None,
) -> UserReport:
    """One user. Nothing is raised, whatever fails: it is a finding, and the other stores and users are looked at.

    What the first look finds is looked at again, and mended, under a lease on the user: nobody imports, promotes or deletes the
    person between look and repair. Whoever deletes a document has no lease, so each repair asks anew whether it is there.
    """
    began = time.monotonic()

    def report(findings: Sequence[Finding], counts: dict[str, int], skipped: str | None = None) -> UserReport:
        return UserReport(user_id, tuple(findings), counts, skipped, round(time.monotonic() - began, 2))

    try:
        if why := busy(user_id) or _on_the_move(stores, user_id):
            return report((), {}, why)
        first = _look(stores, user_id, adapters, clock(), None, purged_on)
        if not first.findings:
            return report((), first.counts)
        # a document that is read again says nothing for longest
        lease_s = LEASE_S + stores.settings.limits.pdf_seconds
        with stores.locks.hold(user_id, lease_s=lease_s, wait_s=0) as lease:
            # what a listing shows once may be on its way between two stores
            second = _look(stores, user_id, adapters, clock(), first.suspects, purged_on, lease.keep)
            findings = seen_twice(first.findings, second.findings)
            if not any(finding.repair for finding in findings):
                return report(findings, second.counts)
            if why := busy(user_id) or _on_the_move(stores, user_id):
                return report((), second.counts, why)
            place = Workplace(stores, lease, second.truth, adapters, purged_on)

            def mend(finding: Finding) -> None:
                lease.keep()
                repair(place, finding)

            tried = [_try(finding, mend) for finding in findings]
        third = _look(stores, user_id, adapters, clock(), second.suspects, purged_on)
        return report([_proved(finding, third.findings) for finding in tried], third.counts)
    except Exception as error:
        code = error.code if isinstance(error, TwinError) else None
        if code == "lease_held" or code == "lease_lost":
            return report((), {}, "somebody else changes every store of the user")
        return report([_away(user_id, "outbox", error)], {})


def _on_the_move(stores: Stores, user_id: str) -> str | None:
    """A person who is being deleted or taken in is between two states, and whoever does that goes on with it."""
    with stores.tables.transaction(user_id) as connection:
        going = find_deletion(connection, user_id)
    if going is not None and going.done_at is None:
        return "the user is being deleted"
    if TenantBlobs(stores.blobs, user_id).exists(import_mark_key(user_id)):
        return "an archive is being taken in"
    return None


def _nothing() -> None:
    pass


def _look(
    stores: Stores,
    user_id: str,
    adapters: Path,
    now: datetime,
    suspects: frozenset[str] | None,
    purged_on: date | None,
    between: Callable[[], None] = _nothing,
) -> _Look:
    """`between`: is called before each store."""
    truth, undone = read_truth(stores.tables, user_id), read_undone(stores.tables, user_id)
    counts: dict[str, int] = {"documents": len(truth.documents), "releases": len(truth.releases)}
    damaged: frozenset[str] = frozenset()

    def blobs() -> list[Finding]:
        nonlocal damaged
        found = read_blobs(stores.blobs, truth, adapters, now, suspects)
        counts["objects"], damaged = len(found.objects), found.damaged
        if found.note is not None:
            keep_note(stores.tables, stores.blobs, user_id, found.note)
        return decide_blobs(truth, found, now)

    def vectors() -> list[Finding]:
        found = read_vectors(stores, truth)
        counts["vectors"] = len(found.entries)
        return decide_vectors(truth, found)

    def memories() -> list[Finding]:
        found = read_memories(stores, truth, now.date())
        counts["memories"] = len(found.held)
        return decide_memories(truth, found, purged_on)

    def graph() -> list[Finding]:
        found = read_graph(stores, truth)
        counts["facts"] = len(found.held)
        return decide_graph(truth, found)

    steps: dict[Store, Callable[[], list[Finding]]] = {
        "blobs": blobs,
        "vectors": vectors,
        "memories": memories,
        "graph": graph,
    }
    findings: list[Finding] = []
    for store, step in steps.items():
        between()
        try:
            findings += step()
        except Exception as error:
            findings.append(_away(user_id, store, error))
    counts["changes"] = len(undone)
    explained = explain_by_changes(findings, undone, now)
    return _Look([*explained, *decide_outbox(user_id, undone, now)], counts, damaged, truth)


def _away(user_id: str, store: Store, error: Exception) -> Finding:
    found = Finding(user_id, store, "away", "store", "store away")
    if isinstance(error, TwinError):
        return replace(found, outcome="waits", by=f"the next run ({error.code})")
    return replace(found, by=_unforeseen(user_id, store, error))


def _unforeseen(user_id: str, store: str, error: Exception) -> str:
    """Its words may be those of a document: the report names its type alone."""
    _LOG.error("%s of user %s could not be compared", store, user_id, exc_info=error)
    return f"it failed with {type(error).__name__}; the log says where"


def _try(finding: Finding, mend: Callable[[Finding], None]) -> Finding:
    if finding.repair is None:
        return finding
    try:
        mend(finding)
    except TwinError as error:
        if error.retryable:
            return replace(finding, outcome="waits", by=f"the next run ({error.code})")
        return replace(finding, outcome="reported", by=f"{error.code}: {error.message}")
    except Exception as error:
        return replace(finding, outcome="reported", by=_unforeseen(finding.user_id, finding.store, error))
    return replace(finding, outcome="repaired")


def _proved(finding: Finding, third: Sequence[Finding]) -> Finding:
    """A repair is called one only when what it mended is not found again."""
    if finding.outcome != "repaired":
        return finding
    left = what_is_left(finding, third)
    if left is None:
        return finding
    return replace(finding, outcome="reported", items=left or finding.items, by="it is found again after its repair")


def reconcile_shared(stores: Stores, dao: Dao, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> UserReport:
    """The ledger and its graph, and objects of users whom nobody knows."""
    began, counts = time.monotonic(), dict[str, int]()

    def look() -> list[Finding]:
        found = read_dao(dao, stores.graph)
        counts.update(events=found.last_seq, resolutions=sum(found.resolutions.values()), facts=len(found.held))
        return decide_dao(found)

    findings: list[Finding] = []
    try:
        if first := look():
            findings = seen_twice(first, look())
        if any(finding.repair for finding in findings):
            tried = [_try(finding, lambda finding: repair_shared(dao, stores.graph, finding)) for finding in findings]
            third = look()
            findings = [_proved(finding, third) for finding in tried]
    except Exception as error:
        findings.append(_away(SHARED, "dao", error))
    try:
        first = _of_strangers(stores)
        findings += seen_twice(first, _of_strangers(stores)) if first else []
    except Exception as error:
        findings.append(_away(SHARED, "blobs", error))
    return UserReport(SHARED, tuple(findings), counts, None, round(time.monotonic() - began, 2))


def _of_strangers(stores: Stores) -> list[Finding]:
    # keys before rows: who came meanwhile is known by their row, and bytes come before it
    folders: dict[str, set[str]] = {}
    for parts in (key.split("/") for key in stores.blobs.list_keys("tenant/")):
        if len(parts) > 2 and parts[2] != "staging":
            folders.setdefault(parts[1], set()).add(parts[2])
    with stores.tables.operator_transaction() as connection:
        known, going = list_user_ids(connection), {each.user_id for each in list_deletions(connection)}
    findings: list[Finding] = []
    found = strangers(folders, known)
    if leaving := [user_id for user_id in found if user_id in going]:
        about = Finding(SHARED, "blobs", "surplus", "objects of users who were deleted", "deletion", tuple(leaving))
        findings.append(replace(about, outcome="waits", by="`deletions_sensor`"))
    if begun := [user_id for user_id in found if user_id not in going and folders[user_id] == {"raw"}]:
        # a first upload puts its bytes before it makes its user known, and nobody is told before that
        about = Finding(
            SHARED, "blobs", "surplus", "first uploads of users whom nobody knows", "broken-off write", tuple(begun)
        )
        findings.append(replace(about, outcome="kept", by="an upload that broke off; the same file sent again takes it up"))
    if rest := [user_id for user_id in found if user_id not in going and folders[user_id] != {"raw"}]:
        findings.append(Finding(SHARED, "blobs", "surplus", "objects of users whom nobody knows", "unexplained", tuple(rest)))
    return findings
