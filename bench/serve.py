"""Serving: our engine beside raw llama.cpp and llama.cpp's server, same weights, same adapters, same prompts, in one run.

`python -m bench.serve --quick` is a short run. Every contender is a process of its own. They take turns within each round, so
that a slow minute of the machine meets all of them; a round is repeated with other work on the cores.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines import on_engines
from bench.peer_packages import server_folder
from bench.people import Person, silent, take_in
from bench.serve_adapters import adapter_figures, make_adapters, trace_figures
from bench.serve_contenders import Contender, neighbours, started
from lpm_kernel.L2.base_model import BaseModel, prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.llama_native import Weights
from lpm_kernel.L2.prompt import DECLINE, render_chatml, twin_messages
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.records import Message
from lpm_kernel.stores.open import Stores

TENANTS = 8
DAYS = itertools.count(1)
OURS, DECLINING, PLAIN = "ours", "ours, weighing declining", "ours, one word at a time"
RAW_ROWS = ("raw llama.cpp, 1 thread", "raw llama.cpp, 2 threads")
AS_OURS = ", read as ours"
"""A peer with what our contexts choose of llama.cpp: no flash attention, and prompts read in small batches."""
RAW = (*RAW_ROWS, *(name + AS_OURS for name in RAW_ROWS))
SERVER = "llama.cpp's server"
GOAL_OF_RAW, GOAL_OF_SERVER = 0.95, 1.2
AT_ONCE = 0.02
"""Of an answer's time: within so little of it all pieces after the first come where they came together."""
NGRAM = (3, 12)
"""Of the server's own looking up in the prompt: after so many equal tokens, so many are guessed. Its default is 12 and 48."""


def run(stores: Stores, quick: bool = False) -> None:
    base = prepare_base(stores.settings.models, cache_folder(), silent)
    weights = Weights(base.gguf_path)
    try:
        questions, max_tokens = (2 if quick else 3), stores.settings.models.answer_tokens
        asks = _asks(stores, weights, questions)
        lengths = [len(ask["ids"]) for client in asks for ask in client]
        print(
            f"  base {base.name} {stores.settings.models.base_quantisation}; prompts of {min(lengths)} to {max(lengths)} "
            f"tokens (median {statistics.median(lengths):.0f}), answers of at most {max_tokens}; adapters of rank "
            f"{stores.settings.training.rank} on all linear layers"
        )
        with tempfile.TemporaryDirectory(prefix="twin-bench-serve-") as folder:
            adapters = make_adapters(base, stores.settings.training, Path(folder), TENANTS)
            rows = contenders(base, adapters, stores.settings.models.slots, server_folder(), quick)
            with started(rows) as ready:
                for contender in ready:  # the first answer loads weights and makes contexts; nobody's is counted
                    contender.serve([[_begin(client[0])] for client in (asks[:1] if contender.name in RAW else asks)], 2)
                for burners in (0, 1) if quick else (0, 1, 2):
                    with neighbours(burners):
                        print(f"  beside {burners} process(es) that burn a core each:")
                        rounds = 1 if quick or burners else 2
                        _table("one tenant", ready, asks[:1], max_tokens, weights, rounds)
                        of_eight = [client[:1] for client in asks] if quick else asks
                        _table("eight tenants, eight adapters", ready, of_eight, max_tokens, weights, rounds, with_raw=False)
                        if not burners:
                            talks = _talks(stores, weights)
                            _talk_table("one tenant", ready, talks[:1], max_tokens, weights)
                            of_all = [contender for contender in ready if contender.name not in RAW]
                            _talk_table("eight tenants", of_all, talks, max_tokens, weights)
            adapter_figures(base, adapters, asks, 20 if quick else 60)
            trace_figures(base, adapters[0], Path(folder), stores.settings, 200 if quick else 1000)
    finally:
        weights.close()


