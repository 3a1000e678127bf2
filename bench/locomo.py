"""LoCoMo: which turns of a long conversation answer a question, ours beside meaning alone and beside stock Mem0 OSS.

The conversations are evaluation data and lie outside the project; without them this section says so and ends.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.people import take_in
from lpm_kernel.recall.confidence import LINES, FoundLine, Signs, confidence_of, judge, read_signs
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Memory, User
from lpm_kernel.stores.memories import MemoryHit, make_memory
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.users import add_user

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "locomo" / "locomo_dev.json"
CHOSEN_ON = ("conv-26", "conv-30", "conv-41")
"""Conversations on which settings were chosen; the others were only reported on."""
KS = (5, 10, 20)
UNANSWERABLE = 5
CATEGORIES = {1: "several turns", 2: "time", 3: "inference", 4: "one turn"}


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    turns: frozenset[str]
    category: int


@dataclass(frozen=True, slots=True)
class Conversation:
    name: str
    turns: dict[str, str]
    """Id to what was said, with the speaker's name; a shared picture by its caption, which comes with the data."""
    questions: tuple[Question, ...]

    @property
    def user_id(self) -> str:
        return f"locomo-{self.name}"


def read_conversations(path: Path = DATA) -> list[Conversation]:
    return [_conversation(item) for item in json.loads(path.read_text(encoding="utf-8"))]


def _conversation(item: dict[str, Any]) -> Conversation:
    talk, turns, session = item["conversation"], {}, 1
    while f"session_{session}" in talk:
        for turn in talk[f"session_{session}"]:
            caption = f" [picture: {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            turns[turn["dia_id"]] = f"{turn['speaker']}: {turn['text']}{caption}"
        session += 1
    questions = tuple(
        Question(asked["question"], frozenset(_turn_ids(asked["evidence"])) & turns.keys(), asked["category"])
        for asked in item["qa"]
    )
    return Conversation(item["sample_id"], turns, questions)


def _turn_ids(evidence: Sequence[str]) -> list[str]:
    return re.findall(r"D\d+:\d+", " ".join(evidence))


def remember(stores: Stores, conversation: Conversation) -> dict[str, str]:
    """Every turn as a memory; memory ids to turn ids."""
    began = datetime(2023, 1, 1, tzinfo=UTC)
    with stores.tables.transaction(conversation.user_id) as connection:
        add_user(connection, User(conversation.user_id))
    stores.memories.delete_all(conversation.user_id)
    memories: dict[str, Memory] = {}
    for number, (turn_id, said) in enumerate(conversation.turns.items()):
        session, place = turn_id[1:].split(":")
        memories[turn_id] = make_memory(
            conversation.user_id,
            "turn",
            said,
            domain="life",
            source="chat",
            importance=0.3,
            created_at=began + timedelta(minutes=number),
            session_id=session,
            turn=int(place),
        )
    stores.memories.add_batch(conversation.user_id, list(memories.values()))
    return {memory.memory_id: turn_id for turn_id, memory in memories.items()}


Ask = Callable[[str, str, np.ndarray], list[str]]
"""From user, question and its vector to turn ids, best first."""


def run(stores: Stores) -> None:
    if not DATA.exists():
        print(f"  {DATA} is not there: nothing measured")
        return
    conversations = read_conversations()
    ids: dict[str, dict[str, str]] = {}
    for conversation in conversations:
        ids[conversation.user_id] = remember(stores, conversation)
    turns = sum(len(conversation.turns) for conversation in conversations)
    print(f"  {turns} turns of {len(conversations)} conversations; settings chosen on {', '.join(CHOSEN_ON)}")
    as_of = datetime(2024, 1, 1, tzinfo=UTC)
    found: dict[tuple[str, str], list[MemoryHit]] = {}

    def ours(user_id: str, question: str, vector: np.ndarray) -> list[str]:
        hits = stores.memories.recall(user_id, question, vector, KS[-1], as_of=as_of)
        found[user_id, question] = hits
        return [ids[user_id][hit.memory.memory_id] for hit in hits]

    def dense(user_id: str, question: str, vector: np.ndarray) -> list[str]:
        hits = stores.memories.search(user_id, question, KS[-1], as_of=as_of, vector=vector)
        return [ids[user_id][hit.memory.memory_id] for hit in hits]

    _compare(
        stores, conversations, {"meaning alone": dense, "Mem0 OSS, no words": StockMem0(stores, conversations), "ours": ours}
    )
    _refusal(conversations, found, stores.settings.recall.answer_confidence)
    _golden_refusal(stores)


def _compare(stores: Stores, conversations: Sequence[Conversation], ways: dict[str, Ask]) -> None:
    titles = " ".join(f"{title:>14}" for title in CATEGORIES.values())
    head = "".join(f"{f'recall@{k}':>10}" for k in KS)
    print(
        "  evidence recall in %, and milliseconds a search without the question's embedding\n"
        f"  {'':32}{head}{'any@10':>8} {titles}"
        f"{'p50 ms':>9}{'p95 ms':>9}"
    )
    for way, ask in ways.items():
        for name, members in _halves(conversations).items():
            shares: dict[int, list[float]] = defaultdict(list)
            by_category: dict[int, list[float]] = defaultdict(list)
            hit_any, times_ms = [], []
            for conversation in members:
                for question in conversation.questions:
                    vector = stores.embedder.embed([question.text])[0]
                    began = time.perf_counter()
                    turns = ask(conversation.user_id, question.text, vector)
                    times_ms.append(1000 * (time.perf_counter() - began))
                    if question.category == UNANSWERABLE or not question.turns:
                        continue
                    for k in KS:
                        shares[k].append(len(question.turns & set(turns[:k])) / len(question.turns))
                    by_category[question.category].append(shares[10][-1])
                    hit_any.append(bool(question.turns & set(turns[:10])))
            row = "".join(f"{100 * np.mean(shares[k]):10.1f}" for k in KS)
            kinds = " ".join(f"{100 * np.mean(by_category[kind]):14.1f}" for kind in CATEGORIES)
            p50, p95 = np.percentile(times_ms, [50, 95])
            print(f"  {way:20}{name:12}{row}{100 * np.mean(hit_any):8.1f} {kinds}{p50:9.1f}{p95:9.1f}")


