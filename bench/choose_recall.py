"""`python -m bench choose_recall`: how the settings of recall were chosen, on the conversations of LoCoMo named for it.

Prints the shares of a memory's score with the best recall in a small grid of round numbers, and the weights of the confidence
by logistic regression over the signs of those conversations and of one demo person's golden questions. Both are copied by hand,
into `dagster_project.yaml` and `recall/confidence.py`. What was held back is reported by `make bench-recall`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product

import numpy as np

from bench.locomo import CHOSEN_ON, DATA, UNANSWERABLE, Conversation, read_conversations
from bench.people import take_in
from lpm_kernel.recall.confidence import LINES, FoundLine, Signs, read_signs
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.settings import MemoryRankingSettings
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.stores.open import Stores
from lpm_kernel.stores.text_index import TextIndex, index_text

SHARES = {
    "words": (0.3, 0.4, 0.5),
    "meaning": (0.1, 0.2, 0.3),
    "meaning_around": (0.1, 0.2, 0.3, 0.4),
    "speaker": (0.0, 0.1, 0.2),
}
ASKING = (0.0, 0.03, 0.06)
NEIGHBOURS = (1, 2, 3)
K = 10
REGULARISATION = 0.1
WRONGLY_DECLINED = 0.03
PERSON = "2"


class Searched:
    """A conversation with the vectors of its turns and questions."""

    def __init__(self, conversation: Conversation, embedder: Embedder) -> None:
        self.conversation = conversation
        self.turns = list(conversation.turns)
        self.items = []
        for turn_id, said in conversation.turns.items():
            session, place = turn_id[1:].split(":")
            self.items.append(index_text(turn_id, said, session, int(place)))
        self.vectors = embedder.embed(list(conversation.turns.values()))
        self.asked = embedder.embed([question.text for question in conversation.questions])

    def hits(self, index: TextIndex, number: int, k: int) -> list[tuple[str, float, float]]:
        question = self.conversation.questions[number]
        found = index.rank(question.text, self.asked[number], np.ones(len(self.items), dtype=bool), k)
        return [
            (self.turns[position], score, cosine)
            for position, score, cosine in zip(found.positions, found.scores.tolist(), found.cosines.tolist(), strict=True)
        ]


def mean_recall(searched: Sequence[Searched], ranking: MemoryRankingSettings) -> float:
    shares = []
    for one in searched:
        index = TextIndex(one.items, one.vectors, ranking)
        for number, question in enumerate(one.conversation.questions):
            if question.category != UNANSWERABLE and question.turns:
                found = {turn for turn, _, _ in one.hits(index, number, K)}
                shares.append(len(found & question.turns) / len(question.turns))
    return float(np.mean(shares))


def choose_shares(searched: Sequence[Searched], present: MemoryRankingSettings) -> MemoryRankingSettings:
    """The round shares, of a sum of 1, with the best recall@10."""
    best, chosen = -1.0, present
    sums_to_one = [shares for shares in product(*SHARES.values()) if abs(sum(shares) - 1) < 1e-6]
    for neighbours, asking, shares in product(NEIGHBOURS, ASKING, sums_to_one):
        update = {**dict(zip(SHARES, shares, strict=True)), "neighbours": neighbours, "asking": asking}
        ranking = present.model_copy(update=update)
        if (value := mean_recall(searched, ranking)) > best:
            best, chosen = value, ranking
            print(f"  recall@{K} {100 * best:.1f}: {shares}, {asking} off questions, {neighbours} neighbours", flush=True)
    return chosen


Labelled = tuple[list[list[float]], list[bool]]
"""The signs of questions, in the order of `Signs`, and whether each can be answered."""


def signs_of_talk(searched: Sequence[Searched], ranking: MemoryRankingSettings) -> Labelled:
    rows: list[list[float]] = []
    for one in searched:
        index = TextIndex(one.items, one.vectors, ranking)
        for number, question in enumerate(one.conversation.questions):
            hits = one.hits(index, number, 2 * K)
            lines = [FoundLine(one.conversation.turns[turn], cosine, score) for turn, score, cosine in hits]
            rows.append(list(asdict(read_signs(question.text, lines)).values()))
    answerable = [question.category != UNANSWERABLE for one in searched for question in one.conversation.questions]
    return rows, answerable


def signs_of_notes(stores: Stores, user_id: str) -> Labelled:
    person = take_in(stores, user_id)
    asked = [question.question for question in person.golden.questions]
    rows: list[list[float]] = []
    for question in [*asked, *person.golden.unanswerable]:
        found = recall_evidence(
            user_id, person.generation, question, stores.vectors, stores.embedder, stores.settings.recall, lines=LINES
        )
        lines = [FoundLine(line.text, line.cosine, line.score) for line in found]
        rows.append(list(asdict(read_signs(question, lines)).values()))
    return rows, [True] * len(asked) + [False] * len(person.golden.unanswerable)


def fit_confidence(sets: Sequence[Labelled]) -> tuple[dict[str, float], float]:
    """Weights and bias on the signs as they are; each set counts the same, however large it is."""
    from sklearn.linear_model import LogisticRegression

    values = np.array([row for rows, _ in sets for row in rows])
    answerable = [label for _, labels in sets for label in labels]
    shares = np.concatenate([np.full(len(rows), len(values) / len(rows) / len(sets)) for rows, _ in sets])
    mean, spread = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-9)
    model = LogisticRegression(C=REGULARISATION, max_iter=1000).fit((values - mean) / spread, answerable, shares)
    weights = model.coef_[0] / spread
    return dict(zip(Signs.__dataclass_fields__, weights.tolist(), strict=True)), float(model.intercept_[0] - weights @ mean)


def choose_threshold(sets: Sequence[Labelled], weights: dict[str, float], bias: float) -> float:
    """The highest confidence, in steps of 0.05, under which no set has more than so many of its answerable questions."""

    def declined(rows: list[list[float]], answerable: list[bool], threshold: float) -> float:
        totals = np.array(rows) @ np.array(list(weights.values())) + bias
        return float(np.mean((1 / (1 + np.exp(-totals)) < threshold)[np.array(answerable)]))

    steps = [step / 20 for step in range(1, 20)]
    return max(step for step in steps if all(declined(*one, step) <= WRONGLY_DECLINED for one in sets))


def run(stores: Stores) -> None:
    if not DATA.exists():
        print(f"  {DATA} is not there: nothing chosen")
        return
    searched = [Searched(item, stores.embedder) for item in read_conversations() if item.name in CHOSEN_ON]
    ranking = choose_shares(searched, stores.settings.memory_ranking)
    print(" ", {name: getattr(ranking, name) for name in [*SHARES, "asking", "neighbours"]})
    talk, notes = signs_of_talk(searched, ranking), signs_of_notes(stores, PERSON)
    weights, bias = fit_confidence([talk, notes])
    print(" ", {name: round(value, 1) for name, value in weights.items()}, round(bias, 1))
    print(f"  answer_confidence {choose_threshold([talk, notes], weights, bias):.2f}")
