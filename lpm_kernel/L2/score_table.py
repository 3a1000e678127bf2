"""An evaluation to look at: a table and a chart, as Markdown.

Belongs here: words and pictures of counts, for the UI and the terminal.
Does not belong here: the counts.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import get_args
from xml.sax.saxutils import escape

from lpm_kernel.L2.records import ARMS, Arm, Comparison, Evaluation, LeakProbe, Measure, Score

MEASURE_WORDS: dict[Measure, str] = {
    "memory_self": "own questions",
    "memory_third_person": "asked about the person",
    "preference": "preferences",
    "context_enhance": "requests made precise",
    "context_critic": "replies judged",
    "refusal": "unanswerable declined",
    "voice": "nearer in voice than the base",
}
LEAK_WORDS: dict[LeakProbe, str] = {
    "foreign_lines": "retrieved lines of other people",
    "foreign_facts": "other people's questions answered right",
    "foreign_numbers": "other people's numbers preferred",
    "held_out_numbers": "held-out numbers preferred",
    "trained_numbers": "learnt numbers preferred",
}
COLOURS = {"base": "#b8b8b8", "base+retrieval": "#6f8fb8", "adapter": "#e0b070", "adapter+retrieval": "#c05a28"}

_BAR, _GAP, _LABEL, _WIDTH = 11, 14, 190, 320
"""Pixels: height of a bar, between measures, of the words on the left, of a share of 1."""


def score_rows(evaluation: Evaluation) -> list[tuple[str, list[str]]]:
    """A line a measure: its words, and for each arm "right/asked = share [low-high]", or a dash where it was not asked."""
    cells = {(score.measure, score.arm): _cell(score) for score in evaluation.scores}
    measured = [measure for measure in get_args(Measure) if any(found == measure for found, _ in cells)]
    rows = [(MEASURE_WORDS[measure], [cells.get((measure, arm), "-") for arm in ARMS]) for measure in measured]
    if evaluation.questions and evaluation.false_refusals:
        asked = evaluation.questions
        rows.append(("answerable declined", [f"{evaluation.false_refusals[arm]}/{asked}" for arm in ARMS]))
    return rows


def difference_lines(evaluation: Evaluation, against: Arm = "base+retrieval") -> list[str]:
    """`adapter+retrieval` less one other arm, a line a measure."""
    return [f"{MEASURE_WORDS[item.measure]}: {_difference(item)}" for item in evaluation.comparisons if item.against == against]


def leak_lines(evaluation: Evaluation) -> list[str]:
    """What was looked for of other people, a line each, with what chance gives."""
    return [
        f"{LEAK_WORDS[leak.probe]}: {leak.found} of {leak.asked}, by chance {leak.expected:g}"
        + (f" (so many by chance: {leak.chance:.2g})" if leak.found else "")
        for leak in evaluation.leaks
    ]


def markdown_report(evaluation: Evaluation) -> str:
    """Everything an evaluation says, for Dagster's UI."""
    lines = [f"| | {' | '.join(ARMS)} |", "|---" * (len(ARMS) + 1) + "|"]
    lines += [f"| {words} | {' | '.join(cells)} |" for words, cells in score_rows(evaluation)]
    sections = {
        "adapter+retrieval less base+retrieval": difference_lines(evaluation),
        "Leaks": leak_lines(evaluation),
        "Not measured": list(evaluation.unmeasured),
    }
    for title, told in sections.items():
        if told:
            lines += ["", f"**{title}**", "", *(f"- {line}" for line in told)]
    if judged := evaluation.judged:
        told = f"{judged.arm} better {judged.wins}, {judged.against} better {judged.losses}, tie {judged.ties}"
        lines += ["", f"Judge: {told}" + (f", no verdict {judged.unjudged}" if judged.unjudged else "")]
    return "\n".join([*lines, "", chart_image(evaluation.scores)])


def chart_image(scores: Sequence[Score]) -> str:
    """The chart as a Markdown image that carries its own data."""
    return f"![shares right](data:image/svg+xml;base64,{base64.b64encode(score_chart(scores).encode()).decode()})"


def score_chart(scores: Sequence[Score]) -> str:
    """SVG: a bar for each arm of each measure, with its interval."""
    parts: list[str] = []
    y = _GAP
    for measure in get_args(Measure):
        bars = [score for score in scores if score.measure == measure]
        if bars:
            parts.append(_text(0, y + _BAR * len(bars) / 2 + 4, MEASURE_WORDS[measure]))
        for score in bars:
            parts += _bar(score, y)
            y += _BAR
        y += _GAP if bars else 0
    for column, arm in enumerate(ARMS):
        x = column * 130
        parts.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{COLOURS[arm]}"/>')
        parts.append(_text(x + 14, y + 9, arm))
    width, height = _LABEL + _WIDTH + 60, y + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>'
    )


def _bar(score: Score, y: float) -> list[str]:
    middle = y + _BAR / 2
    length = _WIDTH * score.right / max(1, score.asked)
    low, high = _LABEL + _WIDTH * score.low, _LABEL + _WIDTH * score.high
    return [
        f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR - 2}" fill="{COLOURS[score.arm]}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="#303030"/>',
        _text(_LABEL + _WIDTH + 8, y + _BAR - 2, f"{score.right}/{score.asked}"),
    ]


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x}" y="{y}">{escape(words)}</text>'


def _cell(score: Score) -> str:
    return f"{score.right}/{score.asked} = {score.right / max(1, score.asked):.0%} [{score.low:.0%}, {score.high:.0%}]"


def _difference(item: Comparison) -> str:
    return f"{item.difference:+.0%} [{item.low:+.0%}, {item.high:+.0%}] of {item.asked}"
