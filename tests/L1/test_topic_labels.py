"""Names of topics in a writer's words: only with a writer, only in the topic's own words, and only once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lpm_kernel.errors import LlmError
from lpm_kernel.fenced_prompt import DATA_BEGINS
from lpm_kernel.L1.topic_labels import polish_labels
from lpm_kernel.L1.topics import MISC
from lpm_kernel.llm_items import CallCache
from lpm_kernel.records import Topic
from lpm_kernel.settings import Settings
from tests.fakes import FakeWriter, MemoryBlobs, no_progress

TEXTS = {
    "a1": "I swim in the cold sea at Clevedon.",
    "a2": "The sea was cold on Sunday.",
    "b1": "My lathe cuts brass.",
    "c1": "Odds and ends.",
}
SEA = Topic("t-sea", "sea, cold, swim", ("sea", "cold", "swim", "clevedon"), ("a1", "a2"), (1.0,))
LATHE = Topic("t-lathe", "lathe, brass", ("lathe", "brass"), ("b1",), (0.0,))
REST = Topic("t-rest", MISC, (), ("c1",), (0.5,))
TOPICS = [SEA, LATHE, REST]


def says(labels: dict[str, Any]) -> FakeWriter:
    """Answers by the first keyword."""

    def say(messages: tuple[Any, ...]) -> str:
        keyword = json.loads(messages[-1].content.removeprefix(DATA_BEGINS))["keywords"][0]
        return json.dumps({"label": labels[keyword]})

    return FakeWriter(say)


def labels_of(
    settings: Settings, writer: FakeWriter | None, blobs: MemoryBlobs | None = None, topics: list[Topic] = TOPICS
) -> list[str]:
    cache = CallCache(blobs or MemoryBlobs(), "nora", "topic-labels")
    settings = settings.model_copy(update={"retries": settings.retries.model_copy(update={"delay_s": 0.0})})
    polished, count, _ = polish_labels(topics, TEXTS, writer, cache, settings, no_progress)
    assert [topic.topic_id for topic in polished] == [topic.topic_id for topic in topics]
    assert count == sum(topic.label not in (SEA.label, LATHE.label, MISC) for topic in polished)
    return [topic.label for topic in polished]


def test_a_label_in_the_topics_own_words_takes_the_place_of_the_one_by_rule(settings: Settings) -> None:
    assert labels_of(settings, says({"sea": "Swimming in the Cold Sea", "lathe": " Brass on  the lathe"})) == [
        "Swimming in the Cold Sea",
        "Brass on the lathe",
        MISC,
    ]


@pytest.mark.parametrize(
    "label", ["Water sports", "", "misc", "lathe, brass", "sea " * 6, "I swim. Sea!", "Sea 1999", "unnamed"]
)
def test_a_label_that_says_something_else_or_is_anothers_is_not_taken(settings: Settings, label: str) -> None:
    assert labels_of(settings, says({"sea": label, "lathe": "Brass"})) == [SEA.label, "Brass", MISC]


def test_two_topics_never_have_one_label(settings: Settings) -> None:
    twice = [SEA, Topic("t-two", "cold, sunday", ("cold", "sunday"), ("a2",), (1.0,))]
    cache = CallCache(MemoryBlobs(), "nora", "topic-labels")
    polished, _, _ = polish_labels(twice, TEXTS, says({"sea": "Cold", "cold": "cold"}), cache, settings, no_progress)
    assert [topic.label for topic in polished] == ["Cold", "cold, sunday"]


def test_a_topic_that_did_not_change_keeps_its_label_and_is_not_asked_for_again(settings: Settings) -> None:
    blobs = MemoryBlobs()
    first = says({"sea": "Cold sea", "lathe": "Brass"})
    labels_of(settings, first, blobs)
    again = says({"sea": "Sea", "lathe": "Lathe"})
    assert labels_of(settings, again, blobs) == ["Cold sea", "Brass", MISC]
    assert (len(first.requests), len(again.requests)) == (2, 0)


def test_without_a_writer_every_label_is_the_one_by_rule_and_nothing_written_is_kept(settings: Settings) -> None:
    blobs = MemoryBlobs()
    labels_of(settings, says({"sea": "Cold sea", "lathe": "Brass"}), blobs)
    polished = [Topic("t-sea", "Cold sea", SEA.keywords, SEA.chunk_ids, SEA.centroid), LATHE, REST]
    assert labels_of(settings, None, blobs, polished) == [topic.label for topic in TOPICS]
    assert blobs.objects == {}


def test_a_topic_that_got_no_answer_keeps_its_label_and_is_told_by_its_id(settings: Settings) -> None:
    def refuses(messages: tuple[Any, ...]) -> str:
        if "lathe" in messages[-1].content:
            raise LlmError("writer_refused", "answered 400", retryable=False)
        return json.dumps({"label": "Cold sea"})

    cache = CallCache(MemoryBlobs(), "nora", "topic-labels")
    polished, count, dropped = polish_labels(TOPICS, TEXTS, FakeWriter(refuses), cache, settings, no_progress)
    assert ([topic.label for topic in polished], count) == (["Cold sea", LATHE.label, MISC], 1)
    assert [(one.item_id, one.code) for one in dropped] == [(LATHE.topic_id, "writer_refused")]
