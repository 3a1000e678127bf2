"""What flows through L2: training rows, the adapter in both its forms, questions to measure with, and what they showed.

Belongs here: frozen dataclasses that at least two stages of L2 exchange.
Does not belong here: how any of them is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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

Side = Literal["for", "against", "undecided"]

LeakProbe = Literal["foreign_lines", "foreign_facts", "foreign_numbers", "held_out_numbers", "trained_numbers"]
"""What of somebody else is looked for: in the retrieved lines, in answers to their own questions, and as a number of theirs
that the model finds likelier than others like it. The last two are the person's own numbers, never learnt and learnt."""

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
class CurvePoint:
    """How a training stood after one of its steps."""

    step: int
    loss: float
    """Mean since the point before, in nats an answer token."""
    eval_loss: float | None
    """Of held-out rows, where they were measured at this step."""
    tokens_per_second: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class RowRefusal:
    """A row that was not made, or not so: by its own id, and why."""

    row_id: str
    kind: RowKind
    reason: str


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two answers to one prompt, of which the person prefers the first: they wrote it, rated it up, or picked it."""

    pair_id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    signal: Literal["edit", "ratings", "pick"]
    message_ids: tuple[str, ...]
    """Of the replies that were edited or rated, the chosen one's first; of a pick, the pair that was shown."""
    sources: tuple[Citation, ...]
    """Of the lines in the prompt."""


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
    curve: tuple[CurvePoint, ...] = ()
    best_step: int | None = None
    """Whose weights these are, by the loss of held-out rows; None where none was measured."""
    best_eval_loss: float | None = None
    stopped_early: bool = False
    resumed_from_step: int | None = None
    parent_sha256: str | None = None
    """The adapter it went on from."""
    start_key: str | None = None
    """Where the weights lie that it began with: its parent's, or the skill adapter's; None where it began with new ones."""
    settings_sha256: str = ""
    """Of all that shapes the weights but the rows: trainer, base and settings."""
    learned_key: str = ""
    """Where the checksums of all rows it has learned lie, its parents' with them."""
    rows_trained: int = 0
    rows_replayed: int = 0
    """Of these, learned by its parent already."""
    first_layer: int = 0
    device: str = "cpu"
    dtype: str = "float32"


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
class PreferenceAdapter:
    """An adapter that went on from `parent_sha256` on preference pairs. Margins are in nats, and 0 before the first step."""

    sha256: str
    key: str
    config_key: str
    size_bytes: int
    base_sha256: str
    parent_sha256: str
    pairs_sha256: str
    pairs: int
    steps: int
    loss_curve: tuple[float, ...]
    """Mean loss of each epoch."""
    margin: float
    """By how much more, on average, the chosen answer gained against the rejected one."""
    accuracy: float
    """Share of pairs whose chosen answer gained more."""
    train_seconds: float


@dataclass(frozen=True, slots=True)
class PreferenceTraining:
    """What learning from ratings and edits gave: an adapter, or the reason why there is none."""

    adapter: PreferenceAdapter | None
    skipped: str | None
    pairs_by_signal: dict[str, int]
    refused: dict[str, int]
    """Ratings and edits that gave no pair, by reason."""


@dataclass(frozen=True, slots=True)
class GoldenQuestion:
    question_id: str
    question: str
    expected: tuple[str, ...]
    """Any one of these in the answer counts as the fact."""
    document: str
    evidence: str = ""
    """The sentence of the document that holds it, where the file gives one."""


@dataclass(frozen=True, slots=True)
class Stance:
    """Where a person stands on something; `told` are sentences that say so, any of which an answer may repeat in its words."""

    about: str
    side: Side | None
    """None: a preference with no two sides to it."""
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Questions with known answers about one user, to measure with and never to train on."""

    questions: tuple[GoldenQuestion, ...]
    unanswerable: tuple[str, ...]
    sha256: str
    stances: tuple[Stance, ...] = ()
    """Opinions and preferences that the file lists."""


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    question_id: str
    arm: Arm
    answer: str
    correct: bool
    measure: Measure = "memory_self"


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
class LeakCount:
    """How often something was found that should not be known, beside what the base or chance gives. Counts only: the words
    are another person's."""

    probe: LeakProbe
    asked: int
    found: int
    expected: float
    """How many chance gives."""
    chance: float
    """Probability that chance alone gives at least as many as were found."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers of two arms beside each other, as a language model judged them in both orders; orders that disagree are a tie."""

    arm: Arm
    against: Arm
    wins: int
    losses: int
    ties: int
    unjudged: int = 0
    """Pairs of which a verdict could not be had."""


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
    false_refusals: dict[str, int] = field(default_factory=dict)
    """Per arm: answerable questions that were declined."""
    leaks: tuple[LeakCount, ...] = ()
    judged: Judged | None = None
    unmeasured: tuple[str, ...] = ()
    """What could not be measured, each with the reason."""
