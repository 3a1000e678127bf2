"""One program to be watched: what is run, how it is stopped, how it says that it is ready.

Belongs here: the record that engines and services are passed in as.
Does not belong here: how it is supervised (`supervisor.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

StopSignal = Literal["TERM", "INT", "QUIT"]


@dataclass(frozen=True, slots=True)
class Program:
    """A command that stays in the foreground.

    `ready` raises or returns False until the program answers; without it, a program that runs is ready.
    `environment` is added to that of the command which started the supervisor; with `inherit_environment` False, to a bare one.
    `port_setting`: the key of the settings file that fixes `port`, named to the person when somebody else holds it.
    `start_seconds`: one that ends earlier has failed to start, and after `start_retries` more failures is left alone. Less than
    3 is too short: supervisord notices an end up to a second late.
    `priority`: lower starts earlier and stops later; the same number starts together.
    `logs_directly` gives it the log file itself in place of the supervisor's pipe: for a program that a broken pipe kills, so
    that it outlives a killed supervisor. The price: the file is rotated at the program's start only.
    `stop_group` sends the stop signal to the program's children too (a web server with workers that nobody else tells).
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    inherit_environment: bool = True
    port: int | None = None
    port_setting: str | None = None
    stop_signal: StopSignal = "TERM"
    stop_wait_s: int = 10
    stop_group: bool = False
    logs_directly: bool = False
    priority: int = 500
    start_seconds: int = 5
    start_retries: int = 3
    ready: Callable[[], bool | None] | None = field(default=None, compare=False, repr=False)
    ready_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,40}", self.name) or self.name == "supervisord":
            raise EngineError("program_name", f"{self.name!r} cannot name a program: use a-z, 0-9, - and _")
        if not self.command:
            raise EngineError("program_command", f"program {self.name} has no command")
