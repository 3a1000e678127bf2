"""Memory to training rows, by fixed rules: no language model, no clock, no counter.

Belongs here: the way from questions to drafts to rows, of which kind and form each is, and the split by document.
Does not belong here: the questions of a kind (`asks.py`, `opinions.py`, `about.py`, `requests.py`), how one draft is made
(`drafts.py`) and what is refused (`row_gate.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

from lpm_kernel.errors import TrainingError
from lpm_kernel.L0.embed import ChunkText
from lpm_kernel.L1.records import Biography, ChunkSalience, Community
from lpm_kernel.L2.about import about_asks
from lpm_kernel.L2.asks import identity_asks, names_of_people, own_asks, read_said, unmentioned_asks
from lpm_kernel.L2.drafts import Draft, Plan, Recall, RowTokens, draft_row, fit_row
from lpm_kernel.L2.golden import Asked, too_close
from lpm_kernel.L2.opinions import opinion_critic_asks, preference_asks
from lpm_kernel.L2.persons import first_name, in_third_person
from lpm_kernel.L2.records import GoldenSet, RowForm, RowKind, RowRefusal, Split, TrainingRow
from lpm_kernel.L2.requests import request_asks
from lpm_kernel.L2.row_gate import find_golden_rows, pass_gate, question_of
from lpm_kernel.L2.sampling import Ask, choose_asks, evenly, share_out, usable_chunks
from lpm_kernel.records import Entity, Preference, Topic, User, content_id
from lpm_kernel.settings import TrainingSettings
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.embedder import Embedder

__all__ = ["Memory", "find_golden_rows", "question_of", "split_documents", "synthesize_rows"]

Enrich = Callable[[list[Draft], Progress], tuple[list[Draft], list[RowRefusal]]]
"""What a language model may do between drafts and gate: word drafts anew or add some, each with an id of its own."""

DRAFTED, ENRICHED = 0.5, 0.9
"""Shares of the whole at which drafts are made and worded anew."""

SELF_QA_FORMS: tuple[RowForm, ...] = (
    "grounded", "plain", "grounded", "grounded", "multi_turn", "grounded", "plain", "grounded",
)  # fmt: skip
"""How `self_qa` is asked, in turn. Why three of four show lines: rows of bare facts teach a small model to ignore its notes."""

OTHER_KINDS: tuple[RowKind, ...] = ("preference", "diversity", "context_enhance", "context_critic", "refusal")
PREFERENCE_FORMS: tuple[RowForm, ...] = ("grounded", "plain", "grounded")
"""The rest is asked among lines: there is nothing to judge, to add or to decline without them."""

TOLD_BY_OTHERS: frozenset[RowKind] = frozenset({"self_qa", "preference", "diversity", "refusal"})
"""Kinds that somebody else may ask for; requests and advice are put to the person."""

UNMENTIONED_SHARE = 1 / 3
"""Of the refusals: what no note tells, beside questions whose answer is not among the lines."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of a person beside the chunks, each from its own stage."""

    salience: Sequence[ChunkSalience] = ()
    communities: Sequence[Community] = ()
    entities: Sequence[Entity] = ()
    preferences: Sequence[Preference] = ()
    biography: Biography | None = None