def _halves(conversations: Sequence[Conversation]) -> dict[str, list[Conversation]]:
    chosen = [conversation for conversation in conversations if conversation.name in CHOSEN_ON]
    others = [conversation for conversation in conversations if conversation.name not in CHOSEN_ON]
    return {"chosen on": chosen, "held back": others}


def _refusal(conversations: Sequence[Conversation], found: dict[tuple[str, str], list[MemoryHit]], threshold: float) -> None:
    from sklearn.metrics import roc_auc_score

    print("  telling answerable questions from unanswerable ones, area under the ROC curve")
    for name, members in _halves(conversations).items():
        signs = {
            (conversation.user_id, question.text): signs_of(question.text, found[conversation.user_id, question.text])
            for conversation in members
            for question in conversation.questions
        }
        answerable = [question.category != UNANSWERABLE for conversation in members for question in conversation.questions]
        asked = [(conversation.user_id, question.text) for conversation in members for question in conversation.questions]
        by_rule = roc_auc_score(answerable, [confidence_of(signs[key]) for key in asked])
        by_cosine = roc_auc_score(answerable, [signs[key].closest for key in asked])
        print(f"  {name:12} {len(asked)} questions: the highest cosine alone {by_cosine:.3f}, ours {by_rule:.3f}")
        unsure = [confidence_of(signs[key]) < threshold for key in asked]
        print(f"  {'':12} declined at {threshold}: {_declined(unsure, answerable)}")


def _golden_refusal(stores: Stores) -> None:
    """The same of the demo people's notes. The weights were fitted with those of person 2."""
    recall = stores.settings.recall
    for user_id in ("1", "2"):
        person = take_in(stores, user_id)
        asked = [question.question for question in person.golden.questions]
        questions = [*asked, *person.golden.unanswerable]
        unsure: list[bool] = []
        for question in questions:
            found = recall_evidence(
                *(user_id, person.generation, question, stores.vectors, stores.embedder, recall), lines=LINES
            )
            lines = [FoundLine(line.text, line.cosine, line.score) for line in found]
            unsure.append(judge(question, lines) < recall.answer_confidence)
        answerable = [number < len(asked) for number in range(len(questions))]
        of = "chosen on" if user_id == "2" else "held back"
        print(f"  {person.user.name}'s golden questions ({of}), declined: {_declined(unsure, answerable)}")


def _declined(unsure: Sequence[bool], answerable: Sequence[bool]) -> str:
    wrong = sum(one for one, known in zip(unsure, answerable, strict=True) if known)
    right = sum(one for one, known in zip(unsure, answerable, strict=True) if not known)
    return f"{right}/{answerable.count(False)} of the unanswerable, {wrong}/{answerable.count(True)} of the answerable"


def signs_of(question: str, hits: Sequence[MemoryHit]) -> Signs:
    return read_signs(question, [FoundLine(hit.memory.text, hit.cosine or 0.0, hit.score) for hit in hits])


class StockMem0:
    """Mem0's own `Memory` with its local Qdrant and our embedder: each turn added as it is (`infer=False`), its own search.

    Its search by words is off: it needs fastembed and a spaCy model, which download their data when they are first used.
    """

    def __init__(self, stores: Stores, conversations: Sequence[Conversation]) -> None:
        from lpm_kernel.stores.memories import prepare_mem0

        prepare_mem0()
        from mem0 import Memory as StockMemory

        self._folder = tempfile.TemporaryDirectory(prefix="twin-bench-mem0-")
        self._memory = StockMemory.from_config(
            {
                "llm": {"provider": "openai", "config": {"api_key": "never asked"}},
                "embedder": {"provider": "openai", "config": {"api_key": "never asked"}},
                "vector_store": {
                    "provider": "qdrant",
                    "config": {"path": self._folder.name, "embedding_model_dims": stores.embedder.dim, "on_disk": True},
                },
                "history_db_path": f"{self._folder.name}/history.db",
            }
        )
        self._memory.embedding_model = _StockEmbedder(stores)
        self._ids: dict[str, str] = {}
        for conversation in conversations:
            for turn_id, said in conversation.turns.items():
                added = self._memory.add(said, user_id=conversation.user_id, infer=False)
                self._ids[added["results"][0]["id"]] = turn_id

    def __call__(self, user_id: str, question: str, vector: np.ndarray) -> list[str]:
        self._memory.embedding_model.ready = (question, vector.tolist())
        found = self._memory.search(question, filters={"user_id": user_id}, top_k=KS[-1], threshold=0.0)
        return [self._ids[hit["id"]] for hit in found["results"]]


class _StockEmbedder:
    """What Mem0 asks of an embedder. `ready`: the vector of the question at hand, so that no way pays for it twice."""

    def __init__(self, stores: Stores) -> None:
        self._embedder = stores.embedder
        self.config = None
        self.ready: tuple[str, list[float]] = ("", [])

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        return self.ready[1] if text == self.ready[0] else self._embedder.embed([text])[0].tolist()

    def embed_batch(self, texts: Sequence[str], memory_action: str | None = None) -> list[list[float]]:
        return self._embedder.embed(list(texts)).tolist()
