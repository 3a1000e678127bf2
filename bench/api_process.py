"""The API as a process of its own, on the engines of a home: what benchmarks of the whole ask."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from lpm_kernel.settings import settings_path

READY_S = 180.0


@dataclass(frozen=True)
class Api:
    url: str
    process: subprocess.Popen[bytes]
    log: Path
    alive_s: float
    """From the start of the process to its first answer."""
    alive_cpu_s: float
    """Of the processor, until then: the same however busy the machine is."""
    ready_s: float
    """To the model being loaded."""


@contextmanager
def running_api(folder: Path, environment: Mapping[str, str], **serving: object) -> Iterator[Api]:
    """Start it with these settings under `serving`, wait until it is ready, and end it as a supervisor would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    content = yaml.safe_load(settings_path().read_text(encoding="utf-8"))
    content["serving"] |= {"api_port": port, **serving}
    (folder / "settings.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    log = folder / "api.log"
    url = f"http://127.0.0.1:{port}"
    root = Path(__file__).resolve().parent.parent
    with log.open("wb") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "twin_serving"],
            cwd=root,
            env={
                **os.environ,
                **environment,
                "TWIN_HOME": str(folder),
                "TWIN_SETTINGS": str(folder / "settings.yaml"),
            },
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(f"{url}/healthz", process, log)
            alive_s = time.perf_counter() - began
            used = psutil.Process(process.pid).cpu_times()
            _wait_for(f"{url}/readyz", process, log)
            yield Api(url, process, log, alive_s, used.user + used.system, time.perf_counter() - began)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the API ended with {process.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
        try:
            with opener.open(url, timeout=5) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.02)
    raise RuntimeError(f"{url} was not there in {READY_S:.0f} s:\n{log.read_text(errors='replace')[-3000:]}")