@dataclass(frozen=True, slots=True)
class SynthesisCount:
    asked: int
    too_close_to_golden: int
    too_long: int
    """Chosen, but with more tokens than a training row may have even without a retrieved line."""
    rows_by_kind: dict[str, int]
    refusals: tuple[RowRefusal, ...]
    """Every question that was refused for a golden one, every draft that became no row, and what kept its own words."""


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
    memory: Memory | None = None,
    enrich: Enrich | None = None,
) -> tuple[list[TrainingRow], SynthesisCount]:
    """At most `max_rows` rows of the person's own sentences, of six kinds: questions, drafts, perhaps a language model, gate.

    The same input gives the same rows. Documents are split into `train` and `held_out`; no train row holds a held-out line.
    What the twin wrote is in none.
    Raises: TrainingError `no_training_rows` when no sentence can be asked for.
    """
    memory = memory or Memory()
    progress(0.0, f"asking about {len(items)} chunks")
    splits = split_documents([item.chunk.document_sha256 for item in items], training.held_out_share)
    usable = usable_chunks(items, memory.salience)
    allowed = {
        "held_out": usable,
        "train": {item.chunk.chunk_id for item in items if splits[item.chunk.document_sha256] == "train"} & usable,
    }
    asked = _of_one_split(find_asks(user, items, memory, usable, training), splits)
    near = too_close([Asked(ask.question, ask.answer) for ask in asked], golden, embedder)
    refused = [
        RowRefusal(content_id(user.user_id, ask.kind, ask.question, ask.answer)[:32], ask.kind, "golden")
        for ask, close in zip(asked, near, strict=True)
        if close
    ]
    kept = [ask for ask, close in zip(asked, near, strict=True) if not close]
    values = {row.chunk_id: row.salience for row in memory.salience}
    plans = plan_rows(kept, topics, training, values, splits, first_name(user.name or ""))
    drafts: list[Draft] = []
    drafted = DRAFTED if enrich else ENRICHED
    for done, plan in enumerate(plans, start=1):
        drafts.append(draft_row(user, first_name(user.name or ""), plan, recall, allowed[plan.split], training.seed))
        progress(done / len(plans) * drafted, f"{done} of {len(plans)} drafts")
    if enrich is not None:
        drafts, dropped = enrich(drafts, lambda share, words: progress(DRAFTED + share * (ENRICHED - DRAFTED), words))
        refused += dropped
    fitted = [(draft, fit_row(user, draft, row_tokens)) for draft in drafts]
    long = [RowRefusal(draft.row_id, draft.kind, "length") for draft, row in fitted if row is None]
    rows, stopped = pass_gate(
        [row for _, row in fitted if row is not None], items, splits, golden, embedder, row_tokens, training.mix
    )
    if not any(row.split == "train" and row.kind != "refusal" for row in rows):
        raise TrainingError(
            "no_training_rows", f"{len(items)} chunks give no sentence that can be asked for: add longer documents"
        )
    progress(1.0, f"{len(rows)} rows of {len(drafts)} drafts")
    kinds = dict(sorted(Counter(row.kind for row in rows).items()))
    return rows, SynthesisCount(len(asked), sum(near), len(long), kinds, (*refused, *long, *stopped))


def split_documents(document_sha256s: Sequence[str], held_out_share: float) -> dict[str, Split]:
    """Which documents are kept out of training: a fixed share, chosen by hash; at least one document stays in."""
    documents = sorted(set(document_sha256s), key=lambda sha: content_id("split", sha))
    held_out = min(round(len(documents) * held_out_share), len(documents) - 1)
    return {sha: "held_out" if i < held_out else "train" for i, sha in enumerate(documents)}


def find_asks(
    user: User, items: Sequence[ChunkText], memory: Memory, usable: set[str], training: TrainingSettings
) -> list[Ask]:
    """Every question of every kind that usable chunks allow."""
    said = read_said(items, usable)
    by_text = {line.text: line for line in said}
    shown = [item for item in items if item.chunk.chunk_id in usable]
    unmentioned = round(share_out(training.mix, training.max_rows)["refusal"] * UNMENTIONED_SHARE)
    return [
        *identity_asks(memory.biography, said),
        *own_asks(said, names_of_people(memory.entities)),
        *preference_asks(memory.preferences, by_text),
        *about_asks(memory.entities, memory.communities, said, user.name),
        *opinion_critic_asks(memory.preferences, by_text),
        *request_asks(said, memory.entities),
        *unmentioned_asks(memory.entities, shown, user.name, unmentioned),
    ]


