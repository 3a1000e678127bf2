"""The curve over rank, epochs and rows: what each setting answers right with retrieval, refuses, and loses on held-out rows.

`python -m bench.training_bundle BUNDLE.json` writes what it reads; then, there or on a machine with a GPU that has only
`lpm_kernel`, torch, transformers and PEFT:

    python -m bench.training_curve BUNDLE.json --base HF_DIR --rank 8 16 --epochs 1 2 --rows 160 --seed 7 8
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from bench.curve_model import Base, Loss, Point, answer_all, encode_any, load_base, measure_loss, train_point
from lpm_kernel.L2.golden import holds_fact
from lpm_kernel.L2.intervals import share_interval
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.records import Citation, Message

RANKS, EPOCHS, ROWS = (4, 8, 16, 32), (1, 2, 3), (80, 160, 320)
BATCH = {"cuda": 128, "cpu": 8}
"""Prompts decoded together."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with Wilson's interval of 95 %."""

    right: int
    asked: int
    low: float
    high: float

    def __str__(self) -> str:
        if not self.asked:
            return f"{'-':>21}"
        return f"{self.right:>3}/{self.asked:<3} {self.right / self.asked:4.0%} {100 * self.low:3.0f}-{100 * self.high:<3.0f}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model showed."""

    right: Share
    """Answerable questions whose fact is in the answer, with retrieval, as a chat answers: the confidence rule in front."""
    refused: Share
    """Unanswerable questions declined, by rule or by model."""
    refused_by_model: Share
    """The same with every question put to the model."""
    held_out: Loss
    train: Loss
    right_bare: Share | None
    """Without retrieved lines."""
    answers: tuple[str, ...]
    """With retrieval, in the order of the bundle's questions, all by the model."""


def wilson(right: int, asked: int) -> Share:
    return Share(right, asked, *share_interval(right, asked))


def row_of(content: dict[str, Any]) -> TrainingRow:
    """A row as `dataclasses.asdict` wrote it."""
    return TrainingRow(
        **content
        | {
            "messages": prompt_of(content["messages"]),
            "sources": tuple(Citation(**source) for source in content["sources"]),
        }
    )


def examine(model: Any, base: Base, person: dict[str, Any], train: Sequence[Any], answer_tokens: int, *, bare: bool) -> Outcome:
    batch = BATCH.get(base.device.split(":")[0], 8)
    questions = person["questions"]
    replies = answer_all(model, base, [prompt_of(q["with_notes"]) for q in questions], answer_tokens, batch)
    said = [reply if q["asked"] else DECLINE for q, reply in zip(questions, replies, strict=True)]
    right_bare = None
    if bare:
        known = [q for q in questions if q["answerable"]]
        alone = answer_all(model, base, [prompt_of(q["bare"]) for q in known], answer_tokens, batch)
        right_bare = wilson(sum(holds_fact(r, q["expected"]) for q, r in zip(known, alone, strict=True)), len(known))
    return Outcome(
        right=_share(questions, said, answerable=True),
        refused=_share(questions, said, answerable=False),
        refused_by_model=_share(questions, replies, answerable=False),
        held_out=measure_loss(model, person["held_out"], base.device, batch),
        train=measure_loss(model, train, base.device, batch),
        right_bare=right_bare,
        answers=tuple(replies),
    )


def _share(questions: Sequence[dict[str, Any]], replies: Sequence[str], *, answerable: bool) -> Share:
    graded = [
        holds_fact(reply, question["expected"]) if answerable else reply.strip().startswith(DECLINE.rstrip("."))
        for question, reply in zip(questions, replies, strict=True)
        if question["answerable"] == answerable
    ]
    return wilson(sum(graded), len(graded))


