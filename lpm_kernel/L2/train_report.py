"""How a training tells what it does: one sentence a step that a person reads and a program reads back, and its curve drawn.

Belongs here: words and pictures made from numbers; pure.
Does not belong here: where they are shown (`twin_assets/training_runs.py`).

Why numbers inside a sentence: progress is a share and a few words wherever a stage runs, and this needs no second channel.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lpm_kernel.L2.records import CurvePoint

_STEP = re.compile(
    r"epoch (\d+) of (\d+), step (\d+) of (\d+), loss (\d+\.\d+)(?:, held-out loss (\d+\.\d+))?"
    r", (\d+) tokens/s, (\d+) s left"
)
BARS = "▁▂▃▄▅▆▇█"
WIDTH, HEIGHT, EDGE = 480, 160, 28


@dataclass(frozen=True, slots=True)
class StepReport:
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    """Mean since the report before, in nats an answer token."""
    eval_loss: float | None
    tokens_per_second: int
    seconds_left: int

    def words(self) -> str:
        held_out = "" if self.eval_loss is None else f", held-out loss {self.eval_loss:.3f}"
        return (
            f"epoch {self.epoch} of {self.epochs}, step {self.step} of {self.steps}, loss {self.loss:.3f}{held_out}, "
            f"{self.tokens_per_second} tokens/s, {self.seconds_left} s left"
        )


def read_report(words: str) -> StepReport | None:
    """The report that these words tell; None when they tell something else."""
    found = _STEP.fullmatch(words)
    if found is None:
        return None
    epoch, epochs, step, steps, loss, eval_loss, speed, left = found.groups()
    held_out = None if eval_loss is None else float(eval_loss)
    return StepReport(int(epoch), int(epochs), int(step), int(steps), float(loss), held_out, int(speed), int(left))


def sparkline(values: Sequence[float]) -> str:
    """The values as bars of text, the largest the highest."""
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)


def curve_markdown(curve: Sequence[CurvePoint]) -> str:
    """The loss over the steps as an inline picture, and in text for where pictures are not shown."""
    if not curve:
        return "no step was reported"
    lines = [f"![loss over steps](data:image/svg+xml;base64,{base64.b64encode(curve_svg(curve).encode()).decode()})", ""]
    lines.append(f"loss {curve[0].loss:.3f} {sparkline([point.loss for point in curve])} {curve[-1].loss:.3f}")
    held_out = [point.eval_loss for point in curve if point.eval_loss is not None]
    if held_out:
        lines += ["", f"held-out loss {held_out[0]:.3f} {sparkline(held_out)} {held_out[-1]:.3f}"]
    return "\n".join(lines)


def curve_svg(curve: Sequence[CurvePoint]) -> str:
    """Training loss as a line, held-out loss as a line with dots; both axes begin at nothing."""
    held_out = [(point.step, point.eval_loss) for point in curve if point.eval_loss is not None]
    top = max([point.loss for point in curve] + [loss for _, loss in held_out]) or 1.0
    last = max(point.step for point in curve)

    def at(step: int, loss: float) -> tuple[float, float]:
        return EDGE + (WIDTH - 2 * EDGE) * step / last, HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * loss / top

    def line(points: Sequence[tuple[int, float]], colour: str) -> str:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>'

    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#c2410c"/>' for x, y in (at(*point) for point in held_out))
    floor = HEIGHT - EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<path d="M{EDGE} {EDGE}V{floor}H{WIDTH - EDGE}" fill="none" stroke="#888888"/>'
        f'<text x="4" y="{EDGE + 4}">{top:.1f}</text><text x="4" y="{floor}">0</text>'
        f'<text x="{WIDTH - EDGE}" y="{HEIGHT - 10}" text-anchor="end">step {last}</text>'
        f'<text x="{EDGE + 8}" y="16" fill="#1d4ed8">loss</text>'
        f'<text x="{EDGE + 44}" y="16" fill="#c2410c">held-out loss</text>'
        + line([(point.step, point.loss) for point in curve], "#1d4ed8")
        + (line(held_out, "#c2410c") if held_out else "")
        + dots
        + "</svg>"
    )
