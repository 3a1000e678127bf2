"""Names of topics in a writer's words, where there is a writer.

Belongs here: asking for a name, and whether it is one for these chunks.
Does not belong here: grouping chunks, and names by rule (`topics.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lpm_kernel.fenced_prompt import Form, fenced_messages
from lpm_kernel.L1.topics import MISC, UNNAMED, label_of
from lpm_kernel.llm_items import CallCache, Dropped, Item, Written, write_as_set
from lpm_kernel.records import Message, Topic
from lpm_kernel.settings import Settings
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.writer import Writer
from lpm_kernel.support import find_flaw

SHOWN_CHUNKS = 4
MAX_WORDS, MAX_CHARACTERS = 5, 40

_TASK = f"""Task: `notes` are notes of one topic, and `keywords` its most telling words. Write `label`: a name for the topic as
a heading in a table of contents, of one to {MAX_WORDS} of the words in the notes.
"""


class Label(Form):
    label: str


def polish_labels(
    topics: Sequence[Topic],
    texts: Mapping[str, str],
    writer: Writer | None,
    cache: CallCache,
    settings: Settings,
    progress: Progress,
) -> tuple[list[Topic], int, list[Dropped]]:
    """The topics with a written label where one passed, how many did, and by topic id what got no answer; else, and without a
    writer, the label by rule.

    A topic that did not change is asked for with the same words, and so is named from the cache: its label stays. A label may
    hold only words of the topic's own chunks, and no other topic may have it. `texts` holds the words of each chunk by its id.
    Raises: LlmError when the writer cannot be asked at all.
    """
    plain = [topic if topic.label == MISC else replace(topic, label=label_of(topic.keywords)) for topic in topics]
    if writer is None:
        cache.drop_unused()
        return plain, 0, []
    named = [topic for topic in plain if topic.label not in (MISC, UNNAMED)]
    items = [Item(topic.topic_id, _request(topic, texts), Label, settings.writing.max_tokens) for topic in named]
    results = write_as_set(items, writer, cache, settings, progress)
    cache.drop_unused()
    written = {result.item_id: result.text for result in results if isinstance(result, Written)}
    taken = {topic.label.casefold() for topic in plain} | {MISC, UNNAMED}
    polished: list[Topic] = []
    count = 0
    for topic in plain:
        label = ""
        if topic.topic_id in written:
            label = " ".join(Label.model_validate_json(written[topic.topic_id]).label.split())
        if label and label.casefold() not in taken and _fits(label, topic, texts):
            taken.add(label.casefold())
            topic, count = replace(topic, label=label), count + 1
        polished.append(topic)
    return polished, count, [result for result in results if isinstance(result, Dropped)]


def _request(topic: Topic, texts: Mapping[str, str]) -> tuple[Message, ...]:
    notes = [" ".join(texts[chunk_id].split()) for chunk_id in topic.chunk_ids[:SHOWN_CHUNKS]]
    return fenced_messages(_TASK, {"keywords": list(topic.keywords), "notes": notes})


def _fits(label: str, topic: Topic, texts: Mapping[str, str]) -> bool:
    if len(label) > MAX_CHARACTERS or len(label.split()) > MAX_WORDS or any(mark in label for mark in ".?!:;"):
        return False
    # in lower case: a heading may begin each of its words with a capital, and they are no names for that
    return find_flaw(label.casefold(), [texts[chunk_id] for chunk_id in topic.chunk_ids]) is None
