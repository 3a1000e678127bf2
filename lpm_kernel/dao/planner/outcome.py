"""What a plan ends in: advice, an amended proposal, or tasks for the micro-factory.

Belongs here: rules over the last judgement, the conditions and the words of the goal.
Does not belong here: doing it (`run.py`, through the ledger).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lpm_kernel.dao.ballot_draft import Choice
from lpm_kernel.dao.planner.records import (
    Conclusion,
    Condition,
    Consulted,
    EndedBy,
    Judgement,
    Order,
    PlannedTask,
    TaskKind,
)
from lpm_kernel.records import content_id

MAX_TASKS = 5
MAX_TITLE_CHARACTERS = 200

_KINDS: tuple[tuple[TaskKind, re.Pattern[str]], ...] = (
    ("print_job", re.compile(r"\b(?:(?:3d[- ]?)?print(?:s|ing)?\b(?!er)|reprint|fabricate|(?:laser[- ]?)cut|mill)\b", re.I)),
    (
        "maintenance",
        re.compile(
            r"\b(?:repair|fix|maintain|service|servic(?:e|ing)|clean|lubricate|calibrate|re-?level|inspect|overhaul|"
            r"replace\s+(?:the|a|an|our|its)\s+(?:nozzle|belt|bearing|fan|filter|bed|hot ?end|motor|blade))\b",
            re.I,
        ),
    ),
    ("purchase", re.compile(r"\b(?:buy|purchase|order(?!\s+(?:of|to|that))|procure|restock|reorder)\b", re.I)),
)
_SENTENCE = re.compile(
    r"(?<=[.!?;])\s+|\n+|,?\s+(?:and then|then)\s+"
    r"|,?\s+and\s+(?=(?:print|fabricate|repair|fix|maintain|clean|calibrate|inspect|replace|buy|purchase|order|procure)\b)",
    re.IGNORECASE,
)
_NOT_ASKED = re.compile(r"\b(?:not|never|no longer|stop|instead of|without|refuse to|don['’]t)\b", re.I)
_DONE = re.compile(r"\b(?:was|were|has been|have been|had|already|yesterday|last (?:week|month|year))\b", re.I)
_QUANTITY = re.compile(
    r"\b(?P<number>\d{1,5})\s*(?P<unit>kg|g|m|pieces?|spools?|rolls?|sets?|copies|units?|pcs|litres?|x)?\b", re.I
)
_MONEY = re.compile(r"(?:[€£$]\s?(?P<before>\d[\d,]*)|(?P<after>\d[\d,]*)\s?(?:euros?|eur|pounds?|gbp|dollars?|usd)\b)", re.I)
_MATERIAL = re.compile(r"\b(?P<material>PLA|PETG|ABS|ASA|TPU|nylon|resin|plywood|aluminium|steel)\b")


def recognise_tasks(text: str, plan_id: str) -> tuple[PlannedTask, ...]:
    """Work that the words ask for, sentence by sentence; what is told as done, or is not to be done, is none."""
    found: list[PlannedTask] = []
    for sentence in (part.strip(" .!;\t") for part in _SENTENCE.split(text)):
        if not sentence or sentence.endswith("?") or _NOT_ASKED.search(sentence) or _DONE.search(sentence):
            continue
        kind: TaskKind | None = next((kind for kind, words in _KINDS if words.search(sentence)), None)
        if kind is None:
            continue
        title = sentence[:MAX_TITLE_CHARACTERS]
        task_id = content_id(plan_id, kind, title)[:32]
        if all(task.task_id != task_id for task in found):
            found.append(PlannedTask(task_id, kind, title, None, _details(sentence)))
    return tuple(found[:MAX_TASKS])


def _details(sentence: str) -> dict[str, str | int]:
    """Numbers and a material that the sentence itself names."""
    details: dict[str, str | int] = {}
    if money := _MONEY.search(sentence):
        details["money"] = money.group()
        sentence = sentence.replace(money.group(), " ")
    if quantity := _QUANTITY.search(sentence):
        details["quantity"] = int(quantity["number"])
        if quantity["unit"]:
            details["unit"] = quantity["unit"].lower()
    if material := _MATERIAL.search(sentence):
        details["material"] = material["material"]
    return details


def costs_money(task: PlannedTask) -> bool:
    """A purchase, and whatever else names a sum."""
    return task.kind == "purchase" or "money" in task.details


def assignee_of(consulted: Sequence[Consulted], choices: Mapping[str, Choice | None]) -> str | None:
    """Who knows most of it of those who have nothing to gain by it and are not against; a member of the DAO."""
    able = [person for person in consulted if person.counts and choices.get(person.member) != "against"]
    return min(able, key=lambda person: (-person.expertise, person.member)).member if able else None


def conclude(
    order: Order,
    judgement: Judgement | None,
    ended_by: EndedBy | None,
    conditions: Sequence[Condition],
    tasks: Sequence[PlannedTask],
    *,
    passed: bool = False,
) -> Conclusion:
    """`passed`: of a proposal, whether it did: its tasks are assigned only then, for twins' agreement is no vote. What costs
    money is assigned after no other than a vote that passed, whatever the asker lets the plan do.

    The rule: nobody knows -> say so; agreed for -> for, with the tasks that its words ask for; else, where conditions were
    named -> amend; agreed against -> against; else undecided.
    """
    if judgement is None or ended_by == "nobody":
        return Conclusion("recommendation", "nobody_knows")
    if judgement.agreed == "for":
        may_assign = order.may_assign and (order.proposal_id is None or passed)
        awaiting = tuple(task for task in tasks if costs_money(task) and not passed)
        ready = tuple(task for task in tasks if task not in awaiting) if may_assign else ()
        proposes = order.may_propose and order.proposal_id is None and (not ready or bool(awaiting))
        if ready:
            return Conclusion("tasks", "for", proposes, ready, awaiting=awaiting)
        return Conclusion("proposal" if proposes else "recommendation", "for", proposes, tuple(tasks), awaiting=awaiting)
    if conditions:
        proposes = order.may_propose and not passed
        return Conclusion("proposal" if proposes else "recommendation", "amend", proposes)
    return Conclusion("recommendation", "against" if judgement.agreed == "against" else "undecided")
