"""What the search store should hold of one user, beside what it holds.

Belongs here: the pure decision, and the hash that a generation's name is.
Does not belong here: listing entries (`read_vectors.py`), and writing any (`repair.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from lpm_kernel.reconcile.findings import Cause, Finding, Kind, Repair
from lpm_kernel.reconcile.inventory import Truth, VectorInventory, WantedChunk, WantedGeneration
from lpm_kernel.records import content_id
from lpm_kernel.stores.vectors import HeldEntry


def name_of_held(entries: Collection[HeldEntry], place_of_name: Mapping[str, int]) -> str:
    """The name that a generation of just these entries has, see `generation_of`. `place_of_name`: of each file name in the
    order of documents, which is the database's own."""
    if not entries:
        return ""
    ordered = sorted(entries, key=lambda entry: (place_of_name.get(entry.filename, -1), entry.byte_start, entry.chunk_id))
    fingerprints = {entry.fingerprint for entry in entries}
    ids, inputs = [entry.chunk_id for entry in ordered], [entry.input_sha256 for entry in ordered]
    return content_id("|".join(sorted(fingerprints)), *ids, *inputs)[:32]


def decide_vectors(truth: Truth, found: VectorInventory) -> list[Finding]:
    """Entries of deleted documents, of documents that nobody knows, and what differs in the generations that are named."""
    deleted = sorted({entry.document_sha256 for entry in found.entries if entry.document_sha256 in truth.deleted})
    findings: list[Finding] = []
    if deleted:
        findings.append(_found(truth, "surplus", "vectors of deleted documents", "deletion", deleted, repair="go_on_deleting"))
    known = {*truth.documents, *truth.deleted}
    unknown = sorted({entry.chunk_id for entry in found.entries if entry.document_sha256 not in known})
    if unknown:
        findings.append(_found(truth, "surplus", "vectors of documents that nobody knows", "unexplained", unknown))
    for wanted in found.wanted:
        own = [entry for entry in found.entries if wanted.generation in entry.generations]
        if wanted.held_name != wanted.generation:
            findings += _generation(truth, wanted, [entry for entry in own if entry.document_sha256 in known])
    return findings


def _generation(truth: Truth, wanted: WantedGeneration, own: Sequence[HeldEntry]) -> list[Finding]:
    if wanted.chunks is None:
        by_bytes = _by_documents(truth, wanted, own)
        if by_bytes or truth.deleted or any(r.stale for r in truth.releases if r.memory_generation == wanted.generation):
            return by_bytes  # what was deleted is missing from it on purpose, so its name says nothing more
        differs = _found(truth, "damaged", "a generation that differs from its name", "lost", (), wanted.generation)
        return [replace(differs, by="`twin backfill` builds the twin anew")]
    held = Counter(entry.chunk_id for entry in own)
    back = _came_back(truth, wanted.generation)
    lacking = [i for i, chunk in wanted.chunks.items() if i not in held and _should_be_there(truth, chunk, back)]
    strange = [i for i in held if i not in wanted.chunks]
    wrong = [
        entry.chunk_id
        for entry in own
        if entry.chunk_id in wanted.chunks
        and (
            entry.fingerprint != wanted.fingerprint
            or wanted.chunks[entry.chunk_id].text_sha256 not in (None, entry.text_sha256)
        )
    ]
    twice = [i for i, times in held.items() if times > 1 and i in wanted.chunks and i not in wrong]
    # to write a generation anew is to drop what else it holds, and of that nobody knows whence it comes
    rewrite: Repair | None = "rewrite_generation" if wanted.rewritable and not strange else None
    found: list[Finding] = []
    kinds: tuple[tuple[Kind, str, Cause, list[str], Repair | None], ...] = (
        ("lacking", "vectors of a generation", "lost", lacking, rewrite),
        ("damaged", "vectors of a generation", "lost", wrong, rewrite),
        ("surplus", "vectors of one chunk twice", "broken-off write", twice, rewrite),
        ("surplus", "vectors that the generation does not name", "unexplained", strange, None),
    )
    for kind, what, cause, items, repair in kinds:
        if items:
            found.append(_found(truth, kind, what, cause, items, wanted.generation, repair))
    return found


def _by_documents(truth: Truth, wanted: WantedGeneration, own: Sequence[HeldEntry]) -> list[Finding]:
    """Of an older build that still serves: its chunks are pointers that together cover every byte of each document."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for entry in own:
        ranges.setdefault(entry.document_sha256, []).append((entry.byte_start, entry.byte_end))
    named = wanted.documents or frozenset[str]()
    there = named - _came_back(truth, wanted.generation)
    still = {sha256: truth.documents[sha256] for sha256 in there if sha256 in truth.documents}
    lacking = [
        sha256
        for sha256, row in still.items()
        if row.status in ("read", "replaced") and not _cover(ranges.get(sha256, ()), row.text_size_bytes)
    ]
    strange = [e.chunk_id for e in own if wanted.documents is not None and e.document_sha256 not in named]
    wrong = [entry.chunk_id for entry in own if entry.fingerprint != wanted.fingerprint]
    kinds: tuple[tuple[Kind, str, Cause, list[str]], ...] = (
        ("lacking", "vectors of documents that the live release was made from", "lost", lacking),
        ("damaged", "vectors of another model than the live release's", "lost", wrong),
        ("surplus", "vectors that the generation does not name", "unexplained", strange),
    )
    return [
        replace(_found(truth, kind, what, cause, items, wanted.generation), by="`twin backfill` builds the twin anew")
        for kind, what, cause, items in kinds
        if items
    ]


def _cover(ranges: Collection[tuple[int, int]], size_bytes: int | None) -> bool:
    reached = 0
    for start, end in sorted(ranges):
        if start > reached:
            return False
        reached = max(reached, end)
    return bool(ranges) and (size_bytes is None or reached >= size_bytes)


def _came_back(truth: Truth, generation: str) -> frozenset[str]:
    """Documents that were sent after a stale release of this generation was made, and before any other of it. Where it names
    one of them, that one was deleted and sent again: the generation is without it on purpose, until the next build."""
    made = [(r.created_at, r.stale) for r in truth.releases if r.memory_generation == generation and r.created_at is not None]
    stale, fresh = [at for at, is_stale in made if is_stale], [at for at, is_stale in made if not is_stale]
    return frozenset(
        sha256
        for sha256, row in truth.documents.items()
        if any(row.created_at > at for at in stale) and not any(at > row.created_at for at in fresh)
    )


def _should_be_there(truth: Truth, chunk: WantedChunk, back: Collection[str]) -> bool:
    """Not what is of a document that went since. Of which document it is may be unknown: then only where none went."""
    if chunk.document_sha256 is None:
        return not truth.deleted and not back
    return chunk.document_sha256 in truth.documents and chunk.document_sha256 not in back


def _found(
    truth: Truth,
    kind: Kind,
    what: str,
    cause: Cause,
    items: Collection[str],
    generation: str = "",
    repair: Repair | None = None,
) -> Finding:
    return Finding(truth.user_id, "vectors", kind, what, cause, tuple(sorted(items)), generation, repair)
