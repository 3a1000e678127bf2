"""Who is named in the settings hears of votes that wait: each once, nothing stale, and later where they do not answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from lpm_kernel.dao.clockwork import turn_clock
from lpm_kernel.dao.notice_hook import tell_due
from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import StoreError
from lpm_kernel.settings import RetrySettings, Settings
from lpm_kernel.stores.webhook import SIGNATURE, Webhook, open_notice_webhook, sign
from tests.dao.ledgers import Clock, Ledger
from tests.json_server import JsonServer


class Heard(Webhook):
    """Answers as it is told to, and remembers what it heard."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", None, 1)
        self.heard: list[Any] = []
        self.away = False

    def post(self, message: Any, retries: RetrySettings, sleep: Any = None) -> int:
        assert retries.max_retries == 0
        if self.away:
            raise StoreError("webhook_unavailable", "told to")
        self.heard.append(message)
        return 1


@pytest.fixture
def dao(ledger: Ledger, clock: Clock) -> Dao:
    ledger.join("ada", "ben", "cleo")
    return ledger.dao(clock)


def test_reminders_and_what_twins_cast_are_told_once(dao: Dao, clock: Clock, settings: Settings) -> None:
    hook = Heard()
    name = dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
    dao.vote("ben", name, "for", cast_by="twin", confidence=0.9)
    assert tell_due(dao, hook, settings.retries) == 1
    [cast] = hook.heard
    assert (cast["kind"], cast["members"], cast["choice"], cast["proposal_id"]) == ("twin_cast", ["ben"], "for", name)
    assert cast["until"] == (clock.at + timedelta(hours=12)).isoformat()
    clock.moves(hours=36)
    dao.advance(name)
    assert tell_due(dao, hook, settings.retries) == 1
    reminder = hook.heard[-1]
    assert (reminder["kind"], reminder["members"], reminder["at_percent"]) == ("vote_waits", ["ada", "cleo"], 50)
    assert (reminder["title"], reminder["event"]) == ("Benches", dao.events_after(0)[-1].seq)
    assert tell_due(dao, hook, settings.retries) == 0


def test_what_is_over_is_told_to_nobody(dao: Dao, clock: Clock, settings: Settings) -> None:
    name = dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
    dao.vote("ben", name, "for", cast_by="twin", confidence=0.9)
    clock.moves(hours=36)
    dao.advance(name)
    dao.cancel("ada", name, "no money")
    hook = Heard()
    assert (tell_due(dao, hook, settings.retries), hook.heard) == (0, [])


def test_who_does_not_answer_is_told_later_and_nothing_is_left_out(dao: Dao, clock: Clock, settings: Settings) -> None:
    hook = Heard()
    name = dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
    for voter in ("ben", "cleo"):
        dao.vote(voter, name, "for", cast_by="twin", confidence=0.9)
    hook.away = True
    with pytest.raises(StoreError, match="told to"):
        tell_due(dao, hook, settings.retries)
    with pytest.raises(StoreError) as caught:
        tell_due(dao, hook, settings.retries)
    assert (caught.value.code, caught.value.retryable) == ("projection_waits", True)
    hook.away = False
    clock.moves(minutes=1)
    assert tell_due(dao, hook, settings.retries) == 2
    assert [each["members"] for each in hook.heard] == [["ben"], ["cleo"]]


class Listener(JsonServer):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, Any]] = []

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        self.heard.append((headers[SIGNATURE], body))
        return 200, {}


def test_the_service_of_the_settings_hears_a_signed_message(dao: Dao, settings: Settings) -> None:
    names = settings.stores
    assert open_notice_webhook(settings, {}) is None
    with Listener() as listener:
        hook = open_notice_webhook(settings, {names.notice_webhook_url: listener.url, names.notice_webhook_secret: "s"})
        assert hook is not None
        name = dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
        dao.vote("ben", name, "for", cast_by="twin", confidence=0.9)
        assert tell_due(dao, hook, settings.retries) == 1
        [(signature, message)] = listener.heard
    assert message["kind"] == "twin_cast"
    assert signature == sign("s", json.dumps(message, separators=(",", ":")).encode())


def test_one_turn_of_the_clock_tells_what_it_brought_about(dao: Dao, clock: Clock, settings: Settings) -> None:
    hook, name = Heard(), dao.propose("ada", "Benches", "The park needs its benches back.").proposal_id
    clock.moves(hours=36)
    turn = turn_clock(dao, None, hook=(hook, settings.retries))
    assert (turn.happened, turn.noticed, turn.not_noticed) == (("members_reminded",), 1, None)
    assert hook.heard[0]["proposal_id"] == name
    hook.away = True
    clock.moves(hours=22)
    turn = turn_clock(dao, None, hook=(hook, settings.retries))
    assert "members_reminded" in turn.happened, "who does not hear keeps no vote from going on"
    assert (turn.noticed, turn.not_noticed) == (0, "webhook_unavailable")
