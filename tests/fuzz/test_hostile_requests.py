"""Mutated bytes at a real server over the real stores: no 500, no crash, every refusal named. Long: `python -m chaos fuzz`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from chaos.documents import seed_files
from chaos.hostile_requests import codes_in_the_source, hostile_requests, judge, send_all, sound_requests
from chaos.mutate import mutants
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import Stores
from tests.fakes import FakeLlm
from tests.twin_serving.conftest import make_twin, services_over
from twin_serving.app import create_app

REQUESTS = 200


@pytest.fixture
def port(stores: Stores, tmp_path: Path) -> Iterator[int]:
    overrides = {"serving": {"body_timeout_s": 0.5, "requests_per_minute": 0}, "dao": {"max_members": 1000, "worker_poll_s": 0}}
    model = FakeLlm(["An answer."] * 1000)
    app = create_app(lambda: services_over(stores, model, tmp_path), load_settings(overrides=overrides))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(30)


@pytest.mark.slow
@pytest.mark.filterwarnings(  # the framework's reader of forms leaves the part that it was in to the garbage collector
    "ignore:Exception ignored in.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)
def test_no_mutated_request_makes_the_api_fail(port: int, stores: Stores, user_id: str) -> None:
    twin = make_twin(stores, user_id, FakeLlm().base_sha256)
    documents = list(mutants(seed_files(), 7, 40, 0.1))
    requests = hostile_requests(sound_requests(twin, documents), 7, REQUESTS)
    answers = send_all(port, requests, codes_in_the_source())
    assert answers.wrong == []
    assert answers.sent == REQUESTS
    assert {200, 202, 400, 404, 422} <= set(answers.statuses), answers.statuses
    assert answers.statuses[0] < REQUESTS / 4, answers.statuses


def test_an_answer_without_a_code_of_the_tree_is_wrong() -> None:
    problem = b'HTTP/1.1 422 X\r\n\r\n{"code": "no_such_code"}'
    assert judge(problem, {"request_invalid"})[2]
    assert judge(problem.replace(b"no_such_code", b"request_invalid"), {"request_invalid"}) == (422, "request_invalid", [])
    assert judge(b"HTTP/1.1 500 X\r\n\r\n{}", set())[2]
    assert judge(b'HTTP/1.1 503 X\r\n\r\n{"code": "tables_unavailable"}', {"tables_unavailable"})[2] == [
        "503 tables_unavailable"
    ]
    assert judge(b"", set()) == (0, "", [])
