"""Learning from preference pairs, on a tiny model: the chosen answer gains, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lpm_kernel.artefacts import decode_record, encode_record
from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.preference_pairs import PairRefusal
from lpm_kernel.L2.records import Adapter, PreferencePair, PreferenceTraining
from lpm_kernel.L2.train import TARGETS, train_adapter
from lpm_kernel.L2.train_dpo import DpoResult, learn_preferences, train_dpo
from lpm_kernel.layout import lora_config_key, lora_key
from lpm_kernel.records import sha256_hex
from lpm_kernel.settings import DpoSettings
from tests.fakes import MemoryBlobs, no_progress

from .conftest import FACTS, asked, training_rows

if TYPE_CHECKING:
    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.settings import TrainingSettings

DPO = DpoSettings(beta=0.1, learning_rate=5e-3, epochs=3)


def pairs() -> list[PreferencePair]:
    """The person prefers the other fact's answer: nothing that training on rows could have taught."""
    found = []
    for number, (question, answer) in enumerate(FACTS[:4]):
        chosen = FACTS[number + 4][1]
        found.append(PreferencePair(f"pair-{number}", asked(question), chosen, answer, "edit", (f"m{number}",), ()))
    return found


@pytest.fixture(scope="module")
def start(tiny_base: BaseModel, brief_training: TrainingSettings, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_adapter(training_rows(), tiny_base, brief_training, tmp_path_factory.mktemp("start"), no_progress)


@pytest.fixture
def learn(tiny_base: BaseModel, brief_training: TrainingSettings, start: Any, tmp_path: Path) -> Any:
    def run(given: list[PreferencePair], dpo: DpoSettings = DPO, name: str = "out", progress: Any = no_progress) -> DpoResult:
        return train_dpo(
            given, tiny_base, start.adapter_path, start.config_path, brief_training, dpo, tmp_path / name, progress
        )

    return run


def test_the_chosen_answers_gain_on_the_rejected_ones(learn: Any) -> None:
    said: list[tuple[float, str]] = []
    result = learn(pairs(), progress=lambda share, words: said.append((share, words)))
    assert result.margin > 1.0
    assert result.accuracy == 1.0
    assert result.loss_curve[0] > result.loss_curve[-1]
    assert result.loss_curve[0] == pytest.approx(0.69, abs=0.05), "before the first step no answer has gained: ln 2"
    assert (result.steps, said[-1][0]) == (6, 1.0)
    assert not any("tortoise" in words for _, words in said)


def test_turned_around_the_same_pairs_teach_the_opposite(learn: Any) -> None:
    turned = [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs()]
    result = learn(turned)
    assert result.margin > 1.0
    assert result.accuracy == 1.0


def test_the_same_pairs_give_the_same_bytes_in_the_form_of_the_first_adapter(learn: Any, start: Any) -> None:
    from safetensors.numpy import load_file

    brief = DPO.model_copy(update={"epochs": 1})
    once, again = learn(pairs(), brief, "once"), learn(pairs(), brief, "again")
    assert once.adapter_path.read_bytes() == again.adapter_path.read_bytes()
    assert once.config_path.read_bytes() == start.config_path.read_bytes()
    before, after = load_file(start.adapter_path), load_file(once.adapter_path)
    assert {name: (value.shape, value.dtype) for name, value in after.items()} == {
        name: (value.shape, value.dtype) for name, value in before.items()
    }
    assert any((before[name] != after[name]).any() for name in before)


def test_a_higher_beta_holds_the_adapter_nearer_to_its_start(learn: Any) -> None:
    """With little beta the loss asks for a wide margin; with much it is content, and its gradient fades."""
    loose, tight = (learn(pairs(), DPO.model_copy(update={"beta": beta}), name=str(beta)) for beta in (0.02, 20.0))
    assert tight.margin < loose.margin


def test_no_pair_and_a_pair_that_is_too_long_are_errors_with_a_name(learn: Any) -> None:
    with pytest.raises(TrainingError, match="no_preference_pairs"):
        learn([])
    with pytest.raises(TrainingError, match="row_too_long"):
        learn([replace(pairs()[0], chosen="word " * 600)])


def test_an_adapter_of_other_modules_is_refused(
    tiny_base: BaseModel, brief_training: TrainingSettings, start: Any, tmp_path: Path
) -> None:
    config = json.loads(start.config_path.read_text()) | {"target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match="adapter_unreadable"):
        train_dpo(
            pairs(), tiny_base, start.adapter_path, tmp_path / "adapter_config.json", brief_training, DPO, tmp_path, no_progress
        )


def adapter_in(blobs: MemoryBlobs, start: Any, base_sha256: str) -> Adapter:
    data = start.adapter_path.read_bytes()
    sha256 = sha256_hex(data)
    key, config_key = lora_key("mabel", sha256), lora_config_key("mabel", sha256)
    blobs.put(key, data)
    blobs.put(config_key, start.config_path.read_bytes())
    return Adapter(
        sha256, key, config_key, len(data), base_sha256, "rows", 4, 8, TARGETS, start.steps, 7, start.loss_curve, 1.0, 1.0
    )


def test_the_new_adapter_lies_beside_the_old_one_and_names_it(
    tiny_base: BaseModel, brief_training: TrainingSettings, start: Any
) -> None:
    blobs = MemoryBlobs()
    old = adapter_in(blobs, start, tiny_base.sha256)
    made = learn_preferences(
        "mabel", pairs(), [], old, blobs, lambda: tiny_base, brief_training, DPO.model_copy(update={"epochs": 1}), no_progress
    )
    adapter = made.adapter
    assert adapter is not None
    assert (made.skipped, made.pairs_by_signal) == (None, {"edit": 4})
    assert adapter.parent_sha256 == old.sha256 != adapter.sha256
    assert sha256_hex(blobs.get(adapter.key)) == adapter.sha256
    assert blobs.exists(adapter.config_key)
    assert blobs.exists(old.key)
    assert decode_record(encode_record(made), PreferenceTraining) == made


def test_a_pair_that_is_longer_than_a_row_is_left_out_and_counted(
    tiny_base: BaseModel, brief_training: TrainingSettings, start: Any
) -> None:
    """The prompt of a chat may hold more lines than a row: one such reply kept every other pair from being learnt, for good."""
    blobs, sha256 = MemoryBlobs(), sha256_hex(start.adapter_path.read_bytes())
    key, config_key = lora_key("mabel", sha256), lora_config_key("mabel", sha256)
    blobs.put_file(key, start.adapter_path)
    blobs.put_file(config_key, start.config_path)
    old = Adapter(sha256, key, config_key, 1, tiny_base.sha256, "r", 4, 8, TARGETS, 1, 7, (1.0,), 1.0, 1.0)
    short, long = pairs()[0], replace(pairs()[1], chosen="word " * 600)
    once = DPO.model_copy(update={"epochs": 1})
    made = learn_preferences("mabel", [short, long], [], old, blobs, lambda: tiny_base, brief_training, once, no_progress)
    assert made.adapter is not None
    assert (made.adapter.pairs, made.pairs_by_signal, made.refused) == (1, {"edit": 1}, {"too_long": 1})
    none = learn_preferences("mabel", [long], [], old, blobs, lambda: tiny_base, brief_training, once, no_progress)
    assert (none.adapter, none.skipped) == (None, "no pair in 1 rated or edited replies: 1 too_long")


def test_without_pairs_nothing_is_made_and_the_reason_is_told(brief_training: TrainingSettings) -> None:
    def unwanted() -> Any:
        raise AssertionError("the base was made ready for nothing")

    blobs, old = MemoryBlobs(), Adapter("a", "k", "c", 1, "b", "r", 4, 8, TARGETS, 1, 7, (1.0,), 1.0, 1.0)
    for refusals, reason in (
        ([], "nobody rated or edited a reply yet"),
        ([PairRefusal("m1", "no_side_taken")], "no pair in 1 rated or edited replies: 1 no_side_taken"),
    ):
        made = learn_preferences("mabel", [], refusals, old, blobs, unwanted, brief_training, DPO, no_progress)
        assert (made.adapter, made.skipped) == (None, reason)
    assert blobs.objects == {}
