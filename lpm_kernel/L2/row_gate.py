"""The gate of training rows: what must hold of each before anything is learnt from it.

Belongs here: one function a claim, used by the gate and by the checks alike, and the reason of each refusal.
Does not belong here: making rows (`drafts.py`), and whether a question is a golden one (`golden.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from math import ceil

from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L0.sentences import split_sentences
from lpm_kernel.L2.drafts import RowTokens
from lpm_kernel.L2.frames import JUDGING_WORDS, VERDICTS, person_said
from lpm_kernel.L2.golden import Asked, too_close
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.L2.records import GoldenSet, RowKind, RowRefusal, Split, TrainingRow
from lpm_kernel.L2.sampling import share_out
from lpm_kernel.L2.training_batches import MAX_ROW_TOKENS
from lpm_kernel.records import Citation
from lpm_kernel.settings import MixSettings
from lpm_kernel.stores.embedder import Embedder
from lpm_kernel.support import find_flaw, read_claims

MAX_ANSWER_TOKENS = 96
"""Half as long again as the longest answer in a chat."""

NEAR_DUPLICATE = 0.85
"""Share of word pairs in question and answer from which two rows teach the same. Two questions that one sentence answers
share less as long as the questions differ in a few words."""

SLACK = 1.5
"""How far a kind may be over its share of the rows that are there: what other kinds lack leaves everybody more."""

MIN_HELD_OUT_WORDS = 6
"""A shorter sentence may stand in any document."""

_WORD = re.compile(r"\w+(?:[.,:'’-]\w+)*")
_QUOTED = re.compile(r'"([^"]+)"')


def pass_gate(
    rows: Sequence[TrainingRow],
    items: Sequence[ChunkText],
    splits: Mapping[str, Split],
    golden: GoldenSet | None,
    embedder: Embedder,
    row_tokens: RowTokens,
    mix: MixSettings,
) -> tuple[list[TrainingRow], list[RowRefusal]]:
    """Rows of which every claim holds, in their order, and each of the others with its own id and the first claim it fails."""
    refused: list[RowRefusal] = []
    kept = list(rows)
    texts = stored_texts(items)
    claims: tuple[tuple[str, Callable[[], Iterable[str]]], ...] = (
        ("schema", lambda: [row.row_id for row in kept if not is_well_formed(row)]),
        ("length", lambda: [row.row_id for row in kept if _is_long(row, row_tokens)]),
        ("support", lambda: find_unsupported_rows(kept, texts)),
        ("golden", lambda: find_golden_rows(kept, golden, embedder)),
        ("held_out", lambda: find_held_out_rows(kept, items, splits)),
        ("duplicate", lambda: find_repeated_rows(kept, _exactly)),
        ("near_duplicate", lambda: find_near_duplicates(kept)),
        ("balance", lambda: find_excess_rows(kept, mix)),
    )
    for reason, find in claims:
        wrong = Counter(find())
        refused += [RowRefusal(row.row_id, row.kind, reason) for row in _taken(kept, wrong)]
    return kept, refused


def _taken(kept: list[TrainingRow], wrong: Counter[str]) -> list[TrainingRow]:
    """Take so many rows of each id out, the last of them first."""
    taken: list[TrainingRow] = []
    for position in range(len(kept) - 1, -1, -1):
        if wrong[kept[position].row_id]:
            wrong[kept[position].row_id] -= 1
            taken.append(kept.pop(position))
    return taken[::-1]


def question_of(row: TrainingRow) -> str:
    """What the row asks: its last user message."""
    return next(message.content for message in reversed(row.messages) if message.role == "user")


def is_well_formed(row: TrainingRow) -> bool:
    """A system message, then questions and answers in turn, the last of them an answer, and none empty."""
    roles = [message.role for message in row.messages]
    return (
        len(roles) >= 3
        and roles[0] == "system"
        and all(role == ("user", "assistant")[i % 2] for i, role in enumerate(roles[1:]))
        and roles[-1] == "assistant"
        and all(message.content.strip() for message in row.messages)
        and (row.kind == "refusal") == (row.answer_sources == 0)
        and row.answer_sources <= len(row.sources)
    )


def _is_long(row: TrainingRow, row_tokens: RowTokens) -> bool:
    return row_tokens(row.messages) > MAX_ROW_TOKENS or row_tokens(row.messages[-1:]) > MAX_ANSWER_TOKENS


def stored_texts(items: Sequence[ChunkText]) -> dict[str, tuple[int, bytes]]:
    """Each chunk's first byte in its document, and its bytes, by its id."""
    return {item.chunk.chunk_id: (item.chunk.byte_start, item.text.encode()) for item in items}


def find_unsupported_rows(rows: Sequence[TrainingRow], texts: Mapping[str, tuple[int, bytes]]) -> list[str]:
    """Ids of rows whose answer is not in the bytes it cites; `texts` are those of `stored_texts`.

    Without our frame around it, an answer stands there word for word; one that was worded anew has no name, number or other
    word of content that does not, by the comparison that let it be worded so, and what it quotes is word for word. Beside the
    bytes it may call people by the names in the question, and speak of the request or the reply that it is put. A refusal is
    the one sentence that declines.
    """
    return [row.row_id for row in rows if not _is_supported(row, texts)]


