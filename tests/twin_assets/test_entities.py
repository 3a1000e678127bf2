"""The asset `entities` and its checks, called directly on stores of memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lpm_kernel.artefacts import decode_records
from lpm_kernel.layout import asset_key, text_key
from lpm_kernel.records import Entity, sha256_hex
from lpm_kernel.settings import Settings
from lpm_kernel.stores.fallback_ner import FallbackNer
from lpm_kernel.stores.ner import SpacyNer
from tests.fakes import AwayTables, FakeNer, MemoryBlobs
from tests.samples import make_items
from tests.twin_assets.conftest import Workshop, figures
from twin_assets import checks
from twin_assets.assets import l0_memory

NOTES = {
    "diary.md": "Nora Whitlock swam at Clevedon in 5.8 °C.\n\nPilchard waited.\n",
    "letter.txt": "Dear Nora, P-11 passed with 66 %.\n",
}


@dataclass
class Memory:
    settings: Settings
    ner: Any = field(default_factory=SpacyNer)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    tables: Any = field(default_factory=AwayTables)

    def __post_init__(self) -> None:
        self.items = make_items("1", NOTES)
        self.chunks = [item.chunk for item in self.items]
        for text in NOTES.values():
            self.blobs.put(text_key("1", sha256_hex(text.encode())), text.encode())

    def make(self) -> dg.Output[list[Entity]]:
        log = SimpleNamespace(info=lambda words: None, warning=lambda words: None)
        context = SimpleNamespace(partition_key="1", retry_number=0, asset_key=dg.AssetKey("entities"), log=log)
        stage = l0_memory.entities.node_def.compute_fn.decorated_fn  # type: ignore[union-attr]
        return stage(context, stores=SimpleNamespace(stores=self), chunks=self.chunks)

    def passes(self, check: Any, entities: list[Entity], **inputs: Any) -> bool:
        context = SimpleNamespace(partition_key="1", retry_number=0)
        return bool(check.node_def.compute_fn.decorated_fn(context, entities=entities, **inputs).passed)


def test_a_run_on_the_real_stores_leaves_them_and_passes_its_checks(workshop: Workshop) -> None:
    workshop.add("entities-run", "Nora", NOTES)
    wanted = [dg.AssetKey(name) for name in ("raw_documents", "chunks", "entities")]
    run = workshop.build("entities-run", asset_selection=wanted)
    assert run.success
    passed = {check.check_name: check.passed for check in run.get_asset_check_evaluations()}
    assert passed["every_mention_is_at_its_bytes"]
    assert passed["no_word_is_of_two_entities"]
    assert figures(run, "entities")["ner_errors"] == 0
    stored = decode_records(workshop.stores.blobs.get(asset_key("entities-run", "entities", "jsonl")), Entity)
    assert {"Nora Whitlock", "P-11"} <= {entity.name for entity in stored}
    again = workshop.build("entities-run", asset_selection=wanted)
    assert figures(again, "entities")["chunks_extracted"] == 0


@pytest.fixture
def memory(settings: Settings) -> Memory:
    return Memory(settings)


def test_it_tells_what_it_found_and_reads_nothing_twice(memory: Memory) -> None:
    first = memory.make()
    told = first.metadata or {}
    assert told["mentions"].value == sum(len(entity.mentions) for entity in first.value) >= 6
    assert told["entities_person"].value >= 1
    assert told["entities_proposal"].value == 1
    assert told["documents_extracted"].value == 2
    assert ("Nora Whitlock", "PERSON") in [(row.data["name"], row.data["type"]) for row in told["sample"].records]
    again = memory.make()
    assert (again.metadata or {})["chunks_extracted"].value == 0
    assert again.value == first.value
    assert again.data_version == first.data_version


def test_a_chunk_that_could_not_be_read_is_told_and_read_the_next_time(memory: Memory) -> None:
    memory.ner = FakeNer(fails_on="Dear")
    seen = memory.make().metadata or {}
    assert seen["ner_errors"].value == 1
    (failure,) = seen["ner_error_list"].value
    assert (failure["file"], failure["code"]) == ("letter.txt", "extraction_failed")
    memory.ner = FakeNer()
    seen = memory.make().metadata or {}
    assert (seen["ner_errors"].value, seen["chunks_extracted"].value) == (0, 1)


def test_a_chunk_that_the_second_extractor_read_is_told_with_the_reason_and_tried_again(memory: Memory) -> None:
    memory.ner = FallbackNer(FakeNer(fails_on="Dear", fingerprint="first"), SpacyNer())
    made = memory.make()
    seen = made.metadata or {}
    assert (seen["ner_errors"].value, seen["ner_fallbacks"].value) == (0, 1)
    assert seen["ner_fallback_codes"].value == {"extraction_failed": 1}
    assert "P-11" in {entity.name for entity in made.value}, "spaCy has read the letter"
    memory.ner = FakeNer(fingerprint="first")
    seen = memory.make().metadata or {}
    assert (seen["ner_fallbacks"].value, seen["chunks_extracted"].value) == (0, 1)


def test_a_mention_that_is_not_at_its_bytes_is_found(memory: Memory) -> None:
    stores = SimpleNamespace(stores=memory)
    entities = memory.make().value

    def sound(rows: list[Entity]) -> bool:
        return memory.passes(checks.every_mention_is_at_its_bytes, rows, stores=stores, chunks=memory.chunks)

    assert sound(entities)
    mention = entities[0].mentions[0]
    assert not sound([replace(entities[0], mentions=(replace(mention, byte_end=mention.byte_end + 1),))])
    assert not sound([replace(entities[0], mentions=(replace(mention, text="Somebody"),))])
    memory.blobs.put(memory.chunks[0].text_key, NOTES["diary.md"].replace("Nora", "Vera").encode())
    assert not sound(entities), "the text under the mentions is another one by now"


def test_a_word_of_two_entities_and_an_entity_without_a_word_are_found(memory: Memory) -> None:
    entities = memory.make().value

    def sound(rows: list[Entity]) -> bool:
        return memory.passes(checks.no_word_is_of_two_entities, rows)

    assert sound(entities)
    assert not sound([*entities, replace(entities[0], entity_id="another")])
    assert not sound([*entities, replace(entities[0], entity_id="another", mentions=())])
    assert not sound([*entities, replace(entities[0], mentions=())])
