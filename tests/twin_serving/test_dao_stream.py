"""The dashboard as it changes: the whole first, each change once and at once, and nothing lost to who comes back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from typing import Any

import anyio
import httpx
import pytest

from lpm_kernel.dao.service import Dao
from lpm_kernel.errors import AccessError, UserInputError
from tests.twin_serving.api_server import serve
from tests.twin_serving.dao_town import PLAIN, Town, dao_tables, town
from tests.twin_serving.event_stream import Read, read_events
from tests.twin_serving.test_live_turns import eventually
from twin_serving import dao_stream
from twin_serving.dao_stream import DashboardFeed, Listeners, dashboard_events, seq_of

__all__ = ["dao_tables", "town"]

SECONDS = 20.0


class Listener:
    """One client of the stream, in a thread of its own."""

    def __init__(self, url: str, path: str = "/dao/stream", after: str | None = None) -> None:
        self.status = 0
        self.text = b""
        self.ended = threading.Event()
        self._connection = HTTPConnection(url.removeprefix("http://"), timeout=SECONDS)
        self._connection.request("GET", path, headers={"Last-Event-ID": after} if after else {})
        self._response = self._connection.getresponse()
        self.status = self._response.status
        threading.Thread(target=self._hear, daemon=True).start()

    @property
    def events(self) -> list[Read]:
        return read_events(self.text)

    def leave(self) -> None:
        if self._connection.sock is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self.ended.wait(SECONDS)
        self._response.close()
        self._connection.close()

    def heard(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in self.events if event.name == name]

    def _hear(self) -> None:
        with suppress(OSError, HTTPException, ValueError):
            while piece := self._response.read1():
                self.text += piece
        self.ended.set()


@contextmanager
def listening(url: str, after: str | None = None, path: str = "/dao/stream") -> Iterator[Listener]:
    listener = Listener(url, path, after)
    try:
        yield listener
    finally:
        listener.leave()


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    with httpx.Client(trust_env=False, timeout=SECONDS) as client:
        answer = client.post(f"{url}{path}", json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def proposed(url: str) -> str:
    return post(url, "/proposals", {"title": "Trees", "text": "Ten oaks.", "proposer": "ada"})["proposal_id"]


def voted(url: str, proposal: str, voter: str) -> dict[str, Any]:
    return post(url, "/vote", {"proposal": proposal, "choice": "for", "voter": voter})


def test_first_the_whole_and_then_what_happens_at_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dao_stream, "LOOK_S", 8.0)  # beyond what is waited for here: it is told, and not found at a look
    with serve(town.app()) as url, listening(url) as listener:
        eventually(lambda: listener.heard("state"))
        [state] = listener.heard("state")
        assert (state["members"], state["open"]) == (3, [])
        assert listener.events[0].id == str(state["last_seq"])
        proposal = proposed(url)
        eventually(lambda: listener.heard("change"))
        assert {line["kind"] for line in listener.heard("change")[0]["events"]} >= {"proposal_drafted", "voting_started"}
        voted(url, proposal, "ada")
        voted(url, proposal, "bo")
        eventually(lambda: any(change["resolved"] for change in listener.heard("change")))
        last = listener.heard("change")[-1]
        assert (last["resolved"][0]["proposal_id"], last["resolved"][0]["outcome"]) == (proposal, "passed")
        assert last["standings"][0]["proposal"]["status"] == "passed"
        numbers = [line["seq"] for change in listener.heard("change") for line in change["events"]]
        assert numbers == list(range(state["last_seq"] + 1, state["last_seq"] + 1 + len(numbers))), "each once, in order"


def test_votes_that_stand_otherwise_by_a_delegation_are_told_of(town: Town) -> None:
    """It is about no vote by name, and no listener heard that it had changed all of them until it asked for the whole."""
    with serve(town.app()) as url, listening(url) as listener:
        proposal = proposed(url)
        voted(url, proposal, "bo")

        def tallies() -> list[tuple[str, int]]:
            standings = [each for change in listener.heard("change") for each in change["standings"]]
            return [(each["proposal"]["proposal_id"], each["tally"]["for"]) for each in standings]

        eventually(lambda: (proposal, 1) in tallies())
        before = listener.heard("change")[-1]["last_seq"]
        given = post(url, "/delegations", {"delegator": "ada", "delegate": "bo"})
        eventually(lambda: (proposal, 2) in tallies())
        with listening(url, after=str(before)) as again:
            eventually(lambda: again.heard("state"))
            assert again.heard("state")[0]["open"][0]["tally"]["for"] == 2, "any vote may stand otherwise: the whole"
        with httpx.Client(trust_env=False, timeout=SECONDS) as client:
            assert client.delete(f"{url}/delegations/{given['delegation_id']}").status_code == 200
        eventually(lambda: tallies()[-1] == (proposal, 1))


def test_who_comes_back_hears_what_they_missed_where_somebody_listened_and_else_the_whole(town: Town) -> None:
    """What time alone had changed while nobody listened was told to nobody who came back."""
    with serve(town.app()) as url:
        with listening(url) as stays:
            eventually(lambda: stays.heard("state"))
            with listening(url) as listener:
                eventually(lambda: listener.heard("state"))
                proposal = proposed(url)
                eventually(lambda: listener.heard("change"))
                seen = listener.events[-1].id
            voted(url, proposal, "ada")
            for _ in range(2):  # at once, and when the reader has rested
                with listening(url, seen) as again:
                    eventually(lambda again=again: again.events)
                    assert again.heard("state") == []
                    [change] = again.heard("change")
                    assert [line["kind"] for line in change["events"]] == ["ballot_cast"]
                    assert change["standings"][0]["tally"]["for"] == 1
                time.sleep(1.5)
        eventually(lambda: not any(thread.name == "dao-feed" for thread in threading.enumerate()))
        with listening(url, seen) as alone:
            eventually(lambda: alone.heard("state"))
            assert alone.heard("state")[0]["open"][0]["tally"]["for"] == 1
    with serve(town.app()) as other, listening(other, seen) as elsewhere:
        eventually(lambda: elsewhere.heard("state"))
        assert elsewhere.heard("change") == []


@pytest.mark.parametrize("named", ["x", "-1", "9" * 30, str(2**60)])
def test_an_id_that_no_event_has_is_refused(town: Town, named: str) -> None:
    answer = town.client().get("/dao/stream", headers={"Last-Event-ID": named})
    assert (answer.status_code, answer.json()["code"]) == (422, "event_id_invalid")


def test_a_stream_ends_when_its_life_is_over_and_when_the_server_ends(town: Town) -> None:
    with serve(town.app(stream_life_s=0.3)) as url, listening(url) as listener:
        assert listener.ended.wait(SECONDS)
        assert listener.heard("state")
    app = town.app()
    with serve(app) as url, listening(url) as listener:
        eventually(lambda: listener.heard("state"))
        app.state.stop.begun = True
        assert listener.ended.wait(SECONDS / 2)


def test_listeners_are_bounded_share_one_reader_and_leave_nothing_behind(town: Town) -> None:
    app = town.app(stream_listeners=8)
    with serve(app) as url:
        listeners = [Listener(url) for _ in range(8)]
        eventually(lambda: all(each.heard("state") for each in listeners))
        assert sum(thread.name == "dao-feed" for thread in threading.enumerate()) == 1
        with httpx.Client(trust_env=False, timeout=SECONDS) as client:
            full = client.get(f"{url}/dao/stream")
            assert (full.status_code, full.json()["code"]) == (429, "listeners_busy")
            assert "retry-after" in full.headers
            assert "twin_dao_stream_listeners 8.0" in client.get(f"{url}/metrics").text
            read = counted(app.state.services.dao_side.dao)
            proposed(url)
            eventually(lambda: all(each.heard("change") for each in listeners))
            assert len(read) <= 3, "for eight listeners as for one"
            for each in listeners:
                each.leave()
            eventually(lambda: "twin_dao_stream_listeners 0.0" in client.get(f"{url}/metrics").text)
        eventually(lambda: not any(thread.name == "dao-feed" for thread in threading.enumerate()))


def counted(dao: Dao) -> list[int]:
    """From now on, every time that the ledger's events are read."""
    read, events_after = [], dao.events_after

    def reading(seq: int, limit: int = 500) -> Any:
        read.append(seq)
        return events_after(seq, limit)

    dao.events_after = reading  # type: ignore[method-assign]
    return read


