"""One turn of the DAO's clock: every vote that is due moves on, and the graph hears of what happened.

Belongs here: going through votes so that one that fails keeps no other from its end.
Does not belong here: what a vote does next (`steps.py`), and when this runs (`twin_assets/dao_sensor.py`, the API).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpm_kernel.dao.events import ProposalResolved, kind_of
from lpm_kernel.dao.notice_hook import tell_due
from lpm_kernel.dao.projection import project_due
from lpm_kernel.dao.records import Resolution
from lpm_kernel.errors import TwinError

if TYPE_CHECKING:
    from lpm_kernel.dao.service import Dao
    from lpm_kernel.settings import RetrySettings
    from lpm_kernel.stores.graph import Graph
    from lpm_kernel.stores.webhook import Webhook

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    looked_at: int
    """Votes that were due."""
    happened: tuple[str, ...]
    """The kinds of events, in order."""
    resolved: tuple[Resolution, ...]
    failed: dict[str, str]
    """Which proposal could not move on, and the code of the error."""
    projected: int
    """Events that the graph has heard of now."""
    not_projected: str | None
    """Why the graph has not heard of the rest; it will at the next turn."""
    noticed: int = 0
    """Messages of what waits for somebody that were told now."""
    not_noticed: str | None = None


def turn_clock(
    dao: Dao,
    graph: Graph | None,
    proposal_ids: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
    hook: tuple[Webhook, RetrySettings] | None = None,
) -> Turn:
    """Advance these votes first, and then all that are due. Idempotent; several at once come to one resolution a vote.

    Why an error of one vote is kept and not raised: those behind it would miss their end. Why one of the graph is: the ledger
    is the truth, and the graph follows when it is back.
    Raises: StoreError where the ledger itself does not answer.
    """
    happened: list[str] = []
    resolved: list[Resolution] = []
    failed: dict[str, str] = {}
    wanted = list(dict.fromkeys([*proposal_ids, *dao.due()]))
    for proposal_id in wanted:
        try:
            events = dao.advance(proposal_id)
        except TwinError as error:
            failed[proposal_id] = error.code
            say(f"proposal {proposal_id}: not advanced, {error}")
            continue
        except Exception as error:
            _LOG.error("proposal %s could not be advanced", proposal_id, exc_info=error)
            failed[proposal_id] = "internal"
            say(f"proposal {proposal_id}: not advanced, the log says why")
            continue
        for event in events:
            happened.append(kind_of(event.happening))
            if isinstance(event.happening, ProposalResolved):
                resolved.append(event.happening.resolution)
        say(f"proposal {proposal_id}: {', '.join(kind_of(event.happening) for event in events) or 'nothing to do any longer'}")
    projected, not_projected = 0, None
    if graph is not None:
        try:
            projected = project_due(dao, graph)
        except TwinError as error:
            not_projected = error.code
            say(f"the graph has not heard of it: {error}")
    noticed, not_noticed = 0, None
    if hook is not None:
        try:
            noticed = tell_due(dao, *hook)
        except TwinError as error:
            not_noticed = error.code
            say(f"who waits for news of votes has not heard: {error}")
    return Turn(len(wanted), tuple(happened), tuple(resolved), failed, projected, not_projected, noticed, not_noticed)
