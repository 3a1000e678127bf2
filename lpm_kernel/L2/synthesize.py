"""Memory to training rows, by fixed rules: no language model, no clock, no counter.

Belongs here: of which kind each row is, what it shows, and the gate that keeps measuring questions out.
Does not belong here: turning a sentence into a question (`questions.py`), choosing among them (`sampling.py`) and the
prompt's form (`prompt.py`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lpm_kernel.errors import TrainingError
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.records import ChunkSalience, Community
from lpm_kernel.L2.golden import Asked, too_close
from lpm_kernel.L2.prompt import DECLINE, twin_messages
from lpm_kernel.L2.questions import ask_about
from lpm_kernel.L2.records import GoldenSet, RowForm, RowKind, Split, TrainingRow
from lpm_kernel.L2.sampling import Ask, about_asks, choose_asks, usable_chunks
from lpm_kernel.L2.training_batches import MAX_ROW_TOKENS
from lpm_kernel.records import Evidence, Message, Topic, User, content_id
from lpm_kernel.settings import TrainingSettings
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.embedder import Embedder

Recall = Callable[[str], Sequence[Evidence]]
"""A question to its retrieved lines, best first: the same search a live chat uses."""

RowTokens = Callable[[Sequence[Message]], int]
"""The tokens of a row, as training counts them."""

CYCLE: tuple[tuple[RowKind, RowForm], ...] = (
    ("self_qa", "grounded"),
    ("self_qa", "plain"),
    ("self_qa", "grounded"),
    ("refusal", "grounded"),
    ("self_qa", "grounded"),
    ("self_qa", "plain"),
    ("self_qa", "grounded"),
    ("self_qa", "plain"),
)
"""What a row is and how it is asked, in turn, beside the few `diversity` rows, which show lines too.