def test_many_ballots_of_one_moment_come_in_few_changes_and_none_is_missing(town: Town) -> None:
    members = [f"m{number}" for number in range(30)]
    town.settle("ada", *members)
    with serve(town.app()) as url, listening(url) as listener:
        eventually(lambda: listener.heard("state"))
        proposal = proposed(url)
        threads = [threading.Thread(target=voted, args=(url, proposal, member)) for member in members[:20]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)

        def ballots() -> list[dict[str, Any]]:
            lines = [line for change in listener.heard("change") for line in change["events"]]
            return [line for line in lines if line["kind"] == "ballot_cast"]

        eventually(lambda: len(ballots()) == 20)
        assert listener.heard("change")[-1]["standings"][0]["tally"]["for"] == 20


def test_the_feed_outlives_a_ledger_that_is_away(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    from lpm_kernel.errors import StoreError

    settings = town.stores.settings.dao.model_copy(update=PLAIN)
    dao, listeners = Dao(town.stores.tables, settings), Listeners(2)
    whole, away = dao.dashboard, [True]

    def dashboard() -> Any:
        if away:
            raise StoreError("tables_unavailable", "told to")
        return whole()

    monkeypatch.setattr(dao, "dashboard", dashboard)
    feed = DashboardFeed(dao, listeners)

    async def listen() -> None:
        with feed.heard():
            with pytest.raises(StoreError):
                await feed.state()
            away.clear()
            while True:
                try:
                    state, number = await feed.state()
                    break
                except StoreError:
                    await anyio.sleep(0.1)
            assert state.members == 3
            events = [event async for event in dashboard_events(feed, state, number, 0.1, lambda: False)]
            assert [event.event for event in events] == ["state"]

    anyio.run(listen)
    feed.close()


def test_places_are_given_back_whatever_happens() -> None:
    told: list[int] = []
    listeners = Listeners(1, told.append)
    with listeners.one_more(), pytest.raises(AccessError), listeners.one_more():
        pass
    with pytest.raises(RuntimeError), listeners.one_more():
        raise RuntimeError
    with listeners.one_more():
        pass
    assert told == [1, 0, 1, 0, 1, 0]


def test_a_number_of_the_ledger_is_read_as_it_was_written() -> None:
    assert (seq_of(None), seq_of(""), seq_of("17")) == (None, None, 17)
    with pytest.raises(UserInputError):
        seq_of("²")
