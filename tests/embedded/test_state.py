from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.embedded.home import open_home
from lpm_kernel.embedded.state import (
    FIRST_PORT,
    GRPC_OFFSET,
    LAST_PORT,
    State,
    choose_port,
    port_is_free,
    read_state,
    with_ports,
    with_secrets,
    write_state,
)
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", choose_port(set()))) as stranger:
        yield stranger.getsockname()[1]


def test_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    state = State({"postgres": 15001}, {"twin_app": "word"})
    write_state(home, state)
    assert read_state(home) == state
    assert home.state_file.stat().st_mode & 0o777 == 0o600


def test_no_state_is_an_empty_state(tmp_path: Path) -> None:
    assert read_state(open_home(tmp_path)) == State()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ports": 1}', '{"ports": {"a": "x"}, "secrets": {}}'])
def test_a_broken_state_file_is_refused_and_not_replaced(tmp_path: Path, text: str) -> None:
    home = open_home(tmp_path)
    home.state_file.write_text(text)
    with pytest.raises(EngineError) as raised:
        read_state(home)
    assert raised.value.code == "state_unreadable"
    assert home.state_file.read_text() == text


def test_secrets_are_made_once() -> None:
    first = with_secrets(State(), ["a"])
    second = with_secrets(first, ["a", "b"])
    assert second.secrets["a"] == first.secrets["a"]
    assert len(second.secrets["b"]) == 40
    assert second.secrets["b"] != second.secrets["a"]


def test_secrets_do_not_show_in_a_representation() -> None:
    assert "word" not in repr(State({}, {"twin_app": "word"}))


def test_a_free_recorded_port_stays() -> None:
    first = with_ports(State(), {"redis": False, "s3": True})
    assert with_ports(first, {"redis": False, "s3": True}) == first


def test_a_port_taken_by_a_stranger_is_replaced_and_the_others_stay(taken_port: int) -> None:
    before = with_ports(State(), {"redis": False})
    state = State({**before.ports, "postgres": taken_port})
    after = with_ports(state, {"redis": False, "postgres": False})
    assert after.ports["postgres"] != taken_port
    assert after.ports["redis"] == before.ports["redis"]


def test_a_port_whose_grpc_neighbour_is_taken_is_not_free(taken_port: int) -> None:
    assert not port_is_free(taken_port)
    assert not port_is_free(taken_port - GRPC_OFFSET, with_grpc=True)


def test_a_port_held_on_all_addresses_is_not_free() -> None:
    with socket.create_server(("0.0.0.0", choose_port(set()))) as stranger:
        assert not port_is_free(stranger.getsockname()[1])


def test_ports_and_neighbours_never_meet() -> None:
    ports = with_ports(State(), {f"p{i}": True for i in range(40)}).ports.values()
    everything = [number for port in ports for number in (port, port + GRPC_OFFSET)]
    assert len(set(everything)) == 80
    assert all(FIRST_PORT <= port < LAST_PORT for port in ports)