def _is_supported(row: TrainingRow, texts: Mapping[str, tuple[int, bytes]]) -> bool:
    answer = row.messages[-1].content
    if row.kind == "refusal" or answer == DECLINE:
        return row.kind == "refusal" and answer == DECLINE
    question = question_of(row)
    said = person_said(question, answer)
    if (row.kind == "context_critic" and not answer.startswith(VERDICTS)) or not said.strip():
        return False
    cited = [_words_at(citation, texts) for citation in row.sources[: row.answer_sources]]
    if said == " ".join(cited):
        return True
    is_on_request = row.kind in ("context_enhance", "context_critic")
    known = [*cited, question] if is_on_request else cited
    names = " ".join(word for word in question.split() if word[0].isupper())
    told = read_claims(said)
    return (
        all(any(quote in words for words in known) for quote in _QUOTED.findall(said))
        and bool(told.stems or told.numbers)
        and find_flaw(said, [*known, names], JUDGING_WORDS.split() if row.kind == "context_critic" else ()) is None
    )


def _words_at(citation: Citation, texts: Mapping[str, tuple[int, bytes]]) -> str:
    """The cited bytes with white space made single; empty where they are not of the chunk that is named."""
    start, data = texts.get(citation.chunk_id, (0, b""))
    if not start <= citation.byte_start < citation.byte_end <= start + len(data):
        return ""
    return " ".join(data[citation.byte_start - start : citation.byte_end - start].decode(errors="replace").split())


def find_golden_rows(rows: Sequence[TrainingRow], golden: GoldenSet | None, embedder: Embedder) -> list[str]:
    """Ids of rows that ask a golden question or a paraphrase of one, in the last turn or before it."""
    asked = [(row.row_id, asked) for row in rows for asked in _asked(row)]
    close = too_close([asked for _, asked in asked], golden, embedder)
    return list(dict.fromkeys(row_id for (row_id, _), near in zip(asked, close, strict=True) if near))


def _asked(row: TrainingRow) -> list[Asked]:
    turns = row.messages[1:]
    return [Asked(question.content, answer.content) for question, answer in zip(turns[::2], turns[1::2], strict=False)]


def find_held_out_rows(rows: Sequence[TrainingRow], items: Sequence[ChunkText], splits: Mapping[str, Split]) -> list[str]:
    """Ids of train rows that cite a held-out document or hold a whole sentence of one, wherever in the row."""
    by_document: dict[str, list[str]] = {}
    for item in items:
        if splits.get(item.chunk.document_sha256) == "held_out":
            by_document.setdefault(item.chunk.document_sha256, []).append(item.text)
    sentences = {
        words
        for texts in by_document.values()
        for sentence in split_sentences("".join(texts))
        if len((words := " ".join(sentence.text.split())).split()) >= MIN_HELD_OUT_WORDS
    }
    found: list[str] = []
    for row in rows:
        if row.split == "train":
            held = " \n ".join(" ".join(message.content.split()) for message in row.messages)
            cites = any(source.document_sha256 in by_document for source in row.sources)
            if cites or any(sentence in held for sentence in sentences):
                found.append(row.row_id)
    return found


def _exactly(row: TrainingRow) -> str:
    return f"{question_of(row).casefold()}\x1f{row.messages[-1].content.casefold()}"


def find_repeated_rows(rows: Sequence[TrainingRow], key: Callable[[TrainingRow], str]) -> list[str]:
    """Ids of rows that are like one before them."""
    seen: set[str] = set()
    repeated: list[str] = []
    for row in rows:
        if (it := key(row)) in seen:
            repeated.append(row.row_id)
        seen.add(it)
    return repeated


def find_near_duplicates(rows: Sequence[TrainingRow]) -> list[str]:
    """Ids of rows that share most word pairs of question and answer with one before them of the same split."""
    kept: list[tuple[Split, set[tuple[str, str]]]] = []
    near: list[str] = []
    for row in rows:
        if row.kind == "refusal":
            continue  # they all end alike, and differ in what is asked
        words = _WORD.findall(f"{question_of(row)} {row.messages[-1].content}".casefold())
        pairs = set(pairwise(words))
        if any(row.split == split and _share(pairs, others) >= NEAR_DUPLICATE for split, others in kept):
            near.append(row.row_id)
        else:
            kept.append((row.split, pairs))
    return near


def _share(one: set[tuple[str, str]], other: set[tuple[str, str]]) -> float:
    return len(one & other) / max(1, len(one | other))


def find_excess_rows(rows: Sequence[TrainingRow], mix: MixSettings) -> list[str]:
    """Ids of the last rows of each kind that has more than its share of the train rows, with slack; `self_qa` has no cap."""
    left = [row for row in rows if row.split == "train"]
    excess: list[str] = []
    while True:
        limits = kind_limits(mix, len(left))
        counts: Counter[RowKind] = Counter(row.kind for row in left)
        over = next((kind for kind, number in sorted(counts.items()) if number > limits[kind]), None)
        if over is None:
            return excess
        last = max(i for i, row in enumerate(left) if row.kind == over)
        excess.append(left.pop(last).row_id)


def kind_limits(mix: MixSettings, rows: int) -> dict[RowKind, int]:
    """How many of so many rows may be of each kind."""
    shares = share_out(mix, 1000)
    return {kind: rows if kind == "self_qa" else ceil(SLACK * rows * share / 1000) for kind, share in shares.items()}
