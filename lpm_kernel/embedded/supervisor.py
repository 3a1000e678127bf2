"""supervisord: one a home, which starts the programs, restarts what dies and reaps it.

Belongs here: its configuration files, its start and stop, and what is asked of it over XML-RPC on loopback.
Does not belong here: which programs there are (`engines.py`) and what outlives it (`orphans.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil

from lpm_kernel.embedded import orphans
from lpm_kernel.embedded.home import PRIVATE_FOLDER, Home, write_whole
from lpm_kernel.embedded.state import port_is_free
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpm_kernel.embedded.program import Program
    from lpm_kernel.embedded.state import State

PORTS = {"supervisor": False}
SECRETS = ("supervisor",)
USER = "twin"
LAUNCHER = Path(__file__).with_name("launch.py")
CONFIGURATION = "supervisord.conf"
ANSWER_S = 10.0
SHUTDOWN_S = 120.0
LIVE = frozenset({"running", "starting", "backoff", "stopping", "exited"})
"""States in which supervisord cares for a program by itself: `exited` lasts until its next look, a second at most."""

# paths are relative to the supervisor's folder, its working directory, because its INI reader gives ` ;`, ` #` and % meanings
MAIN_TEMPLATE = """\
[supervisord]
logfile=../logs/supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile=supervisord.pid
umask=077
identifier=twin

