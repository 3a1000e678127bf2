"""install.py, imported by its path: what it decides. A whole installation takes minutes and is not run here."""

from __future__ import annotations

import ast
import importlib.util
import shlex
import sys
import time
import venv
from pathlib import Path
from types import ModuleType

import psutil
import pytest

INSTALLER = Path(__file__).parent.parent / "install.py"


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", INSTALLER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_old_python_is_told_which_one_to_use(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`import tomllib` at the top ended Python 3.10 in a ModuleNotFoundError, before the sentence that names the cure."""
    tree = ast.parse(INSTALLER.read_text(encoding="utf-8"))
    at_the_top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert "tomllib" not in at_the_top
    monkeypatch.setattr(sys, "version_info", (3, 10, 12, "final", 0))
    with pytest.raises(SystemExit):
        install.main()
    assert "use 3.11 or 3.12" in capsys.readouterr().err


def test_the_cache_is_absolute_wherever_it_was_named_from(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `TWIN_CACHE=cache` CMake looked for our hook in its own build folder, and `common` was built after all."""
    monkeypatch.chdir(tmp_path)
    assert install.cache_folder({"TWIN_CACHE": "cache"}) == tmp_path / "cache"
    assert install.cache_folder({"TWIN_CACHE": "~/cache"}) == Path.home().resolve() / "cache"
    assert install.cache_folder({"XDG_CACHE_HOME": "/var/cache"}) == Path("/var/cache/twin")
    assert install.cache_folder({"TWIN_CACHE": "", "XDG_CACHE_HOME": ""}) == Path.home().resolve() / ".cache" / "twin"


def test_a_cache_whose_name_holds_a_space_is_one_argument_for_cmake(install: ModuleType) -> None:
    """scikit-build-core splits CMAKE_ARGS as a shell does: the second half of the path became an argument of its own."""
    words = shlex.split(install.cmake_arguments("-DGGML_NATIVE=OFF -DGGML_AVX2=ON", Path("/home/a b's/no_common.cmake")))
    assert words == [
        "-DLLAVA_BUILD=OFF",
        "-DGGML_NATIVE=OFF",
        "-DGGML_AVX2=ON",
        "-DCMAKE_PROJECT_llama.cpp_INCLUDE=/home/a b's/no_common.cmake",
    ]


def test_a_cache_that_cannot_be_written_is_named_with_the_cure(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The thread died of a PermissionError, and minutes later the installation said that a wheel was missing."""
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setenv("TWIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(install.shutil, "which", lambda name: f"/usr/bin/{name}")
    build = install.LlamaBuild(Path(sys.executable), "0.0", "")
    build.start()
    build.join()
    with pytest.raises(SystemExit):
        build.stop_if_failed()
    told = capsys.readouterr().err
    assert str(tmp_path / "cache") in told
    assert "TWIN_CACHE" in told


@pytest.mark.slow
def test_a_virtual_environment_without_pip_is_made_anew_and_one_with_pip_is_kept(install: ModuleType, tmp_path: Path) -> None:
    """A first try without Debian's python3-venv left a Python and no pip: every later try found the Python and then failed."""
    folder = tmp_path / ".venv"
    assert not install.has_pip(folder / "bin" / "python")
    venv.EnvBuilder(with_pip=False).create(folder)
    (folder / "left").touch()
    assert not install.has_pip(folder / "bin" / "python")
    python = install.make_venv(folder)
    assert install.has_pip(python)
    assert not (folder / "left").exists()
    (folder / "kept").touch()
    install.make_venv(folder)
    assert (folder / "kept").exists()


def test_what_is_installed_apart_is_left_out_and_the_rest_is_there(install: ModuleType) -> None:
    names = {install.normal(item.split("[")[0].split(">")[0].split("<")[0]) for item in install.dependencies()}
    assert not names & install.APART
    assert {"dagster", "fastapi", "pytest"} <= names


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_an_installation_that_ends_early_leaves_no_compiler_and_no_half_of_a_build(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip failed beside the build, and the compiler went on for minutes in a folder that nobody ever removed."""
    monkeypatch.setenv("TWIN_CACHE", str(tmp_path))
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\nsleep 600 & echo $! > $(dirname $0)/compiler; wait\n")
    pip.chmod(0o755)
    build = install.LlamaBuild(pip, "1.0", "")
    build.start()
    note = tmp_path / "compiler"
    deadline = time.monotonic() + 60
    while not (note.exists() and note.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    build.end()
    build.join(10)
    assert not build.is_alive()
    deadline = time.monotonic() + 30
    while not is_gone(int(note.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list((tmp_path / "wheels").iterdir()) == []
