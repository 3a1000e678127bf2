"""Twins that vote by themselves where no API lets them: a run opens the model, and only where somebody's turn is.

Belongs here: which turns are a run's, and that a model which does not open keeps no vote from its end.
Does not belong here: whose turn it is (`lpm_kernel/dao/twin_turns.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from lpm_kernel.dao.twin_turns import let_twins_vote
from lpm_kernel.errors import StoreError, TwinError
from lpm_kernel.L2.engine import open_llm

if TYPE_CHECKING:
    from lpm_kernel.dao.service import Dao
    from lpm_kernel.settings import Settings
    from lpm_kernel.stores.llm import Llm
    from lpm_kernel.stores.open import Stores

LOOKS_A_RUN = 5
LEFT_TO_THE_API = timedelta(minutes=10)
"""For which a vote is the API's, which has the model open."""


def open_quietly(settings: Settings) -> Llm:
    return open_llm(settings, lambda share, words: None)


def let_left_twins_vote(
    dao: Dao, stores: Stores, say: Callable[[str], None], open_model: Callable[[Settings], Llm] = open_quietly
) -> int:
    """How many twins have voted or drafted. Raises: StoreError where the ledger does not answer."""
    settings = stores.settings.dao
    open_for = LEFT_TO_THE_API if settings.worker_poll_s > 0 else timedelta(0)
    if not settings.twins_per_look:
        return 0
    opened: list[Llm] = []

    def llm() -> Llm:
        opened.append(open_model(stores.settings))
        return opened[-1]

    try:
        found = let_twins_vote(dao, stores, llm, most=LOOKS_A_RUN * settings.twins_per_look, open_for=open_for)
    except StoreError:
        raise
    except TwinError as error:
        say(f"no twin has voted by itself: {error}")
        return 0
    finally:
        for each in opened:
            each.close()
    for (user_id, proposal_id), ballot in found.taken.items():
        say(f"the twin of {user_id}, asked by nobody, on {proposal_id}: {ballot.outcome}")
    for (user_id, proposal_id), code in found.failed.items():
        say(f"the twin of {user_id} has not voted on {proposal_id}: {code}")
    return sum(ballot.outcome in ("cast", "drafted") for ballot in found.taken.values())
