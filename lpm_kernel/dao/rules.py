"""By which rules a proposal is voted on. They are fixed when it is proposed and lie in the ledger: settings that change later
change no vote that is under way and none that is over.

Belongs here: the rules, their version, and members' weights.
Does not belong here: applying them (`tally.py`, `steps.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from lpm_kernel.dao.event_codec import ABSENT, as_json
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import DaoSettings

UNNUMBERED = 1
"""Of proposals that are older than these numbers: by whichever code there was."""
COUNTING = 2
"""Of this code's way to read the rules: which steps it takes when, and what it counts. Raised with each change by which some
vote would have gone otherwise, so that a ledger of before is not taken for a broken one; a test tells when that is."""


@dataclass(frozen=True)
class Rules:
    """Whole per cents and hours; comparisons are by cross-multiplication of integers, inclusive."""

    quorum_percent: int = 60
    """Of the electorate's weight, cast or represented."""
    abstain_counts_to_quorum: bool = True
    threshold_percent: int = 66
    """Of for + against, that is for."""
    discussion_hours: int = 0
    """Between opening and the beginning of the vote."""
    voting_hours: int = 72
    close: Literal["decided", "deadline"] = "decided"
    """`decided`: as soon as no ballot can change the outcome, so what a human has cast is final, and what a twin has once its
    person had their `veto_hours`; `deadline`: never before it, and a ballot may be replaced until then."""
    late_quorum_hours: int = 12
    """A quorum first reached in the last so many hours extends the vote once, by `extension_hours`; 0: never."""
    extension_hours: int = 12
    remind_at_percent: tuple[int, ...] = (50, 80)
    """Of the time: those who have not voted are reminded."""
    standing_at_percent: int = 80
    """Of the time: without a quorum, standing delegations of who has not voted count from now on; 100: never."""
    extend_stalled: bool = True
    """Without a quorum at the deadline, the vote is extended, once; no vote is ever extended twice."""
    transitive_delegation: bool = True
    """Whether a delegate may hand on what was handed to them; a circle in which nobody votes counts as not voted."""
    max_delegated: int = 0
    """Members that one delegate may carry beside themselves; 0: any number. Of more, those who delegated first are carried."""
    veto_hours: int = 12
    """For which a person may take back what their twin cast; until then it does not count."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """What one of an attribute adds to a member's weight of 1; empty: one member, one vote."""
    counting: int = field(default=COUNTING, metadata={ABSENT: UNNUMBERED})
    """By which code's reading of all these; no setting."""

    @cached_property
    def version(self) -> str:
        return sha256_hex(json.dumps(as_json(self), sort_keys=True).encode())[:12]

    @property
    def replaceable(self) -> bool:
        """Whether a human may change their ballot. A human's word replaces their twin's whatever this says."""
        return self.close == "deadline"


def rules_of(dao: DaoSettings) -> Rules:
    """What a proposal made now is voted on by."""
    return Rules(
        quorum_percent=dao.quorum_percent,
        abstain_counts_to_quorum=dao.abstain_counts_to_quorum,
        threshold_percent=dao.threshold_percent,
        discussion_hours=dao.discussion_hours,
        voting_hours=dao.voting_hours,
        close=dao.close,
        late_quorum_hours=dao.late_quorum_hours,
        extension_hours=dao.extension_hours,
        remind_at_percent=dao.remind_at_percent,
        standing_at_percent=dao.standing_at_percent,
        extend_stalled=dao.extend_stalled,
        transitive_delegation=dao.transitive_delegation,
        max_delegated=dao.max_delegated,
        veto_hours=dao.veto_hours,
        weights=dict(dao.weights),
    )


def weight_of(attributes: Mapping[str, int], rules: Rules) -> int:
    """Of a member: 1, and for each attribute what one of it adds, times how much of it they have. Never under 0."""
    return max(0, 1 + sum(each * attributes.get(name, 0) for name, each in rules.weights.items()))
