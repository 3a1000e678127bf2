"""Rows of `dao_ballot_words`: words that the ledger names by their hash, each its author's, who may take them back.

Belongs here: queries on that table: why somebody voted as they did, and what a proposal quotes of somebody's memory. The ledger
holds hashes alone, so that it stays whole without the words.
Does not belong here: ballots and proposals (`dao_ledger.py`), and who may hear which words (`dao/heard.py`).

Words that quote documents go with any of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.documents import private_documents, shared_documents
from lpm_kernel.stores.schema import dao_ballot_words

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Words:
    """`document_sha256s`: of the author's documents, those that are quoted."""

    text: str
    document_sha256s: tuple[str, ...] = ()


def keep_words(connection: Connection, user_id: str, words: str, document_sha256s: Collection[str] = ()) -> str:
    """Their hash. Idempotent. Words that quote a document which is gone are not kept: what is deleted is never said anew.

    As the author; where documents are quoted, in a transaction that holds `lock_documents`.
    """
    from sqlalchemy import select
    from sqlalchemy.dialects.postgresql import insert

    table, digest, quoted = dao_ballot_words, sha256_hex(words.encode()), set(document_sha256s)
    if quoted and not quoted <= shared_documents(connection, user_id) | private_documents(connection, user_id):
        return digest
    same = (table.c.user_id == user_id, table.c.reasons_sha256 == digest)
    said_before = connection.execute(select(table.c.document_sha256s).where(*same)).scalar_one_or_none()
    if said_before is None or not quoted.issubset(said_before):
        # the same words may have been said before without telling where they stand
        documents = sorted(quoted.union(said_before or ()))
        row = {"user_id": user_id, "reasons_sha256": digest, "words": words, "document_sha256s": documents}
        statement = insert(table).values(row)
        key = [table.c.user_id, table.c.reasons_sha256]
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_={"document_sha256s": documents}))
    return digest


def words_of(connection: Connection, digests: Iterable[str]) -> dict[tuple[str, str], Words]:
    """By author and hash. As the operator everybody's, else the own alone."""
    from sqlalchemy import select

    query = select(dao_ballot_words).where(dao_ballot_words.c.reasons_sha256.in_(sorted(set(digests))))
    return {
        (row.user_id, row.reasons_sha256): Words(row.words, tuple(row.document_sha256s)) for row in connection.execute(query)
    }


def every_words(connection: Connection) -> list[tuple[str, str, str]]:
    """Author, hash and words."""
    from sqlalchemy import select

    table = dao_ballot_words.c
    return [tuple(row) for row in connection.execute(select(table.user_id, table.reasons_sha256, table.words))]


def withdraw_words(connection: Connection, user_id: str, document_sha256s: Collection[str]) -> int:
    """Words that quote one of these documents go; how many. Belongs into the transaction that deletes them."""
    from sqlalchemy import Text, cast, delete
    from sqlalchemy.dialects.postgresql import ARRAY

    quote = dao_ballot_words.c.document_sha256s.op("&&")(cast(sorted(document_sha256s), ARRAY(Text)))
    return connection.execute(delete(dao_ballot_words).where(dao_ballot_words.c.user_id == user_id, quote)).rowcount


def erase_words(connection: Connection, user_id: str) -> int:
    """How many there were."""
    from sqlalchemy import delete

    return connection.execute(delete(dao_ballot_words).where(dao_ballot_words.c.user_id == user_id)).rowcount
