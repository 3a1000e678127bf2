"""What of members' memories a plan works with: their topics, and the lines that others may hear.

Belongs here: the port, and its class over the stores.
Does not belong here: who is chosen by it (`choose.py`).

A plan is somebody else's question. It hears of each member what any other would (`recall/scopes.py`), though it is their own
twin that is asked: else the stance would tell what the lines keep to themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from lpm_kernel.artefacts import decode_records, read_artefact
from lpm_kernel.dao.planner.choose import Profile, ProfileTopic
from lpm_kernel.dao.planner.records import Line
from lpm_kernel.errors import RetrievalError, TwinError, UserInputError
from lpm_kernel.L1.records import ChunkSalience
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Chunk, Release, Topic, User, content_id
from lpm_kernel.stores.dao_consent import get_consent
from lpm_kernel.stores.documents import deleted_documents, private_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release
from lpm_kernel.stores.users import get_user

if TYPE_CHECKING:
    import numpy as np

_LOG = logging.getLogger(__name__)
LOOKED_AT = 4
"""Chunks looked at for each line that is wanted: one holds several sentences, and some tell nothing of it."""


class Minds(Protocol):
    def profiles(self, members: Sequence[str], asked: str) -> list[Profile]:
        """Of those who have a twin; somebody who is being deleted has none. Raises: StoreError, LlmError."""
        ...

    def lines(self, member: str, asked: str, k: int) -> list[Line]:
        """Sentences of theirs that others may hear, the nearest to what is asked first. Raises: StoreError, LlmError."""
        ...

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Of length 1. Raises: LlmError."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    user: User
    release: Release | None
    withheld: frozenset[str]
    """sha256 of what is private or deleted."""
    silent: bool
    """Whether the person lets their twin do nothing in votes: then it speaks in no plan either."""


@dataclass(slots=True)
class StoredMinds:
    """Safe to share between threads."""

    stores: Stores
    _asked: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    """Model and text to its vector: the same question is put to every memory."""

    def profiles(self, members: Sequence[str], asked: str) -> list[Profile]:
        import numpy as np

        found: list[Profile] = []
        for member in members:
            known = self._known(member)
            if known is None:
                continue
            try:
                found.append(self._profile(known, asked))
            except TwinError as error:
                if error.retryable:
                    raise
                _LOG.warning("what %s knows cannot be read: %s", member, error.code)  # and the others are asked without them
                found.append(Profile(member, known.user.name, (), np.zeros(0, np.float32), unreadable=True))
        return found

    def lines(self, member: str, asked: str, k: int) -> list[Line]:
        known = self._known(member)
        if known is None or known.release is None or known.silent:
            return []
        release = known.release
        try:
            embedder = self.stores.embedder_of(release.embedding_fingerprint)
            vector = self._vector(release.embedding_fingerprint, asked)
            found = recall_evidence(
                *(member, release.memory_generation, asked, self.stores.vectors, embedder, self.stores.settings.recall),
                lines=LOOKED_AT * k,
                vector=vector,
                withheld=known.withheld,
            )
        except RetrievalError as error:
            _LOG.warning("the memory of %s cannot be asked: %s", member, error.code)
            return []
        return [
            Line(content_id(member, item.citation.chunk_id)[:32], member, item.text, item.citation, round(item.cosine, 4))
            for item in found
        ]

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        return self.stores.embedder.embed(texts)

    def _known(self, member: str) -> _Known | None:
        with self.stores.tables.transaction(member) as connection:
            try:
                user = get_user(connection, member)
            except UserInputError:
                return None
            withheld = deleted_documents(connection, member) | private_documents(connection, member)
            silent = get_consent(connection, member).mode == "never"
            return _Known(user, live_release(connection, member), frozenset(withheld), silent)

    def _profile(self, known: _Known, asked: str) -> Profile:
        """Of a topic that holds a chunk of what is withheld nobody can tell which words of it are whose: it is left out."""
        member, release = known.user.user_id, known.release
        fingerprint = release.embedding_fingerprint if release else self.stores.embedder.fingerprint
        asked_with = self._vector(fingerprint, asked)
        if release is None or known.silent:
            return Profile(member, known.user.name, (), asked_with, fingerprint, known.silent)
        read = partial(read_artefact, self.stores.blobs, member)
        topics = read("topics", "jsonl", partial(decode_records, record_type=Topic)) or []
        if known.withheld:
            chunks = read("chunks", "jsonl", partial(decode_records, record_type=Chunk)) or []
            there = {chunk.chunk_id for chunk in chunks if chunk.document_sha256 not in known.withheld}
            topics = [topic for topic in topics if there.issuperset(topic.chunk_ids)]
        topics = [topic for topic in topics if len(topic.centroid) == len(asked_with)]
        salience = {
            row.chunk_id: row.salience
            for row in read("salience", "jsonl", partial(decode_records, record_type=ChunkSalience)) or []
        }
        return Profile(member, known.user.name, tuple(_topic(topic, salience) for topic in topics), asked_with, fingerprint)

    def _vector(self, fingerprint: str, text: str) -> np.ndarray:
        key = fingerprint, text
        if key not in self._asked:
            if len(self._asked) >= 64:
                self._asked.clear()
            self._asked[key] = self.stores.embedder_of(fingerprint).embed([text])[0]
        return self._asked[key]


def _topic(topic: Topic, salience: dict[str, float]) -> ProfileTopic:
    import numpy as np

    vector = np.asarray(topic.centroid, dtype=np.float32)
    known = [salience[chunk_id] for chunk_id in topic.chunk_ids if chunk_id in salience]
    mean = sum(known) / len(known) if known else 0.5
    return ProfileTopic(topic.topic_id, vector / max(1e-9, float(np.linalg.norm(vector))), min(1.0, max(0.0, mean)))
