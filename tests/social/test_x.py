"""Posts on X, read by Tweepy's client from a stand-in of its API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lpm_kernel.errors import IngestionError, SettingsError, UserInputError
from lpm_kernel.social.records import Counts
from lpm_kernel.social.store import link_account
from lpm_kernel.social.x import XImport, import_x
from lpm_kernel.social.x_client import BREAKER, XReader, open_x
from lpm_kernel.social.x_wire import post_of_api
from lpm_kernel.stores.breaker import Breakers, Circuit
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_cursors import read_cursor
from tests.social.said import Speaker
from tests.social.x_stand_in import TOKEN, XServer, goes_on, post

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)


@pytest.fixture
def ada(stores: Stores, new_user: Callable[[], str]) -> Speaker:
    return Speaker(stores, new_user(), "x")


@pytest.fixture
def server() -> Iterator[XServer]:
    with XServer() as started:
        yield started


@pytest.fixture
def reader(stores: Stores, server: XServer) -> Iterator[XReader]:
    with closing(open_x(stores.settings, {"X_BEARER_TOKEN": TOKEN, "X_BASE_URL": server.url})) as opened:
        yield opened


@pytest.fixture
def read(ada: Speaker, reader: XReader) -> Callable[..., XImport]:
    return lambda at=NOW: import_x(ada.stores, ada.user_id, reader, ada.adapters, at)


def put(server: XServer, *posts: dict) -> None:
    server.posts.update({int(each["id"]): each for each in posts})


def test_posts_become_documents_by_day_and_thread(ada: Speaker, server: XServer, read: Callable[..., XImport]) -> None:
    me = ada.account_id
    put(
        server,
        post(1, "Good morning &amp; hello.", me),
        post(2, "A thread:", me),
        goes_on(3, "It goes on.", me, 2, 2),
        goes_on(4, "And ends.", me, 2, 3),
        post(5, "@ben @cleo I do not think so.", me, conversation_id=99, in_reply_to_user_id="7"),
        post(6, "RT @ben: Not mine.", me),
        post(
            7, "See https://t.co/a", me, entities={"urls": [{"url": "https://t.co/a", "expanded_url": "https://example.org/"}]}
        ),
        post(8, "Of another.", "7"),
    )
    done = read()
    assert (done.counts.new, done.counts.not_own, done.made.made) == (6, 1, 2)
    assert ada.documents() == {
        f"x-{me}-2026-03-04.txt": (
            "# X, 2026-03-04\n\nGood morning & hello.\n\nI do not think so.\n\nSee https://example.org/\n"
        ),
        f"x-{me}-thread-2.txt": "# X, 2026-03-04\n\nA thread:\n\nIt goes on.\n\nAnd ends.\n",
    }
    again = read()
    assert (again.counts.stored, again.made.made) == (0, 0)


@pytest.mark.parametrize("page_size", [1, 4, 100])
def test_pages_are_read_to_the_end_and_next_time_only_what_is_new(
    ada: Speaker, server: XServer, read: Callable[..., XImport], page_size: int
) -> None:
    server.page_size = page_size
    put(server, *(post(number, f"Post {number}.", ada.account_id) for number in range(1, 10)))
    assert read().counts.new == 9
    put(server, post(11, "New.", ada.account_id))
    before = len(server.asked)
    assert read().counts.new == 1
    assert server.asked[before][1]["since_id"] == "9"


def test_a_page_of_reposts_alone_is_not_the_end(server: XServer, ada: Speaker, read: Callable[..., XImport]) -> None:
    """X counts before it leaves reposts out: a page without a post may be followed by others."""
    server.empty_first = True
    put(server, post(1, "Mine.", ada.account_id))
    assert read().counts.new == 1


def test_a_pause_that_x_asks_for_is_kept_and_nothing_is_lost_or_read_twice(
    ada: Speaker, server: XServer, read: Callable[..., XImport], new_user: Callable[[], str]
) -> None:
    me = ada.account_id
    server.page_size = 2
    put(server, *(post(number, f"Post {number}.", me) for number in range(1, 8)))
    server.limit_after = 2
    stopped = read()
    assert (stopped.counts.new, stopped.made.made) == (4, 1), "what was read is there"
    assert stopped.not_before == NOW + timedelta(minutes=15)
    asked = len(server.asked)
    server.limit_after = None
    assert read(NOW + timedelta(minutes=14)).not_before == stopped.not_before
    assert len(server.asked) == asked, "X is not asked before"
    other = Speaker(ada.stores, new_user(), "x")
    with closing(open_x(ada.stores.settings, {"X_BEARER_TOKEN": TOKEN, "X_BASE_URL": server.url})) as reader:
        waits = import_x(ada.stores, other.user_id, reader, other.adapters, NOW + timedelta(minutes=14))
    assert (waits.not_before, waits.accounts) == (stopped.not_before, 0)
    assert len(server.asked) == asked, "the pause is the token's: it holds for everybody's accounts"
    put(server, post(9, "Said meanwhile.", me))
    done = read(NOW + timedelta(minutes=16))
    assert (done.counts.new, done.not_before) == (4, None)
    with ada.stores.tables.operator_transaction() as connection:
        assert read_cursor(connection, "x", me).position == {"since": 9}
    (day,) = ada.documents().values()
    assert [f"Post {number}." in day for number in range(1, 8)] == [True] * 7


def test_a_post_that_is_gone_is_withdrawn(ada: Speaker, server: XServer, read: Callable[..., XImport]) -> None:
    put(server, post(1, "Oops.", ada.account_id), post(2, "Fine.", ada.account_id))
    read()
    del server.posts[1]
    done = read()
    assert (done.counts.deleted, done.made.withdrawn) == (1, 1)
    assert list(ada.documents().values()) == ["# X, 2026-03-04\n\nFine.\n"]


def test_an_edited_post_is_one_message_in_its_last_version(ada: Speaker, server: XServer, read: Callable[..., XImport]) -> None:
    put(server, post(1, "I like ray.", ada.account_id))
    read()
    put(server, post(3, "I like rye.", ada.account_id, edits=(1, 3)))
    assert read().counts.edited == 1
    assert list(ada.documents().values()) == ["# X, 2026-03-04\n\nI like rye.\n"]


def test_a_long_post_is_whole_and_a_quoted_one_is_the_others() -> None:
    note = {"text": "All of a long post.", "entities": {}}
    quoting = post(1, "All of a…", "5", note_tweet=note, referenced_tweets=[{"type": "quoted", "id": "9"}])
    message = post_of_api(quoting, "5", Counts())
    assert message is not None
    assert (message.text, message.media) == ("All of a long post.", None)
    counts = Counts()
    assert post_of_api(post(2, "Not mine.", "5", referenced_tweets=[{"type": "retweeted", "id": "9"}]), "5", counts) is None
    assert counts.not_own == 1
    with_photo = post(3, "Look https://t.co/p", "5", attachments={"media_keys": ["3_1"]}, entities={"urls": [
        {"url": "https://t.co/p", "expanded_url": "https://x.com/a/status/3/photo/1", "display_url": "pic.x.com/p"}
    ]})  # fmt: skip
    pictured = post_of_api(with_photo, "5", Counts())
    assert pictured is not None
    assert (pictured.text, pictured.media) == ("Look", "media")


@pytest.mark.parametrize(
    ("answer", "error", "code", "retryable"),
    [
        ((401, {"title": "Unauthorized"}), SettingsError, "x_not_signed_in", False),
        ((403, {"title": "Forbidden"}), IngestionError, "x_no_access", False),
        ((404, {"title": "Not Found"}), IngestionError, "x_no_access", False),
        ((503, {"title": "Unavailable"}), IngestionError, "x_refused", True),
        ((400, {"title": "Invalid"}), IngestionError, "x_refused", False),
        (
            (200, {"errors": [{"title": "Authorization Error", "detail": "not authorized"}]}),
            IngestionError,
            "x_no_access",
            False,
        ),
        ((200, {"data": [{"id": "7", "text": "no date"}], "meta": {}}), IngestionError, "post_foreign", False),
    ],
)
def test_what_x_refuses_is_named_and_never_taken_for_nothing(
    ada: Speaker, server: XServer, read: Callable[..., XImport], answer: tuple, error: type, code: str, retryable: bool
) -> None:
    server.fails = answer
    with pytest.raises(error) as caught:
        read()
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    with ada.stores.tables.operator_transaction() as connection:
        assert read_cursor(connection, "x", ada.account_id).position == {}


def test_a_server_that_is_not_there_may_be_asked_again(stores: Stores, ada: Speaker, free_port: int) -> None:
    nobody = {"X_BEARER_TOKEN": TOKEN, "X_BASE_URL": f"http://127.0.0.1:{free_port}"}
    with closing(open_x(stores.settings, nobody)) as reader, pytest.raises(IngestionError) as caught:
        import_x(stores, ada.user_id, reader, ada.adapters, NOW)
    assert (caught.value.code, caught.value.retryable) == ("x_unreachable", True)


def test_without_a_token_or_an_account_the_cure_is_told(stores: Stores, reader: XReader, user_id: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_x(stores.settings, {"TWIN_HOME": "/nonexistent"})
    assert (caught.value.code, "X_BEARER_TOKEN" in caught.value.message) == ("x_not_configured", True)
    with pytest.raises(UserInputError) as unmapped:
        import_x(stores, user_id, reader, Path("/nonexistent"), NOW)
    assert unmapped.value.code == "no_account"


def test_one_account_that_x_has_suspended_keeps_no_other_from_being_read(
    ada: Speaker, server: XServer, read: Callable[..., XImport]
) -> None:
    """The first one that X refused ended the run, and those behind it were never read."""
    suspended = f"1{ada.account_id}"
    link_account(ada.stores.tables, ada.user_id, "x", suspended, NOW)
    put(server, post(1, "I like rye.", ada.account_id))
    server.refuses = {suspended: (403, {"title": "Forbidden"})}
    done = read()
    assert (done.counts.new, done.accounts, set(done.failed)) == (1, 1, {suspended})
    assert "no posts" in done.failed[suspended]
    server.refuses[ada.account_id] = (403, {"title": "Forbidden"})
    with pytest.raises(IngestionError) as caught:
        read()
    assert caught.value.code == "x_no_access"


def test_x_that_does_not_answer_is_left_alone_and_a_pause_that_it_asks_for_is_an_answer(
    ada: Speaker, server: XServer, stores: Stores
) -> None:
    breakers = Breakers()
    keys = {"X_BEARER_TOKEN": TOKEN, "X_BASE_URL": server.url}

    def ask(times: int) -> None:
        with closing(open_x(stores.settings, keys, breakers)) as reader:
            for _ in range(times):
                with pytest.raises(IngestionError):
                    reader.page(ada.account_id, since_id=None, until_id=None, more=None)

    server.limit_after = 0
    ask(BREAKER[0])
    server.limit_after, server.fails = None, (403, {"title": "Forbidden"})
    ask(BREAKER[0])
    assert breakers.circuits()["x"] == Circuit("closed", 0)
    server.fails = (503, {"title": "Unavailable"})
    ask(BREAKER[0])
    assert breakers.circuits()["x"] == Circuit("open", 1)
    asked = len(server.asked)
    ask(2)
    assert len(server.asked) == asked, "nobody waits for it now"
