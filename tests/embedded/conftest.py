"""A second set of engines, beside the session's own `engine_home`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .fixtures import EngineHome, running_engines

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def second_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHome]:
    """Another set beside the first, to be killed and restarted; each test leaves it running. Its path is unkind on purpose."""
    with running_engines(tmp_path_factory.mktemp("engines") / "a 100% ;#, unkind home") as home:
        yield home
