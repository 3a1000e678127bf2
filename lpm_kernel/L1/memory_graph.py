"""What tables know about a user, as facts of their graph: which documents they wrote, which twin they had and when.

Belongs here: the facts, and making the graph hold exactly them.
Does not belong here: how a graph keeps them (`stores/graph.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lpm_kernel.records import Document, Fact, GraphEntity, Release, User
from lpm_kernel.stores.graph import Graph
from lpm_kernel.stores.graphiti_clients import fact_id

RELATIONS = ("AUTHORED", "HAS_TWIN")
"""Of these the graph holds what the tables say and nothing else; other relations are other writers'."""


@dataclass(frozen=True, slots=True)
class ProjectionCount:
    written: int
    kept: int
    forgotten: int


def known_facts(user: User, documents: Sequence[Document], releases: Sequence[Release]) -> list[Fact]:
    """One fact a document of the user's own hand, and one a release: each ends the one before.

    Why no fact of a document that the twin made: it is not what the person said.
    """
    who, name = GraphEntity("User", user.user_id), user.name or f"user {user.user_id}"
    facts: list[Fact] = []
    for document in documents:
        if document.created_by == "user":
            written, at = GraphEntity("Document", document.sha256), document.created_at
            facts.append(Fact(user.user_id, who, "AUTHORED", written, f"{name} wrote {document.filename}", at, at))
    for release in releases:
        twin, at = GraphEntity("DigitalTwin", release.release_id), release.created_at
        words = f"{name} has the twin {release.release_id[:8]}"
        facts.append(Fact(user.user_id, who, "HAS_TWIN", twin, words, at, at))
    return facts


def project_facts(graph: Graph, user_id: str, facts: Sequence[Fact]) -> ProjectionCount:
    """Make the graph hold these of RELATIONS and no other. Idempotent; a try that broke off is finished by the next."""
    wanted = {fact_id(fact) for fact in facts}
    gone = [fact for fact in graph.list_facts(user_id, RELATIONS) if fact_id(fact) not in wanted]
    count = graph.write_facts(user_id, facts)
    return ProjectionCount(count.written, count.kept, graph.forget_facts(user_id, gone))


def differences(graph: Graph, user_id: str, facts: Sequence[Fact]) -> tuple[list[str], list[str]]:
    """Texts of the facts that the graph lacks, and of those it should not have."""
    wanted = {fact_id(fact): fact.text for fact in facts}
    stored = {fact_id(fact): fact.text for fact in graph.list_facts(user_id, RELATIONS)}
    lacking = sorted(text for key, text in wanted.items() if key not in stored)
    return lacking, sorted(text for key, text in stored.items() if key not in wanted)
