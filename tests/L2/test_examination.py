"""One examination from end to end is tried in `twin_assets/test_chain.py`; here, what must be said and not guessed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lpm_kernel.errors import SettingsError
from lpm_kernel.L2.exam import Exam, Probe
from lpm_kernel.L2.examination import _judged, _unlooked, examine_twin
from lpm_kernel.L2.golden import parse_golden
from lpm_kernel.L2.records import ARMS, Evaluation, GgufAdapter, GradedAnswer, LeakCount
from lpm_kernel.records import EmbeddingTable
from lpm_kernel.settings import Settings
from tests.fakes import no_progress
from tests.L2.test_golden import CONTENT, packed
from tests.L2.test_judge import asking, better, judging_writer

TABLE = EmbeddingTable((), (), np.zeros((0, 4), np.float32), "fake")
GGUF = GgufAdapter("g", "k", 1, "a", "b", 1)


def test_a_judge_that_is_set_and_missing_is_an_error_before_anything_is_asked(settings: Settings) -> None:
    judging = settings.evaluation.model_copy(update={"judge": "writer"})
    stores: Any = SimpleNamespace(settings=settings.model_copy(update={"evaluation": judging}))
    with pytest.raises(SettingsError) as caught:
        examine_twin(stores, "1", [], [], TABLE, [], [], GGUF, ["1"], Path("unused"), None, no_progress)
    assert caught.value.code == "judge_missing"


def test_what_was_not_looked_for_says_why() -> None:
    looked = [LeakCount("trained_numbers", 8, 8, 1.0, 0.0)]
    alone = dict(reason.split(": ", 1) for reason in _unlooked(looked, others=False))
    assert set(alone) == {"foreign_lines", "foreign_facts", "foreign_numbers", "held_out_numbers"}
    assert alone["foreign_facts"] == "there is nobody else yet"
    assert "nobody" not in dict(reason.split(": ", 1) for reason in _unlooked(looked, others=True))["foreign_facts"]


def test_the_judge_compares_the_two_arms_with_notes_by_the_persons_own_sentence() -> None:
    question = {"id": "q1", "question": "What is your cat called?", "expected": ["Pilchard"], "document": "a.md"}
    golden = parse_golden(packed({**CONTENT, "questions": [{**question, "evidence": "Our cat is called Pilchard."}]}))
    probe = Probe("q1", "memory_self", "What is your cat called?", ("Pilchard",))
    answers = tuple(GradedAnswer("q1", arm, "Pilchard." if arm == "adapter+retrieval" else "A cat.", True) for arm in ARMS)
    report = Evaluation("golden", 1, {}, 0, 0, {}, answers, "g", "a", "b", 1.0)
    writer = judging_writer(lambda first, second: better("first" if "Pilchard" in first else "second"))
    judged = _judged(report, Exam("golden", (probe,)), golden, asking(writer))
    assert judged is not None
    assert (judged.arm, judged.against, judged.wins, judged.losses) == ("adapter+retrieval", "base+retrieval", 1, 0)
    assert all("Our cat is called Pilchard." in asked[-1].content for asked in writer.requests)
    assert _judged(report, Exam("golden", (probe,)), golden, None) is None