[inet_http_server]
port=127.0.0.1:{port}
username={user}
password={password}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[include]
files=programs/*.conf
"""

PROGRAM_TEMPLATE = """\
[program:{name}]
command={command}
priority={priority}
autostart=false
autorestart=true
startsecs={start_seconds}
startretries={start_retries}
stopsignal={stop_signal}
stopwaitsecs={stop_wait_s}
stopasgroup={stop_group}
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2
"""


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    name: str
    state: str
    """supervisord's word in lower case: running, starting, backoff, stopping, stopped, exited, fatal, unknown."""
    pid: int | None
    uptime_s: float
    detail: str


class _Transport(xmlrpc.client.Transport):
    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self.timeout_s = timeout_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = self.timeout_s
        return connection


class Supervisor:
    """The supervisor of one home, running or not."""

    def __init__(self, home: Home, state: State) -> None:
        self.home = home
        self._state = state

    @property
    def programs_folder(self) -> Path:
        return self.home.supervisor / "programs"

    def pid(self) -> int | None:
        """The id of the running supervisord of this home; None when there is none."""
        try:
            process = psutil.Process(int((self.home.supervisor / "supervisord.pid").read_text(encoding="ascii")))
            own = process.environ().get(orphans.HOME_VARIABLE) == str(self.home.root)
            return process.pid if own and orphans.is_alive(process) else None
        except (OSError, ValueError, psutil.Error):
            return None

    def responds(self) -> bool:
        """Whether it runs and takes orders."""
        if self.pid() is None or "supervisor" not in self._state.ports:
            return False
        try:
            return self._call("getState")["statename"] == "RUNNING"
        except EngineError:
            return False

    def start(self) -> None:
        """Start supervisord with no program. It leaves the terminal and this process behind.

        Raises: EngineError `supervisor_failed`.
        """
        self.programs_folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        for left in self.programs_folder.iterdir():
            left.unlink()
        text = MAIN_TEMPLATE.format(port=self._state.ports["supervisor"], user=USER, password=self._state.secrets["supervisor"])
        write_whole(self.home.supervisor / CONFIGURATION, text)
        started = subprocess.run(
            # -P: the working directory is no place to import from
            [sys.executable, "-P", "-W", "ignore", "-m", "supervisor.supervisord", "-c", CONFIGURATION],
            cwd=self.home.supervisor,
            env={**os.environ, **orphans.mark(self.home, orphans.SUPERVISOR)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        deadline = time.monotonic() + 20
        while started.returncode == 0 and time.monotonic() < deadline:
            if self.responds():
                return
            time.sleep(0.02)
        raise EngineError(
            "supervisor_failed",
            f"supervisord did not start (exit {started.returncode}); see {self.home.log_file('supervisord')}. "
            f"{self._redacted(started.stderr[-600:])}",
        )

    def launch(self, programs: Sequence[Program]) -> None:
        """Make these programs known and start those that do not run. One whose specification changed is stopped before;
        programs not named stay as they are.

        Idempotent. Raises: EngineError `port_taken`, before anything is changed, when a program cannot have its port.
        """
        before, ports = {info.name: info.state for info in self.infos()}, self.ports()
        for program in programs:
            if before.get(program.name) not in LIVE or ports.get(program.name) != program.port:
                self._refuse_taken_port(program)
        kept = {self._write(program) for program in programs}
        (_, changed, _), *_ = self._call("reloadConfig")
        known = {info.name for info in self.infos()}
        for program in programs:
            if program.name in changed:
                # this order is answered when the program has stopped
                self._call("stopProcessGroup", program.name, timeout_s=program.stop_wait_s + ANSWER_S)
                self._call("removeProcessGroup", program.name)
            if program.name in changed or program.name not in known:
                self._call("addProcessGroup", program.name)
            if self.info(program.name).state not in LIVE:
                self._call("startProcess", program.name, False)
            for old in self.programs_folder.glob(f"{program.name}~*.json"):
                if old.name not in kept:
                    old.unlink()

    def halt(self, name: str, *, wait: bool = True) -> None:
        """Stop one program and keep it known; it is not started again by itself. Without `wait` it is told to, no more."""
        self._call("stopProcessGroup", name, wait, timeout_s=SHUTDOWN_S)

    def start_programs(self, programs: Sequence[Program]) -> None:
        """Launch programs, lowest priority first, and wait until each answers before the next priority.

        Idempotent. Raises: EngineError `port_taken`; `program_failed` or `program_not_ready`, with the last lines of its log.
        """
        for priority in sorted({program.priority for program in programs}):
            together = [program for program in programs if program.priority == priority]
            self.launch(together)
            for program in together:
                self.wait_until_ready(program)

    def wait_until_ready(self, program: Program) -> None:
        """Raises: EngineError `port_taken`; `program_failed` or `program_not_ready`, with the last lines of its log."""
        deadline = time.monotonic() + program.ready_timeout_s
        reason: str | None = None
        while True:
            info = self.info(program.name)
            if info.state not in LIVE:
                raise EngineError(
                    "program_failed",
                    f"{program.name} does not stay up ({info.detail}). Its log, {self.home.log_file(program.name)}, ends in:\n"
                    f"{self.log_tail(program.name)}",
                )
            if info.state == "running" or (info.state == "starting" and program.ready is not None):
                reason = _reason(program)
                if reason is None:
                    # a fixed port: what answered may be a program of another home, that had bound it first
                    if program.port_setting is not None:
                        self._refuse_taken_port(program)
                    return
            if time.monotonic() > deadline:
                why = self._redacted(reason or "it does not stay up")
                raise EngineError(
                    "program_not_ready",
                    f"{program.name} runs but was not ready in {program.ready_timeout_s:.0f} s ({why}). Its log, "
                    f"{self.home.log_file(program.name)}, ends in:\n{self.log_tail(program.name)}",
                )
            time.sleep(0.1)

    def infos(self) -> list[ProgramInfo]:
        return [_info(raw) for raw in self._call("getAllProcessInfo")]

    def info(self, name: str) -> ProgramInfo:
        return _info(self._call("getProcessInfo", name))

    def ports(self) -> dict[str, int | None]:
        """Port of each program that was launched last, also when nothing runs."""
        found = {}
        for path in sorted(self.programs_folder.glob("*~*.json")):
            with contextlib.suppress(OSError, ValueError):
                found[path.name.split("~")[0]] = json.loads(path.read_text(encoding="utf-8"))["port"]
        return found

    def shut_down(self, patience_s: float = SHUTDOWN_S) -> None:
        """Tell it to stop its programs, highest priority first, and to end; wait until it has. Idempotent."""
        pid = self.pid()
        if pid is None:
            return
        process = psutil.Process(pid)
        with contextlib.suppress(EngineError):
            self._call("shutdown")
        deadline = time.monotonic() + patience_s
        while orphans.is_alive(process) and time.monotonic() < deadline:
            time.sleep(0.03)

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The last lines a program wrote, without the secrets of this home."""
        try:
            with self.home.log_file(name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8000))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return "(no log)"
        return self._redacted("\n".join(text.splitlines()[-lines:])) or "(empty log)"

    def _refuse_taken_port(self, program: Program) -> None:
        """Raises: EngineError `port_taken` when others than processes of this home listen on the program's port."""
        port = program.port
        if port is None or port_is_free(port) or port in orphans.listening(self.home):
            return
        cure = f", or set another one as {program.port_setting} in dagster_project.yaml" if program.port_setting else ""
        raise EngineError(
            "port_taken", f"port {port} of {program.name} is held by {orphans.holder([port])}: end that process{cure}"
        )

    def _write(self, program: Program) -> str:
        """Both files of a program; the name of the first, which holds its hash: supervisord sees any change in the second."""
        specification = json.dumps(
            {
                "command": program.command,
                "directory": str(program.directory),
                "environment": {
                    **program.environment,
                    **orphans.mark(self.home, program.name, program.stop_signal, program.stop_wait_s),
                },
                "inherit_environment": program.inherit_environment,
                "log": str(self.home.log_file(program.name)) if program.logs_directly else None,
                "port": program.port,
            },
            sort_keys=True,
        )
        digest = hashlib.sha256(specification.encode()).hexdigest()[:16]
        path = self.programs_folder / f"{program.name}~{digest}.json"
        write_whole(path, specification)
        words = (sys.executable, "-I", "-S", str(LAUNCHER), f"programs/{path.name}")
        text = PROGRAM_TEMPLATE.format(
            name=program.name,
            log="NONE" if program.logs_directly else f"../logs/{program.name}.log",
            command=shlex.join(words).replace("%", "%%"),
            priority=program.priority,
            start_seconds=program.start_seconds,
            start_retries=program.start_retries,
            stop_signal=program.stop_signal,
            stop_wait_s=program.stop_wait_s,
            stop_group=str(program.stop_group).lower(),
        )
        write_whole(self.programs_folder / f"{program.name}.conf", text)
        return path.name

    def _call(self, method: str, *arguments: Any, timeout_s: float = ANSWER_S) -> Any:
        """One order. Raises: EngineError `supervisor_refused` or `supervisor_silent`."""
        address = f"http://{USER}:{self._state.secrets['supervisor']}@127.0.0.1:{self._state.ports['supervisor']}/RPC2"
        with xmlrpc.client.ServerProxy(address, transport=_Transport(timeout_s)) as proxy:
            try:
                return getattr(proxy.supervisor, method)(*arguments)
            except xmlrpc.client.Fault as fault:
                raise EngineError("supervisor_refused", f"supervisord: {method} {arguments}: {fault.faultString}") from None
            except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
                # from None: the error of a refused request carries the address, and that the password
                raise EngineError(
                    "supervisor_silent",
                    f"the supervisor of {self.home.root} did not answer {method} ({type(error).__name__}): run `twin up` again",
                    retryable=True,
                ) from None

    def _redacted(self, text: str) -> str:
        for secret in self._state.secrets.values():
            text = text.replace(secret, "[secret]")
        return text


def _reason(program: Program) -> str | None:
    """Why the program does not answer; None when it does. Raises: EngineError `probe_broken` where waiting cannot help."""
    try:
        return "it does not answer" if program.ready is not None and program.ready() is False else None
    except ImportError as error:
        raise EngineError(
            "probe_broken", f"{program.name} cannot be asked whether it is ready: {error}: see `twin doctor`"
        ) from error
    except Exception as error:  # whatever a probe raises, the answer is "not yet"
        return f"{type(error).__name__}: {error}"


def _info(raw: Any) -> ProgramInfo:
    known = cast("dict[str, Any]", raw)
    running = known["statename"] in {"RUNNING", "STARTING", "STOPPING"}
    return ProgramInfo(
        name=known["name"],
        state=known["statename"].lower(),
        pid=known["pid"] or None,
        uptime_s=float(max(0, known["now"] - known["start"])) if running else 0.0,
        detail=known["spawnerr"] or known["description"],
    )
