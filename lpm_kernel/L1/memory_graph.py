"""What is known about a user, as facts of their graph: the documents they wrote and what those mention, the twin they had and
when, and when they talked with it.

Belongs here: the facts, and making the graph hold exactly them.
Does not belong here: how a graph keeps them (`stores/graph.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lpm_kernel.records import Document, Entity, Fact, GraphEntity, Release, User
from lpm_kernel.stores.conversations import Talk
from lpm_kernel.stores.graph import Graph
from lpm_kernel.stores.graphiti_clients import fact_id

OWN = {
    ("User", "AUTHORED", "Document"),
    ("Document", "MENTIONS", "PolicyTopic"),
    ("User", "HAS_TWIN", "DigitalTwin"),
    ("User", "CHATTED", "DigitalTwin"),
}
"""Facts between these are what is known here and nothing else. Others are other writers': a proposal has an author too."""
TOPIC_TYPE = "POLICY_TOPIC"


@dataclass(frozen=True, slots=True)
class ProjectionCount:
    written: int
    kept: int
    forgotten: int


def known_facts(
    user: User,
    documents: Sequence[Document],
    releases: Sequence[Release],
    entities: Sequence[Entity] = (),
    talks: Sequence[Talk] = (),
) -> list[Fact]:
    """One fact a document of the user's own hand, one a policy topic it mentions, one a release, each of which ends the one
    before, and one a session with a release.

    Why no fact of a document that the twin made: it is not what the person said. Why no words of a talk: they are in memory.
    """
    user_id, name = user.user_id, user.name or f"user {user.user_id}"
    who = GraphEntity("User", user_id)
    own = {document.sha256: document for document in documents if document.created_by == "user"}
    facts: list[Fact] = []
    for document in own.values():
        written, at = GraphEntity("Document", document.sha256), document.created_at
        facts.append(Fact(user_id, who, "AUTHORED", written, f"{name} wrote {document.filename}", at, at))
    for entity in sorted(entities, key=lambda entity: entity.entity_id):
        if entity.type == TOPIC_TYPE:
            topic = GraphEntity("PolicyTopic", entity.name.casefold())
            for document in [own[sha256] for sha256 in sorted({m.document_sha256 for m in entity.mentions} & own.keys())]:
                naming, at = GraphEntity("Document", document.sha256), document.created_at
                words = f"{document.filename} by {name} mentions {entity.name}"
                facts.append(Fact(user_id, naming, "MENTIONS", topic, words, at, at))
    for release in releases:
        twin, at = GraphEntity("DigitalTwin", release.release_id), release.created_at
        words = f"{name} has the twin {release.release_id[:8]}"
        facts.append(Fact(user_id, who, "HAS_TWIN", twin, words, at, at))
    for talk in talks:
        twin, words = GraphEntity("DigitalTwin", talk.release_id), f"{name} talked with the twin {talk.release_id[:8]}"
        facts.append(Fact(user_id, who, "CHATTED", twin, words, talk.began, talk.began))
    return facts


def _held(graph: Graph, user_id: str) -> list[Fact]:
    stored = graph.list_facts(user_id, {relation for _, relation, _ in OWN})
    return [fact for fact in stored if (fact.subject.kind, fact.relation, fact.object.kind) in OWN]


def project_facts(graph: Graph, user_id: str, facts: Sequence[Fact]) -> ProjectionCount:
    """Make the graph hold these of OWN and no other. Idempotent; a try that broke off is finished by the next."""
    wanted = {fact_id(fact) for fact in facts}
    gone = [fact for fact in _held(graph, user_id) if fact_id(fact) not in wanted]
    count = graph.write_facts(user_id, facts)
    return ProjectionCount(count.written, count.kept, graph.forget_facts(user_id, gone))


def differences(graph: Graph, user_id: str, facts: Sequence[Fact]) -> tuple[list[str], list[str]]:
    """Texts of the facts that the graph lacks, and of those it should not have."""
    wanted = {fact_id(fact): fact.text for fact in facts}
    stored = {fact_id(fact): fact.text for fact in _held(graph, user_id)}
    lacking = sorted(text for key, text in wanted.items() if key not in stored)
    return lacking, sorted(text for key, text in stored.items() if key not in wanted)
