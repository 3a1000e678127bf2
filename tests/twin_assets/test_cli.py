"""`twin`: what a person sees, without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lpm_kernel.settings import load_settings
from lpm_kernel.stores.addresses import CONNECTION_FILE
from tests.embedded.fixtures import EngineHome


def twin(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own, with nothing of this session's environment about stores."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("S3_", "DAGSTER", "TWIN", "DATABASE"))}
    return subprocess.run(
        [str(Path(sys.executable).parent / "twin"), *arguments],
        env={**clean, "TWIN_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ask", "1", "Hello?"], "address_missing"),
        (["add-user", "1"], "address_missing"),
        (["backfill", "1,2"], "address_missing"),
        (["train", "1", "--resume-from-step", "20"], "address_missing"),
        (["export-model", "1", "--out", "twin.gguf"], "address_missing"),
    ],
)
def test_without_engines_a_command_says_what_to_start(tmp_path: Path, arguments: list[str], code: str) -> None:
    run = twin(tmp_path, *arguments)
    assert run.returncode == 1
    assert code in run.stderr
    assert "twin up" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("arguments", [["ask", "1", "Hello?"], ["add-user", "1"], ["backfill", "1,2"]])
def test_after_a_reboot_a_command_says_what_to_start(tmp_path: Path, free_port: int, arguments: list[str]) -> None:
    """The addresses were left by engines that are gone: the command tried for a quarter of a minute and then said `this
    should not happen: DagsterPostgresException`."""
    names, address = load_settings().stores, f"127.0.0.1:{free_port}"
    left = dict.fromkeys(names.model_dump().values(), "x")
    left[names.s3_public_endpoint_url] = "http://127.0.0.1:1"
    left |= {names.database_url: f"postgresql+psycopg://twin_app:s3cret@{address}/twin"}
    left |= {names.dagster_database_url: f"postgresql://dagster:s3cret@{address}/dagster"}
    (tmp_path / CONNECTION_FILE).write_text("".join(f"{name}={value}\n" for name, value in left.items()))
    run = twin(tmp_path, *arguments)
    assert run.returncode == 1
    assert "engines_down" in run.stderr
    assert "twin up" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert "s3cret" not in run.stderr


STOP_WHEN_TOLD = """
import os, signal, sys, time
for heard in (signal.SIGHUP, signal.SIGTERM):  # whoever starts the tests with nohup has them ignore one
    signal.signal(heard, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from twin_assets import cli

@cli.cli.command("work")
def work():
    try:
        print(os.environ["no_proxy"], flush=True)
        time.sleep(60)
    finally:
        print("stopped in order", flush=True)

sys.argv = ["twin", "work"]
cli.main()
"""


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_told_to_end_stops_what_it_started(told: signal.Signals) -> None:
    """`kill` ended a demo on the spot: its engines stayed, and every later demo took them for somebody's and left them too."""
    environment = {**os.environ, "NO_PROXY": "corp.example", "no_proxy": ""}
    with subprocess.Popen(
        [sys.executable, "-c", STOP_WHEN_TOLD], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        begun = process.stdout.readline()
        process.send_signal(told)
        output, errors = process.communicate(timeout=30)
    assert begun == "corp.example,127.0.0.1,localhost\n"
    assert output == "stopped in order\n"
    assert errors.strip() == "stopped"
    assert process.returncode == 130


def test_a_wrong_settings_file_is_named_key_by_key(tmp_path: Path) -> None:
    wrong = tmp_path / "settings.yaml"
    wrong.write_text("project: x\nprofile: embedded\nunknown: 1\n")
    run = twin(tmp_path, "ask", "1", "Hello?", TWIN_SETTINGS=str(wrong))
    assert run.returncode == 1
    assert "settings_invalid" in run.stderr
    assert "unknown" in run.stderr


def test_status_and_down_of_a_home_where_nothing_runs_are_fine(tmp_path: Path) -> None:
    assert twin(tmp_path, "status").returncode == 0
    assert twin(tmp_path, "down").returncode == 0


@pytest.mark.slow
def test_a_person_is_added_with_documents_and_a_bad_id_is_refused(engine_home: EngineHome, workshop, tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("# Note\n\nThe kettle is blue.\n")
    (tmp_path / "empty.txt").write_bytes(b"")
    run = twin(engine_home.path, "add-user", "cli-1", "--name", "Cleo", "--documents", str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert "stored     note.md" in run.stdout
    assert "document_empty" in run.stdout
    assert "cli-1" in workshop.instance.get_dynamic_partitions("users")
    bad = twin(engine_home.path, "add-user", "../x")
    assert bad.returncode == 1
    assert "user_id_invalid" in bad.stderr
    asked = twin(engine_home.path, "ask", "cli-1", "What colour is the kettle?")
    assert asked.returncode == 1
    assert "no_release" in asked.stderr
    exported = twin(engine_home.path, "export-model", "cli-1", "--out", str(tmp_path / "cleo.gguf"))
    assert exported.returncode == 1
    assert "no_release" in exported.stderr
    unknown = twin(engine_home.path, "ask", "cli-2", "Hello?")
    assert "twin_not_found" in unknown.stderr
    for result in (bad, asked, exported, unknown):
        assert "Traceback" not in result.stderr
