"""An app on a socket of its own: what a client of another make meets.

Belongs here: starting and stopping it.
Does not belong here: what the app answers from.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

START_S = 20


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Its address, while the block runs."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            until = time.monotonic() + START_S
            while not server.started:
                assert thread.is_alive(), "the server ended while it started"
                assert time.monotonic() < until, "the server did not start"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
