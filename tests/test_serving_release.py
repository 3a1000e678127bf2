"""Which release answers when the live one's adapter does not load, and which must not come back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from lpm_kernel.chat import answer, begin_turn
from lpm_kernel.errors import LlmError, StoreError
from lpm_kernel.L2.release import promote_again
from lpm_kernel.serving_release import Refusals, choose_release, confirm_choice
from lpm_kernel.stores.blobs import TenantBlobs
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import mark_stale, retire_live
from tests.paced_llm import PacedLlm
from tests.released import damage, put_release, remember

QUESTION = "What is your cat called?"


@pytest.fixture
def llm() -> PacedLlm:
    return PacedLlm()


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], llm: PacedLlm) -> str:
    """Three releases of one memory; the third is live."""
    user_id = new_user()
    generation = remember(stores, user_id)
    for number in (1, 2, 3):
        put_release(stores, user_id, number, generation, llm.base_sha256)
    return user_id


def chosen(stores: Stores, llm: PacedLlm, twin: str, folder: Path, refusals: Refusals | None = None) -> tuple[str, bool]:
    choice = choose_release(stores, llm, twin, folder, refusals or Refusals())
    with stores.tables.transaction(twin) as connection:
        choice = confirm_choice(connection, twin, choice)
    assert choice is not None
    return choice.release.release_id, choice.degraded


def releases(stores: Stores, twin: str):
    from lpm_kernel.stores.releases import list_releases

    with stores.tables.transaction(twin) as connection:
        return {release.release_id: release for release in list_releases(connection, twin)}


def test_the_live_release_answers_while_its_adapter_loads(stores: Stores, llm: PacedLlm, twin: str, tmp_path: Path) -> None:
    assert chosen(stores, llm, twin, tmp_path) == ("release-3", False)


def test_a_damaged_adapter_leaves_the_release_before_it_serving_and_the_turn_says_so(
    stores: Stores, llm: PacedLlm, twin: str, tmp_path: Path
) -> None:
    live = releases(stores, twin)["release-3"]
    damage(stores, live)
    reply = answer(stores, llm, twin, QUESTION, tmp_path, "s")
    assert reply.turn.release.release_id == "release-2"
    assert reply.turn.degraded[-1] == "release"
    assert llm.answered == [(twin, reply.turn.release.gguf_sha256)]
    assert [line.text for line in reply.turn.evidence] == ["My cat is called Pilchard."], "memory is as good as ever"


def test_a_foreign_adapter_and_one_that_is_gone_are_passed_over_too(
    stores: Stores, llm: PacedLlm, twin: str, tmp_path: Path
) -> None:
    made = releases(stores, twin)
    llm.refuses.add(made["release-3"].gguf_sha256)
    TenantBlobs(stores.blobs, twin).delete(made["release-2"].gguf_key)
    assert chosen(stores, llm, twin, tmp_path) == ("release-1", True)


def test_a_release_that_a_deletion_made_stale_does_not_come_back(
    stores: Stores, llm: PacedLlm, twin: str, tmp_path: Path
) -> None:
    made = releases(stores, twin)
    damage(stores, made["release-3"])
    with stores.tables.transaction(twin) as connection:
        connection.execute(text("update release set stale_reason = 'a document was deleted' where release_id = 'release-2'"))
    assert chosen(stores, llm, twin, tmp_path) == ("release-1", True)


def test_a_deletion_between_the_choice_and_the_turn_counts(stores: Stores, llm: PacedLlm, twin: str, tmp_path: Path) -> None:
    damage(stores, releases(stores, twin)["release-3"])
    choice = choose_release(stores, llm, twin, tmp_path, Refusals())
    assert choice is not None
    assert choice.release.release_id == "release-2"
    with stores.tables.transaction(twin) as connection:
        mark_stale(connection, twin, ["d" * 64], "a document it was made from was deleted")
    with stores.tables.transaction(twin) as connection:
        now = confirm_choice(connection, twin, choice)
        assert now is not None
        assert (now.release.release_id, now.degraded) == ("release-3", False)
        retire_live(connection, twin)
        assert confirm_choice(connection, twin, choice) is None


def test_a_release_promoted_between_the_choice_and_the_turn_answers(
    stores: Stores, llm: PacedLlm, twin: str, tmp_path: Path
) -> None:
    made = releases(stores, twin)
    damage(stores, made["release-3"])
    choice = choose_release(stores, llm, twin, tmp_path, Refusals())
    put_release(stores, twin, 4, made["release-3"].memory_generation, llm.base_sha256)
    with stores.tables.transaction(twin) as connection:
        now = confirm_choice(connection, twin, choice)
    assert now is not None
    assert (now.release.release_id, now.degraded) == ("release-4", False)


def test_a_candidate_and_a_later_release_are_not_gone_back_to(stores: Stores, llm: PacedLlm, twin: str, tmp_path: Path) -> None:
    """A person went back to the second; the third was better left alone, and one that never served is no way back."""
    made = releases(stores, twin)
    promote_again(stores.tables, stores.blobs, stores.vectors, twin, "release-2")
    damage(stores, made["release-2"])
    with stores.tables.transaction(twin) as connection:
        connection.execute(text("update release set status = 'candidate' where release_id = 'release-1'"))
    assert chosen(stores, llm, twin, tmp_path) == ("release-2", False), "none is left: the answer will say why"


def test_a_refusal_is_said_once_counted_once_and_not_fetched_for_every_question(
    stores: Stores, llm: PacedLlm, twin: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    refusals = Refusals(60.0, lambda: now)
    live = releases(stores, twin)["release-3"]
    llm.refuses.add(live.gguf_sha256)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert chosen(stores, llm, twin, tmp_path, refusals) == ("release-2", True)
    said = [record for record in caplog.records if record.name == "lpm_kernel.serving_release"]
    assert (refusals.total, len(said), llm.checked[live.gguf_sha256]) == (1, 1, 1)
    assert "release-3" in caplog.text
    llm.refuses.clear()
    assert chosen(stores, llm, twin, tmp_path, refusals) == ("release-2", True)
    now = 61.0
    assert chosen(stores, llm, twin, tmp_path, refusals) == ("release-3", False), "it is tried again, and loads"


class AwayBlobs:
    def __init__(self, real) -> None:
        self._real = real

    def __getattr__(self, name: str):
        return getattr(self._real, name)

    def get_file(self, key: str, path: Path) -> None:
        raise StoreError("blob_store", "the blob store did not answer")


def test_a_blob_store_that_is_away_says_nothing_of_an_adapter(stores: Stores, llm: PacedLlm, twin: str, tmp_path: Path) -> None:
    away = replace(stores, blobs=AwayBlobs(stores.blobs))
    refusals = Refusals()
    assert chosen(away, llm, twin, tmp_path, refusals) == ("release-3", False)
    assert refusals.total == 0
    chosen(stores, llm, twin, tmp_path)
    assert answer(away, llm, twin, QUESTION, tmp_path).turn.release.release_id == "release-3", "the local copy is as good"


class FullLlm(PacedLlm):
    def stream(self, messages, **how):
        raise LlmError("too_many_requests", "two are at work", retry_after_s=3)


def test_a_question_too_many_is_refused_before_it_is_stored(stores: Stores, twin: str, tmp_path: Path) -> None:
    with pytest.raises(LlmError, match="too_many_requests"):
        begin_turn(stores, FullLlm(), twin, QUESTION, "s", adapters=tmp_path)
    with stores.tables.transaction(twin) as connection:
        assert connection.execute(text("select count(*) from chat_message")).scalar_one() == 0
