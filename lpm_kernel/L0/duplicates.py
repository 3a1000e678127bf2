"""The same words twice: documents that nearly repeat an older one, and chunks that say the same.

Belongs here: when two texts count as one, and the links from newer documents to older ones.
Does not belong here: equal bytes (a document is its sha256: `intake.py`), and what a search does with equal lines.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from heapq import nsmallest

from lpm_kernel.artefacts import decode_records, encode_records, read_previous
from lpm_kernel.layout import asset_key, text_key
from lpm_kernel.records import Document, sha256_hex
from lpm_kernel.stores.blobs import Blobs, TenantBlobs
from lpm_kernel.stores.documents import list_documents, set_near_duplicates
from lpm_kernel.stores.tables import Tables

SKETCHES = "sketches"
"""What is compared of each document: a file beside `raw_documents`, read by nobody else."""
SKETCH_RECIPE = "words-3/mix-48/512/none-empty"
WORDS_TOGETHER = 3
SKETCH_SIZE = 512
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)

_NO_SPACES_BETWEEN_WORDS = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"  # Thai, Japanese, Chinese: each character counts as a word
_WORD = re.compile(rf"[{_NO_SPACES_BETWEEN_WORDS}]|[^\W_{_NO_SPACES_BETWEEN_WORDS}]+")


@dataclass(frozen=True, slots=True)
class Sketch:
    """The smallest hashes of a text's word triples, rising: enough to tell how many of them two texts share.

    Source: Broder's bottom-k sketch. Exact up to about 500 different triples; beyond, the standard error of a share of 0.7
    is 0.02. Why not every triple: 100 documents of 20 MB would be compared in gigabytes.
    """

    document_sha256: str
    recipe: str
    hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NearCount:
    near_duplicates: int
    """Documents of the twin that nearly repeat another one that is in it as well."""
    newer_versions: int
    """Documents that nearly repeat an older content, which a file of the same name has replaced since."""


def same_words_key(text: str) -> str:
    """Equal for two texts that differ in nothing but case, white space and the form of their accents.

    Why punctuation counts: "-5 °C" is not "5 °C", and "£5" is not "$5".
    """
    return sha256_hex(" ".join(unicodedata.normalize("NFC", text.casefold()).split()).encode())


def sketch_text(document_sha256: str, text: str) -> Sketch:
    import numpy as np

    known: dict[str, int] = {}
    words = (match.group() for match in _WORD.finditer(unicodedata.normalize("NFC", text.casefold())))
    hashes = np.fromiter((known.get(word) or _hash_into(known, word) for word in words), dtype=np.uint64)
    if not len(hashes):
        return Sketch(document_sha256, SKETCH_RECIPE, ())  # nothing to compare: like no other
    if len(hashes) < WORDS_TOGETHER:
        hashes = np.pad(hashes, (0, WORDS_TOGETHER - len(hashes)))
    triples = hashes[:-2] * np.uint64(_ODD[0]) + hashes[1:-1] * np.uint64(_ODD[1]) + hashes[2:] * np.uint64(_ODD[2])
    for shift in (33, 29):  # so that which triples are the smallest says nothing about their words
        triples = (triples ^ (triples >> np.uint64(shift))) * np.uint64(_ODD[0])
    smallest = np.unique(triples >> np.uint64(16))[:SKETCH_SIZE]
    return Sketch(document_sha256, SKETCH_RECIPE, tuple(smallest.tolist()))


def _hash_into(known: dict[str, int], word: str) -> int:
    known[word] = int.from_bytes(blake2b(word.encode(), digest_size=8).digest())
    return known[word]


def shared_share(one: Sketch, other: Sketch) -> float:
    """Word triples in both texts, of those in either (Jaccard), by their sketches."""
    first, second = set(one.hashes), set(other.hashes)
    smallest = nsmallest(SKETCH_SIZE, first | second)
    return sum(item in first and item in second for item in smallest) / max(1, len(smallest))


def find_near_duplicates(
    documents: Sequence[Document], sketches: Mapping[str, Sketch], min_share: float
) -> dict[str, str | None]:
    """For each document the older one that it shares most triples with, at least `min_share` of them; None without one.

    Why never the other way round: a note that was edited repeats its earlier form, whichever name sorts first.
    Of equals the one that is still in the twin, then the newest, is named.
    """
    links: dict[str, str | None] = {}
    older: list[Document] = []
    holders: dict[int, list[int]] = {}
    for document in sorted(documents, key=lambda row: (row.created_at, row.sha256)):
        own = sketches[document.sha256]
        common = Counter(position for item in own.hashes for position in holders.get(item, ()))
        found: list[tuple[float, bool, int]] = []
        for position, hashes_in_both in common.items():
            candidate = sketches[older[position].sha256]
            if hashes_in_both < min_share * max(len(own.hashes), len(candidate.hashes)):
                continue  # cannot reach the share: spares the exact look at all who share a common phrase
            share = shared_share(own, candidate)
            if share >= min_share:
                found.append((share, older[position].status == "read", position))
        links[document.sha256] = older[max(found)[2]].sha256 if found else None
        for item in own.hashes:
            holders.setdefault(item, []).append(len(older))
        older.append(document)
    return links


def link_near_duplicates(
    tables: Tables, blobs: Blobs, user_id: str, documents: Sequence[Document], min_share: float
) -> tuple[list[Document], NearCount]:
    """The documents with their links, which stand in their rows from then on; replaced contents are looked at as well.

    Idempotent: links depend on the contents and their order of arrival alone. A text is sketched once.
    """
    own = TenantBlobs(blobs, user_id)
    with tables.transaction(user_id) as connection:
        rows = list_documents(connection, user_id)
    live = {document.sha256 for document in documents}
    known = {
        sketch.document_sha256: sketch
        for sketch in read_previous(blobs, user_id, SKETCHES, "jsonl", partial(decode_records, record_type=Sketch)) or []
        if sketch.recipe == SKETCH_RECIPE
    }
    sketches: dict[str, Sketch] = {}
    for row in rows:
        was_read = row.sha256 in live or (row.status == "replaced" and row.text_size_bytes is not None)
        if not was_read:
            continue
        sketch = known.get(row.sha256)
        if sketch is None:
            sketch = sketch_text(row.sha256, own.get(text_key(user_id, row.sha256)).decode())
        sketches[row.sha256] = sketch
    compared = [row for row in rows if row.sha256 in sketches]
    links = find_near_duplicates(compared, sketches, min_share)
    changed = {row.sha256: links[row.sha256] for row in compared if row.near_duplicate_of != links[row.sha256]}
    if sketches != known:
        own.put(asset_key(user_id, SKETCHES, "jsonl"), encode_records(list(sketches.values())))
    if changed:
        with tables.transaction(user_id) as connection:
            set_near_duplicates(connection, user_id, changed)
    linked = [replace(document, near_duplicate_of=links[document.sha256]) for document in documents]
    targets = [document.near_duplicate_of for document in linked if document.near_duplicate_of]
    inside = sum(target in live for target in targets)
    return linked, NearCount(near_duplicates=inside, newer_versions=len(targets) - inside)