def prompt_of(content: Sequence[dict[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(**message) for message in content)  # type: ignore[arg-type]


def draw_curve(
    bundle: dict[str, Any], base: Base, points: Sequence[Point], *, people: set[str], bare: bool, out: TextIO | None
) -> None:
    """Prints each setting as soon as it is done; to `out` the same and every answer, one JSON object a line."""
    for person in bundle["people"]:
        if person["user_id"] not in people:
            continue
        rows = {int(count): [row_of(row) for row in made] for count, made in person["rows"].items()}
        largest = rows[max(rows)]
        person["held_out"] = encode_any([row for row in largest if row.split == "held_out"], base.hf_dir)
        encoded = {
            count: encode_any([row for row in made if row.split == "train"], base.hf_dir) for count, made in rows.items()
        }
        in_pack = sum(question["in_pack"] for question in person["questions"])
        print(f"\n{person['name']}: {in_pack} facts in the retrieved lines, {len(person['held_out'])} held-out rows")
        print(_head(bare), flush=True)
        tokens = bundle["answer_tokens"]
        _tell(person, None, None, examine(base.model, base, person, encoded[max(rows)], tokens, bare=bare), 0.0, out)
        for point in without_repeats(points, {count: len(train) for count, train in encoded.items()}):
            train = encoded[point.rows]
            try:
                model, curve, seconds = train_point(base, train, point)
            except ArithmeticError as error:
                print(f"{_setting(point, len(train))} diverged: {error}", flush=True)
                continue
            outcome = examine(model, base, person, train, tokens, bare=bare)
            _tell(person, replace(point, rows=len(train)), curve, outcome, seconds, out)
            del model


def _head(bare: bool) -> str:
    head = f"{'rank':>5}{'epochs':>7}{'rows':>6}{'seed':>5}{'lr':>8} {'train s':>8}  {'right with retrieval':21}  "
    head += f"{'refused, with rule':21}  {'refused by model':21}  {'held-out nats':>14} {'train nats':>14}"
    return head + ("  right without retrieval" if bare else "")


def _setting(point: Point | None, rows: int) -> str:
    if point is None:
        return f"{'base':>5}{'':>7}{'':>6}{'':>5}{'':>8}"
    return f"{point.rank:>5}{point.epochs:>7}{rows:>6}{point.seed:>5}{point.learning_rate:>8.0e}"


def _tell(
    person: dict[str, Any],
    point: Point | None,
    curve: Sequence[float] | None,
    outcome: Outcome,
    seconds: float,
    out: TextIO | None,
) -> None:
    losses = f"{_nats(outcome.held_out)} {_nats(outcome.train)}"
    bare = f"  {outcome.right_bare}" if outcome.right_bare else ""
    setting = _setting(point, point.rows if point else 0)
    print(
        f"{setting} {seconds:8.1f}  {outcome.right}  {outcome.refused}  {outcome.refused_by_model}  {losses}{bare}", flush=True
    )
    if out:
        told = {"user_id": person["user_id"], "point": asdict(point) if point else None, "curve": curve, "seconds": seconds}
        out.write(json.dumps(told | asdict(outcome)) + "\n")
        out.flush()


def _nats(loss: Loss) -> str:
    return f"{loss.mean:7.3f} ±{loss.half_width:5.3f}"


def grid(
    ranks: Sequence[int], epochs: Sequence[int], rows: Sequence[int], seeds: Sequence[int], rates: Sequence[float]
) -> list[Point]:
    """Cheap settings first, so that a run that is cut short has still shown most of them."""
    points = [Point(*values) for values in itertools.product(ranks, epochs, rows, seeds, rates)]
    return sorted(points, key=lambda point: (point.seed, point.rows * point.epochs))


def without_repeats(points: Sequence[Point], made: dict[int, int]) -> list[Point]:
    """Where a person's documents give fewer rows than asked for, two numbers of rows are one setting.

    Raises: SystemExit when the bundle was not made for such a number.
    """
    if missing := {point.rows for point in points} - set(made):
        raise SystemExit(f"the bundle has no {sorted(missing)} rows; it has {sorted(made)}")
    kept = {replace(point, rows=made[point.rows]): point for point in reversed(points)}
    return [point for point in points if point in kept.values()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training_curve", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base in Hugging Face's layout")
    parser.add_argument("--rank", type=int, nargs="+", default=RANKS)
    parser.add_argument("--epochs", type=int, nargs="+", default=EPOCHS)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--seed", type=int, nargs="+", default=(7,))
    parser.add_argument("--learning-rate", type=float, nargs="+", default=(0.001,))
    parser.add_argument("--person", nargs="+", default=("1", "2"))
    parser.add_argument("--bare", action="store_true", help="ask without retrieved lines too")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="JSON lines of all figures and answers")
    chosen = parser.parse_args()
    bundle = json.loads(chosen.bundle.read_text(encoding="utf-8"))
    base = load_base(chosen.base, chosen.device, chosen.threads)
    points = grid(chosen.rank, chosen.epochs, chosen.rows, chosen.seed, chosen.learning_rate)
    began = time.perf_counter()
    out = chosen.out.open("a", encoding="utf-8") if chosen.out else None
    try:
        draw_curve(bundle, base, points, people=set(chosen.person), bare=chosen.bare, out=out)
    finally:
        if out:
            out.close()
    print(f"\n{len(points)} settings on {base.device}, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
