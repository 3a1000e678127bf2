"""The asset `entities` and its checks, called directly on stores of memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from lpm_kernel.layout import text_key
from lpm_kernel.records import Entity, sha256_hex
from lpm_kernel.settings import Settings
from lpm_kernel.stores.ner import SpacyNer
from tests.fakes import FakeNer, MemoryBlobs
from tests.samples import make_items
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

    def __post_init__(self) -> None:
        self.items = make_items("1", NOTES)
        self.chunks = [item.chunk for item in self.items]
        for text in NOTES.values():
            self.blobs.put(text_key("1", sha256_hex(text.encode())), text.encode())

    def make(self) -> dg.Output[list[Entity]]:
        context = SimpleNamespace(
            partition_key="1", retry_number=0, asset_key=dg.AssetKey("entities"), log=SimpleNamespace(info=lambda words: None)
        )
        stage = l0_memory.entities.node_def.compute_fn.decorated_fn  # type: ignore[union-attr]
        return stage(context, stores=SimpleNamespace(stores=self), chunks=self.chunks)

    def passes(self, check: Any, entities: list[Entity], **inputs: Any) -> bool:
        context = SimpleNamespace(partition_key="1", retry_number=0)
        return bool(check.node_def.compute_fn.decorated_fn(context, entities=entities, **inputs).passed)


@pytest.fixture
def memory(settings: Settings) -> Memory:
    return Memory(settings)


def test_it_tells_what_it_found_and_reads_nothing_twice(memory: Memory) -> None:
    first = memory.make()
    figures = first.metadata or {}
    assert figures["mentions"].value == sum(len(entity.mentions) for entity in first.value) >= 6
    assert figures["entities_person"].value >= 1
    assert figures["entities_proposal"].value == 1
    assert figures["documents_extracted"].value == 2
    assert figures["sample"].value.count("\n") == 2
    again = memory.make()
    assert (again.metadata or {})["chunks_extracted"].value == 0
    assert again.value == first.value
    assert again.data_version == first.data_version


def test_a_chunk_that_could_not_be_read_is_told_and_read_the_next_time(memory: Memory) -> None:
    memory.ner = FakeNer(fails_on="Dear")
    figures = memory.make().metadata or {}
    assert figures["ner_errors"].value == 1
    (told,) = figures["ner_error_list"].value
    assert (told["file"], told["code"]) == ("letter.txt", "extraction_failed")
    memory.ner = FakeNer()
    figures = memory.make().metadata or {}
    assert (figures["ner_errors"].value, figures["chunks_extracted"].value) == (0, 1)


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
