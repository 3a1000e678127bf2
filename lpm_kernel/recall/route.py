"""Which way a question goes once its lines are found: answered from the own memory, from the shared graph, or as an act.

Belongs here: that decision, a pure rule over the question and the lines; and the one tool a way may ask for, a wider look
into the graph.
Does not belong here: finding lines in the first place (`plan.py`) and the ballot that an act ends in (`dao/ballot_draft.py`).

No model decides here: a base of 135 million weights chooses worse than these rules, and a large one would first have to be
paid for every question, those included that the rules never get wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

from lpm_kernel.dao.ballot_draft import asks_for_ballot
from lpm_kernel.L0.chunk import count_tokens
from lpm_kernel.recall.plan import Line, Recalled, ask_all, ask_facts, document_of, fill_pack, without
from lpm_kernel.recall.scopes import OWN, Scope
from lpm_kernel.recall.shared_facts import search_shared_facts
from lpm_kernel.stores.open import Stores

Route = Literal["own_memory", "shared_graph", "act"]

ALL_DAYS = 36_500
"""How far back the wider look goes: a proposal of last year is still what was asked for."""

_SHARED = re.compile(
    r"\b(?:proposals?|propos(?:e|ed|ing)|vot(?:e|es|ed|ing)|ballots?|quorum|delegat\w+|resolutions?|dao)\b", re.IGNORECASE
)


def choose_route(question: str, lines: Sequence[Line]) -> Route:
    """`act` where a ballot is asked for; `shared_graph` where the question is about what people decide together, or a fact of
    the graph is nearer to it than all else that was found; else `own_memory`."""
    if asks_for_ballot(question):
        return "act"
    if _SHARED.search(question):
        return "shared_graph"
    facts = max((line.cosine for line in lines if line.fact), default=-1.0)
    others = max((line.cosine for line in lines if not line.fact), default=-1.0)
    return "shared_graph" if facts > others else "own_memory"


def look_wider(
    stores: Stores,
    user_id: str,
    question: str,
    recalled: Recalled,
    *,
    now: datetime,
    deleted: Collection[str] = (),
    scope: Scope = OWN,
) -> Recalled:
    """The same lines with facts of any age, twice as many, in the same budget, and with those that all members share. What is
    known then may answer after all.

    A graph that did not answer a moment ago is not asked again; one that fails now is named in `degraded`.
    """
    if "facts" in recalled.degraded:
        return recalled
    recall = stores.settings.recall

    def ask() -> list[Line]:
        vector = stores.embedder.embed([question])[0]
        own = ask_facts(stores, user_id, question, vector, now, days=ALL_DAYS, k=2 * recall.facts, scope=scope)
        shared = search_shared_facts(stores, question, now, k=2 * recall.facts, days=ALL_DAYS, vector=vector)
        return [*own, *(Line(hit.fact.text, hit.score, hit.cosine, fact=hit.fact) for hit in shared)]

    found, failed = ask_all({"facts": ask}, recall.store_timeout_s)
    if failed:
        return replace(recalled, degraded=(*recalled.degraded, *failed))
    facts = [line for line in found["facts"] if line.cosine >= recall.fact_cosine and document_of(line) not in deleted]
    if not facts:
        return recalled
    on_board = [line for line in recalled.lines if line.on_board]
    others = [line for line in recalled.lines if not line.on_board and not line.fact]
    room = recall.pack_tokens - sum(count_tokens(line.text) for line in on_board)
    lines = fill_pack([*facts, *others], room)
    return replace(recalled, lines=(*lines, *without(on_board, lines)), answerable=True)