def contenders(
    base: BaseModel, adapters: Sequence[tuple[Path, str]], slots: int, packages: Path | None, quick: bool
) -> list[Contender]:
    """`packages`: where the server can be imported from, if it can."""
    about: dict[str, Any] = {
        "name": base.name, "base": str(base.gguf_path), "base_sha256": base.sha256, "slots": slots,
        "adapters": [(str(path), sha256) for path, sha256 in adapters],
    }  # fmt: skip
    found = [Contender(OURS, {**about, "kind": "ours", "options": {"conversations": TENANTS}})]
    found.append(Contender(DECLINING, {**found[0].about, "declining": DECLINE}))  # as most questions of a chat are answered
    if not quick:
        found.append(Contender(PLAIN, {**about, "kind": "ours", "options": {"conversations": TENANTS, "guesses": False}}))
    for number, name in enumerate(RAW_ROWS, 1):
        raw = {**about, "kind": "raw", "threads": number}
        found.append(Contender(name, raw))
        if not quick:
            found.append(Contender(name + AS_OURS, {**raw, "as_ours": True}))
    if packages is None:
        print(f"  {SERVER}: xllamacpp is not installed and not to be had here")
        return found
    where = {"PYTHONPATH": str(packages)}
    for threads in (1, 2):
        name = f"{SERVER}, {threads} thread{'s'[: threads - 1]}"
        server = {**about, "kind": "server", "threads": threads}
        found.append(Contender(name, server, where))
        if not quick:
            found.append(Contender(name + AS_OURS, {**server, "as_ours": True}, where))
        if threads == 2 and not quick:
            found.append(Contender(f"{name}, ngram", {**server, "ngram": NGRAM}, where))
    return found


