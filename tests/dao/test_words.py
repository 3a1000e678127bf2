"""Words that quote a person's documents: no member hears them while a document is private, they go with it, and the ledger,
which keeps everything, never had them."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.heard import Quote, heard, shared_by
from lpm_kernel.dao.service import Dao
from lpm_kernel.records import Document, sha256_hex
from lpm_kernel.stores.dao_words import Words, withdraw_words
from lpm_kernel.stores.documents import mark_deleted, put_document, set_private
from tests.dao.ledgers import NOON, Clock, Ledger

SAID = "“My back hurts on the bench.” (ben, diary.md, bytes 0-28)"


@pytest.fixture
def dao(ledger: Ledger, clock: Clock) -> Dao:
    ledger.join("ada", "ben", "cleo")
    return ledger.dao(clock)


@pytest.fixture
def diary(ledger: Ledger) -> str:
    return written(ledger, "ben", "diary.md")


def written(ledger: Ledger, user_id: str, name: str) -> str:
    sha256 = sha256_hex(f"{user_id} {name}".encode())
    with ledger.tables.transaction(user_id) as connection:
        put_document(connection, Document(user_id, sha256, name, "text/markdown", 28, "upload", "user", NOON))
    return sha256


def keeps_private(ledger: Ledger, user_id: str, sha256: str, private: bool = True) -> None:
    with ledger.tables.transaction(user_id) as connection:
        assert set_private(connection, user_id, sha256, private)


def deletes(ledger: Ledger, user_id: str, sha256: str) -> None:
    with ledger.tables.transaction(user_id) as connection:
        mark_deleted(connection, user_id, [sha256], pending=False)
        withdraw_words(connection, user_id, [sha256])


def in_the_ledger(ledger: Ledger, words: str) -> bool:
    with ledger.tables.operator_transaction() as connection:
        found = text("select count(*) from dao_event where position(:words in payload::text) > 0")
        return connection.execute(found, {"words": words}).scalar_one() > 0


def told(dao: Dao, name: str) -> list[str | None]:
    return [heard(words, shared_by(dao.tables, ballot.voter)) for ballot, words in dao.ballots(name)]


def test_a_twins_reasons_go_with_the_document_that_they_quote(dao: Dao, ledger: Ledger, diary: str) -> None:
    """They outlived it: whoever read the ballots read the diary."""
    other = written(ledger, "ben", "letter.md")
    name = dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
    dao.vote("ben", name, "for", cast_by="twin", confidence=0.9, reasons=SAID, citations=[f"{diary}:0-28", f"{other}:0-9"])
    assert told(dao, name) == [SAID]
    keeps_private(ledger, "ben", diary)
    assert told(dao, name) == [None]
    keeps_private(ledger, "ben", diary, private=False)
    assert told(dao, name) == [SAID]
    deletes(ledger, "ben", diary)
    ((ballot, words),) = dao.ballots(name)
    assert (words, ballot.reasons_sha256) == (None, sha256_hex(SAID.encode()))
    assert audit(dao).ok


def test_a_persons_own_reasons_go_with_what_they_quoted_from_a_draft(dao: Dao, ledger: Ledger, diary: str) -> None:
    name = dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
    dao.vote("ada", name, "for", reasons="Because.")
    dao.vote("ben", name, "for", reasons=SAID, documents=[diary, "memory", "fact"])
    assert [words for _, words in dao.ballots(name)] == [Words("Because."), Words(SAID, (diary,))]
    deletes(ledger, "ben", diary)
    assert told(dao, name) == ["Because.", None]


def test_the_same_words_go_with_each_document_that_they_were_ever_quoted_from(dao: Dao, ledger: Ledger, diary: str) -> None:
    names = [dao.propose("ada", f"Number {number}", "A bench.").proposal_id for number in range(2)]
    dao.vote("ben", names[0], "for", reasons=SAID)
    dao.vote("ben", names[1], "for", reasons=SAID, documents=[diary])
    deletes(ledger, "ben", diary)
    assert [told(dao, name) for name in names] == [[None], [None]]


def test_what_is_deleted_already_is_not_said_anew(dao: Dao, ledger: Ledger, diary: str) -> None:
    name = dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
    deletes(ledger, "ben", diary)
    dao.vote("ben", name, "for", reasons=SAID, documents=[diary])
    assert dao.ballots(name)[0][1] is None


def amended(dao: Dao, diary: str, **more: object) -> str:
    body = f"A bench.\n\nOn these conditions:\n1. {SAID}"
    made = dao.propose("ada", "Amended: Benches", body, quotes=[Quote("ben", SAID, diary)], **more)  # type: ignore[arg-type]
    return made.proposal_id


def test_what_an_amendment_quotes_is_read_in_it_and_is_not_in_the_ledger(dao: Dao, ledger: Ledger, diary: str) -> None:
    """Other people's words went into the ledger for ever."""
    name = amended(dao, diary)
    for read in (dao.proposal(name), dao.standing(name).proposal, dao.proposals()[0]):
        assert read.text == f"A bench.\n\nOn these conditions:\n1. {SAID}"
    assert not in_the_ledger(ledger, "My back hurts")
    assert not in_the_ledger(ledger, "diary.md"), "a name of a document is its owner's as well"
    assert in_the_ledger(ledger, sha256_hex(SAID.encode()))


def test_what_an_amendment_quotes_goes_with_its_document_and_is_withheld_while_it_is_private(
    dao: Dao, ledger: Ledger, diary: str
) -> None:
    name = amended(dao, diary)
    gone = f"A bench.\n\nOn these conditions:\n1. [withdrawn by ben, sha256 {sha256_hex(SAID.encode())}]"
    keeps_private(ledger, "ben", diary)
    assert dao.proposal(name).text == gone
    keeps_private(ledger, "ben", diary, private=False)
    assert SAID in dao.proposal(name).text
    deletes(ledger, "ben", diary)
    assert dao.proposal(name).text == gone
    assert audit(dao).ok


def test_an_amendment_of_an_amendment_repeats_no_quotation_into_the_ledger(dao: Dao, ledger: Ledger, diary: str) -> None:
    first = amended(dao, diary)
    again = dao.propose("cleo", "Once more", dao.proposal(first).text + " And paint.", amends=first).proposal_id
    assert dao.proposal(again).text.endswith(f"{SAID} And paint.")
    assert not in_the_ledger(ledger, "My back hurts")
    deletes(ledger, "ben", diary)
    assert "My back hurts" not in dao.proposal(again).text


def test_the_same_request_with_quotations_proposes_once(dao: Dao, diary: str) -> None:
    assert amended(dao, diary, key="plan-1") == amended(dao, diary, key="plan-1")
    assert len(dao.proposals()) == 1
