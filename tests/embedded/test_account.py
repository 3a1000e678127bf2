from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.embedded.account import choose_account, namespaces_allowed
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has this choice")
as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root does not have this choice")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "engines" / "postgres" / "data"
    folder.parent.mkdir(parents=True, mode=0o700)
    return folder


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "postgres"
    path.touch(mode=0o755)
    return path


@as_root
def test_root_runs_it_in_a_user_namespace(data: Path, binary: Path) -> None:
    account = choose_account(data, binary, namespaces=lambda: True)
    assert account.prefix[0] == "unshare"
    assert account.owner_uid is None


@as_root
def test_root_without_namespaces_steps_down_to_an_account_that_must_reach_the_data(data: Path, binary: Path) -> None:
    """The temporary folder of a test is closed to others, as root's own folder is: this must be an error with a cure."""
    with pytest.raises(EngineError, match="user namespaces") as raised:
        choose_account(data, binary, namespaces=lambda: False)
    assert raised.value.code == "postgres_account"


@as_root
def test_root_without_namespaces_steps_down_where_the_way_is_open(data: Path, binary: Path) -> None:
    closed = [folder for folder in data.parents if folder.exists() and not folder.stat().st_mode & 0o001]
    modes = {folder: folder.stat().st_mode for folder in closed}
    try:
        for folder in closed:
            folder.chmod(folder.stat().st_mode | 0o011)
        account = choose_account(data, binary, namespaces=lambda: False)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert account.prefix[0] == "setpriv"
    assert account.owner_uid not in (None, 0)


@as_user
def test_a_plain_user_runs_it_as_it_is(data: Path, binary: Path) -> None:
    assert choose_account(data, binary, namespaces=lambda: False).prefix == ()


@as_user
def test_data_of_somebody_else_is_refused_by_name(binary: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as raised:
        choose_account(tmp_path.__class__("/"), binary)
    assert raised.value.code == "postgres_owner"


def test_asking_whether_namespaces_are_allowed_gives_an_answer() -> None:
    assert namespaces_allowed() in (True, False)