def _asks(stores: Stores, weights: Weights, count: int) -> list[list[dict[str, Any]]]:
    """For each tenant questions of one demo person, with the lines that recall finds: what a live chat sends."""
    people = [take_in(stores, user_id) for user_id in ("1", "2")]
    found: list[list[dict[str, Any]]] = []
    for tenant in range(TENANTS):
        person = people[tenant % 2]
        questions = person.golden.questions[tenant // 2 :: TENANTS // 2][:count]
        found.append([])
        for question in questions:
            found[-1].append(_ask(stores, weights, person, tenant, question.question))
    return found


def _talks(stores: Stores, weights: Weights) -> list[list[dict[str, Any]]]:
    """For each tenant a question and the next one of the same talk, each with the lines that recall finds for it. What was
    answered meanwhile is the fact of the golden file, the same for whoever is asked."""
    people = [take_in(stores, user_id) for user_id in ("1", "2")]
    found: list[list[dict[str, Any]]] = []
    for tenant in range(TENANTS):
        person = people[tenant % 2]
        first, second = person.golden.questions[tenant // 2 :: TENANTS // 2][:2]
        said = (Message("user", first.question), Message("assistant", f"{first.expected[0]}."))
        found.append(
            [
                _ask(stores, weights, person, tenant, first.question),
                _ask(stores, weights, person, tenant, second.question, said),
            ]
        )
    return found


def _ask(
    stores: Stores, weights: Weights, person: Person, tenant: int, question: str, said: Sequence[Message] = ()
) -> dict[str, Any]:
    lines = recall_evidence(
        person.user.user_id, person.generation, question, stores.vectors, stores.embedder, stores.settings.recall
    )
    messages = twin_messages(person.user, question, lines, said)
    ids = weights.tokenize(render_chatml(messages, open_answer=True))
    return {"tenant": tenant, "messages": [(one.role, one.content) for one in messages], "ids": ids}


def _another_day(clients: Sequence[Sequence[dict[str, Any]]], weights: Weights) -> list[list[dict[str, Any]]]:
    """The same questions on a day of their own: of what was computed in earlier rounds nobody can use anything."""
    day = f"It is day {next(DAYS)}. "
    found: list[list[dict[str, Any]]] = []
    for client in clients:
        found.append([])
        for ask in client:
            (role, content), *others = ask["messages"]
            messages = [(role, day + content), *others]
            text = render_chatml([Message(role, content) for role, content in messages], open_answer=True)
            found[-1].append({**ask, "messages": messages, "ids": weights.tokenize(text)})
    return found


def _begin(ask: dict[str, Any]) -> dict[str, Any]:
    """A prompt that shares nothing but its first words with any that is measured."""
    return {**ask, "messages": [("system", "Hello"), ("user", "Hello")], "ids": ask["ids"][:8]}


def _table(
    title: str,
    ready: Sequence[Contender],
    clients: Sequence[Sequence[dict[str, Any]]],
    max_tokens: int,
    weights: Weights,
    rounds: int,
    with_raw: bool = True,
) -> None:
    """Contenders take turns, in the opposite order every other round."""
    wanted = [contender for contender in ready if with_raw or contender.name not in RAW]
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for turn in range(rounds):
        asked = _another_day(clients, weights)
        for contender in wanted if turn % 2 == 0 else reversed(wanted):
            found[contender.name].append(contender.serve(asked, max_tokens))
    print(f"    {title:38}{'tok/s':>7}{'writing':>9}{'first p50':>11}{'p95 s':>7}{'cpu-s/tok':>11}{'peak MB':>9}{'same':>6}")
    like = [_texts(one) for one in found[OURS]]
    for contender in wanted:
        print(f"    {contender.name:38}{figures(found[contender.name], weights, like)}", flush=True)
    totals = {name: sum(_tokens(served, weights)) / sum(one["wall"] for one in served) for name, served in found.items()}
    for line in goals(totals, with_raw):
        print(f"    {line}", flush=True)


def goals(totals: Mapping[str, float], of_raw: bool) -> list[str]:
    """How both ways in which we answer stand to the fastest row of the peer."""
    peers = {name: total for name, total in totals.items() if (name in RAW if of_raw else name.startswith(SERVER))}
    if not peers:
        return ["no peer was measured, and so no goal was met"]
    best, goal = max(peers, key=peers.__getitem__), GOAL_OF_RAW if of_raw else GOAL_OF_SERVER
    shares = {name: totals[name] / peers[best] for name in (OURS, DECLINING) if name in totals}
    return [
        f"{name}: {share:.2f} of {best} (goal {goal}: {'met' if share >= goal else 'missed'})" for name, share in shares.items()
    ]


def _talk_table(
    title: str, ready: Sequence[Contender], talks: Sequence[Sequence[dict[str, Any]]], max_tokens: int, weights: Weights
) -> None:
    """How soon the first piece of a talk's second question comes, beside that of its first: what was computed can be reused."""
    asked = _another_day(talks, weights)
    alike = [_alike(first["ids"], second["ids"]) / len(second["ids"]) for first, second in asked]
    print(f"    {title + ', a talk of two questions':38}{'first p50':>11}{'second p50 s':>14}", end="")
    print(f"   ({statistics.median(alike):.0%} of the second prompt begins as the first)")
    for contender in ready:
        results = contender.serve(asked, max_tokens)["results"]
        first, second = (statistics.median(client[number]["first"] for client in results) for number in (0, 1))
        print(f"    {contender.name:38}{first:11.2f}{second:14.2f}", flush=True)


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens from the beginning on."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _tokens(served: Sequence[Mapping[str, Any]], weights: Weights) -> list[int]:
    """Of each answer."""
    return [len(weights.tokenize(answer["text"])) for one in served for client in one["results"] for answer in client]


def figures(served: Sequence[Mapping[str, Any]], weights: Weights, like: Sequence[Mapping[tuple[int, int], str]]) -> str:
    answers = [answer for one in served for client in one["results"] for answer in client]
    tokens = _tokens(served, weights)
    total = sum(tokens) / sum(one["wall"] for one in served)
    # What follows the first piece, in the time that follows it: how fast one listener reads.
    writing = [
        (count - 1) / (answer["ended"] - answer["first"])
        for count, answer in zip(tokens, answers, strict=True)
        if count > 4 and answer["ended"] - answer["first"] > AT_ONCE * answer["ended"]
    ]
    written = f"{statistics.median(writing):9.1f}" if writing else f"{'-':>9}"
    first = [answer["first"] for answer in answers]
    same = statistics.mean(
        text == other[key] for one, other in zip(served, like, strict=True) for key, text in _texts(one).items()
    )
    return (
        f"{total:7.1f}{written}{np.percentile(first, 50):11.2f}{np.percentile(first, 95):7.2f}"
        f"{sum(one['cpu'] for one in served) / sum(tokens):11.4f}{served[-1]['peak_mb']:9.0f}{same:6.0%}"
    )


def _texts(served: Mapping[str, Any]) -> dict[tuple[int, int], str]:
    return {(c, n): answer["text"] for c, client in enumerate(served["results"]) for n, answer in enumerate(client)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serve")
    parser.add_argument("--quick", action="store_true", help="fewer questions, contenders and neighbours")
    chosen = parser.parse_args()
    on_engines(lambda stores: run(stores, chosen.quick))


if __name__ == "__main__":
    main()
