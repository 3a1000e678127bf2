"""A stand-in for a model hub on loopback: what its own client asks when it fetches a snapshot, and no more.

Belongs here: the three paths and their headers. Does not belong here: tests (`L2/test_base_weights.py`).
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


class ModelHub:
    """Serves a folder as one repository at one commit. `asked` holds method and path of every request."""

    def __init__(self, repository: str, revision: str, folder: Path) -> None:
        hub = self
        self.asked: list[str] = []

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.asked.append(f"{self.command} {self.path}")
                path = self.path.partition("?")[0]
                body, about = hub.files.get(path.removeprefix(f"/{repository}/resolve/{revision}/")), {}
                status = 200
                if path.startswith(f"/api/models/{repository}/") and revision in path:
                    body = json.dumps(hub.api(path, repository, revision)).encode()
                elif body is not None:
                    about = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": revision}
                else:
                    status, body, about = 404, b'{"error": "not here"}', {"X-Error-Code": "RevisionNotFound"}
                self.send_response(status)
                for name, value in {**about, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def api(self, path: str, repository: str, revision: str) -> object:
        if "/tree/" in path:
            return [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in self.files.items()
            ]
        return {"id": repository, "sha": revision, "siblings": [{"rfilename": name} for name in self.files]}

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
