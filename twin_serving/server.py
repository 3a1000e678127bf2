"""The API as a process: `python -m twin_serving`. One process, as there is one model; threads and the engine share its cores.

Belongs here: how the web server is set up, what it logs, and how it ends.
Does not belong here: routes and services (`app.py`), and who watches the process (`twin up`, or a container's host).
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import uvicorn

from lpm_kernel.settings import Settings, load_settings
from twin_serving.app import create_app
from twin_serving.logs import configure_logs
from twin_serving.niceness import SWITCH_S

if TYPE_CHECKING:
    from fastapi import FastAPI

CUT_S = 3.0
"""After the grace: for what is cut to be kept. The server drops what takes longer."""


class Server(uvicorn.Server):
    """uvicorn, whose stop gives answers under way their time."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, grace_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._grace_s = grace_s
        app.state.crowd.count = lambda: len(self.server_state.connections)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.stop.begin(self._grace_s)
        await super().shutdown(sockets)


def build_server(app: FastAPI, settings: Settings, *, port: int | None = None) -> Server:
    """The server of this app, not started. `port`: another one than the settings name; 0: any that is free."""
    from sse_starlette.sse import AppStatus

    # it would end every stream at the signal
    AppStatus.disable_automatic_graceful_drain()
    serving = settings.serving
    config = uvicorn.Config(
        app,
        host=serving.host,
        port=serving.api_port if port is None else port,
        lifespan="on",
        log_config=None,
        # one line a request is written by `metrics.py`, which knows the route's time and the request's id
        access_log=False,
        server_header=False,
        timeout_keep_alive=serving.keep_alive_s,
        backlog=serving.backlog,
        timeout_graceful_shutdown=round(serving.stop_grace_s + CUT_S),
    )
    return Server(config, app, serving.stop_grace_s)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m twin_serving", description="The API of the settings file.")
    parser.add_argument("--host", help="where to listen; default: serving.host")
    parser.add_argument("--port", type=int, help="default: serving.api_port")
    chosen = parser.parse_args(arguments)
    configure_logs()
    sys.setswitchinterval(SWITCH_S)
    settings = load_settings()
    if chosen.host:
        # read anew, so that the rules of the settings hold for it: without tokens nothing but loopback
        content = settings.model_dump()
        content["serving"]["host"] = chosen.host
        try:
            settings = Settings.model_validate(content)
        except ValueError as error:
            parser.error(str(error))
    build_server(create_app(settings=settings), settings, port=chosen.port).run()
