"""The commands about Telegram and X, as one types them, on running engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.social.said import account_of
from tests.social.test_telegram_export import chat, line
from tests.social.test_x_archive import lay_out, tweet
from tests.social.x_stand_in import TOKEN, XServer, post
from tests.twin_assets.conftest import Workshop
from twin_assets.cli import cli


def twin(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_an_account_is_named_its_export_taken_in_and_withdrawn(
    workshop: Workshop, new_user: Callable[[], str], tmp_path: Path
) -> None:
    user_id = new_user()
    number = account_of(user_id, "telegram")
    file = tmp_path / "result.json"
    file.write_text(json.dumps(chat(line(1, "I like rye.", f"user{number}"), line(2, "Wheat.", "user99"))))
    refused = twin("import-telegram", user_id, str(file))
    assert refused.exit_code != 0
    assert "no_account" in str(refused.exception)
    assert "is " in twin("accounts", "add", user_id, "telegram", number).output
    taken = twin("import-telegram", user_id, str(file))
    assert taken.exit_code == 0, taken.output
    assert "1 messages are new" in taken.output
    assert "1 documents were made" in taken.output
    assert "account 99: 1" in taken.output
    assert "rye" not in taken.output
    listed = twin("accounts", "list", user_id).output
    assert number in listed
    assert "1 messages" in listed
    assert "1 messages are withdrawn" in twin("accounts", "remove", user_id, "telegram", number, "--withdraw").output
    assert "no account" in twin("accounts", "list", user_id).output


def test_posts_come_from_an_archive_and_from_x_itself(
    workshop: Workshop, new_user: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = new_user()
    number = account_of(user_id, "x")
    taken = twin("import-x-archive", user_id, str(lay_out(tmp_path, number, [tweet(1, "I like rye.")])))
    assert "1 messages are new" in taken.output
    with XServer(post(1, "I like rye.", number), post(2, "And oats.", number)) as server:
        monkeypatch.setenv("X_BEARER_TOKEN", TOKEN)
        monkeypatch.setenv("X_BASE_URL", server.url)
        server.page_size, server.limit_after = 1, 1
        stopped = twin("import-x", user_id)
        assert "1 messages are new" in stopped.output
        assert "X asks for a pause" in stopped.output
        twin("accounts", "remove", user_id, "x", number)  # the pause holds for every account, and this one's is over
