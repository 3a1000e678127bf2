"""The most telling sentences of a few chunks: what shades and communities are told by.

Belongs here: ranking sentences by how central they are, and choosing those that a stranger would understand.
Does not belong here: finding sentences (`sentences.py`) and which chunks belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.lasting_ids import centre_of
from lpm_kernel.L1.sentences import Sentence, read_sentences
from lpm_kernel.records import Document

if TYPE_CHECKING:
    import numpy as np

DAMPING = 6
WORD = r"(?u)\b[^\W\d_][\w'’-]{2,}\b"


def sentences_by_chunk(items: Sequence[ChunkText], documents: Sequence[Document]) -> dict[str, list[Sentence]]:
    """The sentences of whole documents, by the chunk each stands in."""
    spoken: dict[str, list[Sentence]] = {}
    for sentence in read_sentences(items, documents):
        spoken.setdefault(sentence.citation.chunk_id, []).append(sentence)
    return spoken


def said_once(items: Iterable[ChunkText], spoken: Mapping[str, Sequence[Sentence]]) -> list[Sentence]:
    """The sentences of these chunks; one that is said twice counts once, where it stands first."""
    first: dict[str, Sentence] = {}
    for item in items:
        for sentence in spoken.get(item.chunk.chunk_id, ()):
            first.setdefault(sentence.text, sentence)
    return list(first.values())


def by_centrality(sentences: Sequence[Sentence], items: Sequence[ChunkText], vectors: np.ndarray) -> list[Sentence]:
    """Most central first: by words within these sentences and by the meaning of their chunk.

    Why counted words against a damped length, and not a cosine: by cosine "I offered to do it." is the centre of everything.
    """
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    if not sentences:
        return []
    centre = centre_of(vectors)
    of_chunk = {item.chunk.chunk_id: float(vector @ centre) for item, vector in zip(items, vectors, strict=True)}
    scores = np.array([of_chunk[sentence.citation.chunk_id] for sentence in sentences])
    vectorizer = CountVectorizer(stop_words="english", binary=True, token_pattern=WORD)
    try:
        words = vectorizer.fit_transform([sentence.text for sentence in sentences]).tocsr()  # type: ignore[attr-defined]
    except ValueError:  # no sentence has a word that is not a stop word
        pass
    else:
        stand_in = np.asarray(words.sum(axis=0), dtype=float).ravel()  # how many sentences a word stands in
        stand_in[stand_in < 2] = 0  # a word of one sentence ties it to no other
        said = np.asarray(words @ stand_in).ravel() / np.sqrt(np.asarray(words.sum(axis=1)).ravel() + DAMPING)
        scores = scores + said / max(float(said.max()), 1e-9)
    order = sorted(range(len(sentences)), key=lambda i: (-round(float(scores[i]), 6), i))
    return [sentences[i] for i in order]


def tellable(ranked: Sequence[Sentence], lines: int) -> list[Sentence]:
    """The most central sentences that a stranger would understand, each of another chunk; of lesser ones only where there is
    none."""
    wishes = (
        lambda s: s.is_statement and s.is_of_oneself and s.is_clear,
        lambda s: s.is_statement and s.is_of_oneself,
        lambda s: s.is_statement,
        lambda s: True,
    )
    for wish in wishes:
        by_chunk: dict[str, Sentence] = {}
        for sentence in filter(wish, ranked):
            by_chunk.setdefault(sentence.citation.chunk_id, sentence)
        if by_chunk:
            return list(by_chunk.values())[:lines]
    return []
