"""Somebody who is deleted leaves the DAO.

Belongs here: what of them ends, and what of them goes.
Does not belong here: their rows, which go with them (`erase.py`; the words of their reasons are among these).

What stays is the ledger, which nobody can change: in it they are an id, with their ballots, their delegations and the proposals
that they made, whose titles and texts are the community's. A vote under way keeps the weight it began with. Delegations from
them and to them end by an event, and they are no member any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpm_kernel.dao.delegation import holds
from lpm_kernel.dao.events import DelegationRevoked
from lpm_kernel.dao.projection import forget_member
from lpm_kernel.stores.dao_ledger import Entry
from lpm_kernel.stores.dao_words import erase_words

if TYPE_CHECKING:
    from lpm_kernel.dao.service import Dao
    from lpm_kernel.stores.graph import Graph


def leave_dao(dao: Dao, graph: Graph, user_id: str) -> int:
    """Once their deletion is on record. How many facts went from the graph that all members share. Idempotent.

    Raises: StoreError of the tables or the graph; what is not done then, the next call does.
    """
    with dao.session(user_id) as session:
        session.lock()
        at = session.moment()
        given = [each for each in session.delegations.values() if user_id in (each.delegator, each.delegate)]
        ending = [each for each in given if holds(each, max(at, each.given_at))]
        session.append([Entry(at, user_id, DelegationRevoked(each.delegation_id, each.delegator)) for each in ending])
        for each in ending:
            session.look_again(each.scope, at)
    with dao.tables.transaction(user_id) as connection:
        erase_words(connection, user_id)
    return forget_member(dao, graph, user_id)
