"""Whether rules of a person's voice bring the base nearer to it: a demo person's golden questions, asked with and without."""

from __future__ import annotations

from statistics import fmean

from bench.people import silent, take_in
from lpm_kernel.L0.library import fetch_texts
from lpm_kernel.L0.voice import build_voice_profile, measure_voice, voice_distance
from lpm_kernel.L2.engine import open_llm
from lpm_kernel.L2.golden import holds_fact
from lpm_kernel.L2.intervals import share_interval
from lpm_kernel.L2.manner import Manner, has_manner, nearer_than_base
from lpm_kernel.L2.prompt import fit_messages
from lpm_kernel.L2.voice_rules import voice_rules
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Message
from lpm_kernel.stores.documents import list_documents
from lpm_kernel.stores.open import Stores

ANSWER_TOKENS = 64


def run(stores: Stores) -> None:
    """The same prompts but for the rules; the answers are greedy. No adapter: what has learnt the voice is shown no rules."""
    settings, person = stores.settings, take_in(stores, "1")
    with stores.tables.transaction("1") as connection:
        documents = [document for document in list_documents(connection, "1") if document.status == "read"]
    texts = fetch_texts([item.chunk for item in person.items], stores.blobs)
    own = [texts[document.sha256].decode() for document in documents if document.sha256 in texts]
    profile = build_voice_profile("1", [d for d in documents if d.sha256 in texts], texts, ())
    rules = voice_rules(profile)
    print(f"  rules: {' '.join(rules) or 'none'}")
    questions = person.golden.questions[: settings.evaluation.max_questions]
    packs = [
        recall_evidence("1", person.generation, item.question, stores.vectors, stores.embedder, settings.recall)
        for item in questions
    ]
    llm = open_llm(settings, silent)
    try:
        replies: list[list[str]] = []
        for shown in ((), rules):
            prompts = [
                fit_messages(person.user, item.question, pack, (), llm, ANSWER_TOKENS, rules=shown)[0]
                for item, pack in zip(questions, packs, strict=True)
            ]
            replies.append(_answers(llm, prompts, settings.evaluation.batch))
    finally:
        llm.close()
    plain, ruled = replies
    manner = Manner(own)
    told = [i for i in range(len(questions)) if has_manner(plain[i]) and has_manner(ruled[i])]
    without, with_rules = ([manner.distance(answers[i]) for i in told] for answers in (plain, ruled))
    nearer = sum(b < a for a, b in zip(without, with_rules, strict=True))
    low, high = share_interval(nearer, len(told))
    print(f"  {len(told)} of {len(questions)} questions answered in words of its own; bits a token from the person's manner:")
    print(f"  without {fmean(without):.3f}, with {fmean(with_rules):.3f}; nearer in {nearer} [{low:.2f}, {high:.2f}]")
    leaning = nearer_than_base(own, {"base": plain, "base+retrieval": ruled})["base+retrieval"]
    low, high = share_interval(sum(leaning), len(leaning))
    print(f"  leans to the person, away from the base: {sum(leaning)} of {len(leaning)} [{low:.2f}, {high:.2f}]")
    features = measure_voice(own).features
    for name, answers in (("without", plain), ("with", ruled)):
        voice = measure_voice(answers)
        print(
            f"  {name}: voice distance {voice_distance(features, voice.features):.2f}, "
            f"{voice.features['words_a_sentence_mean']:.1f} words a sentence, "
            f"{sum(holds_fact(text, item.expected) for text, item in zip(answers, questions, strict=True))} right"
        )


def _answers(llm, prompts: list[tuple[Message, ...]], batch: int) -> list[str]:
    told: list[str] = []
    for first in range(0, len(prompts), batch):
        told += llm.answer_batch(prompts[first : first + batch], tenant="1", adapter=None, max_tokens=ANSWER_TOKENS)
    return told
