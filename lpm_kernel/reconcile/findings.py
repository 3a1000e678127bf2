"""What a comparison finds, and what became of it.

Belongs here: the records, and what is said of a whole run.
Does not belong here: how anything is found (`decide_*.py`) or repaired (`repair.py`).

No finding holds a word of a document, a memory or a chat: items are keys, ids and hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from lpm_kernel.errors import SyncError

Store = Literal["blobs", "vectors", "memories", "graph", "dao", "outbox"]
Kind = Literal["lacking", "damaged", "surplus", "expired", "behind", "waiting", "away"]
Cause = Literal[
    "lost", "deletion", "pending change", "refusal", "expiry", "unreleased", "broken-off write", "store away", "unexplained"
]
"""`lost`: the truth names it and it is not there, or not as it was. `unreleased`: a run left it that published nothing."""
Repair = Literal[
    "reread_text", "restore_copy", "restore_communities", "drop_copies", "go_on_deleting", "rewrite_generation",
    "rewrite_memories", "purge_memories", "count_memories", "rewrite_facts", "project", "rewrite_shared_facts",
    "forget_leavers",
]  # fmt: skip
Outcome = Literal["repaired", "waits", "kept", "reported"]
"""`waits`: somebody else will see to it, and `by` says who. `kept`: known and harmless. `reported`: for a person, and the run
fails."""

SHARED = "_shared"
"""In the place of a user: what all members have in common."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of difference in one store. `subject`: of which generation or the like; `items`: what exactly, by key or id."""

    user_id: str
    store: Store
    kind: Kind
    what: str
    explained_by: Cause
    items: tuple[str, ...] = ()
    subject: str = ""
    repair: Repair | None = None
    outcome: Outcome = "reported"
    by: str = ""
    """Who sees to it, or why it could not be repaired."""

    @property
    def how_many(self) -> int:
        return max(1, len(self.items))

    @property
    def action(self) -> str:
        if self.outcome == "waits":
            return f"will be repaired by {self.by}"
        return f"{self.outcome}: {self.by}" if self.by else self.outcome

    def _same(self) -> tuple[str, ...]:
        return self.user_id, self.store, self.kind, self.what, self.explained_by, self.subject, self.repair or ""


@dataclass(frozen=True, slots=True)
class UserReport:
    """`skipped` says why nothing was looked at. `counts`: what each store holds, by name."""

    user_id: str
    findings: tuple[Finding, ...] = ()
    counts: dict[str, int] = field(default_factory=dict[str, int])
    skipped: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """One run over everybody, what all share among them as a user named `_shared`."""

    started_at: datetime
    seconds: float
    users: tuple[UserReport, ...]

    @property
    def findings(self) -> list[Finding]:
        return [finding for user in self.users for finding in user.findings]


def seen_twice(first: Iterable[Finding], second: Iterable[Finding]) -> list[Finding]:
    """Of the second look, what the first saw as well.

    Why two looks: stores are read one after the other while people upload and chat, and what is on its way between two of them
    looks like a difference. A moment later it has arrived.
    """
    before = {finding._same(): finding for finding in first}
    confirmed: list[Finding] = []
    for finding in second:
        known = before.get(finding._same())
        if known is None:
            continue
        items = tuple(sorted(set(finding.items) & set(known.items)))
        if items or not finding.items:
            confirmed.append(replace(finding, items=items))
    return confirmed


def what_is_left(repaired: Finding, third: Iterable[Finding]) -> tuple[str, ...] | None:
    """The items that are found once more after a repair; None where it held."""
    again = next((finding for finding in third if finding._same() == repaired._same()), None)
    if again is None:
        return None
    if not repaired.items:
        return ()
    return tuple(sorted(set(again.items) & set(repaired.items))) or None


def out_of_step(findings: Sequence[Finding]) -> SyncError | None:
    """The error that a run ends with: what nobody could explain or repair; else that a store could not be looked at."""
    left = [finding for finding in findings if finding.outcome == "reported"]
    if left:
        named = sorted({f"{finding.user_id}: {finding.store} {finding.kind} {finding.what}" for finding in left})
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        return SyncError(
            "out_of_step",
            f"{len(left)} differences between the stores are not repaired ({'; '.join(named[:5])}{more}): "
            "`twin reconcile` lists them; nothing was deleted",
        )
    away = sorted({finding.store for finding in findings if finding.kind == "away"})
    if away:
        return SyncError("not_compared", f"{', '.join(away)} did not answer: the next run looks again")
    return None
