"""Whose rows a request may open, and that code outside a request is not held back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from lpm_kernel.errors import AccessError
from lpm_kernel.recall.plan import ask_all
from lpm_kernel.request_context import RequestContext, check_may_open, current_request, request_id, within_request
from lpm_kernel.stores.blobs import TenantBlobs
from tests.fakes import MemoryBlobs


def test_outside_a_request_everything_may_be_opened() -> None:
    check_may_open("ada")
    assert (current_request(), request_id()) == (None, None)


def test_a_request_opens_nobody_but_those_it_was_let_in_for() -> None:
    with within_request(RequestContext("r1", frozenset({"ada"}))):
        check_may_open("ada")
        TenantBlobs(MemoryBlobs(), "ada")
        with pytest.raises(AccessError) as caught:
            check_may_open("bob")
        assert caught.value.code == "not_yours"
        with pytest.raises(AccessError):
            TenantBlobs(MemoryBlobs(), "bob")
        with within_request(RequestContext("r2")):
            check_may_open("bob")
        assert request_id() == "r1"
    assert request_id() is None


def test_nobody_may_be_named_too() -> None:
    with within_request(RequestContext("r1", frozenset())), pytest.raises(AccessError):
        check_may_open("ada")


def test_threads_are_within_the_request_that_started_them() -> None:
    seen: list[str | None] = []

    def ask() -> list:
        seen.append(request_id())
        return []

    with within_request(RequestContext("r1")):
        ask_all({"documents": ask, "memories": ask}, 5.0)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(copy_context().run, request_id).result() == "r1"
    assert seen == ["r1", "r1"]
