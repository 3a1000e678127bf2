"""Weights of the hub's base: fetched by commit, taken from a folder, or said to be missing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from lpm_kernel.errors import TrainingError
from lpm_kernel.L2.base_model import describe_base, prepare_base
from lpm_kernel.L2.base_weights import find_base, weights_sha256
from lpm_kernel.L2.match import greedy_tokens_match
from tests.fakes import no_progress
from tests.model_hub import ModelHub

from .tiny_models import PROMPTS, prepare_tiny

if TYPE_CHECKING:
    from pathlib import Path

    from lpm_kernel.L2.base_model import BaseModel
    from lpm_kernel.settings import ModelSettings, Settings

REPOSITORY = "Qwen/Qwen2.5-0.5B-Instruct"


@pytest.fixture
def models(settings: Settings) -> ModelSettings:
    return settings.models.model_copy(update={"base": "Qwen2.5-0.5B-Instruct", "base_quantisation": "f16"})


@pytest.fixture
def folder(tiny_qwen: BaseModel) -> Path:
    return (tiny_qwen.hf_dir / "model.safetensors").resolve().parent


@pytest.mark.parametrize("offline", [False, True])
def test_a_base_of_the_hub_is_fetched_once_by_its_commit(
    models: ModelSettings, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    """Every process of a home has the hub switched off, and so the base of the hub could not be fetched in any of them."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    (folder / "README.md").write_text("not fetched")
    with ModelHub(REPOSITORY, models.base_revision, folder) as hub:
        environ = {"HF_ENDPOINT": hub.url}
        said: list[str] = []
        found = find_base(models, tmp_path, lambda share, words: said.append(words), environ)
        assert said == [f"fetching {REPOSITORY} from the hub"]
        assert found.revision == models.base_revision
        assert found.path.is_relative_to(tmp_path / "hub")
        assert weights_sha256(found.path) == weights_sha256(folder)
        assert not (found.path / "README.md").exists()
        asked = len(hub.asked)
        assert find_base(models, tmp_path, no_progress, environ) == found
        assert len(hub.asked) == asked, "what is there is not asked for again"
    base = prepare_base(models, tmp_path, no_progress, environ=environ)
    assert base.revision == models.base_revision
    report = greedy_tokens_match(None, None, None, base, PROMPTS[:2], 8)
    assert report.agreeing + report.ties == report.tokens > 4


def test_a_hub_that_cannot_be_reached_is_named_with_the_way_round(models: ModelSettings, tmp_path: Path) -> None:
    """An address without its scheme, since at a closed port the hub's client goes on trying for 20 seconds."""
    with pytest.raises(TrainingError, match="TWIN_BASE_DIR") as caught:
        find_base(models, tmp_path, no_progress, {"HF_ENDPOINT": "hub.invalid"})
    assert (caught.value.code, caught.value.retryable) == ("base_weights_missing", True)
    assert "hub.invalid" in caught.value.message


def test_a_hub_without_this_commit_is_no_base(models: ModelSettings, folder: Path, tmp_path: Path) -> None:
    with ModelHub(REPOSITORY, "0" * 40, folder) as hub, pytest.raises(TrainingError) as caught:
        find_base(models, tmp_path, no_progress, {"HF_ENDPOINT": hub.url})
    assert (caught.value.code, caught.value.retryable) == ("base_weights_missing", False)


def test_a_named_folder_is_used_and_nothing_is_fetched(models: ModelSettings, folder: Path, tmp_path: Path) -> None:
    environ = {"TWIN_BASE_DIR": str(folder), "HF_ENDPOINT": "http://127.0.0.1:1"}
    base = prepare_base(models, tmp_path, no_progress, environ=environ)
    assert (base.sha256, base.revision) == (weights_sha256(folder), "a local folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=r"there is no config\.json") as caught:
        prepare_base(models, tmp_path, no_progress, environ={"TWIN_BASE_DIR": str(tmp_path / "empty")})
    assert caught.value.code == "base_weights_missing"


def test_the_same_model_has_one_hash_wherever_it_lies(settings: Settings, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved")
    (tmp_path / "moved" / "notes.txt").write_text("not read")
    assert weights_sha256(tmp_path / "moved") == weights_sha256(folder)
    base = prepare_tiny(settings, tmp_path / "moved", tmp_path / "cache")
    (tmp_path / "moved" / "tokenizer_config.json").write_text("{}")
    assert weights_sha256(tmp_path / "moved") != base.sha256


def test_a_base_whose_weights_were_taken_away_is_prepared_anew(settings: Settings, folder: Path, tmp_path: Path) -> None:
    """What training reads is a link: a cleaner of the hub's cache leaves it pointing nowhere."""
    shutil.copytree(folder, tmp_path / "one")
    base = prepare_tiny(settings, tmp_path / "one", tmp_path / "cache")
    shutil.copytree(folder, tmp_path / "two")
    shutil.rmtree(tmp_path / "one")
    again = prepare_tiny(settings, tmp_path / "two", tmp_path / "cache")
    assert again == base
    assert (again.hf_dir / "model.safetensors").resolve().parent == tmp_path / "two"


def test_a_prepared_base_can_be_told(tiny_qwen: BaseModel) -> None:
    told = describe_base(tiny_qwen)
    assert (told.name, told.architecture, told.sha256) == ("Qwen2.5-0.5B-Instruct", "qwen2", tiny_qwen.sha256)
    assert told.vocabulary > 256
    assert told.f16 == told.served
    assert told.f16.size_bytes == tiny_qwen.gguf_path.stat().st_size
    assert told.f16.sha256 == weights_sha256(tiny_qwen.gguf_path) != tiny_qwen.sha256
