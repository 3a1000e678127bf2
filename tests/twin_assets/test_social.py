"""When groups are looked at, and one look by Dagster's own hands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lpm_kernel.errors import SettingsError, StoreError
from lpm_kernel.settings import Settings
from lpm_kernel.social.report import GroupLook
from lpm_kernel.social.telegram_names import key_of
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_cursors import Cursor, hold_cursor
from tests.social.said import Speaker
from tests.social.telegram_stand_in import Group, message, reader_of
from tests.social.x_stand_in import TOKEN, XServer, post
from tests.twin_assets.workbench import body
from twin_assets.assets import social
from twin_assets.assets.social import DueGroups, telegram_messages
from twin_assets.checks.social import every_group_can_be_read
from twin_assets.social_documents import (
    build_social_documents,
    decide_documents,
    make_due_documents,
    social_documents_job,
)
from twin_assets.social_sensors import Look, ask_for_look, build_telegram_poll, decide_look

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SOON = NOON + timedelta(minutes=5)


def held(chat: str, until: datetime | None, code: str | None = None) -> dict[str, Cursor]:
    return {chat: Cursor("telegram", chat, {"message_id": 1}, until, code, code and "…")}


def test_every_group_is_looked_at_that_may_be_asked() -> None:
    assert decide_look(["a", "b"], {}, NOON) == Look(("a", "b"))
    closed = held("a", SOON, "telegram_no_access")
    assert decide_look(["a", "b"], closed, NOON) == Look(("b",))
    assert decide_look(["a", "b"], closed, SOON) == Look(("a", "b"))
    assert decide_look(["a"], closed, NOON).chats == ()
    assert "within the hour" in decide_look(["a"], closed, NOON).reason


def test_a_pause_that_telegram_asked_for_holds_for_every_group() -> None:
    look = decide_look(["a", "b"], held("a", SOON, "telegram_flood"), NOON)
    assert look.chats == ()
    assert "2026-06-01 12:05:00" in look.reason
    assert decide_look(["a", "b"], held("a", SOON, "telegram_flood"), SOON).chats == ("a", "b")


def test_of_a_group_that_is_no_longer_named_only_a_pause_of_the_account_keeps_others_waiting() -> None:
    assert decide_look(["b"], held("a", SOON, "telegram_no_access"), NOON).chats == ("b",)
    assert decide_look(["b"], held("a", SOON, "telegram_flood"), NOON).chats == ()


def test_what_a_run_is_told_of_an_invitation_is_its_key(settings: Settings) -> None:
    """The configuration of a run is kept and shown."""
    link = "https://t.me/+Planted_invitation-1"
    key = key_of(link)
    assert decide_look([link, "b"], {}, NOON).chats == (key, "b")
    assert decide_look([link, "b"], held(key, SOON, "telegram_no_access"), NOON).chats == ("b",)
    with dg.DagsterInstance.ephemeral() as instance:
        asked = ask_for_look(instance, stores_with(Tables()), reading(settings, link), NOON)
    assert isinstance(asked, dg.RunRequest)
    assert asked.run_config["ops"]["telegram_messages"]["config"]["chats"] == [key]


@dataclass
class Tables:
    """Stands where the tables stand."""

    away: bool = False

    @contextmanager
    def operator_transaction(self) -> Iterator[Any]:
        if self.away:
            raise StoreError("tables_unavailable", "PostgreSQL did not answer")
        yield SimpleNamespace(execute=lambda *_: [])


def reading(settings: Settings, *chats: str) -> Settings:
    return settings.model_copy(update={"social": settings.social.model_copy(update={"telegram_chats": chats})})


def stores_with(tables: Any) -> Any:
    return SimpleNamespace(stores=SimpleNamespace(tables=tables))


def test_a_look_is_asked_for_once_a_slot_and_never_beside_another(settings: Settings) -> None:
    wanted = reading(settings, "canteen", "closed")
    with dg.DagsterInstance.ephemeral() as instance:
        first = ask_for_look(instance, stores_with(Tables()), wanted, NOON)
        same = ask_for_look(instance, stores_with(Tables()), wanted, NOON + timedelta(seconds=10))
        later = ask_for_look(instance, stores_with(Tables()), wanted, SOON)
        assert isinstance(first, dg.RunRequest)
        assert isinstance(same, dg.RunRequest)
        assert isinstance(later, dg.RunRequest)
        assert first.run_key == same.run_key != later.run_key
        assert first.run_config["ops"]["telegram_messages"]["config"]["chats"] == ["canteen", "closed"]
        instance.add_run(dg.DagsterRun(job_name="telegram_job", run_id="a", status=dg.DagsterRunStatus.STARTED))
        assert isinstance(ask_for_look(instance, stores_with(Tables()), wanted, SOON), dg.SkipReason)


def test_tables_that_cannot_be_read_are_a_skip_and_not_a_first_look(settings: Settings) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        skipped = ask_for_look(instance, stores_with(Tables(away=True)), reading(settings, "canteen"), NOON)
    assert isinstance(skipped, dg.SkipReason)
    assert "tables_unavailable" in (skipped.skip_message or "")


def test_without_groups_or_keys_the_sensor_says_what_lacks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TELEGRAM_API_ID", "TELEGRAM_API_HASH", "TELEGRAM_SESSION"):
        monkeypatch.delenv(name, raising=False)
    for wanted, lacks in ((settings, "telegram_chats"), (reading(settings, "canteen"), "TELEGRAM_SESSION")):
        sensor = build_telegram_poll(wanted)
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, resources={"stores": stores_with(Tables())})
            skipped = sensor(context)
        assert isinstance(skipped, dg.SkipReason)
        assert lacks in (skipped.skip_message or "")


def look_of(code: str | None) -> GroupLook:
    return GroupLook("canteen", "Canteen", 1, 0, 0, 0, 0, 0, 0, 0, 0, {}, code, code and "why")


@pytest.mark.parametrize(("code", "passed"), [(None, True), ("telegram_flood", True), ("telegram_no_access", False)])
def test_a_group_that_cannot_be_read_is_warned_of(code: str | None, passed: bool) -> None:
    result = body(every_group_can_be_read)(SimpleNamespace(retry_number=0), telegram_messages=[look_of(code)])
    assert (result.passed, result.severity) == (passed, dg.AssetCheckSeverity.WARN)


@pytest.fixture
def ada(stores: Stores, new_user: Callable[[], str]) -> Speaker:
    return Speaker(stores, new_user())


@pytest.fixture
def group(ada: Speaker) -> Group:
    number = int(ada.account_id) % 10**9 + 1
    return Group(name=f"canteen{number}", number=number)


def look_at(group: Group, stores: Stores, monkeypatch: pytest.MonkeyPatch, *, signed_in: bool = True) -> Any:
    monkeypatch.setattr(social, "open_telegram", lambda settings, **_: reader_of(group, signed_in=signed_in))
    context = SimpleNamespace(retry_number=0)
    function = telegram_messages.node_def.compute_fn.decorated_fn  # type: ignore[attr-defined]
    return function(context, DueGroups(chats=[str(group.name)]), SimpleNamespace(stores=stores))


def test_a_look_becomes_documents_and_figures_without_a_word(
    ada: Speaker, group: Group, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    group.say(message(1, "I like rye.", ada.account_id, date=long_ago), message(2, "Secretly wheat.", "77", date=long_ago))
    output = look_at(group, stores, monkeypatch)
    (row,) = output.value
    assert (row.new, row.of_others, row.code) == (1, {"77": 1}, None)
    assert output.metadata["messages_new"].value == 1
    assert output.metadata["documents_made"].value >= 1
    assert not any(word in str((output.value, output.metadata)) for word in ("rye", "wheat"))
    with stores.tables.transaction(ada.user_id) as connection:
        (document,) = list_documents(connection, ada.user_id)
    assert (document.source, document.created_by, document.status) == ("telegram", "user", "received")


def test_what_was_said_just_now_waits_until_nobody_speaks(
    ada: Speaker, group: Group, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    group.say(message(1, "I am still here.", ada.account_id, date=datetime.now(UTC) - timedelta(minutes=1)))
    assert look_at(group, stores, monkeypatch).value[0].new == 1
    with stores.tables.transaction(ada.user_id) as connection:
        assert list_documents(connection, ada.user_id) == []


def test_where_telegram_lets_nobody_in_every_group_rests(
    ada: Speaker, group: Group, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each look would fail anew, every five minutes, for ever."""
    from lpm_kernel.stores.social_cursors import read_cursor

    with pytest.raises(dg.Failure) as caught:
        look_at(group, stores, monkeypatch, signed_in=False)
    assert isinstance(caught.value.__cause__, SettingsError)
    with stores.tables.operator_transaction() as connection:
        cursor = read_cursor(connection, "telegram", str(group.name))
    assert cursor.code == "telegram_not_signed_in"
    assert decide_look([cursor.chat], {cursor.chat: cursor}, datetime.now(UTC)).chats == ()


