"""Archives of X: zip, folder and bare file, threads, and what is broken."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lpm_kernel.errors import IngestionError, TwinError, UserInputError
from lpm_kernel.social.file_import import FileImport, import_x_archive
from lpm_kernel.stores.documents import private_documents
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.social_accounts import list_accounts
from tests.social.said import NOON, Speaker


def tweet(number: int, text: str, **more: Any) -> dict[str, Any]:
    """As an archive holds it, one an hour from noon of 2026-03-04."""
    return {
        "tweet": {
            "edit_info": {"initial": {"editTweetIds": [str(number)], "editableUntil": "…", "isEditEligible": True}},
            "retweeted": False,
            "entities": {"hashtags": [], "symbols": [], "user_mentions": [], "urls": []},
            "favorite_count": "0",
            "id_str": str(number),
            "id": str(number),
            "created_at": f"Wed Mar 04 {12 + number % 12:02}:00:00 +0000 2026",
            "full_text": text,
            "lang": "en",
            **more,
        }
    }


def answer(number: int, text: str, to: int, whom: str) -> dict[str, Any]:
    return tweet(number, text, in_reply_to_status_id_str=str(to), in_reply_to_user_id_str=whom, in_reply_to_screen_name="n")


def script(name: str, content: Any) -> str:
    return f"window.YTD.{name}.part0 = {json.dumps(content, indent=2)}"


def lay_out(folder: Path, account_id: str, *parts: list[dict[str, Any]]) -> Path:
    data = folder / "archive" / "data"
    data.mkdir(parents=True)
    told = [{"account": {"email": "a@example.org", "username": "ada", "accountId": account_id, "createdAt": "…"}}]
    (data / "account.js").write_text(script("account", told))
    for number, part in enumerate(parts):
        (data / ("tweets.js" if number == 0 else f"tweets-part{number}.js")).write_text(script("tweets", part))
    (data / "deleted-tweets.js").write_text(script("deleted_tweets", [tweet(900, "Deleted.")]))
    (data / "direct-messages.js").write_text("window.YTD.direct_messages.part0 = [ not read ]")
    return data.parent


@pytest.fixture
def ada(stores: Stores, new_user: Callable[[], str]) -> Speaker:
    return Speaker(stores, new_user(), "x")


def take(ada: Speaker, path: Path) -> FileImport:
    return import_x_archive(ada.stores, ada.user_id, path, ada.adapters, NOON)


def test_a_folder_and_its_zip_are_the_same_archive(ada: Speaker, tmp_path: Path) -> None:
    me = ada.account_id
    folder = lay_out(
        tmp_path,
        me,
        [
            answer(4, "And ends.", 3, me),
            answer(3, "It goes on.", 2, me),
            tweet(2, "A thread &gt;"),
            tweet(1, "Good morning."),
        ],
        [
            answer(6, "@ben No.", 50, "7"),
            tweet(5, "RT @ben: Not mine."),
            tweet(7, "Look https://t.co/p", extended_entities={"media": [{"type": "photo", "url": "https://t.co/p",
                "expanded_url": "https://x.com/p", "display_url": "pic.twitter.com/p"}]}),
        ],
    )  # fmt: skip
    done = take(ada, folder)
    assert (done.counts.new, done.counts.not_own, done.counts.media) == (6, 1, 1)
    assert ada.documents() == {
        f"x-{me}-2026-03-04.txt": "# X, 2026-03-04\n\nGood morning.\n\nNo.\n\nLook\n",
        f"x-{me}-thread-2.txt": "# X, 2026-03-04\n\nA thread >\n\nIt goes on.\n\nAnd ends.\n",
    }
    zipped = tmp_path / "twitter.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*.js"):
            archive.write(file, file.relative_to(folder))
    again = take(ada, zipped)
    assert (again.counts.stored, again.counts.known, again.made.made) == (0, 6, 0)


def private_count(ada: Speaker) -> int:
    with ada.stores.tables.transaction(ada.user_id) as connection:
        return len(private_documents(connection, ada.user_id))


def test_posts_of_an_archive_are_for_the_person_alone_until_they_say_that_the_account_is_not_protected(
    ada: Speaker, tmp_path: Path
) -> None:
    """What a protected account had said to its followers was shared with whoever asked the twin."""
    path = lay_out(tmp_path, ada.account_id, [tweet(1, "For my followers.")])
    take(ada, path)
    assert (private_count(ada), len(ada.documents())) == (1, 1)
    later = lay_out(tmp_path / "later", ada.account_id, [tweet(30, "For all.", created_at="Thu Mar 05 12:00:00 +0000 2026")])
    import_x_archive(ada.stores, ada.user_id, later, ada.adapters, NOON, public=True)
    assert (private_count(ada), len(ada.documents())) == (1, 2)


LONG = "The mill turns slowly in the morning, and nobody in the village would say that it turns for them, &amp; yet it does. "


def note(number: str, text: str, at: str, **core: Any) -> dict[str, Any]:
    """As an archive holds it, under a number of its own."""
    told = {"text": text, "urls": [], "mentions": [], "hashtags": [], **core}
    life = {"value": "1", "name": "Active", "originalName": "Active", "annotations": {}}
    return {"noteTweet": {"noteTweetId": number, "createdAt": at, "updatedAt": at, "lifecycle": life, "core": told}}


def add_notes(path: Path, *notes: Any) -> Path:
    (path / "data" / "note-tweet.js").write_text(script("note_tweet", list(notes)))
    return path


def test_of_a_long_post_all_of_it_is_taken_and_not_how_it_begins(ada: Speaker, tmp_path: Path) -> None:
    whole = f"{LONG}{LONG}See https://t.co/a, and good night."
    shown, link = f"{(LONG + LONG)[:210]}… https://t.co/xyz", {"shortUrl": "https://t.co/a", "expandedUrl": "https://e.org/"}
    posts = [tweet(1, shown), tweet(2, "A short one.")]
    path = lay_out(tmp_path, ada.account_id, posts)
    assert take(ada, path).counts.new == 2
    (cut_off,) = ada.documents().values()
    assert cut_off.endswith("https://t.co/xyz\n\nA short one.\n")
    add_notes(
        path, note("900", whole, "2026-03-04T13:00:01.000Z", urls=[link]), note("901", "Other.", "2026-03-04T14:00:00.000Z")
    )
    assert take(ada, path).counts.edited == 1
    (text,) = ada.documents().values()
    assert text.count("would say") == 2
    assert "& yet it does. See https://e.org/, and good night.\n\nA short one.\n" in text
    (path / "data" / "note-tweet.js").unlink()
    assert take(ada, path).counts.stored == 0, "an archive without them takes nothing back"


@pytest.mark.parametrize(
    "notes",
    [
        pytest.param([note("9", LONG + LONG + "It ends.", "2026-03-04T13:00:09.000Z")], id="of another moment"),
        pytest.param([note("9", "Once " + LONG + LONG, "2026-03-04T13:00:00.000Z")], id="of other words"),
        pytest.param([note("9", LONG + LONG + end, "2026-03-04T13:00:00.000Z") for end in ("a", "b")], id="two"),
        pytest.param([{"noteTweet": {"core": 5}}, {"noteTweet": 1}, 7, note("9", LONG * 2, "then")], id="another form"),
        pytest.param([note("9", LONG + LONG, "2026-03-04T13:00:00.000Z", urls=5)], id="links of another form"),
        pytest.param(
            [
                note("9", LONG + LONG, f"{at}:00+0{zone}:00")
                for at in ("0001-01-01T00:00", "9999-12-31T23:59")
                for zone in (0, 5)
            ],
            id="no time of X",
        ),
    ],
)
def test_where_it_is_not_clear_whose_a_long_text_is_the_post_stays_as_it_is_shown(
    ada: Speaker, tmp_path: Path, notes: list[Any]
) -> None:
    path = add_notes(lay_out(tmp_path, ada.account_id, [tweet(1, f"{(LONG + LONG)[:210]}…")]), *notes)
    assert take(ada, path).counts.new == 1
    (text,) = ada.documents().values()
    assert text.endswith("…\n")


def test_an_archive_says_whose_account_it_is(stores: Stores, new_user: Callable[[], str], ada: Speaker, tmp_path: Path) -> None:
    other = new_user()
    number = f"3{ada.account_id}"
    path = lay_out(tmp_path, number, [tweet(1, "Good morning.")])
    import_x_archive(stores, other, path, ada.adapters, NOON)
    with stores.tables.transaction(other) as connection:
        assert [account.account_id for account in list_accounts(connection)] == [number]
    with pytest.raises(UserInputError) as caught:
        take(ada, path)
    assert caught.value.code == "account_taken"
    assert ada.documents() == {}


def test_a_bare_file_is_taken_for_the_one_account_of_its_user(
    stores: Stores, user_id: str, ada: Speaker, tmp_path: Path
) -> None:
    path = tmp_path / "tweets.js"
    path.write_text(script("tweets", [tweet(1, "Good morning.")]))
    assert take(ada, path).counts.new == 1
    with pytest.raises(UserInputError) as caught:
        import_x_archive(stores, user_id, path, ada.adapters, NOON)
    assert caught.value.code == "no_account"


def test_both_versions_of_an_edited_post_are_one_message(ada: Speaker, tmp_path: Path) -> None:
    edited = {"edit": {"initialTweetId": "1", "editControlInitial": {"editTweetIds": ["1", "2"]}}}
    first = {"initial": {"editTweetIds": ["1", "2"]}}
    posts = [tweet(2, "I like rye.", edit_info=edited), tweet(1, "I like ray.", edit_info=first)]
    done = take(ada, lay_out(tmp_path, ada.account_id, posts))
    assert (done.counts.new, done.counts.known) == (1, 1)
    assert list(ada.documents().values()) == ["# X, 2026-03-04\n\nI like rye.\n"]


def test_a_circle_of_answers_ends(ada: Speaker, tmp_path: Path) -> None:
    me = ada.account_id
    path = lay_out(tmp_path, me, [answer(1, "One.", 2, me), answer(2, "Two.", 1, me)])
    assert take(ada, path).counts.new == 2


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("tweets.js", "window.YTD.tweets.part0 = {}", "export_foreign"),
        ("tweets.js", "window.YTD.tweets.part0 = [1]", "export_foreign"),
        ("tweets.js", "window.YTD.tweets.part0 = [{", "export_damaged"),
        ("tweets.js", "no script", "export_damaged"),
        ("tweets.js", "", "export_damaged"),
        ("tweets.js", 'window.YTD.tweets.part0 = [{"tweet": {"id_str": "1"}}]', "post_foreign"),
        (
            "tweets.js",
            'window.YTD.tweets.part0 = [{"tweet": {"id_str": "1", "full_text": "x", "created_at": "y"}}]',
            "post_foreign",
        ),
        ("likes.js", "window.YTD.like.part0 = []", "export_foreign"),
        ("archive.zip", "PK no zip", "file_unreadable"),
    ],
)
def test_what_is_no_archive_is_refused_by_name(ada: Speaker, tmp_path: Path, name: str, content: str, code: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(TwinError) as caught:
        take(ada, path)
    assert (caught.value.code, caught.value.retryable) == (code, False)
    assert isinstance(caught.value, UserInputError | IngestionError)


def test_a_zip_that_unpacks_beyond_the_bound_is_refused(ada: Speaker, tmp_path: Path) -> None:
    settings = ada.stores.settings
    from dataclasses import replace

    small = settings.model_copy(update={"social": settings.social.model_copy(update={"import_mb": 1})})
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/tweets.js", "window.YTD.tweets.part0 = [" + " " * 5_000_000 + "]")
    with pytest.raises(IngestionError) as caught:
        import_x_archive(replace(ada.stores, settings=small), ada.user_id, path, ada.adapters, NOON)
    assert caught.value.code == "export_too_large"
    assert path.stat().st_size < 100_000