def _of_one_split(asks: Sequence[Ask], splits: Mapping[str, Split]) -> list[Ask]:
    """Without those whose answer stands on both sides of the split; a question once."""
    first: dict[tuple[RowKind, str], Ask] = {}
    for ask in asks:
        if len({splits[citation.document_sha256] for citation in ask.cited}) <= 1:
            first.setdefault((ask.kind, ask.question), ask)
    return list(first.values())


def plan_rows(
    asks: Sequence[Ask],
    topics: Sequence[Topic],
    training: TrainingSettings,
    salience: Mapping[str, float],
    splits: Mapping[str, Split],
    name: str,
) -> list[Plan]:
    """Which questions are asked, and how. A kind with too few leaves its rows to `self_qa`."""
    of_kind: dict[RowKind, list[Ask]] = defaultdict(list)
    for ask in asks:
        of_kind[ask.kind].append(ask)
    counts = share_out(training.mix, training.max_rows)
    chosen: dict[RowKind, list[Ask]] = {
        kind: choose_asks(of_kind[kind], topics, training, salience, counts[kind]) for kind in OTHER_KINDS
    }
    rest = training.max_rows - sum(map(len, chosen.values()))
    own = choose_asks(of_kind["self_qa"], topics, training, salience, rest)
    share = training.mix.refusal / (training.mix.refusal + training.mix.self_qa)
    hidden = min(counts["refusal"] - len(chosen["refusal"]), round(len(own) * share))
    plans = list(_own_plans(own, splits, hidden / max(1, len(own))))
    for kind, taken in chosen.items():
        forms: Iterator[RowForm] = cycle(PREFERENCE_FORMS if kind == "preference" else ("grounded",))
        plans += [Plan(ask, next(forms), _split_of(ask, splits), refuses=kind == "refusal") for ask in taken]
    return list(_told_by_others(plans, training.third_person_share, name))


def _own_plans(asks: Sequence[Ask], splits: Mapping[str, Split], refused_share: float) -> Iterator[Plan]:
    """`self_qa` in its forms and, spread evenly, questions whose answer is hidden; each split in turns of its own."""
    forms: dict[Split, Iterator[RowForm]] = {"train": cycle(SELF_QA_FORMS), "held_out": cycle(SELF_QA_FORMS)}
    refuses: dict[Split, Iterator[bool]] = {"train": evenly(refused_share), "held_out": evenly(refused_share)}
    for ask in asks:
        split = _split_of(ask, splits)
        if not ask.comes_first and next(refuses[split]):
            yield Plan(ask, "grounded", split, refuses=True)
            continue
        form = next(forms[split])
        before = _before(ask, asks, splits) if form == "multi_turn" and not ask.comes_first else None
        yield Plan(ask, "grounded" if form == "multi_turn" and before is None else form, split, after=before)


def _before(ask: Ask, asks: Sequence[Ask], splits: Mapping[str, Split]) -> Ask | None:
    """What may have been talked of before: another sentence, of the same document where there is one."""
    others = [
        other
        for other in asks
        if other.answer != ask.answer and not other.comes_first and _split_of(other, splits) == _split_of(ask, splits)
    ]
    here = ask.item.chunk
    near = [other for other in others if other.item.chunk.document_sha256 == here.document_sha256]
    near.sort(key=lambda other: abs(other.item.chunk.byte_start - here.byte_start))
    return next(iter([*near, *others]), None)


def _told_by_others(plans: Sequence[Plan], share: float, name: str) -> Iterator[Plan]:
    """Of the questions that can be put to a third person, this share is."""
    third = evenly(share)
    for plan in plans:
        can_be = plan.after is None and plan.ask.kind in TOLD_BY_OTHERS and in_third_person(plan.ask.question, name) is not None
        yield replace(plan, third=True) if can_be and next(third) else plan


def _split_of(ask: Ask, splits: Mapping[str, Split]) -> Split:
    return splits[ask.item.chunk.document_sha256]