def test_posts_of_a_user_are_read_by_a_run_of_theirs(
    stores: Stores, new_user: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = Speaker(stores, new_user(), "x")
    with XServer(post(1, "I like rye.", ada.account_id)) as server:
        monkeypatch.setenv("X_BEARER_TOKEN", TOKEN)
        monkeypatch.setenv("X_BASE_URL", server.url)
        context = SimpleNamespace(
            retry_number=0,
            partition_key=ada.user_id,
            asset_key=dg.AssetKey("x_posts"),
            run_id="r",
            log=SimpleNamespace(info=print, warning=print),
        )
        output = body(social.x_posts)(context, SimpleNamespace(stores=stores))
    assert (output.value["messages_new"], output.value["documents_made"]) == (1, 1)
    assert "rye" not in str(output.metadata)
    assert list(ada.documents()) == [f"x-{ada.account_id}-2026-03-04.txt"]


def ask_for_documents(stores: Any, settings: Settings, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, resources={"stores": SimpleNamespace(stores=stores)})
    asked: Any = build_social_documents(settings)(context)
    return asked


def test_what_has_rested_becomes_documents_though_no_network_is_there(
    ada: Speaker, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a look at Telegram made documents: what a file had brought waited for it, and without keys for ever."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("no network is asked")

    for name in ("open_telegram", "open_x"):
        monkeypatch.setattr(social, name, never)
    ada.says(*ada.words([(1, "I like rye.")], sent_at=datetime.now(UTC) - timedelta(days=2)))
    with dg.DagsterInstance.ephemeral() as instance:
        assert isinstance(ask_for_documents(stores, stores.settings, instance), dg.RunRequest)
        instance.add_run(dg.DagsterRun(job_name=social_documents_job.name, run_id="a", status=dg.DagsterRunStatus.STARTED))
        waits = ask_for_documents(stores, stores.settings, instance)
        assert isinstance(waits, dg.SkipReason)
        told: list[dict[str, Any]] = []
        make_due_documents.compute_fn.decorated_fn(  # type: ignore[attr-defined]
            SimpleNamespace(add_output_metadata=told.append), SimpleNamespace(stores=stores)
        )
    assert told[0]["documents_made"] >= 1
    assert [text.splitlines()[-1] for text in ada.documents().values()] == ["I like rye."]
    assert "rye" not in str(told)


def test_without_anything_due_or_without_tables_no_run_makes_documents(settings: Settings) -> None:
    assert decide_documents([], under_way=False) is not None
    assert decide_documents(["ada"], under_way=True) is not None
    assert decide_documents(["ada"], under_way=False) is None
    with dg.DagsterInstance.ephemeral() as instance:
        skipped = ask_for_documents(SimpleNamespace(tables=Tables(away=True)), settings, instance)
    assert isinstance(skipped, dg.SkipReason)
    assert "tables_unavailable" in (skipped.skip_message or "")


def test_a_pause_that_telegram_asked_for_holds_for_a_look_by_hand_too(
    ada: Speaker, group: Group, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the sensor kept it: whoever materialized the asset asked again."""
    now = datetime.now(UTC)
    until = now + timedelta(minutes=5)
    for paused in (str(group.name), f"before{group.number}"):  # it is the account's, whichever group is looked at
        with stores.tables.operator_transaction() as connection:
            hold_cursor(connection, Cursor("telegram", paused), until, "telegram_flood", "a pause of 300 s", now)
        try:
            (row,) = look_at(group, stores, monkeypatch).value
        finally:
            with stores.tables.operator_transaction() as connection:
                hold_cursor(connection, Cursor("telegram", paused), None, "telegram_flood", "it is over", now)
        assert (row.code, row.not_before) == ("telegram_flood", until.isoformat())
        assert group.asked == []
