"""A stage as a program and as a deployed function: the same work as here, with the blobs of a real S3 server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lpm_kernel.artefacts import encode_records
from lpm_kernel.L2 import base_model, run_stage, stages
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.records import Adapter, GgufAdapter
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.L2.run_stage import TRY_LATER, answer_call, main
from lpm_kernel.L2.stage_calls import StageCall, decode_outcome, encode_call
from lpm_kernel.L2.stages import ConvertRequest, TrainRequest
from lpm_kernel.layout import asset_key
from lpm_kernel.settings import Settings, TrainingSettings
from lpm_kernel.stores.blobs import Blobs, S3Blobs
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.local_compute import LocalCompute
from lpm_kernel.stores.modal_compute import FUNCTION_ON_CPU, FUNCTION_ON_GPU, ModalCompute
from lpm_kernel.stores.open import Stores
from tests.embedded.fixtures import EngineHome
from tests.fakes import MemoryBlobs, no_progress
from tests.modal_server import ModalServer
from tests.rules.sources import ROOT

from .conftest import training_rows


@pytest.fixture
def tiny(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> BaseModel:
    """Wherever the base is prepared, it is the tiny one."""
    monkeypatch.setattr(base_model, "prepare_base", lambda *_, **__: tiny_base)
    return tiny_base


def call_of(settings: Settings, training: TrainingSettings, user_id: str = "1") -> str:
    return encode_call(StageCall("lora_adapter", settings.models, TrainRequest(user_id, rows_hash(training_rows()), training)))


@pytest.mark.filterwarnings("ignore:.*executing locally:UserWarning")  # Modal's, of volumes that are not mounted
def test_the_deployed_app_trains_and_converts_as_this_process_does(
    tiny: BaseModel,
    stores: Stores,
    user_id: str,
    engine_home: EngineHome,
    modal_server: ModalServer,
    settings: Settings,
    brief_training: TrainingSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Through Modal's client, the app's own functions, an S3 server, real training and real conversion."""
    from twin_assets import modal_app

    monkeypatch.setattr(modal_app, "MODELS", tmp_path)
    for name, value in engine_home.environment.items():
        monkeypatch.setenv(name, value)
    rows = training_rows()
    stores.blobs.put(asset_key(user_id, "training_rows", "jsonl"), encode_records(rows))
    here = MemoryBlobs()
    here.put(asset_key(user_id, "training_rows", "jsonl"), encode_records(rows))
    app = settings.compute.app
    modal_server.serve(app, FUNCTION_ON_GPU, modal_app.run_on_gpu.local)
    modal_server.serve(app, FUNCTION_ON_CPU, modal_app.run_on_cpu.local)
    there = ModalCompute(settings.models, settings.compute.model_copy(update={"poll_s": 0.05}), run_id="run-1")
    told: list[str] = []
    request = TrainRequest(user_id, rows_hash(rows), brief_training)
    adapter = there.run("lora_adapter", request, lambda _, words: told.append(words))
    gguf = there.run("gguf_adapter", ConvertRequest(user_id, adapter), no_progress)
    local = LocalCompute(here, settings.models)
    own: Adapter = local.run("lora_adapter", request, no_progress)
    own_gguf: GgufAdapter = local.run("gguf_adapter", ConvertRequest(user_id, own), no_progress)
    assert (adapter.sha256, adapter.loss_curve, adapter.steps) == (own.sha256, own.loss_curve, own.steps)
    assert gguf == own_gguf
    assert stores.blobs.get(gguf.key) == here.get(own_gguf.key)
    assert isinstance(stores.blobs, S3Blobs)
    written = stores.blobs.client.head_object(Bucket=stores.blobs.bucket, Key=gguf.key)
    assert written["Metadata"] == {"transaction-id": "run-1"}, "the other machine says whose run it worked for"
    assert len(told) > 1, "more than the call's own line was heard"


