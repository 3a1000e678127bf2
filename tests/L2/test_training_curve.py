"""The curve's own loop against the product's, and what it counts."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING

import pytest

from bench.curve_model import Point, answer_all, encode_any, load_base, measure_loss, ratio_loss, train_point
from bench.training_curve import grid, row_of, wilson, without_repeats
from lpm_kernel.L2.train import answer_loss_sum, load_torch_base, torch_threads, train_adapter
from tests.fakes import no_progress

from .conftest import asked, training_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.settings import TrainingSettings


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


def test_a_point_of_the_curve_learns_what_the_product_learns(
    tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path: Path
) -> None:
    trained = train_adapter(training_rows(), tiny_base, brief_training, tmp_path, no_progress)
    base = load_base(tiny_base.hf_dir, "cpu", None)
    rows = encode_any(training_rows(), tiny_base.hf_dir)
    point = Point(rank=4, epochs=2, rows=8, seed=brief_training.seed, learning_rate=2e-3, batch_rows=2)
    _, curve, _ = train_point(base, rows, point)
    assert curve == pytest.approx(trained.loss_curve, rel=1e-4)


def test_the_base_is_as_before_after_a_training(tiny_base: BaseModel) -> None:
    """All settings share one base: what one of them learned must not be there for the next."""
    base = load_base(tiny_base.hf_dir, "cpu", None)
    rows = encode_any(training_rows(), tiny_base.hf_dir)
    before = measure_loss(base.model, rows, "cpu", 4)
    model, _, _ = train_point(base, rows, Point(rank=2, epochs=1, rows=8, seed=1, learning_rate=1e-2))
    assert measure_loss(model, rows, "cpu", 4).mean < before.mean - 0.1
    assert measure_loss(base.model, rows, "cpu", 4) == before


def test_its_loss_is_that_of_training(tiny_base: BaseModel) -> None:
    base = load_base(tiny_base.hf_dir, "cpu", None)
    rows = encode_any(training_rows(), tiny_base.hf_dir)
    whole = answer_loss_sum(load_torch_base(tiny_base), rows).item() / sum(row.answer_tokens for row in rows)
    assert measure_loss(base.model, rows, "cpu", 3).mean == pytest.approx(whole, rel=1e-5)


def test_answers_of_a_batch_are_those_of_each_prompt_alone(tiny_base: BaseModel) -> None:
    """Prompts of a batch are padded on the left; a position or a mask that counted the padding would change the answer."""
    base = load_base(tiny_base.hf_dir, "cpu", None)
    prompts = [asked("Who?"), asked("Where do you keep the spare key of the shed in the garden?"), asked("What is it?")]
    together = answer_all(base.model, base, prompts, 8, 3)
    assert together == answer_all(base.model, base, prompts, 8, 1)
    ids = base.tokenizer.encode(_text(prompts[1]), add_special_tokens=False).ids
    assert together[1] == base.tokenizer.decode(_greedy_without_cache(base.model, ids, 8), skip_special_tokens=True)


def test_a_row_survives_the_bundle() -> None:
    row = training_rows()[0]
    assert row_of(json.loads(json.dumps(dataclasses.asdict(row)))) == row


def test_wilsons_interval_is_the_published_one() -> None:
    share = wilson(8, 10)
    assert (share.low, share.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0).low == 0.0
    assert wilson(0, 0).high == 1.0


def test_the_interval_of_a_loss_is_over_rows() -> None:
    one = ratio_loss([2.0, 6.0], [2, 2])
    assert one.mean == 2.0
    # Two rows of two tokens at 1 and 3 nats: the standard error of their mean is 1.
    assert one.half_width == pytest.approx(1.96)
    assert ratio_loss([4.0, 4.0], [2, 2]).half_width == 0.0
    assert ratio_loss([4.0], [2]).half_width == math.inf
    assert math.isnan(ratio_loss([], []).mean)


def test_settings_that_are_one_for_a_person_are_tried_once() -> None:
    points = grid([8], [1], [80, 160, 320], [7], [1e-3])
    assert [point.rows for point in without_repeats(points, {80: 80, 160: 95, 320: 95})] == [80, 160]
    with pytest.raises(SystemExit, match="320"):
        without_repeats(points, {80: 80, 160: 95})


def _text(prompt: tuple) -> str:
    from lpm_kernel.L2.prompt import render_chatml

    return render_chatml(prompt, open_answer=True)


def _greedy_without_cache(model: object, ids: list[int], count: int) -> list[int]:
    import torch

    written: list[int] = []
    with torch.inference_mode():
        for _ in range(count):
            logits = model(input_ids=torch.tensor([ids + written]), use_cache=False).logits  # type: ignore[operator]
            written.append(int(logits[0, -1].argmax()))
    return written
