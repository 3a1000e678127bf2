"""An evaluation in words and pictures: every count that was made, and none that was not."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from xml.etree import ElementTree

from lpm_kernel.L2.intervals import share_interval
from lpm_kernel.L2.records import ARMS, Arm, Comparison, Evaluation, Judged, LeakCount, Measure, Score
from lpm_kernel.L2.score_table import chart_image, difference_lines, leak_lines, markdown_report, score_chart, score_rows


def score(measure: Measure, arm: Arm, right: int, asked: int) -> Score:
    return Score(measure, arm, right, asked, *share_interval(right, asked))


SCORES = (
    *(score("memory_self", arm, right, 50) for arm, right in zip(ARMS, (0, 12, 1, 21), strict=True)),
    score("context_critic", "base+retrieval", 1, 6),
    score("context_critic", "adapter+retrieval", 4, 6),
)
REPORT = Evaluation(
    question_source="golden",
    questions=50,
    correct={},
    in_pack=48,
    unanswerable=14,
    declined={},
    answers=(),
    memory_generation="g",
    gguf_sha256="a",
    base_sha256="b",
    seconds=1.0,
    scores=SCORES,
    comparisons=(Comparison("memory_self", "adapter+retrieval", "base+retrieval", 50, 0.18, 0.05, 0.31),),
    false_refusals=dict.fromkeys(ARMS, 0) | {"adapter+retrieval": 3},
    leaks=(LeakCount("foreign_facts", 12, 1, 0.6, 0.46), LeakCount("foreign_lines", 96, 0, 0.0, 1.0)),
    judged=Judged("adapter+retrieval", "base+retrieval", 9, 4, 12),
    unmeasured=("voice: too little text",),
)


def test_a_row_a_measure_with_its_interval_and_a_dash_where_nothing_was_asked() -> None:
    rows = dict(score_rows(REPORT))
    assert rows["own questions"][3] == "21/50 = 42% [29%, 56%]"
    assert rows["replies judged"] == ["-", "1/6 = 17% [3%, 56%]", "-", "4/6 = 67% [30%, 90%]"]
    assert rows["answerable declined"] == ["0/50", "0/50", "0/50", "3/50"]
    assert len(rows) == 3, "what was not measured has no row"


def test_differences_and_leaks_in_words() -> None:
    assert difference_lines(REPORT) == ["own questions: +18% [+5%, +31%] of 50"]
    assert leak_lines(REPORT) == [
        "other people's questions answered right: 1 of 12, by chance 0.6 (so many by chance: 0.46)",
        "retrieved lines of other people: 0 of 96, by chance 0",
    ]


def test_the_markdown_says_all_of_it() -> None:
    report = markdown_report(REPORT)
    for words in ("| own questions |", "+18%", "1 of 12", "voice: too little text", "better 9", "data:image/svg+xml;base64,"):
        assert words in report
    assert "**Leaks**" not in markdown_report(replace(REPORT, leaks=()))


def test_the_chart_is_a_picture_with_a_bar_a_score_as_long_as_its_share() -> None:
    data = re.search(r"base64,([^)]+)\)", chart_image(SCORES))
    assert data
    picture = ElementTree.fromstring(base64.b64decode(data[1]))
    space = "{http://www.w3.org/2000/svg}"
    bars = [bar for bar in picture.iter(f"{space}rect") if bar.get("height") == "9"]
    whole = 320
    assert [float(bar.get("width") or 0) for bar in bars] == [round(whole * s.right / s.asked, 1) for s in SCORES]
    whiskers = list(picture.iter(f"{space}line"))
    assert len(whiskers) == len(SCORES)
    assert all(float(w.get("x1") or 0) <= float(w.get("x2") or 0) for w in whiskers)


def test_a_chart_of_nothing_is_still_a_picture() -> None:
    assert ElementTree.fromstring(score_chart(())).tag.endswith("svg")
