"""What all members may hear of words that the ledger names by their hash: what quotes a document that its writer keeps to
themself is withheld, and what quotes one that is deleted is gone. What is left is the hash.

Belongs here: that rule, for reasons of ballots and for quotations in the text of a proposal.
Does not belong here: the words' rows (`stores/dao_words.py`), and writing them (`service.py`).

A proposal that quotes members holds, in the ledger, `[[member sha256:…]]` in place of each quotation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lpm_kernel.records import USER_ID_PATTERN, sha256_hex
from lpm_kernel.request_context import current_request, within_request
from lpm_kernel.stores.dao_words import Words, keep_words
from lpm_kernel.stores.documents import lock_documents, shared_documents

if TYPE_CHECKING:
    from lpm_kernel.stores.tables import Tables

_QUOTE = re.compile(r"\[\[(?P<member>" + USER_ID_PATTERN.pattern + r") sha256:(?P<digest>[0-9a-f]{64})\]\]")


@dataclass(frozen=True, slots=True)
class Quote:
    """Of a member's memory, as it stands in a text: `words` to the letter, and the document that they are from."""

    member: str
    words: str
    document_sha256: str


def shared_by(tables: Tables, member: str) -> frozenset[str]:
    """sha256 of the documents of a member that others may hear of.

    Why the fence of the request is moved for this one query: which documents are shared is nothing but what may be told here.
    """
    with ExitStack() as fence:
        _open_rows_of(member, fence)
        with tables.transaction(member) as connection:
            return shared_documents(connection, member)


def heard(words: Words | None, shared: Collection[str]) -> str | None:
    """What others hear of words; `shared`: the author's documents that they may hear of."""
    return words.text if words is not None and set(words.document_sha256s).issubset(shared) else None


def keep_quotes(tables: Tables, quotes: Sequence[Quote]) -> None:
    """Each as its member's row, so that it goes with its document, and with them. One whose document is gone is not kept.

    Why not in the transaction of the proposal: that is its proposer's, and these are other people's rows.
    """
    for quote in quotes:
        with ExitStack() as fence:
            _open_rows_of(quote.member, fence)
            with tables.transaction(quote.member) as connection:
                lock_documents(connection, quote.member)
                keep_words(connection, quote.member, quote.words, [quote.document_sha256])


def cite_quotes(text: str, quotes: Iterable[Quote]) -> str:
    """The text as the ledger holds it."""
    for quote in quotes:
        text = text.replace(quote.words, f"[[{quote.member} sha256:{sha256_hex(quote.words.encode())}]]")
    return text


def cite_again(text: str, cited: str, words: Mapping[tuple[str, str], Words]) -> str:
    """A text that repeats what another one quotes, as the ledger holds it. `cited`: the other, as the ledger holds that."""
    for found in _QUOTE.finditer(cited):
        kept = words.get((found["member"], found["digest"]))
        if kept is not None:
            text = text.replace(kept.text, found[0])
    return text


def without_quotes(cited: str) -> str:
    """Of a text as the ledger holds it, what its writer wrote."""
    return _QUOTE.sub("", cited)


def digests_in(texts: Iterable[str]) -> set[str]:
    return {found["digest"] for text in texts for found in _QUOTE.finditer(text)}


def with_quotes(text: str, words: Mapping[tuple[str, str], Words], shared: Callable[[str], Collection[str]]) -> str:
    """The text as members read it. `shared`: of a member, the documents that others may hear of."""

    def told(found: re.Match[str]) -> str:
        member, digest = found["member"], found["digest"]
        kept = words.get((member, digest))
        said = heard(kept, shared(member)) if kept is not None else None
        return said if said is not None else f"[withdrawn by {member}, sha256 {digest}]"

    return _QUOTE.sub(told, text)


def _open_rows_of(member: str, fence: ExitStack) -> None:
    context = current_request()
    if context is not None:
        fence.enter_context(within_request(replace(context, may_open=frozenset({member}))))
