"""What a twin drafts in an answer whose document is deleted while it speaks: the choice stays, what it quotes does not."""

from __future__ import annotations

from pathlib import Path

from lpm_kernel.dao.ballot_draft import BallotDraft
from lpm_kernel.stores.ballot_drafts import KeptDraft, list_drafts, withdraw_reasons
from lpm_kernel.stores.documents import put_document
from lpm_kernel.stores.open import Stores
from tests.deletions import during_deletion
from tests.fakes import FakeLlm
from tests.samples import make_document
from tests.test_chat import OLD, llm, twin
from tests.test_reply import BALLOT, reply_to

__all__ = ["llm", "twin"]  # fixtures
ASKED = "What is your cat called? Vote for me on P-12."


def test_a_reason_out_of_a_document_that_is_deleted_at_that_moment_is_not_kept(
    stores: Stores, twin: str, llm: FakeLlm, tmp_path: Path
) -> None:
    """The deletion withdrew the reasons that were there, and this one came right after it, to stay."""
    document = make_document(twin, "cats.md", OLD.encode(), "read")
    with stores.tables.transaction(twin) as connection:
        put_document(connection, document)
    llm.answers.append(BALLOT)
    reply = reply_to(stores, llm, twin, tmp_path, ASKED)
    assert [line.citation.document_sha256 for line in reply.turn.evidence] == [document.sha256]
    spoken = next(reply)

    def ends() -> list[KeptDraft]:
        assert spoken + "".join(reply) == BALLOT
        return reply.drafts

    told = during_deletion(
        stores.tables, twin, [document.sha256], ends, lambda own: withdraw_reasons(own, twin, [document.sha256])
    )
    with stores.tables.transaction(twin) as connection:
        kept = list_drafts(connection, twin)
    assert kept == told
    assert [(each.draft, each.withdrawn, each.citations) for each in kept] == [(BallotDraft("P-12", "for", None), True, ())]
