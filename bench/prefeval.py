"""PrefEval: one user, one preference a topic, all filler turns: whether the preference that bears on a question is in a pack.

`python -m bench.prefeval` needs no engines. The data's licence is evaluation only: nothing is trained on it. The settings were
chosen on the first half of its topics and of its filler conversations; the other half is the estimate.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from bench.people import DATA
from lpm_kernel.english import parse_sentences
from lpm_kernel.L0.chunk import count_tokens
from lpm_kernel.L0.preference_grammar import find_preference
from lpm_kernel.L0.preference_head import PreferenceHead
from lpm_kernel.L0.sentences import split_sentences
from lpm_kernel.recall.preferences import choose_preferences
from lpm_kernel.recall.turn_preferences import own_sentences, preference_memories
from lpm_kernel.recall.write_gate import words_of
from lpm_kernel.records import ChatMessage, Memory
from lpm_kernel.settings import load_settings as read_settings
from lpm_kernel.stores.embedder import Embedder, MiniLmEmbedder
from lpm_kernel.stores.open import Stores

if TYPE_CHECKING:
    import numpy as np

FOLDER = DATA.parent.parent / "shared" / "data" / "prefeval"
PACK_TOKENS = (600, 200)
WITH_MORE = 2 / 3
"""Of the pack for preferences, beside the share that the product gives them."""
DRAWS = 20
MANY = 20  # preferences of a topic, of a user who told many
HALVES = ("topics looked at", "topics not looked at")


class Said(NamedTuple):
    """One turn: its vector, and the preferences it tells by the learned head."""

    text: str
    vector: np.ndarray
    told: list[Memory]
    told_vectors: list[np.ndarray]
    by_grammar: bool


@dataclass(frozen=True)
class Asked:
    topic: int
    preference: Said
    question: str
    vector: np.ndarray


load_settings = cache(read_settings)

Way = Callable[[Asked, list[Said], int], list[str]]


def run(stores: Stores) -> None:
    report(stores.embedder)


def report(embedder: Embedder) -> None:
    files = sorted((FOLDER / "explicit_preference").glob("*.json"))
    if not files:
        print("  skipped: ../shared/data/prefeval is not here")
        return
    head = PreferenceHead(embedder)
    fillers = [
        [message["content"] for message in talk["conversation"] if message["role"] == "user"]
        for talk in json.loads((FOLDER / "filler_turns.json").read_text(encoding="utf-8"))
    ]
    half = len(fillers) // 2
    turns = [_say([text for talk in part for text in talk], embedder, head) for part in (fillers[:half], fillers[half:])]
    topics: list[list[Asked]] = []
    for number, file in enumerate(files):
        items = json.loads(file.read_text(encoding="utf-8"))
        said = _say([item["preference"] for item in items], embedder, head)
        vectors = embedder.embed([item["question"] for item in items])
        topics.append([Asked(number, s, item["question"], v) for s, item, v in zip(said, items, vectors, strict=True)])
    _show_extraction(topics, turns)
    _show_packs(topics, turns[0] + turns[1])
    _show_many(topics)


def _show_extraction(topics: list[list[Asked]], turns: list[list[Said]]) -> None:
    print("  preferences recognised as such; filler turns taken for one, and the tokens of what is taken")
    columns = f"{'grammar alone':>20} {'learned head (ours)':>20} {'filler, grammar':>16} {'filler, ours':>13} {'tokens':>7}"
    print(f"  {'':22} {columns}")
    middle = len(topics) // 2
    for name, part, filler in zip(HALVES, (topics[:middle], topics[middle:]), turns, strict=True):
        said = [asked.preference for topic in part for asked in topic]
        grammar, ours = sum(item.by_grammar for item in said), sum(bool(item.told) for item in said)
        wrong, wrong_ours = sum(item.by_grammar for item in filler), sum(bool(item.told) for item in filler)
        tokens = sum(count_tokens(memory.text) for item in filler for memory in item.told)
        print(
            f"  {name:22} {_share(grammar, len(said)):>20} {_share(ours, len(said)):>20} "
            f"{f'{wrong}/{len(filler)}':>16} {f'{wrong_ours}/{len(filler)}':>13} {tokens:7}"
        )


def _show_packs(topics: list[list[Asked]], filler: list[Said]) -> None:
    """Each draw is a user: one preference of every topic among all filler turns, asked one question a topic."""
    import numpy as np

    print(f"\n  the preference in the pack: {DRAWS} users of {len(topics)} preferences, {len(filler)} filler turns each")
    print(f"  {'tokens':>6}  {'way':28} {HALVES[0]:>20} {HALVES[1]:>22}")
    times_ms: list[float] = []
    for budget in PACK_TOKENS:
        ways: dict[str, Way] = {
            "dense only, turns": _dense,
            "typed alone": _typed,
            "two thirds typed, then turns": partial(_shared, share=WITH_MORE),
            "typed, then turns (ours)": _pack,
        }
        held = {way: [0, 0] for way in ways}
        count = [0, 0]
        for seed in range(DRAWS):
            draw = np.random.default_rng(seed)
            people = [topic[draw.integers(len(topic))] for topic in topics]
            said = [*filler, *(asked.preference for asked in people)]
            for asked in people:
                part = int(asked.topic >= len(topics) // 2)
                count[part] += 1
                for way, make in ways.items():
                    began = time.perf_counter()
                    lines = make(asked, said, budget)
                    times_ms += [1000 * (time.perf_counter() - began)] if make is _pack else []
                    held[way][part] += _holds(lines, asked.preference.text)
        for way, counts in held.items():
            print(f"  {budget:6}  {way:28} {_share(counts[0], count[0]):>20} {_share(counts[1], count[1]):>22}")
    print(f"  ours takes {np.median(times_ms):.1f} ms a question (median), without the embedding")


def _show_many(topics: list[list[Asked]]) -> None:
    """Users with 20 preferences of every topic: what of them 600 tokens hold."""
    import numpy as np

    held = {"similarity alone": [0, 0], "with domain and firmness (ours)": [0, 0]}
    count = [0, 0]
    for seed in range(DRAWS // 4):
        draw = np.random.default_rng(seed)
        people = [topic[i] for topic in topics for i in draw.choice(len(topic), MANY, replace=False)]
        memories = [
            (memory, vector)
            for a in people
            for memory, vector in zip(a.preference.told, a.preference.told_vectors, strict=True)
        ]
        for asked in people:
            part = int(asked.topic >= len(topics) // 2)
            count[part] += 1
            said = [Said(memory.text, vector, [], [], False) for memory, vector in memories]
            held["similarity alone"][part] += _holds(_dense(asked, said, PACK_TOKENS[0]), asked.preference.text)
            ours = _typed(asked, [a.preference for a in people], PACK_TOKENS[0])
            held["with domain and firmness (ours)"][part] += _holds(ours, asked.preference.text)
    print(f"\n  the same in {PACK_TOKENS[0]} tokens for users who told {MANY * len(topics)} preferences, typed alone")
    for way, counts in held.items():
        print(f"  {way:32} {_share(counts[0], count[0]):>20} {_share(counts[1], count[1]):>22}")


def _pack(asked: Asked, said: list[Said], budget: int) -> list[str]:
    """As the product shares its pack."""
    recall = load_settings().recall
    return _shared(asked, said, budget, recall.preference_tokens / recall.pack_tokens)


def _shared(asked: Asked, said: list[Said], budget: int, share: float) -> list[str]:
    typed = _typed(asked, said, int(budget * share))
    left = budget - sum(count_tokens(line) + 1 for line in typed)
    return [*typed, *_dense(asked, [item for item in said if not (item.told and item.told[0].text in typed)], left)]


def _typed(asked: Asked, said: list[Said], budget: int) -> list[str]:
    import numpy as np

    memories = [memory for item in said for memory in item.told]
    vectors = np.array([vector for item in said for vector in item.told_vectors])
    return [m.text for m in choose_preferences(asked.vector, asked.question, memories, vectors, budget, count_tokens)]


def _dense(asked: Asked, said: list[Said], budget: int) -> list[str]:
    """The most similar turns that fit, one by one."""
    import numpy as np

    order = np.argsort(-(np.array([item.vector for item in said]) @ asked.vector))
    lines: list[str] = []
    for position in order:
        if budget <= 1:
            break
        text = said[position].text
        if len(text) < 8 * budget and (cost := count_tokens(text) + 1) <= budget:
            lines.append(text)
            budget -= cost
    return lines


def _say(texts: Sequence[str], embedder: Embedder, head: PreferenceHead) -> list[Said]:
    at = datetime.fromtimestamp(0, UTC)
    said: list[Said] = []
    own = [own_sentences(text) for text in texts]
    parsed = parse_sentences(sentence.text for sentences in own for sentence in sentences)
    read = [[find_preference(next(parsed), sentence.is_quoted) for sentence in sentences] for sentences in own]
    for number, (text, vector) in enumerate(zip(texts, embedder.embed(texts), strict=True)):
        told = preference_memories(ChatMessage(f"m{number}", "1", "s", "user", at, text), number, head)
        said.append(Said(text, vector, told, list(embedder.embed([memory.text for memory in told])), any(read[number])))
    return said


def _holds(lines: Sequence[str], preference: str) -> bool:
    """Whether every sentence of it stands in one of the lines."""
    spoken = [" ".join(words_of(line)) for line in lines]
    return all(any(" ".join(words_of(s.text)) in line for line in spoken) for s in split_sentences(preference))


def _share(count: int, total: int) -> str:
    return f"{count}/{total} {count / total:6.1%}"


if __name__ == "__main__":
    report(MiniLmEmbedder())
