"""What `/metrics` counts, under which names, and the one log line of a request."""

from __future__ import annotations

import logging
import re

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from lpm_kernel.errors import LlmError
from tests.fakes import FakeLlm
from tests.twin_serving.test_health import settled


def samples(client: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def requests_to(found: dict, method: str, route: str, status: str) -> float:
    return found.get(("twin_http_requests_total", (("method", method), ("route", route), ("status", status))), 0)


def test_requests_are_counted_by_the_routes_pattern_and_never_by_a_path_that_somebody_made_up(
    client: TestClient, twin: str, llm: FakeLlm
) -> None:
    llm.answers.extend(["Pilchard.", LlmError("model_loading", "too many ask")])
    client.post(f"/twin/{twin}/chat", json={"question": "Cat?"})
    client.post(f"/twin/{twin}/chat", json={"question": "Cat?"})
    client.get(f"/twin/{twin}/profile")
    for number in range(5):
        client.get(f"/no-such-path-{number}")
    client.request("BREW", "/healthz")
    found = samples(client)
    assert requests_to(found, "POST", "/twin/{user_id}/chat", "200") == 1
    assert requests_to(found, "POST", "/twin/{user_id}/chat", "503") == 1
    assert requests_to(found, "GET", "/twin/{user_id}/profile", "200") == 1
    assert requests_to(found, "GET", "(none)", "404") == 5
    assert requests_to(found, "other", "/healthz", "405") == 1
    text = client.get("/metrics").text
    assert twin not in text
    assert "no-such-path" not in text
    assert "BREW" not in text


def test_a_latency_has_buckets_that_hold_every_request(client: TestClient) -> None:
    for _ in range(3):
        client.get("/healthz")
    found = samples(client)
    labels = (("method", "GET"), ("route", "/healthz"))
    assert found["twin_http_request_seconds_count", labels] == 3
    assert found["twin_http_request_seconds_bucket", (("le", "+Inf"), *labels)] == 3
    assert 0 < found["twin_http_request_seconds_sum", labels] < 3


def test_a_streamed_answer_is_counted_when_it_has_ended(client: TestClient, twin: str, llm: FakeLlm) -> None:
    llm.answers.append("one two three")
    client.post(f"/twin/{twin}/chat", json={"question": "Cat?"}, headers={"Accept": "text/event-stream"})
    assert requests_to(samples(client), "POST", "/twin/{user_id}/chat", "200") == 1


def test_it_tells_of_stores_model_and_build_and_of_the_request_that_asks(client: TestClient) -> None:
    settled(client)
    found = samples(client)
    assert {labels: value for (name, labels), value in found.items() if name == "twin_store_up"} == {
        (("store", "blobs"),): 1,
        (("store", "graph"),): 1,
        (("store", "tables"),): 1,
    }
    assert found["twin_model_ready", ()] == 1
    assert found["twin_http_requests_in_flight", ()] == 1
    (build,) = [dict(labels) for name, labels in found if name == "twin_build_info"]
    assert build["base"] == "SmolLM2-135M-Instruct"
    assert build["engine"] == "local"
    assert ("process_resident_memory_bytes", ()) in found


def test_each_request_is_one_line_of_the_log_without_its_query_and_nobody_can_write_a_line_of_their_own(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="twin_serving.access"):
        client.get("/healthz?token=secret-word")
        client.get("/nothing%0a2026-01-01 INFO forged")
    lines = [record.getMessage() for record in caplog.records if record.name == "twin_serving.access"]
    assert len(lines) == 2
    assert re.fullmatch(r"GET /healthz 200 [0-9.]+ ms \S+", lines[0])
    assert "\n" not in lines[1]
    assert "secret-word" not in "".join(lines)
