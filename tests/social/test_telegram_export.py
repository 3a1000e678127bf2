"""The files that Telegram Desktop exports: both forms of them, and what is broken."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpm_kernel.errors import IngestionError, UserInputError
from lpm_kernel.social import json_stream
from lpm_kernel.social.file_import import import_telegram
from lpm_kernel.social.json_stream import JsonWalk
from lpm_kernel.social.records import SocialMessage
from lpm_kernel.social.telegram_export import TelegramExport
from lpm_kernel.stores.open import Stores
from tests.social.said import NOON, Speaker

MB = 1_000_000
SECONDS = int(NOON.timestamp())


def line(message_id: int, text: Any, sender: str | None = "user5", **more: Any) -> dict[str, Any]:
    """As Telegram Desktop writes it."""
    at = SECONDS + message_id * 60
    return {
        "id": message_id,
        "type": "message",
        "date": "2026-03-04T13:00:00",
        "date_unixtime": str(at),
        "from": "Ada",
        "from_id": sender,
        "text": text,
        "text_entities": [],
        **more,
    }


def chat(
    *messages: dict[str, Any], kind: str = "private_supergroup", number: int = 1234567, name: str | None = "Canteen"
) -> Any:
    return {"name": name, "type": kind, "id": number, "messages": list(messages)}


def account(*chats: Any, left: tuple[Any, ...] = ()) -> Any:
    return {
        "about": "Here is the data you requested.",
        "personal_information": {"user_id": 5, "first_name": "Ada", "bio": "…"},
        "contacts": {"about": "…", "list": [{"user_id": 7, "first_name": "Ben"}]},
        "frequent_contacts": {"about": "…", "list": []},
        "chats": {"about": "…", "list": list(chats)},
        "left_chats": {"about": "…", "list": list(left)},
    }


def read(content: Any, max_bytes: int = MB) -> tuple[list[SocialMessage], TelegramExport]:
    data = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    export = TelegramExport(io.BytesIO(data), max_bytes)
    return [message for _, message in export.messages()], export


def test_one_chat_is_read() -> None:
    messages, export = read(chat(line(1, "I like rye."), {"id": 2, "type": "service", "action": "pin_message", "text": ""}))
    (message,) = messages
    assert (message.chat_id, message.account_id, message.text) == ("-1000001234567", "5", "I like rye.")
    assert message.sent_at.timestamp() == SECONDS + 60, "the seconds count, not the exporting machine's clock"
    assert (export.chats, export.counts.service) == (1, 1)


def test_all_chats_of_an_account_are_read_those_too_that_were_left() -> None:
    whole = account(
        chat(line(1, "One.")), chat(kind="personal_chat", number=7), left=(chat(line(1, "Two."), kind="private_group"),)
    )
    messages, export = read(whole)
    assert [(message.chat_id, message.text) for message in messages] == [("-1000001234567", "One."), ("-1234567", "Two.")]
    assert export.chats == 3


def test_formatted_text_is_put_together_without_what_it_quotes() -> None:
    text = [
        "I ",
        {"type": "bold", "text": "do"},
        " like ",
        {"type": "blockquote", "text": "wheat"},
        {"type": "link", "text": "rye"},
    ]
    assert read(chat(line(1, text)))[0][0].text == "I do like rye"


def test_an_edit_makes_a_later_version() -> None:
    messages, _ = read(chat(line(1, "I like rye.", edited="2026-03-04T14:00:00", edited_unixtime=str(SECONDS + 3600))))
    assert messages[0].version == SECONDS + 3600


def test_an_older_export_without_seconds_is_taken_as_utc() -> None:
    old = line(1, "Long ago.")
    del old["date_unixtime"]
    assert read(chat(old))[0][0].sent_at.isoformat() == "2026-03-04T13:00:00+00:00"


def test_what_is_not_the_senders_own_is_counted_and_left_out() -> None:
    messages, export = read(
        chat(
            line(1, "Another's.", forwarded_from="Ben"),
            line(2, "Somebody's.", forwarded_from=None),
            line(3, "A bot's.", via_bot="@gif"),
            line(4, "The group's.", "channel1234567"),
            line(5, "", photo="(File not included. Change data exporting settings to download.)"),
            line(6, "", media_type="voice_message", file="x"),
        )
    )
    assert export.counts.not_own == 4
    assert [(message.text, message.media) for message in messages] == [("", "photo"), ("", "voice_message")]


def test_half_a_character_and_a_nul_are_left_out() -> None:
    raw = json.dumps(chat(line(1, "XX"))).replace("XX", "a\\ud83d\\u0000b").encode()
    assert read(raw)[0][0].text == "ab"


@pytest.mark.parametrize("piece", [1, 2, 3, 64])
def test_pieces_may_end_anywhere(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    whole = account(chat(*(line(number, f"Zoë’s {number}th 🙂") for number in range(5))))
    expected = read(whole)[0]
    monkeypatch.setattr(json_stream, "PIECE_BYTES", piece)
    assert read(whole)[0] == expected
    assert len(expected) == 5


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "export_foreign"),
        (b"[]", "export_foreign"),
        (b"{}", "export_foreign"),
        (b'{"messages": []}', "export_foreign"),
        (b'{"name": "x", "type": "private_group", "id": "seven", "messages": []}', "export_foreign"),
        (b'{"name": "x", "type": "private_group", "id": 7, "messages": [1]}', "export_foreign"),
        (b'{"name": "x", "type": "private_group", "id": 7, "messages": [{"id": 1, "type": "message"', "export_damaged"),
        (b'{"name": "x" "type": 1}', "export_damaged"),
        (b'{"name": "\xff"}', "export_damaged"),
        (b'{"name": ' + b"[" * 100_000, "export_damaged"),
        (b'{"about": ' + b"[" * 100_000, "export_damaged"),
        (b'{"about": ' + b"x" * 1_000_000, "export_damaged"),
        (b"PK\x03\x04", "export_foreign"),
    ],
)
def test_what_is_no_export_is_refused_by_name(content: bytes, code: str) -> None:
    with pytest.raises(IngestionError) as caught:
        read(content)
    assert (caught.value.code, caught.value.retryable) == (code, False)


def test_a_file_beyond_the_bound_and_one_endless_value_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "PIECE_BYTES", 100)
    with pytest.raises(IngestionError) as caught:
        read(chat(*(line(number, "More.") for number in range(100))), max_bytes=1000)
    assert caught.value.code == "export_too_large"
    monkeypatch.setattr(json_stream, "MAX_VALUE", 500)
    with pytest.raises(IngestionError) as endless:
        read(chat(line(1, "x" * 5000)))
    assert endless.value.code == "export_too_large"


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))
)
def test_any_json_is_passed_over_to_its_end_and_read_as_it_is(value: Any) -> None:
    data = json.dumps([value, value, 7]).encode()
    walk = JsonWalk(io.BytesIO(data), MB)
    taken = []
    for number, _ in enumerate(walk.elements()):
        taken.append(walk.skip() if number == 0 else walk.value())
    assert taken == [None, value, 7]
    assert walk.peek() == ""


@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_damaged_export_is_refused_and_never_fails_otherwise(noise: bytes, at: int) -> None:
    data = json.dumps(account(chat(line(1, "I like rye."), line(2, ["a", {"type": "b", "text": "c"}])))).encode()
    codes = set()
    try:
        read(data[:at] + noise + data[at:])
    except IngestionError as error:
        codes.add(error.code)
    assert codes <= {"export_damaged", "export_foreign", "export_too_large"}


@pytest.fixture
def ada(stores: Stores, new_user: Callable[[], str]) -> Speaker:
    return Speaker(stores, new_user())


def put(folder: Path, content: Any) -> Path:
    path = folder / "result.json"
    path.write_text(json.dumps(content))
    return path


def test_a_file_becomes_the_persons_documents_and_a_second_time_nothing(ada: Speaker, tmp_path: Path) -> None:
    own = f"user{ada.account_id}"
    path = put(tmp_path, account(chat(line(1, "I like rye.", own), line(2, "Wheat!", "user99"), line(1500, "Next day.", own))))
    done = import_telegram(ada.stores, ada.user_id, path, ada.adapters, NOON)
    assert (done.chats, done.counts.new, dict(done.counts.of_others), done.made.made) == (1, 2, {"99": 1}, 2)
    assert ada.documents() == {
        "telegram--1000001234567-2026-03-04.txt": "# Telegram, Canteen, 2026-03-04\n\nI like rye.\n",
        "telegram--1000001234567-2026-03-05.txt": "# Telegram, Canteen, 2026-03-05\n\nNext day.\n",
    }
    again = import_telegram(ada.stores, ada.user_id, path, ada.adapters, NOON)
    assert (again.counts.stored, again.counts.known, again.made.made) == (0, 2, 0)


def test_without_an_account_nothing_is_taken_for_anybodys(stores: Stores, user_id: str, tmp_path: Path) -> None:
    with pytest.raises(UserInputError) as caught:
        import_telegram(stores, user_id, put(tmp_path, chat(line(1, "Whose?"))), tmp_path, NOON)
    assert caught.value.code == "no_account"
    assert "twin accounts add" in caught.value.message


def test_a_file_that_is_not_there_is_named(ada: Speaker, tmp_path: Path) -> None:
    with pytest.raises(UserInputError) as caught:
        import_telegram(ada.stores, ada.user_id, tmp_path / "no.json", ada.adapters, NOON)
    assert caught.value.code == "file_unreadable"


def test_what_a_later_export_edits_is_edited_and_what_it_repeats_of_a_poll_is_known(ada: Speaker, tmp_path: Path) -> None:
    own = f"user{ada.account_id}"
    import_telegram(ada.stores, ada.user_id, put(tmp_path, chat(line(1, "I like ray.", own))), ada.adapters, NOON)
    later = line(1, "I like rye.", own, edited_unixtime=str(SECONDS + 99))
    done = import_telegram(ada.stores, ada.user_id, put(tmp_path, chat(later)), ada.adapters, NOON)
    assert (done.counts.edited, done.made.made) == (1, 1)
    assert list(ada.documents().values()) == ["# Telegram, Canteen, 2026-03-04\n\nI like rye.\n"]
