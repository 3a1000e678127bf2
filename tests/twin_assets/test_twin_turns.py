"""Twins that vote by themselves in a run: those that no API has let vote, and no model is opened for none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lpm_kernel.dao.twin_turns import TwinTurns
from lpm_kernel.errors import LlmError, StoreError
from lpm_kernel.settings import Settings
from tests.fakes import FakeLlm
from twin_assets import twin_turns
from twin_assets.twin_turns import LEFT_TO_THE_API, LOOKS_A_RUN, let_left_twins_vote


class Asked:
    """In place of `let_twins_vote`: what it was asked, and whether it wants the model."""

    def __init__(self, found: TwinTurns | Exception, *, opens: bool) -> None:
        self.found, self.opens, self.how = found, opens, dict[str, Any]()

    def __call__(self, dao: Any, stores: Any, llm: Any, **how: Any) -> TwinTurns:
        self.how = how
        if self.opens:
            llm()
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def ballot(outcome: str) -> Any:
    return SimpleNamespace(outcome=outcome)


def run(monkeypatch: pytest.MonkeyPatch, settings: Settings, asked: Asked, **dao: Any) -> tuple[int, list[str], list[FakeLlm]]:
    monkeypatch.setattr(twin_turns, "let_twins_vote", asked)
    changed = settings.model_copy(update={"dao": settings.dao.model_copy(update=dao)})
    said: list[str] = []
    opened: list[FakeLlm] = []

    def open_model(settings: Settings) -> Any:
        opened.append(FakeLlm())
        return opened[-1]

    stores = cast("Any", SimpleNamespace(settings=changed))
    return let_left_twins_vote(cast("Any", None), stores, said.append, open_model), said, opened


def test_a_run_takes_what_the_api_has_left_and_closes_the_model(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    taken = {("ada", "p"): ballot("cast"), ("bo", "p"): ballot("drafted"), ("cy", "p"): ballot("abstained")}
    asked = Asked(TwinTurns(taken, {("dan", "p"): "internal"}), opens=True)
    voted, said, opened = run(monkeypatch, settings, asked, twins_per_look=3, worker_poll_s=1.0)
    assert (voted, asked.how) == (2, {"most": 3 * LOOKS_A_RUN, "open_for": LEFT_TO_THE_API})
    assert [llm.closed for llm in opened] == [True]
    assert len(said) == 4
    assert "internal" in said[-1]


def test_where_no_api_lets_them_they_need_not_wait(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    asked = Asked(TwinTurns(), opens=False)
    assert run(monkeypatch, settings, asked, worker_poll_s=0)[::2] == (0, [])
    assert asked.how["open_for"].total_seconds() == 0


def test_where_none_may_vote_by_itself_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    asked = Asked(TwinTurns(), opens=False)
    assert run(monkeypatch, settings, asked, twins_per_look=0) == (0, [], [])
    assert asked.how == {}


def test_a_model_that_does_not_answer_keeps_no_vote_from_its_end(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    voted, said, opened = run(monkeypatch, settings, Asked(LlmError("engine_unreachable", "told to"), opens=True))
    assert (voted, [llm.closed for llm in opened]) == (0, [True])
    assert "engine_unreachable" in said[0]
    with pytest.raises(StoreError):
        run(monkeypatch, settings, Asked(StoreError("tables_unavailable", "told to"), opens=False))
