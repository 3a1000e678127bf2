"""What must be true at rest: every store says what PostgreSQL says, and all that was acknowledged is there, once.

Belongs here: the comparison, each difference as a sentence.
Does not belong here: waiting for the rest (`kills.py`), repairing anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.acknowledged import Book
from lpm_kernel.artefacts import decode_records, read_artefact
from lpm_kernel.dao.audit import audit
from lpm_kernel.dao.events import Event, ProposalResolved, proposal_of
from lpm_kernel.dao.service import Dao, open_dao
from lpm_kernel.errors import TwinError
from lpm_kernel.layout import raw_key, text_key
from lpm_kernel.reconcile.run import reconcile_all
from lpm_kernel.records import Chunk, sha256_hex
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import live_release

if TYPE_CHECKING:
    from lpm_kernel.records import Release

ENDED = ("passed", "failed", "cancelled", "implemented")


def differences(stores: Stores, book: Book, user_ids: Sequence[str]) -> list[str]:
    """Everything that is not as it must be; nothing of it is repaired."""
    found = list(book.wrong)
    for user_id in user_ids:
        found += [f"{user_id}: {each}" for each in (*_documents(stores, book, user_id), *_talks(stores, book, user_id))]
        found += [f"{user_id}: {each}" for each in _release(stores, user_id)]
    return found + _votes(open_dao(stores), book)


def unreconciled(stores: Stores, adapters: Path, say: Callable[[str], None]) -> list[str]:
    """What reconciliation finds and cannot explain, and what it still finds after it has repaired the rest.

    What it explains and repairs is said: a kill between two stores leaves such, and the hour's run is there for them.
    """
    first = reconcile_all(stores, adapters).findings
    for finding in first:
        if finding.outcome != "kept":
            say(f"reconciliation: {finding.user_id}, {finding.store}: {finding.what}; {finding.action}")
    wrong = [finding for finding in first if finding.outcome == "reported"]
    again = reconcile_all(stores, adapters).findings
    wrong += [finding for finding in again if finding.outcome in ("reported", "repaired")]
    return [f"{each.user_id}: {each.store} {each.kind}: {each.what} ({each.explained_by})" for each in wrong]


def _documents(stores: Stores, book: Book, user_id: str) -> list[str]:
    wrong = []
    with stores.tables.transaction(user_id) as connection:
        rows = {row.sha256: row for row in list_documents(connection, user_id)}
    for (owner, sha256), data in book.documents.items():
        if owner != user_id:
            continue
        if sha256 not in rows:
            wrong.append(f"acknowledged document {sha256[:8]} has no row")
        elif _get(stores, raw_key(user_id, sha256)) != data:
            wrong.append(f"document {sha256[:8]} is not its bytes in the blob store")
    for sha256, row in rows.items():
        if (user_id, sha256) not in book.sent_documents:
            wrong.append(f"document {sha256[:8]} was sent by nobody")
        if row.status == "read":
            text = _get(stores, text_key(user_id, sha256))
            if text is None or len(text) != row.text_size_bytes:
                wrong.append(f"document {sha256[:8]} is read and its text is not in the blob store")
    names = Counter(name for row in rows.values() if row.status in ("received", "read") for name in row.names)
    return wrong + [f"{count} documents are called {name!r}" for name, count in names.items() if count > 1]


def _talks(stores: Stores, book: Book, user_id: str) -> list[str]:
    """A session is one question: of acknowledged ones both messages are there, of no session any is there twice."""
    from sqlalchemy import select

    from lpm_kernel.stores.schema import chat_message

    columns = (chat_message.c.session_id, chat_message.c.sender, chat_message.c.content)
    with stores.tables.transaction(user_id) as connection:
        rows = connection.execute(select(*columns).where(chat_message.c.user_id == user_id)).all()
    said = {(row.session_id, row.sender): row.content for row in rows}
    wrong = [
        f"session {name!r} has {count} messages" for name, count in Counter(row.session_id for row in rows).items() if count > 2
    ]
    wrong += [
        f"session {row.session_id!r} was begun by nobody" for row in rows if (user_id, row.session_id) not in book.sent_sessions
    ]
    for talk in book.talks:
        if talk.user_id != user_id:
            continue
        if said.get((talk.session_id, "user")) != talk.question:
            wrong.append(f"the question of session {talk.session_id!r} is lost")
        if said.get((talk.session_id, "twin")) != talk.answer:
            wrong.append(f"the answer of session {talk.session_id!r} is lost")
    return wrong


def _release(stores: Stores, user_id: str) -> list[str]:
    """What the live release names is there: its adapter by its hash, and its chunks in the search store."""
    with stores.tables.transaction(user_id) as connection:
        release = live_release(connection, user_id)
    if release is None:
        return []
    wrong = []
    adapter = _get(stores, release.gguf_key)
    if adapter is None or sha256_hex(adapter) != release.gguf_sha256:
        wrong.append(f"the adapter of release {release.release_id} is not in the blob store")
    return wrong + _vectors(stores, release)


def _vectors(stores: Stores, release: Release) -> list[str]:
    user_id = release.user_id
    chunks = read_artefact(stores.blobs, user_id, "chunks", "jsonl", lambda data: decode_records(data, Chunk)) or []
    held = stores.vectors.count(user_id, release.memory_generation)
    if not held:
        return [f"the search store holds nothing of release {release.release_id}"]
    if not chunks or {chunk.document_sha256 for chunk in chunks} != set(release.documents or ()):
        return []  # chunks of the next release, whose memory is not this one's
    texts = {chunk.text_sha256 for chunk in chunks}
    return [] if len(texts) <= held <= len(chunks) else [f"the search store holds {held} of {len(texts)} chunks"]


def _votes(dao: Dao, book: Book) -> list[str]:
    wrong = [f"the ledger: {each}" for each in audit(dao).broken]
    proposals = dao.proposals()
    titles = Counter(each.title for each in proposals)
    wrong += [f"{count} proposals are called {title!r}" for title, count in titles.items() if count > 1]
    wrong += [f"{title!r} was proposed by nobody" for title in titles if title not in book.sent_titles]
    ids = {each.proposal_id: each for each in proposals}
    wrong += [f"acknowledged proposal {title!r} is lost" for title, each in book.proposals.items() if each not in ids]
    ends = Counter(proposal_of(event.happening) for event in _events(dao) if isinstance(event.happening, ProposalResolved))
    for proposal_id, proposal in ids.items():
        wanted = 1 if proposal.status in ENDED and proposal.resolution else 0
        if ends[proposal_id] != wanted:
            wrong.append(f"{proposal.title!r} is {proposal.status} and has {ends[proposal_id]} resolutions")
    for (voter, proposal_id), choice in book.ballots.items():
        cast = [ballot for ballot, _ in dao.ballots(proposal_id) if ballot.voter == voter] if proposal_id in ids else []
        if [ballot.choice for ballot in cast] != [choice]:
            wrong.append(f"the ballot of {voter} on {proposal_id[:8]} is {[each.choice for each in cast]}, not one {choice!r}")
    return wrong


def _events(dao: Dao) -> Iterator[Event]:
    seq = 0
    while events := dao.events_after(seq):
        yield from events
        seq = events[-1].seq


def _get(stores: Stores, key: str) -> bytes | None:
    try:
        return stores.blobs.get(key)
    except TwinError as error:
        if error.code != "blob_not_found":
            raise
        return None
