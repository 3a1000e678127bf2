"""A person's documents to their preferences and decision patterns, each in their own sentence with its exact bytes.

Belongs here: which sentences are asked, citations, and each sentence once.
Does not belong here: the grammar of one sentence (`preference_grammar.py`) and the manner of writing (`voice.py`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from lpm_kernel.english import parse_sentences
from lpm_kernel.L0.embed import title_of
from lpm_kernel.L0.preference_grammar import find_preference
from lpm_kernel.L0.sentences import split_sentences
from lpm_kernel.records import Chunk, Citation, Document, Preference, content_id

MAX_CHARACTERS = 600  # a longer "sentence" is a table or a log that never ends one

_MAY_TAKE_A_SIDE = re.compile(r"\b(?:I|my|me|should|ought)\b", re.IGNORECASE)


def extract_preferences(documents: Sequence[Document], chunks: Sequence[Chunk], texts: Mapping[str, bytes]) -> list[Preference]:
    """What the user's own documents say they prefer, want and decide by, in the order of the documents.

    Only documents that the user made count; the same words in two documents are one preference, cited where they stand first.
    `texts` holds the stored text of each document by its sha256. Deterministic; no language model.
    Raises: IngestionError `parser_missing`.
    """
    sentences = [
        (document, sentence, text)
        for document in documents
        if document.created_by == "user"
        for text in [texts[document.sha256].decode()]
        for sentence in split_sentences(text)
        if _MAY_TAKE_A_SIDE.search(sentence.text) and len(sentence.text) <= MAX_CHARACTERS
    ]
    places = _Places(chunks)
    kept: dict[str, Preference] = {}
    parsed = parse_sentences(sentence.text for _, sentence, _ in sentences)
    for (document, sentence, text), grammar in zip(sentences, parsed, strict=True):
        found = find_preference(grammar, sentence.is_quoted)
        words = " ".join(sentence.text.split())
        if found is None or words.casefold() in kept:
            continue
        start = len(text[: sentence.start].encode())
        end = start + len(text[sentence.start : sentence.end].encode())
        kept[words.casefold()] = Preference(
            preference_id=content_id(document.user_id, document.sha256, start, end),
            text=words,
            domain=(found.about or sentence.heading or title_of(document.filename)),
            kind=found.kind,
            polarity=found.polarity,
            strength=round(min(1.0, found.strength), 2),
            citation=Citation(places.chunk_id(document.sha256, start), document.sha256, document.filename, start, end),
        )
    return list(kept.values())


def find_foreign_preferences(
    preferences: Sequence[Preference], documents: Sequence[Document], texts: Mapping[str, bytes]
) -> list[str]:
    """Ids of preferences that are not, white space apart, the bytes they cite of a document the user made."""
    own = {document.sha256 for document in documents if document.created_by == "user"} & texts.keys()
    return [
        item.preference_id
        for item in preferences
        if item.citation.document_sha256 not in own
        or " ".join(
            texts[item.citation.document_sha256][item.citation.byte_start : item.citation.byte_end]
            .decode(errors="replace")
            .split()
        )
        != item.text
    ]


class _Places:
    """Which chunk a byte of a document lies in. A sentence longer than a chunk is cited by the chunk it begins in."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks: dict[str, list[Chunk]] = {}
        for chunk in chunks:
            self._chunks.setdefault(chunk.document_sha256, []).append(chunk)
        self._starts = {sha256: [chunk.byte_start for chunk in own] for sha256, own in self._chunks.items()}

    def chunk_id(self, sha256: str, byte: int) -> str:
        return self._chunks[sha256][bisect_right(self._starts[sha256], byte) - 1].chunk_id
