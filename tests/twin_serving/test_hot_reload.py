"""New releases while people chat: no question fails, who began on the old adapter ends on it, the next is on the new one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from lpm_kernel.chat import answer
from lpm_kernel.erase import delete_user
from lpm_kernel.L2.adapter_cache import AdapterCache
from lpm_kernel.L2.adapter_files import local_copy
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.releases import mark_stale, retire_live
from tests.L2.fake_library import FakeLibrary
from tests.paced_llm import PacedLlm, wait_until
from tests.released import damage, put_release, remember
from tests.twin_serving.conftest import OpenStores
from twin_serving.app import create_app
from twin_serving.deps import Services
from twin_serving.engine.engine import ServingEngine
from twin_serving.engine.releases import ReleaseWatch

QUESTION = "What is your cat called?"
USERS = 10


class CachedLlm(PacedLlm):
    """With adapters in a real cache over a library that loads nothing."""

    def __init__(self, **how) -> None:
        super().__init__(**how)
        self.library = FakeLibrary()
        self.adapters = AdapterCache(self.library, self.base_sha256, 30 * self.library.size_bytes)

    def stream(self, messages, *, tenant, adapter=None, max_tokens, declining=None) -> Iterator[str]:
        with self.adapters.borrow(adapter):
            pieces = super().stream(messages, tenant=tenant, adapter=adapter, max_tokens=max_tokens)

        def hold() -> Iterator[str]:
            with self.adapters.borrow(adapter) as pointer:
                for piece in pieces:
                    assert adapter is None or self.library.loaded[pointer] == adapter.sha256, "freed while in use"
                    yield piece

        return hold()


@pytest.fixture
def llm() -> CachedLlm:
    return CachedLlm(pieces=3)


@pytest.fixture
def engine(llm: CachedLlm, stores: Stores) -> ServingEngine:
    return ServingEngine(llm, stores.settings)


@pytest.fixture
def watch(stores: Stores, engine: ServingEngine, tmp_path: Path) -> ReleaseWatch:
    """Not started: tests look themselves."""
    return ReleaseWatch(stores, engine, tmp_path)


@pytest.fixture
def twin(stores: Stores, new_user: Callable[[], str], llm: CachedLlm) -> str:
    user_id = new_user()
    put_release(stores, user_id, 1, remember(stores, user_id), llm.base_sha256)
    return user_id


def next_release(stores: Stores, twin: str, llm: PacedLlm, number: int = 2) -> str:
    """sha256 of its adapter."""
    return put_release(stores, twin, number, remember(stores, twin), llm.base_sha256).gguf_sha256


def test_a_new_release_is_in_memory_before_the_next_chat_and_the_old_one_is_let_go(
    stores: Stores, engine: ServingEngine, llm: CachedLlm, watch: ReleaseWatch, twin: str, tmp_path: Path
) -> None:
    old = answer(stores, engine, twin, QUESTION, tmp_path).turn.release.gguf_sha256
    assert watch.poll() == 0
    new = next_release(stores, twin, llm)
    assert watch.poll() == 1
    assert (old in llm.adapters, new in llm.adapters) == (False, True)
    loads = llm.library.loads.total()
    assert answer(stores, engine, twin, QUESTION, tmp_path).turn.release.gguf_sha256 == new
    assert llm.library.loads.total() == loads, "the chat found it there"
    assert watch.poll() == 0


def test_the_weights_of_a_person_who_is_deleted_leave_the_memory(
    stores: Stores, engine: ServingEngine, llm: CachedLlm, watch: ReleaseWatch, twin: str, tmp_path: Path
) -> None:
    """Who was deleted between their first chat and the next look at releases was taken for somebody without news: their
    weights stayed in memory until others needed the room."""
    old = answer(stores, engine, twin, QUESTION, tmp_path).turn.release.gguf_sha256
    delete_user(stores, twin, tmp_path / "elsewhere")  # by another process
    assert old in llm.adapters
    assert watch.poll() == 1
    assert old not in llm.adapters
    assert not list(tmp_path.glob(f"*{old}*"))
    assert watch.poll() == 0


def test_a_deletion_by_this_process_is_told_at_once(stores: Stores, llm: CachedLlm, twin: str, tmp_path: Path) -> None:
    services = Services(OpenStores(stores), lambda: llm, tmp_path)  # type: ignore[arg-type]
    with TestClient(create_app(lambda: services)) as api:
        assert api.post(f"/twin/{twin}/chat", json={"question": QUESTION}).status_code == 200
        assert len(llm.adapters) == 1
        assert api.delete(f"/twin/{twin}").status_code == 200
        wait_until(lambda: not len(llm.adapters), 5)  # no look at all comes so soon
    assert not list(tmp_path.iterdir())


def test_a_chat_under_way_ends_on_the_old_adapter(
    stores: Stores, engine: ServingEngine, llm: CachedLlm, watch: ReleaseWatch, twin: str, tmp_path: Path
) -> None:
    answer(stores, engine, twin, QUESTION, tmp_path)
    watch.poll()
    llm.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(answer, stores, engine, twin, QUESTION, tmp_path)
        wait_until(lambda: llm.at_work.total() == 1)
        new = next_release(stores, twin, llm)
        assert watch.follow(twin)
        old = llm.answered[-1][1]
        assert old is not None
        assert old in llm.adapters, "in use"
        llm.gate.set()
        assert under_way.result().text == f"{old} word word"
    assert old not in llm.adapters
    assert answer(stores, engine, twin, QUESTION, tmp_path).text.startswith(new)


def test_fifty_chats_go_on_through_new_releases_and_none_fails(
    stores: Stores, new_user: Callable[[], str], tmp_path: Path
) -> None:
    llm = CachedLlm(pieces=3, piece_s=0.001)
    serving = stores.settings.serving.model_copy(update={"release_poll_s": 0.05, "waiting_per_user": 50})
    models = stores.settings.models.model_copy(update={"slots": 4})
    settings = stores.settings.model_copy(update={"serving": serving, "models": models})
    tuned = replace(stores, settings=settings)
    engine = ServingEngine(llm, settings)
    watch = ReleaseWatch(tuned, engine, tmp_path)
    users = [new_user() for _ in range(USERS)]
    made: dict[str, list[str]] = {}
    live = dict.fromkeys(users, 0)
    """The number of the release that is live for sure."""
    for user_id in users:
        made[user_id] = [put_release(stores, user_id, 1, remember(stores, user_id), llm.base_sha256).gguf_sha256]
    begun = threading.Semaphore(0)

    def chat(number: int) -> None:
        user_id = users[number % USERS]
        for _ in range(2):
            at_least = live[user_id]
            reply = answer(tuned, engine, user_id, QUESTION, tmp_path)
            begun.release()
            assert "release" not in reply.turn.degraded
            assert reply.text == f"{reply.turn.release.gguf_sha256} word word", "it ended on the adapter it began with"
            assert reply.turn.release.release_id in {f"release-{one + 1}" for one in range(at_least, 2)}

    watch.start()
    try:
        with ThreadPoolExecutor(50) as pool:
            chats = [pool.submit(chat, number) for number in range(50)]
            for user_id in users:
                begun.acquire(timeout=20)
                made[user_id].append(next_release(stores, user_id, llm))
                live[user_id] = 1
                watch.tell(user_id)
            for done in chats:
                done.result(60)
    finally:
        watch.close()
    assert llm.library.overlaps == 0
    for user_id in users:
        assert answer(tuned, engine, user_id, QUESTION, tmp_path).text.startswith(made[user_id][-1])


def test_who_has_not_chatted_here_is_not_followed_and_takes_nobodys_room(
    stores: Stores, llm: CachedLlm, watch: ReleaseWatch, twin: str
) -> None:
    assert not watch.tell(twin)
    assert watch.poll() == 0
    assert len(llm.adapters) == 0


def test_an_adapter_that_left_memory_is_fetched_and_not_loaded(
    stores: Stores, engine: ServingEngine, llm: CachedLlm, watch: ReleaseWatch, twin: str, tmp_path: Path
) -> None:
    old = answer(stores, engine, twin, QUESTION, tmp_path).turn.release.gguf_sha256
    watch.poll()
    llm.adapters.retire(old)
    new = next_release(stores, twin, llm)
    assert watch.poll() == 1
    assert new not in llm.adapters
    assert local_copy(tmp_path, twin, new).exists()


def test_a_pinned_user_is_in_memory_from_the_start_and_stays(
    stores: Stores, engine: ServingEngine, llm: CachedLlm, twin: str, tmp_path: Path
) -> None:
    serving = stores.settings.serving.model_copy(update={"pinned_users": (twin,), "release_poll_s": 60.0})
    pinning = replace(stores, settings=stores.settings.model_copy(update={"serving": serving}))
    watch = ReleaseWatch(pinning, engine, tmp_path)
    watch.start()
    try:
        wait_until(lambda: len(llm.adapters) == 1)
        new = next_release(stores, twin, llm)
        assert watch.tell(twin)
        wait_until(lambda: new in llm.adapters and len(llm.adapters) == 1)
    finally:
        watch.close()


def test_a_new_release_that_is_damaged_is_counted_and_the_old_one_goes_on(
    stores: Stores, engine: ServingEngine, llm: CachedLlm, watch: ReleaseWatch, twin: str, tmp_path: Path
) -> None:
    old = answer(stores, engine, twin, QUESTION, tmp_path).turn.release.gguf_sha256
    watch.poll()
    damage(stores, put_release(stores, twin, 2, remember(stores, twin), llm.base_sha256))
    assert watch.poll() == 1
    assert watch.poll() == 0, "looking again would not change it"
    assert old in llm.adapters
    reply = answer(stores, engine, twin, QUESTION, tmp_path)
    assert (reply.turn.release.gguf_sha256, reply.turn.degraded[-1]) == (old, "release")
    assert b'twin_engine_release_failures_total{code="adapter_damaged"} 1.0' in engine.metrics.render()


def test_a_release_that_cannot_be_read_keeps_nobody_else_from_theirs(
    stores: Stores, new_user: Callable[[], str], engine: ServingEngine, llm: CachedLlm, watch: ReleaseWatch, tmp_path: Path
) -> None:
    """A manifest of an older form ended each look at all where it stood: who came after it was never followed."""
    users = [new_user() for _ in range(3)]
    for user_id in users:
        put_release(stores, user_id, 1, remember(stores, user_id), llm.base_sha256)
        answer(stores, engine, user_id, QUESTION, tmp_path)
    watch.poll()
    new = [next_release(stores, user_id, llm) for user_id in users]
    with stores.tables.transaction(users[0]) as connection:
        connection.execute(text("update release set manifest = '{}'::jsonb where status = 'live'"))
    assert watch.poll() == 2
    assert [sha256 in llm.adapters for sha256 in new] == [False, True, True]
    assert watch.poll() == 0
    assert b'twin_engine_release_failures_total{code="artefact_unreadable"} 1.0' in engine.metrics.render(), "looked at once"
    assert next_release(stores, users[0], llm, 3) not in llm.adapters
    assert watch.poll() == 1, "the next one is another matter"


def test_messages_that_never_cease_keep_nobody_from_being_looked_at(
    stores: Stores, new_user: Callable[[], str], engine: ServingEngine, llm: CachedLlm, twin: str, tmp_path: Path
) -> None:
    serving = stores.settings.serving.model_copy(update={"release_poll_s": 0.05})
    watch = ReleaseWatch(replace(stores, settings=stores.settings.model_copy(update={"serving": serving})), engine, tmp_path)
    told_of = new_user()
    put_release(stores, told_of, 1, remember(stores, told_of), llm.base_sha256)
    for user_id in (twin, told_of):
        answer(stores, engine, user_id, QUESTION, tmp_path)
    watch.poll()
    new = next_release(stores, twin, llm)
    ended = threading.Event()

    def tell_on() -> None:
        while not ended.wait(0.0002):
            watch.tell(told_of)

    for _ in range(200):
        watch.tell(told_of)
    teller = threading.Thread(target=tell_on)
    teller.start()
    watch.start()
    try:
        wait_until(lambda: new in llm.adapters)
    finally:
        ended.set()
        teller.join()
        watch.close()


def test_the_local_copy_of_what_a_deletion_made_stale_goes_with_the_swap_and_any_other_stays(
    stores: Stores, engine: ServingEngine, llm: CachedLlm, watch: ReleaseWatch, twin: str, tmp_path: Path
) -> None:
    """Deleting removed the copies on the machine that deleted; one that serves on another kept the weights on its disk."""
    for number, stale in ((2, False), (3, True)):
        old = answer(stores, engine, twin, QUESTION, tmp_path).turn.release.gguf_sha256
        watch.poll()
        if stale:
            with stores.tables.transaction(twin) as connection:
                mark_stale(connection, twin, ["d" * 64], "a document it was made from was deleted")
        new = next_release(stores, twin, llm, number)
        assert watch.poll() == 1
        assert local_copy(tmp_path, twin, old).exists() is not stale
        assert local_copy(tmp_path, twin, new).exists()


def test_a_twin_that_ends_lets_its_adapter_go(
    stores: Stores, engine: ServingEngine, llm: CachedLlm, watch: ReleaseWatch, twin: str, tmp_path: Path
) -> None:
    answer(stores, engine, twin, QUESTION, tmp_path)
    watch.poll()
    with stores.tables.transaction(twin) as connection:
        retire_live(connection, twin)
    assert watch.poll() == 1
    assert len(llm.adapters) == 0
