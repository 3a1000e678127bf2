"""What was read of each store, as plain records: the input of every decision.

Belongs here: the records. Frozen and without a client, so that a test writes them down by hand.
Does not belong here: reading them (`read_*.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from lpm_kernel.records import Document, ReleaseStatus

if TYPE_CHECKING:
    from lpm_kernel.stores.blobs import StoredObject
    from lpm_kernel.stores.vectors import HeldEntry


@dataclass(frozen=True, slots=True)
class NamedRelease:
    """What one manifest names. `stale`: a deletion made it so, and its weights go when another one serves."""

    release_id: str
    status: ReleaseStatus
    stale: bool
    gguf_key: str
    gguf_sha256: str
    adapter_sha256: str
    communities_key: str | None
    communities_sha256: str | None
    memory_generation: str
    fingerprint: str
    documents: frozenset[str] | None = None
    """None in a manifest from before they were named."""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What PostgreSQL says of one user. `deleted`: sha256 of documents whose deletion is on record while something may be left.
    `sessions`: of the person's own talks."""

    user_id: str
    documents: Mapping[str, Document]
    deleted: frozenset[str]
    releases: tuple[NamedRelease, ...]
    sessions: frozenset[str]

    @property
    def live(self) -> NamedRelease | None:
        return next((release for release in self.releases if release.status == "live"), None)


@dataclass(frozen=True, slots=True)
class BlobInventory:
    """`damaged`: keys whose bytes were read and are others than named. `weights`: hashes that present artefacts and recipes
    name. `learned`: from an adapter's hash to the key of the rows it has learned. `copies`: adapters that a whole local copy is
    at hand of. `communities_sha256`: of the asset's present file."""

    objects: tuple[StoredObject, ...]
    damaged: frozenset[str] = frozenset()
    weights: frozenset[str] = frozenset()
    learned: Mapping[str, str] | None = None
    copies: frozenset[str] = frozenset()
    communities_sha256: str | None = None
    note: bytes | None = None
    """What the next look is to know of this one; None where nothing has changed."""


@dataclass(frozen=True, slots=True)
class WantedChunk:
    """`text_sha256` and `document_sha256` are None where the artefact of chunks does not know it any more."""

    document_sha256: str | None
    text_sha256: str | None


@dataclass(frozen=True, slots=True)
class WantedGeneration:
    """A generation that is named. `chunks` is None where no artefact lists them; then its name says whether it is whole, being
    a hash of what it holds, and the bytes of its documents say what is lacking. `held_name`: that hash, of what the store holds
    under it. `rewritable`: the embeddings artefact holds its vectors, and the texts are there. `documents`: what it was made
    from, where its release says so."""

    generation: str
    fingerprint: str
    held_name: str
    chunks: Mapping[str, WantedChunk] | None
    rewritable: bool
    documents: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class VectorInventory:
    entries: tuple[HeldEntry, ...]
    wanted: tuple[WantedGeneration, ...]


@dataclass(frozen=True, slots=True)
class HeldMemory:
    """`cites`: the document it stands on. `session`: where it was said, of what was said in a chat."""

    memory_id: str
    cites: str | None = None
    session: str | None = None
    expires: date | None = None


@dataclass(frozen=True, slots=True)
class MemoryInventory:
    """`expected`: what the artefact of memories says is held. `version`: of the user's row that tells every process to read
    them anew; None where there is none, and `versioned` where there must be one."""

    held: tuple[HeldMemory, ...]
    expected: tuple[HeldMemory, ...]
    version: int | None = None
    versioned: bool = False


@dataclass(frozen=True, slots=True)
class HeldFact:
    """`documents` and `releases` that it is about."""

    fact_id: str
    documents: frozenset[str] = frozenset()
    releases: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GraphInventory:
    held: tuple[HeldFact, ...]
    expected: tuple[HeldFact, ...]


@dataclass(frozen=True, slots=True)
class DaoInventory:
    """`broken`: what the audit of the ledger found. `resolutions`: of each proposal that has ended, how many there are.
    `told`: facts of all events that the graph has heard of, with the persons named in each; `held`: those it holds."""

    broken: tuple[str, ...]
    last_seq: int
    told_seq: int
    resolutions: Mapping[str, int]
    told: Mapping[str, frozenset[str]]
    held: frozenset[str]
    members: frozenset[str]
