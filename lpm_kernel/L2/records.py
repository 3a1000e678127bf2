"""What flows through L2: training rows, the adapter in both its forms, questions to measure with, and what they showed.

Belongs here: frozen dataclasses that at least two stages of L2 exchange.
Does not belong here: how any of them is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lpm_kernel.records import Citation, Message

Split = Literal["train", "held_out"]
RowKind = Literal["self_qa", "preference", "diversity", "context_enhance", "context_critic", "refusal"]
RowForm = Literal["plain", "grounded", "multi_turn"]
"""Asked alone, asked among retrieved lines, or asked after an earlier question and its answer."""
Person = Literal["first", "third"]
"""Whether the twin is spoken to, or somebody asks about its person by name."""
Arm = Literal["base", "base+retrieval", "adapter", "adapter+retrieval"]

Measure = Literal["memory_self", "memory_third_person", "preference", "context_enhance", "context_critic", "refusal", "voice"]

ARMS: tuple[Arm, ...] = ("base", "base+retrieval", "adapter", "adapter+retrieval")


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One conversation to learn from. The last message is the answer; only it is trained on."""

    row_id: str
    kind: RowKind
    form: RowForm
    person: Person
    messages: tuple[Message, ...]
    sources: tuple[Citation, ...]
    """The exact bytes of what it shows and answers from; those of the answer come first."""
    split: Split
    checksum: str
    answer_sources: int = 1
    """The answer rests on so many of the sources, the first; a refusal on none."""

    @property
    def source_chunk_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(source.chunk_id for source in self.sources))


@dataclass(frozen=True, slots=True)
class RowRefusal:
    """A draft that became no row, and why."""

    row_id: str
    kind: RowKind
    reason: str


@dataclass(frozen=True, slots=True)
class Adapter:
    """A trained LoRA adapter (safetensors, PEFT's names) and how it came to be."""

    sha256: str
    key: str
    config_key: str
    """Where PEFT's adapter_config.json lies."""
    size_bytes: int
    base_sha256: str
    rows_sha256: str
    rank: int
    alpha: int
    targets: tuple[str, ...]
    steps: int
    seed: int
    loss_curve: tuple[float, ...]
    """Mean loss of each epoch, in nats a token."""
    train_seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class GgufAdapter:
    """The same adapter in the form llama.cpp loads onto the shared base."""

    sha256: str
    key: str
    size_bytes: int
    adapter_sha256: str
    base_sha256: str
    tensors: int


@dataclass(frozen=True, slots=True)
class GoldenQuestion:
    question_id: str
    question: str
    expected: tuple[str, ...]
    """Any one of these in the answer counts as the fact."""
    document: str


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Questions with known answers about one user, to measure with and never to train on."""

    questions: tuple[GoldenQuestion, ...]
    unanswerable: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    question_id: str
    arm: Arm
    answer: str
    correct: bool


@dataclass(frozen=True, slots=True)
class Score:
    """How often one arm was right in one measure, with Wilson's interval of 95 % for the share."""

    measure: Measure
    arm: Arm
    right: int
    asked: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms on the same questions: the difference of their shares, with a paired interval of 95 %."""

    measure: Measure
    arm: Arm
    against: Arm
    asked: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a twin knows, counted. Every share is `count / total` of questions that were really asked."""

    question_source: Literal["golden", "held_out"]
    questions: int
    correct: dict[str, int]
    """Per arm: questions whose fact is in the answer."""
    in_pack: int
    """Questions whose fact is in the retrieved lines."""
    unanswerable: int
    declined: dict[str, int]
    """Per arm: unanswerable questions that were answered with "I don't know"."""
    answers: tuple[GradedAnswer, ...]
    memory_generation: str
    """What was searched for the retrieved lines."""
    gguf_sha256: str
    base_sha256: str
    seconds: float
    scores: tuple[Score, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    """`adapter+retrieval` against each other arm, for every measure."""
