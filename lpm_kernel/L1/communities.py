"""Communities: chunks that hang together by what they name and mean, told by the person's own sentences. No language model.

Belongs here: finding communities in the graph.
Does not belong here: the graph (`chunk_graph.py`), ids that stay (`lasting_ids.py`), names and lines (`community_words.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from lpm_kernel.artefacts import encode_records
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.chunk_graph import ChunkGraph, build_graph
from lpm_kernel.L1.community_words import gather_material, make_community, tell_community
from lpm_kernel.L1.lasting_ids import KnownGroup, keep_ids
from lpm_kernel.L1.records import ChunkSalience, Community
from lpm_kernel.L1.salience import documents_of
from lpm_kernel.L1.topics import MISC, Groups, check_table, class_keywords
from lpm_kernel.records import Document, EmbeddingTable, Entity, content_id, sha256_hex
from lpm_kernel.settings import CommunitySettings

SEED = 7


@dataclass(frozen=True, slots=True)
class CommunityHistory:
    """What one run of communities leaves to the next, beside the communities themselves."""

    fingerprint: str
    """Of the model whose centres they have."""
    used_ids: tuple[str, ...]
    """Every id there ever was; none is given twice."""
    communities_sha256: str = ""
    """Of the communities that it goes with: centres of a run that died before it stored them are not compared."""


@dataclass(frozen=True, slots=True)
class CommunityCount:
    entities: int
    """That tie two chunks or more."""
    edges: int
    modularity: float
    joined: int
    """Communities that joined another because there were more than are wanted."""
    ids_kept: int


def find_communities(
    documents: Sequence[Document],
    items: Sequence[ChunkText],
    table: EmbeddingTable,
    entities: Sequence[Entity],
    salience: Sequence[ChunkSalience],
    communities: CommunitySettings,
    previous: Sequence[Community] = (),
    history: CommunityHistory | None = None,
) -> tuple[list[Community], CommunityHistory, CommunityCount]:
    """Every chunk in exactly one community, largest first, or in `misc`, last; an id stays with most of its chunks.

    Why Louvain with a fixed seed and nodes in a fixed order: it asks for no number of communities and equal graphs give equal
    ones. (Leiden of scikit-network, on this data no better, gave others at each run, seed or not; igraph's is under the GPL.)
    Why all anew each time: 2,000 chunks take a second, and what hangs together depends on all that was written.
    Lines are sentences of documents that the user made; a community in which there is none has no line.
    Raises: RetrievalError `embeddings_do_not_match`, `documents_do_not_match`.
    """
    check_table(items, table)
    by_sha = documents_of(items, documents)
    graph = build_graph(items, table, entities, communities)
    parts, modularity = _split(graph)
    parts, joined = _at_most(parts, graph, communities)
    groups = Groups.of(parts, communities.min_chunks)
    user_id = items[0].chunk.user_id if items else ""
    known = [KnownGroup(c.community_id, frozenset(c.chunk_ids), c.centroid) for c in previous if c.label != MISC]
    used = {*(history.used_ids if history else ()), *(group.group_id for group in known)}
    goes_with_them = history is not None and history.communities_sha256 == sha256_hex(encode_records(previous))
    same_model = goes_with_them and history is not None and history.fingerprint == table.fingerprint
    ids = keep_ids(table, groups.topics, known, used, partial(_community_id, user_id), by_centre=same_model)
    material = gather_material(items, table, entities, salience, by_sha)
    keywords = class_keywords([" ".join(items[i].text for i in members) for members in groups.topics])
    found = [
        tell_community(own_id, members, words, material)
        for own_id, members, words in zip(ids, groups.topics, keywords, strict=True)
    ]
    if groups.misc:
        found.append(make_community(_community_id(user_id, [MISC]), MISC, groups.misc, material))
    assert sum(len(community.chunk_ids) for community in found) == len(items)
    kept = len({group.group_id for group in known} & set(ids))
    state = CommunityHistory(table.fingerprint, tuple(sorted({*used, *ids})), sha256_hex(encode_records(found)))
    return found, state, CommunityCount(graph.entities, len(graph.edges), modularity, joined, kept)


def foreign_lines(communities: Sequence[Community], documents: Sequence[Document]) -> list[str]:
    """Lines of a chunk that is not of their community, or of a document that the user did not make, as places."""
    own = {document.sha256 for document in documents if document.created_by == "user"}
    return [
        f"{place.filename} [{place.byte_start}, {place.byte_end})"
        for community in communities
        for place in (line.citation for line in community.lines)
        if place.document_sha256 not in own or place.chunk_id not in community.chunk_ids
    ]


def _split(graph: ChunkGraph) -> tuple[list[list[int]], float]:
    """Positions of the chunks of each part, and the modularity of all parts; a part of entities alone is none."""
    import networkx as nx

    drawn = nx.Graph()
    drawn.add_nodes_from(range(graph.chunks + graph.entities))
    drawn.add_weighted_edges_from((one, two, weight) for (one, two), weight in sorted(graph.edges.items()) if weight > 0)
    if not drawn.number_of_edges():
        return [[i] for i in range(graph.chunks)], 0.0
    parts = nx.community.louvain_communities(drawn, seed=SEED)
    chunks = [sorted(node for node in part if node < graph.chunks) for part in parts]
    return sorted(part for part in chunks if part), float(nx.community.modularity(drawn, parts))


def _at_most(parts: list[list[int]], graph: ChunkGraph, communities: CommunitySettings) -> tuple[list[list[int]], int]:
    """Of more than `max_communities` the smallest joins the one it is tied to most, again and again; one tied to none becomes
    misc, chunk by chunk."""
    ties = _ties(parts, graph)
    alive = {number: members for number, members in enumerate(parts) if len(members) >= communities.min_chunks}
    rest = [members for members in parts if len(members) < communities.min_chunks]
    joined = 0
    while len(alive) > communities.max_communities:
        small = min(alive, key=lambda number: (len(alive[number]), number))
        members = alive.pop(small)
        near = {number: weight for number, weight in ties[small].items() if number in alive}
        if not near:
            rest.extend([i] for i in members)
            continue
        joined += 1
        into = max(near, key=lambda number: (near[number], -number))
        alive[into] = sorted([*alive[into], *members])
        for number, weight in ties[small].items():
            if number != into:
                ties[into][number] += weight
                ties[number][into] += weight
    return [*alive.values(), *rest], joined


def _ties(parts: Sequence[Sequence[int]], graph: ChunkGraph) -> dict[int, dict[int, float]]:
    """What ties each two parts: edges between their chunks, and by each thing both name the lighter of the two sides."""
    part_of = {i: number for number, members in enumerate(parts) for i in members}
    ties: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    by_entity: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for (one, two), weight in graph.edges.items():
        if two >= graph.chunks:
            by_entity[two][part_of[one]] += weight
        elif part_of[one] != part_of[two]:
            ties[part_of[one]][part_of[two]] += weight
            ties[part_of[two]][part_of[one]] += weight
    for sides in by_entity.values():
        for one, weight in sides.items():
            for two, other in sides.items():
                if one != two:
                    ties[one][two] += min(weight, other)
    return ties


def _community_id(user_id: str, chunk_ids: Sequence[str]) -> str:
    """The id of a community that begins with these chunks."""
    return content_id(user_id, "community", *sorted(chunk_ids))[:32]
