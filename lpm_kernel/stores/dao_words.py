"""Rows of `dao_ballot_words`: why somebody voted as they did, in their words, which they may take back.

Belongs here: queries on that table. The ledger holds the hash of the words alone, so that it stays whole without them.
Does not belong here: ballots (`dao_ledger.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lpm_kernel.records import sha256_hex
from lpm_kernel.stores.schema import dao_ballot_words

if TYPE_CHECKING:
    from sqlalchemy import Connection


def keep_words(connection: Connection, user_id: str, words: str) -> str:
    """Their hash. Idempotent."""
    from sqlalchemy.dialects.postgresql import insert

    digest = sha256_hex(words.encode())
    row = {"user_id": user_id, "reasons_sha256": digest, "words": words}
    connection.execute(insert(dao_ballot_words).values(row).on_conflict_do_nothing())
    return digest


def words_of(connection: Connection, digests: Iterable[str]) -> dict[tuple[str, str], str]:
    """By author and hash. As the operator everybody's, else the own alone."""
    from sqlalchemy import select

    query = select(dao_ballot_words).where(dao_ballot_words.c.reasons_sha256.in_(sorted(set(digests))))
    return {(row.user_id, row.reasons_sha256): row.words for row in connection.execute(query)}


def every_words(connection: Connection) -> list[tuple[str, str, str]]:
    from sqlalchemy import select

    return [tuple(row) for row in connection.execute(select(dao_ballot_words))]


def erase_words(connection: Connection, user_id: str) -> int:
    """How many there were."""
    from sqlalchemy import delete

    return connection.execute(delete(dao_ballot_words).where(dao_ballot_words.c.user_id == user_id)).rowcount
