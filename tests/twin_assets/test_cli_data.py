"""The commands about the whole of a person, as one types them, on running engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.users import find_user
from tests.twin_assets.conftest import Workshop
from twin_assets.cli import cli
from twin_assets.partitions import users

pytestmark = pytest.mark.slow


def twin(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli, list(words), input=answer)


def test_a_person_is_exported_deleted_and_imported(workshop: Workshop, new_user: Callable[[], str], tmp_path: Path) -> None:
    user_id, stores, out = new_user(), workshop.stores, tmp_path / "twin.zip"
    workshop.add(user_id, "Ada", {"cats.md": "My cat is called Pilchard."})
    written = twin("export", user_id, "--out", str(out))
    assert written.exit_code == 0
    assert "1 document" in written.output
    assert list(tmp_path.iterdir()) == [out], "and nothing half written beside it"
    assert twin("delete-user", user_id, answer="n\n").exit_code != 0
    with stores.tables.transaction(user_id) as connection:
        assert find_user(connection, user_id) is not None, "who says no deletes nobody"
    gone = twin("delete-user", user_id, "--yes")
    assert f"user {user_id} is deleted" in gone.output
    assert user_id not in workshop.instance.get_dynamic_partitions(users.name or "")
    assert "no user" in twin("delete-user", user_id, "--yes").output
    back = twin("import", user_id, str(out))
    assert back.exit_code == 0
    assert f"user {user_id} is what {user_id} was" in back.output
    with stores.tables.transaction(user_id) as connection:
        assert [row.filename for row in list_documents(connection, user_id)] == ["cats.md"]
