"""What a plan asks of the DAO, and what it may do there: propose and assign tasks, each once, whoever asks again.

Belongs here: the port, and its class over the ledger.
Does not belong here: rules of votes (`lpm_kernel/dao`), and when something is proposed (`outcome.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lpm_kernel.dao.heard import Quote, without_quotes
from lpm_kernel.dao.orders import without_orders
from lpm_kernel.dao.planner.choose import Question
from lpm_kernel.dao.planner.records import Order
from lpm_kernel.dao.planner.weighing import Subject
from lpm_kernel.dao.records import Delegation, Task
from lpm_kernel.dao.rules import Rules, rules_of
from lpm_kernel.errors import VoteError

if TYPE_CHECKING:
    from lpm_kernel.dao.service import Dao

MAX_PROPOSED_TITLE = 200


@dataclass(frozen=True, slots=True)
class Matter:
    """What an order is about, as the ledger has it now. `weights`: of each member; of a vote under way, of its electorate."""

    title: str
    text: str
    topic: str
    proposer: str | None
    proposal_id: str | None
    passed: bool
    rules: Rules
    weights: Mapping[str, int]
    is_put: bool = False
    """Whether it is a proposal that is before all members, and no draft of somebody's."""
    cited: str | None = None
    """The text as the ledger holds it, with hashes in place of what it quotes of members' memories; None: it quotes nothing."""

    @property
    def asked(self) -> str:
        """What memories are searched for."""
        return f"{self.title}\n{without_orders(self.text)}".strip()

    @property
    def ledger_text(self) -> str:
        """What may go into the ledger again: a quotation in it is deleted with its document, whenever that is."""
        return self.cited if self.cited is not None else self.text or self.title

    @property
    def own_words(self) -> str:
        """What asks for work: not what somebody's memory says, which no task may keep."""
        text = self.text if self.cited is None else without_quotes(self.cited)
        return f"{self.title}\n{text}".strip()

    @property
    def subject(self) -> Subject:
        return Subject(self.title, self.text)

    def question(self, asker: str) -> Question:
        return Question(self.asked, self.topic, asker, self.proposer, self.proposal_id, put=self.asked if self.is_put else "")


class Council(Protocol):
    def members(self) -> list[str]: ...

    def matter(self, order: Order) -> Matter:
        """Raises: VoteError `proposal_unknown`."""
        ...

    def delegations(self) -> Sequence[Delegation]: ...

    def propose(
        self, asker: str, title: str, text: str, topic: str, amends: str | None, key: str, quotes: Sequence[Quote] = ()
    ) -> str:
        """Its id; the same key gives the same one. `quotes`: what of members' memories stands in the text."""
        ...

    def assign(self, asker: str, task: Task, proposal_id: str | None, plan_id: str) -> None:
        """Idempotent by the task's id."""
        ...


class DaoCouncil:
    """`opens`: whether what a plan proposes is open at once; else it is a draft, for its asker to open."""

    def __init__(self, dao: Dao, *, opens: bool) -> None:
        self._dao = dao
        self._opens = opens

    def members(self) -> list[str]:
        return self._dao.members()

    def matter(self, order: Order) -> Matter:
        if order.proposal_id is None:
            rules = rules_of(self._dao.settings)
            return Matter(order.goal, "", order.topic, None, None, False, rules, self._electorate(rules))
        found = self._dao.proposal(order.proposal_id)
        passed = found.status in ("passed", "implemented")
        weights = found.electorate or self._electorate(found.rules)
        told = (found.title, found.text, found.topic, found.proposer, found.proposal_id, passed, found.rules)
        with self._dao.session() as session:
            cited = session.proposal(order.proposal_id).text
        return Matter(*told, weights, is_put=found.status != "draft", cited=cited)

    def _electorate(self, rules: Rules) -> Mapping[str, int]:
        """Of a vote that began now."""
        with self._dao.session() as session:
            return session.electorate(rules)

    def delegations(self) -> Sequence[Delegation]:
        return self._dao.delegations()

    def propose(
        self, asker: str, title: str, text: str, topic: str, amends: str | None, key: str, quotes: Sequence[Quote] = ()
    ) -> str:
        title, how = title[:MAX_PROPOSED_TITLE], {"topic": topic, "amends": amends, "open": self._opens}
        try:
            return self._dao.propose(asker, title, text, **how, quotes=quotes, key=key).proposal_id
        except VoteError as error:
            if error.code != "key_reused":
                raise
        # A line was forgotten between proposing it and storing that it was: what stands in the ledger is what was proposed.
        own = [each for each in self._dao.proposals() if (each.proposer, each.title, each.amends) == (asker, title, amends)]
        if not own:
            raise VoteError("key_reused", f"the plan's key {key} stands for something else in the ledger")
        return own[-1].proposal_id

    def assign(self, asker: str, task: Task, proposal_id: str | None, plan_id: str) -> None:
        self._dao.assign_task(asker, task, proposal_id, plan_id)