@pytest.mark.filterwarnings("ignore:.*executing locally:UserWarning")
def test_a_crash_is_told_to_modal_without_its_words(
    modal_server: ModalServer, settings: Settings, brief_training: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twin_assets import modal_app

    def crash(*_: object) -> str:
        raise ValueError("words of a document")

    monkeypatch.setattr(modal_app, "answer_call", crash)
    with pytest.raises(RuntimeError, match="ValueError") as raised:
        modal_app.run_on_cpu.local(call_of(settings, brief_training), "partition")
    assert "document" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_missing_address_is_an_outcome(
    settings: Settings, brief_training: TrainingSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWIN_HOME", str(tmp_path))
    monkeypatch.delenv("S3_BUCKET", raising=False)
    outcome = json.loads(answer_call(call_of(settings, brief_training), run_stage.open_blobs, tmp_path, no_progress))
    assert outcome["error"]["code"] == "address_missing"


def test_the_program_reads_a_call_and_writes_an_outcome(
    tiny: BaseModel,
    settings: Settings,
    brief_training: TrainingSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def convert(request: TrainRequest, blobs: Blobs, base: BaseModel, progress: Progress) -> GgufAdapter:
        rows = blobs.get(asset_key(request.user_id, "training_rows", "jsonl"))
        progress(0.5, "half")
        return GgufAdapter(request.rows_sha256, base.name, len(rows), "a" * 64, base.sha256, 1)

    blobs = MemoryBlobs()
    monkeypatch.setattr(run_stage, "open_blobs", lambda: blobs)
    monkeypatch.setitem(stages.STAGES, "lora_adapter", convert)
    (tmp_path / "call.json").write_text(call_of(settings, brief_training))
    assert main([str(tmp_path / "call.json")]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "blob_not_found"
    blobs.put(asset_key("1", "training_rows", "jsonl"), b"rows")
    assert main([str(tmp_path / "call.json")]) == 0
    printed = capsys.readouterr()
    assert decode_outcome("lora_adapter", printed.out).size_bytes == 4
    assert json.loads(printed.err.splitlines()[-1]) == {"share": 0.5, "words": "half"}


def test_the_program_says_when_it_is_worth_another_try(
    settings: Settings, brief_training: TrainingSettings, monkeypatch: pytest.MonkeyPatch, free_port: int, tmp_path: Path
) -> None:
    """No server at the address: a store that is away, which is no fault of the call."""
    from lpm_kernel.errors import StoreError

    def away() -> MemoryBlobs:
        raise StoreError("blob_store", "no answer")

    monkeypatch.setattr(run_stage, "open_blobs", away)
    (tmp_path / "call.json").write_text(call_of(settings, brief_training))
    assert main([str(tmp_path / "call.json")]) == TRY_LATER


def test_the_program_refuses_what_is_no_call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(tmp_path / "nothing.json")]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "call_unreadable"
    assert main(["a", "b"]) == 1


# In a process of its own: refuses to import whatever a training container does not have, then trains and converts.
IN_A_CONTAINER = """
import sys
allowed = {*sys.argv[1].split(","), "lpm_kernel", "__main__"}
class OnlyAllowed:
    # Finds what the finder behind it finds, where that is allowed: the rest is not there, also for who only looks.
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in allowed or top in sys.stdlib_module_names or top.startswith("_sysconfigdata"):
            return self.finder.find_spec(name, path, target)
        return None
sys.meta_path[:] = [OnlyAllowed(finder) for finder in sys.meta_path]
import lpm_kernel.L2.run_stage
import boto3, torch, transformers, peft, gguf, safetensors, tokenizers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from pathlib import Path
from lpm_kernel.L2.base_model import BaseModel
from lpm_kernel.L2.stages import STAGES, TrainRequest, ConvertRequest
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.blobs import open_s3
from lpm_kernel.stores.addresses import BlobAddress
open_s3(BlobAddress("http://127.0.0.1:9", "a", "b", "c"))
base = BaseModel("tiny", "b" * 64, Path(sys.argv[2]), Path(sys.argv[3]))
class Files(dict):
    get = lambda self, key: self[key]
    put = dict.__setitem__
    exists = dict.__contains__
    put_file = lambda self, key, path: self.put(key, Path(path).read_bytes())
    get_file = lambda self, key, path: Path(path).write_bytes(self[key])
    delete = lambda self, key: self.pop(key, None)
    list_keys = lambda self, prefix: iter(sorted(k for k in self if k.startswith(prefix)))
from lpm_kernel.artefacts import decode_records
from lpm_kernel.errors import StoreError
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.release import rows_hash
from lpm_kernel.layout import asset_key
class Blobs(Files):
    def get(self, key):
        if key not in self:
            raise StoreError("blob_not_found", key, retryable=False)
        return self[key]
blobs = Blobs()
data = Path(sys.argv[4]).read_bytes()
blobs.put(asset_key("1", "training_rows", "jsonl"), data)
training = load_settings().training
training = training.model_copy(update={"rank": 2, "epochs": 1, "threads": 1})
quiet = lambda share, words: None
request = TrainRequest("1", rows_hash(decode_records(data, TrainingRow)), training)
adapter = STAGES["lora_adapter"](request, blobs, base, quiet)
STAGES["gguf_adapter"](ConvertRequest("1", adapter), blobs, base, quiet)
print("made", adapter.steps)
"""


def test_a_training_container_has_every_package_that_its_stages_import(tiny_base: BaseModel, tmp_path: Path) -> None:
    """No container can be started here, so a process that trains and converts is refused what one would not have."""
    from tests.twin_assets.test_modal_app import container_modules

    (tmp_path / "rows.jsonl").write_bytes(encode_records(training_rows()[:4]))
    run = subprocess.run(
        [sys.executable, "-c", IN_A_CONTAINER, ",".join(sorted(container_modules())), str(tiny_base.gguf_path),
         str(tiny_base.hf_dir), str(tmp_path / "rows.jsonl")],
        capture_output=True, text=True, cwd=ROOT, check=False, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.startswith("made ")