Why half are grounded: rows of bare facts teach a small model to ignore its notes."""


@dataclass(frozen=True, slots=True)
class SynthesisCount:
    asked: int
    too_close_to_golden: int
    too_long: int
    """Chosen, but with more tokens than a training row may have even without a retrieved line."""
    rows_by_kind: dict[str, int]


def synthesize_rows(
    user: User,
    items: Sequence[ChunkText],
    topics: Sequence[Topic],
    training: TrainingSettings,
    recall: Recall,
    row_tokens: RowTokens,
    embedder: Embedder,
    golden: GoldenSet | None,
    progress: Progress,
    *,
    salience: Sequence[ChunkSalience] = (),
    communities: Sequence[Community] = (),
) -> tuple[list[TrainingRow], SynthesisCount]:
    """Rows of a user's own sentences: asked for alone, asked for among retrieved lines, and asked for where no line answers;
    of `max_rows` at most `about_rows` ask about what hangs together. What the twin wrote is in none.

    The same input gives the same rows. Documents are split into `train` and `held_out`; no train row holds a held-out line.
    Raises: TrainingError `no_training_rows` when no sentence can be asked for.
    """
    progress(0.0, f"asking about {len(items)} chunks")
    splits = split_documents([item.chunk.document_sha256 for item in items], training.held_out_share)
    usable = usable_chunks(items, salience)
    train = {item.chunk.chunk_id for item in items if splits[item.chunk.document_sha256] == "train"} & usable
    asked = [
        Ask(pair.question, pair.sentence, item)
        for item, pairs in zip(items, ask_about([item.text for item in items]), strict=True)
        for pair in pairs
        if item.chunk.chunk_id in usable
    ]
    asked += about_asks(communities, items, train, training.about_rows)
    refused = too_close([Asked(ask.question, ask.answer) for ask in asked], golden, embedder)
    kept = [ask for ask, refuse in zip(asked, refused, strict=True) if not refuse]
    about = [ask for ask in kept if ask.about][: training.max_rows]
    plain = [ask for ask in kept if not ask.about]
    values = {row.chunk_id: row.salience for row in salience}
    chosen = choose_asks(plain, topics, training, values, training.max_rows - len(about)) + about
    rows: list[TrainingRow] = []
    position: Counter[Split] = Counter()
    for done, ask in enumerate(chosen, start=1):
        split = splits[ask.item.chunk.document_sha256]
        kind: RowKind = "diversity"
        form: RowForm = "grounded"
        if not ask.about:
            kind, form = CYCLE[position[split] % len(CYCLE)]
            position[split] += 1
        row = _row(user, ask, kind, form, split, recall, row_tokens, train if split == "train" else usable, training.seed)
        if row is not None:
            rows.append(row)
        progress(done / len(chosen), f"{done} of {len(chosen)} rows")
    if not any(row.split == "train" for row in rows):
        raise TrainingError(
            "no_training_rows", f"{len(items)} chunks give no sentence that can be asked for: add longer documents"
        )
    kinds = Counter(row.kind for row in rows)
    return rows, SynthesisCount(len(asked), sum(refused), len(chosen) - len(rows), dict(sorted(kinds.items())))


def split_documents(document_sha256s: Sequence[str], held_out_share: float) -> dict[str, Split]:
    """Which documents are kept out of training: a fixed share, chosen by hash; at least one document stays in."""
    documents = sorted(set(document_sha256s), key=lambda sha: content_id("split", sha))
    held_out = min(round(len(documents) * held_out_share), len(documents) - 1)
    return {sha: "held_out" if i < held_out else "train" for i, sha in enumerate(documents)}


def _row(
    user: User,
    ask: Ask,
    kind: RowKind,
    form: RowForm,
    split: Split,
    recall: Recall,
    row_tokens: RowTokens,
    allowed: set[str],
    seed: int,
) -> TrainingRow | None:
    """The row; with fewer lines where all would be too long, and none where even that does not help."""
    chunk = ask.item.chunk
    evidence: list[Evidence] = []
    if form != "plain":
        found = [line for line in recall(ask.question) if line.citation.chunk_id in allowed]
        evidence = _lines(ask, kind, found, random.Random(f"{seed}:{ask.question}"))
    answer = DECLINE if kind == "refusal" else ask.answer
    while row_tokens(messages := (*twin_messages(user, ask.question, evidence), Message("assistant", answer))) > MAX_ROW_TOKENS:
        spare = [line for line in evidence if line.citation.chunk_id != chunk.chunk_id]
        if not spare:
            return None
        evidence.remove(spare[-1])
    checksum = content_id(kind, form, split, *(part for message in messages for part in (message.role, message.content)))
    return TrainingRow(
        row_id=content_id(user.user_id, checksum)[:32],
        kind=kind,
        form=form,
        person="first",
        messages=messages,
        sources=(
            _own_line(ask).citation,
            *(line.citation for line in evidence if line.citation.chunk_id != chunk.chunk_id),
        ),
        split=split,
        checksum=checksum,
    )


def _lines(ask: Ask, kind: RowKind, found: Sequence[Evidence], order: random.Random) -> list[Evidence]:
    """The retrieved lines as a live prompt would hold them; without the answering chunk and its neighbours for a refusal."""
    chunk = ask.item.chunk
    if kind == "refusal":
        near = {(chunk.document_sha256, chunk.byte_start), (chunk.document_sha256, chunk.byte_end)}
        lines = [
            line
            for line in found
            if line.citation.chunk_id != chunk.chunk_id
            and ask.answer not in " ".join(line.text.split())  # the same sentence may stand in two documents
            and (line.citation.document_sha256, line.citation.byte_end) not in near
            and (line.citation.document_sha256, line.citation.byte_start) not in near
        ]
        return lines[: order.randint(2, max(2, len(lines)))]
    count = order.randint(2, max(2, len(found)))
    lines = list(found[:count])
    if not any(line.citation.chunk_id == chunk.chunk_id for line in lines):
        own = next((line for line in found if line.citation.chunk_id == chunk.chunk_id), None) or _own_line(ask)
        lines[-1:] = [own]
    return lines


def _own_line(ask: Ask) -> Evidence:
    from lpm_kernel.records import Citation

    chunk = ask.item.chunk
    citation = Citation(chunk.chunk_id, chunk.document_sha256, chunk.filename, chunk.byte_start, chunk.byte_end)
    return Evidence(citation, ask.item.text, 0.0)


def find_golden_rows(rows: Sequence[TrainingRow], golden: GoldenSet | None, embedder: Embedder) -> list[str]:
    """Ids of rows that ask a golden question or a paraphrase of one."""
    close = too_close([Asked(question_of(row), row.messages[-1].content) for row in rows], golden, embedder)
    return [row.row_id for row, near in zip(rows, close, strict=True) if near]


def question_of(row: TrainingRow) -> str:
    """What the row asks: its last user message."""
    return next(message.content for message in reversed(row.messages) if message.role == "user")


def find_unsupported_rows(rows: Sequence[TrainingRow], texts: Mapping[str, str]) -> list[str]:
    """Ids of rows whose answer is not in their source chunks; `texts` holds the words of each chunk by its id."""
    unsupported: list[str] = []
    for row in rows:
        answer = row.messages[-1].content
        sources = [" ".join(texts.get(chunk_id, "").split()) for chunk_id in row.source_chunk_ids[:1]]
        supported = any(answer in source for source in sources)
        if row.kind == "refusal":
            supported = answer == DECLINE
        if not supported:
            unsupported.append(row.row_id)
    return unsupported
