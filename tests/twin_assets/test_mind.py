"""L1 on the real stores: notes become topics, shades and a biography; one more note changes only what it touches."""

from __future__ import annotations

import dagster as dg
import pytest

from lpm_kernel.artefacts import decode_record, decode_records
from lpm_kernel.L0.intake import receive_document
from lpm_kernel.L1.records import Biography, ChunkSalience, Community, Shade
from lpm_kernel.layout import asset_key, text_key
from lpm_kernel.records import Topic
from tests.twin_assets.conftest import Workshop, figures

pytestmark = pytest.mark.slow

STAGES = [dg.AssetKey(name) for name in ("raw_documents", "chunks", "embeddings", "topics", "shades", "biography")]
GRAPH = [dg.AssetKey(name) for name in ("raw_documents", "chunks", "embeddings", "entities", "salience", "communities")]
NOTES = {
    "diary-2025-02.md": "# Diary\n\n## 9 February 2025\n\nI swam in the cold sea at Clevedon and stayed in for four minutes.\n",
    "cats.md": "# Cats\n\nMy cat is called Pilchard. In 2019 I fetched Pilchard from the rescue in Portishead.\n",
    "work.txt": "I repair printing robots at a works in Bristol. The oven reached 118 degrees before I pulled the plug.\n",
    "band.txt": "I play the cornet in a brass band on Tuesdays, and I moved from third cornet to repiano.\n",
    "clock.txt": "I bought a French clock in September 2024 and I oiled its mainspring and its escapement.\n",
}


def topics_of(workshop: Workshop, user_id: str) -> list[Topic]:
    return decode_records(workshop.stores.blobs.get(asset_key(user_id, "topics", "jsonl")), Topic)


def test_notes_become_a_cited_biography_and_one_more_note_touches_only_its_topic(workshop: Workshop) -> None:
    stores = workshop.stores
    workshop.add("mind-ada", "Ada", NOTES)
    first = workshop.build("mind-ada", asset_selection=STAGES)
    assert first.success
    assert figures(first, "topics")["grouped_anew_because"] == "first time"
    checked = {check.check_name: check.passed for check in first.get_asset_check_evaluations()}
    assert checked["biography_cites_every_shade"]
    assert checked["every_citation_is_at_its_bytes"]
    before = topics_of(workshop, "mind-ada")
    shades = decode_records(stores.blobs.get(asset_key("mind-ada", "shades", "jsonl")), Shade)
    biography = decode_record(stores.blobs.get(asset_key("mind-ada", "biography", "json")), Biography)
    assert {line.shade_id for line in biography.lines} == {shade.shade_id for shade in shades}
    for line in (*biography.lines, *biography.status):
        (place,) = line.citations
        text = stores.blobs.get(text_key("mind-ada", place.document_sha256))
        assert text[place.byte_start : place.byte_end].decode() == line.text
    assert biography.as_of == "2025-02-09"

    note = b"I bought a second French clock and oiled its mainspring.\n"
    assert receive_document(stores.tables, stores.blobs, workshop.settings.limits, "mind-ada", "more.txt", note).sha256
    again = workshop.build("mind-ada", asset_selection=STAGES)
    assert again.success
    told = figures(again, "topics")
    assert told["grouped_anew_because"].startswith("not grouped anew")
    assert (told["topics_touched"], told["ids_kept"]) == (1, len(before))
    after = topics_of(workshop, "mind-ada")
    assert sum(topic in before for topic in after) == len(before) - 1
    assert figures(again, "biography")["skipped"] == "no"


def communities_of(workshop: Workshop, user_id: str) -> list[Community]:
    return decode_records(workshop.stores.blobs.get(asset_key(user_id, "communities", "jsonl")), Community)


def test_notes_become_communities_that_are_cited_and_keep_their_ids(workshop: Workshop) -> None:
    stores = workshop.stores
    workshop.add("mind-bo", "Bo", NOTES)
    first = workshop.build("mind-bo", asset_selection=GRAPH)
    assert first.success
    checked = {check.check_name: check.passed for check in first.get_asset_check_evaluations()}
    names = ("every_chunk_has_a_salience", "every_chunk_has_a_community", "community_summaries_are_cited")
    assert [checked[name] for name in names] == [True] * 3
    scored = decode_records(stores.blobs.get(asset_key("mind-bo", "salience", "jsonl")), ChunkSalience)
    before = communities_of(workshop, "mind-bo")
    told = figures(first, "communities")
    assert told["communities"] + (told["misc_share"] > 0) == len(before)
    assert sorted(row.chunk_id for row in scored) == sorted(c for community in before for c in community.chunk_ids)
    assert figures(first, "salience")["newest"] == "2025-02-09"
    assert [column.name for column in told["sample"].schema.columns][:2] == ["community", "key entities"]

    again = workshop.build("mind-bo", asset_selection=GRAPH)
    assert again.success
    assert communities_of(workshop, "mind-bo") == before
    versions = [run.asset_materializations_for_node("communities")[0].tags["dagster/data_version"] for run in (first, again)]
    assert versions[0] == versions[1], "what did not change starts nothing"
