"""The gate: each claim refuses what breaks it, by the row's own id, and lets the rest through in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from lpm_kernel.L2.frames import FITS, ask_to_criticise, ask_to_enhance, enhanced, person_said, wrote
from lpm_kernel.L2.prompt import DECLINE
from lpm_kernel.L2.records import TrainingRow
from lpm_kernel.L2.row_gate import (
    MAX_ANSWER_TOKENS,
    find_excess_rows,
    find_near_duplicates,
    find_unsupported_rows,
    is_well_formed,
    kind_limits,
    pass_gate,
    stored_texts,
)
from lpm_kernel.records import Citation, Message
from lpm_kernel.settings import MixSettings, Settings
from tests.fakes import FakeEmbedder
from tests.samples import make_items, make_row

CAT, SEA = "Our one-eyed cat is called Pilchard.", "The sea at Clevedon was 5.8 °C in February."
ITEMS = make_items("1", {"cat.md": f"{CAT}\n", "sea.md": f"{SEA}\n"}, 24)
OF = {item.chunk.filename: item.chunk for item in ITEMS}


@pytest.fixture
def mix(settings: Settings) -> MixSettings:
    return settings.training.mix


def cited(filename: str, text: str) -> Citation:
    chunk = OF[filename]
    return Citation(chunk.chunk_id, chunk.document_sha256, filename, chunk.byte_start, chunk.byte_start + len(text.encode()))


def row(name: str, question: str, answer: str, kind: Any = "self_qa", **fields: Any) -> TrainingRow:
    messages = (Message("system", "You are Nora."), Message("user", question), Message("assistant", answer))
    return make_row(name, messages, kind=kind, **{"sources": [cited("cat.md", CAT)], **fields})


def gate(rows: list[TrainingRow], mix: MixSettings, **options: Any) -> tuple[list[str], dict[str, str]]:
    splits: Any = {
        chunk.document_sha256: "held_out" if name == options.get("held_out") else "train" for name, chunk in OF.items()
    }
    count = options.get("count", lambda messages: 0)
    kept, refused = pass_gate(rows, ITEMS, splits, None, FakeEmbedder(), count, mix)
    return [found.row_id for found in kept], {refusal.row_id: refusal.reason for refusal in refused}


def test_what_is_sound_passes_in_its_order(mix: MixSettings) -> None:
    rows = [
        row("plain", "What is your cat called?", CAT),
        row("told", "What is Nora's cat called?", wrote("Nora", CAT)),
        row("advice", ask_to_criticise("Get a cat."), f"{FITS} {CAT}", "context_critic"),
        row("request", ask_to_enhance("I need a vet."), enhanced("I need a vet.", CAT), "context_enhance"),
        row("refused", "How tall are you?", DECLINE, "refusal"),
    ]
    assert gate(rows, mix) == (["plain", "told", "advice", "request", "refused"], {})


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("schema", row("bad", "What?", " ")),
        ("schema", replace(row("bad", "What?", CAT), messages=(Message("user", "What?"), Message("assistant", CAT)))),
        ("schema", replace(row("bad", "What?", CAT), answer_sources=3)),
        ("schema", replace(row("bad", "What?", CAT), answer_sources=0)),
        ("support", row("bad", "What is your cat called?", "Our one-eyed cat is called Admiral.")),
        ("support", row("bad", "What is your cat called?", DECLINE)),
        ("support", row("bad", "How tall are you?", "I am tall.", "refusal")),
        ("support", row("bad", ask_to_criticise("Get a cat."), f"Well well. {CAT}", "context_critic")),
        ("support", row("bad", "What is your cat called?", wrote("Nora", "Our cat is called Bob."))),
        ("support", row("bad", "Why?", 'Our cat says "Pilchard called one-eyed".')),
        ("support", replace(row("bad", "What?", CAT), sources=(replace(cited("cat.md", CAT), chunk_id="gone"),))),
        ("support", replace(row("bad", "What?", CAT), sources=(replace(cited("cat.md", CAT), byte_end=9_999),))),
        ("duplicate", row("bad", "what is your CAT called?", CAT)),
        ("near_duplicate", row("bad", "So, what is your cat called?", CAT)),
    ],
)  # fmt: skip
def test_what_breaks_a_claim_is_refused_by_its_own_id(mix: MixSettings, reason: str, bad: TrainingRow) -> None:
    good = row("good", "What is your cat called?", CAT)
    assert gate([good, bad], mix) == (["good"], {"bad": reason})


def test_an_answer_worded_anew_may_only_use_what_its_sources_say() -> None:
    texts = stored_texts(ITEMS)
    anew = row("anew", "What is your cat called?", "The one-eyed cat? Our cat is Pilchard.")
    more = row("more", "What is your cat called?", "Our cat is Pilchard, and is seven.")
    assert find_unsupported_rows([anew, more], texts) == ["more"]


def test_a_row_or_an_answer_that_is_too_long_is_refused(mix: MixSettings) -> None:
    rows = [row("long", "What is your cat called?", CAT)]
    assert gate(rows, mix, count=lambda messages: 513 if len(messages) > 1 else 1)[1] == {"long": "length"}
    assert gate(rows, mix, count=lambda messages: MAX_ANSWER_TOKENS + (len(messages) == 1))[1] == {"long": "length"}


def test_a_train_row_with_a_held_out_sentence_is_refused_wherever_it_stands(mix: MixSettings) -> None:
    shown = row("shown", "What is your cat called?", CAT)
    shown = replace(shown, messages=(Message("system", f"You are Nora.\nFrom your notes:\n- {SEA}"), *shown.messages[1:]))
    held = row("held", "How cold was the sea?", SEA, sources=[cited("sea.md", SEA)], split="held_out")
    assert gate([shown, held], mix, held_out="sea.md") == (["held"], {"shown": "held_out"})
    assert gate([shown, held], mix) == (["shown", "held"], {})


def test_two_questions_of_one_sentence_are_no_near_duplicates() -> None:
    rows = [row("a", "What is your cat called?", CAT), row("b", "Who has only one eye in your house?", CAT)]
    assert find_near_duplicates(rows) == []


def test_a_kind_over_its_cap_loses_its_last_rows(mix: MixSettings) -> None:
    own = [row(f"own-{i}", f"What {i}?", CAT) for i in range(40)]
    refusals = [row(f"no-{i}", f"Who {i}?", DECLINE, "refusal") for i in range(30)]
    lost = find_excess_rows(own + refusals, mix)
    kept = 30 - len(lost)
    assert lost == [f"no-{i}" for i in range(29, kept - 1, -1)]
    assert kept == kind_limits(mix, 40 + kept)["refusal"] >= 5
    assert find_excess_rows(own, mix) == [], "self_qa takes what the others leave"


def test_ids_that_repeat_lose_one_row_each_and_no_more(mix: MixSettings) -> None:
    """Paraphrases by a language model once carried the id of their draft: both would have gone."""
    twice = [row("same", "What is your cat called?", CAT), row("same", "what is your cat called?", CAT)]
    kept, refused = gate(twice, mix)
    assert (kept, refused) == (["same"], {"same": "duplicate"})


def test_words_of_ours_come_off_and_the_persons_stay() -> None:
    assert person_said("What?", CAT) == CAT
    assert person_said("What?", wrote("Nora", CAT)) == CAT
    assert person_said(ask_to_enhance("I need a vet."), enhanced("I need a vet.", CAT)) == CAT
    assert person_said(ask_to_criticise("Get a dog."), f"{FITS} {CAT}") == CAT
    assert Counter(map(is_well_formed, [row("a", "What?", CAT), row("b", "", CAT)])) == {True: 1, False: 1}
