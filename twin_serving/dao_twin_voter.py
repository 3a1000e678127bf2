"""Twins that vote by themselves, in the process that has the engine.

Belongs here: how many at a time, and resting while there is no model.
Does not belong here: whose turn it is (`lpm_kernel/dao/twin_turns.py`) and the thread (`dao_worker.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lpm_kernel.dao.twin_turns import LookedThrough, TwinTurns, let_twins_vote
from lpm_kernel.errors import LlmError

if TYPE_CHECKING:
    from lpm_kernel.dao.service import Cast, Dao
    from lpm_kernel.stores.llm import Llm
    from lpm_kernel.stores.open import Stores

_LOG = logging.getLogger(__name__)
REST_S = 60.0
"""Without a model: opening one reads a gigabyte."""


class TwinVoter:
    def __init__(
        self,
        stores: Stores,
        dao: Dao,
        llm: Callable[[], Llm],
        count: Callable[[Cast], None],
        is_ending: Callable[[], bool],
    ) -> None:
        self._stores, self._dao, self._llm, self._count, self._is_ending = stores, dao, llm, count, is_ending
        self._rests_until = 0.0
        self._looked = LookedThrough()

    @property
    def duty(self) -> Callable[[], object] | None:
        """None where the settings let no twin vote by itself."""
        return self.look if self._stores.settings.dao.twins_per_look else None

    def look(self) -> TwinTurns:
        """Let a few twins vote whose turn it is. Raises: StoreError where the ledger does not answer."""
        if time.monotonic() < self._rests_until:
            return TwinTurns()
        most = self._stores.settings.dao.twins_per_look
        try:
            found = let_twins_vote(self._dao, self._stores, self._llm, most=most, ends=self._is_ending, looked=self._looked)
        except LlmError as error:
            _LOG.warning("no twin votes by itself for %.0f s: %s", REST_S, error)
            self._rests_until = time.monotonic() + REST_S
            return TwinTurns()
        for ballot in found.taken.values():
            if ballot.cast is not None:
                self._count(ballot.cast)
        return found
