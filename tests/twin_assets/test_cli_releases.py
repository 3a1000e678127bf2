"""The commands about releases, deletion and dead letters, as a person types them, on running engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L0.library import read_documents
from lpm_kernel.L2.promotion import Verdict
from lpm_kernel.L2.release import documents_hash, offer_release
from lpm_kernel.records import Document
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.dead_letters import put_dead_letter
from lpm_kernel.stores.documents import list_documents
from tests.fakes import FakeEmbedder, no_progress
from tests.samples import make_entries, make_letter, make_release
from tests.twin_assets.conftest import Workshop
from twin_assets.backfill import leave_out_finished
from twin_assets.cli import cli

pytestmark = pytest.mark.slow

PASSED = Verdict(passed=True, proven=True, gates=(), reasons=())
FAILED = Verdict(passed=False, proven=False, gates=(), reasons=("refusal: worse",))
EMBEDDER = FakeEmbedder()


def twin(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


@pytest.fixture
def user_id(workshop: Workshop, new_user: Callable[[], str]) -> str:
    """A user with two read documents."""
    user_id = new_user()
    workshop.add(user_id, "Ada", {"cats.md": "My cat is called Pilchard.", "boat.txt": "The boat is red."})
    read_documents(workshop.stores.tables, workshop.stores.blobs, workshop.settings.limits, user_id, no_progress)
    return user_id


def documents(workshop: Workshop, user_id: str) -> list[Document]:
    with workshop.stores.tables.transaction(user_id) as connection:
        return list_documents(connection, user_id)


def offer(workshop: Workshop, user_id: str, number: int, verdict: Verdict = PASSED) -> None:
    stores, of = workshop.stores, documents(workshop, user_id)
    made = replace(
        make_release(user_id, number),
        gguf_key=f"tenant/{user_id}/lora/{number}.gguf",
        documents=tuple(document.sha256 for document in of),
        documents_sha256=documents_hash(of),
    )
    TenantBlobs(stores.blobs, user_id).put(made.gguf_key, b"adapter")
    entries = make_entries(user_id, [f"note {number}"], EMBEDDER)
    stores.vectors.sync(user_id, made.memory_generation, entries, EMBEDDER.fingerprint)
    offer_release(stores.tables, stores.vectors, made, verdict)


def test_releases_are_listed_promoted_and_gone_back_from(workshop: Workshop, user_id: str) -> None:
    assert "no release yet" in twin("releases", user_id).output
    offer(workshop, user_id, 1)
    offer(workshop, user_id, 2, FAILED)
    lines = twin("releases", user_id).output.splitlines()
    assert [line.split()[:2] for line in lines if "release-" in line] == [["candidate", "release-2"], ["live", "release-1"]]
    assert lines[1].strip() == "refusal: worse"
    assert "adapter+retrieval 31/40" in lines[0]
    promoted = twin("promote", user_id, "release-2")
    assert promoted.exit_code == 0, promoted.output
    assert "release-2" in promoted.output
    back = twin("rollback", user_id)
    assert back.exit_code == 0, back.output
    assert "release-1" in back.output
    assert twin("releases", user_id).output.splitlines()[0].startswith("retired   release-2")
    refused = twin("promote", user_id, "nothing")
    assert getattr(refused.exception, "code", None) == "release_unknown"


def test_a_document_is_deleted_and_what_that_means_is_said(workshop: Workshop, user_id: str) -> None:
    offer(workshop, user_id, 1)
    done = twin("delete-document", user_id, "cats.md")
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()[:2]] == ["deleted", "stale"]
    assert f"twin backfill {user_id}" in done.output
    assert [document.filename for document in documents(workshop, user_id)] == ["boat.txt"]
    listed = twin("releases", user_id).output
    assert "a document it was made from was deleted" in listed
    unknown = twin("delete-document", user_id, "cats.md")
    assert getattr(unknown.exception, "code", None) == "document_unknown"
    last = twin("delete-document", user_id, "boat.txt")
    assert "does not answer" in last.output


def test_dead_letters_are_shown_of_one_user_and_of_all(workshop: Workshop, user_id: str) -> None:
    assert "nothing has failed for good" in twin("dead-letters", user_id).output
    nobody = twin("dead-letters", "nobody-here")
    assert getattr(nobody.exception, "code", None) == "twin_not_found", "of nobody nothing is known, not that all is well"
    with workshop.stores.tables.transaction(user_id) as connection:
        put_dead_letter(connection, make_letter(user_id))
    for words in (("dead-letters", user_id), ("dead-letters",)):
        shown = twin(*words)
        assert shown.exit_code == 0, shown.output
        assert f"{user_id} lora_adapter: 4 attempts, run run-1" in shown.output
        assert "blob_store: the blob store did not answer" in shown.output


def test_a_backfill_of_what_is_unfinished_leaves_out_who_is_built(workshop: Workshop, user_id: str) -> None:
    said: list[str] = []
    assert leave_out_finished(workshop.settings, f"{user_id}, nobody-here", said.append) == f"{user_id},nobody-here"
    offer(workshop, user_id, 1)
    assert leave_out_finished(workshop.settings, f"{user_id},nobody-here", said.append) == "nobody-here"
    assert said == [f"{user_id} is built"]
    stores = workshop.stores
    receive_document(stores.tables, stores.blobs, workshop.settings.limits, user_id, "new.md", b"A new note.")
    assert leave_out_finished(workshop.settings, user_id, said.append) == user_id
