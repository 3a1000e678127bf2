"""Votes that are over, as rows that only grow: those that were made into rows before are taken as they are.

Belongs here: which votes are new, and reading these alone.
Does not belong here: the row (`report.py`), and where rows are kept (`twin_assets`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpm_kernel.artefacts import decode_records
from lpm_kernel.dao.report import ResolvedVote, resolved_vote
from lpm_kernel.errors import StoreError
from lpm_kernel.layout import shared_asset_key
from lpm_kernel.stores.dao_ledger import resolutions_beside

if TYPE_CHECKING:
    from lpm_kernel.dao.service import Dao
    from lpm_kernel.stores.blobs import Blobs


def read_resolved(blobs: Blobs) -> list[ResolvedVote]:
    """The rows of the run before; none at the first, or where their form has changed since.

    Raises: StoreError when the store fails: that is no reason to begin anew.
    """
    try:
        return decode_records(blobs.get(shared_asset_key("dao_resolutions", "jsonl")), ResolvedVote)
    except StoreError as error:
        if error.code in ("blob_not_found", "artefact_unreadable"):
            return []
        raise


def resolved_votes(dao: Dao, known: Sequence[ResolvedVote] = ()) -> list[ResolvedVote]:
    """Every vote that is over, in the order in which they ended. Of the ledger are read those that are not among the known;
    what is known and is not there, or ended at another moment, is of another ledger, and left out.

    Raises: StoreError.
    """
    with dao.tables.operator_transaction() as connection:
        same, others = resolutions_beside(connection, {vote.proposal_id: vote.resolved_at for vote in known})
    rows = [vote for vote in known if vote.proposal_id in same]
    wanted = {resolution.proposal_id: resolution for resolution in others}
    if wanted:
        for batch in dao.batches(wanted.keys()):
            rows += [resolved_vote(proposal, wanted[proposal.proposal_id]) for proposal in batch]
    return sorted(rows, key=lambda vote: (vote.resolved_at, vote.proposal_id))
