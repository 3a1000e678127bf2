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
from bench.people import silent, take_in
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
OURS, PLAIN = "ours", "ours, one word at a time"
RAW = ("raw llama.cpp, 1 thread", "raw llama.cpp, 2 threads")
SERVER = "llama.cpp's server"
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
            contenders = _contenders(base, adapters, stores.settings.models.slots, quick)
            with started(contenders) as ready:
                for contender in ready:  # the first answer loads weights and makes contexts; nobody's is counted
                    contender.serve([[_begin(client[0])] for client in (asks[:1] if contender.name in RAW else asks)], 2)
                for burners in (0, 1) if quick else (0, 1, 2):
                    with neighbours(burners):
                        print(f"  beside {burners} process(es) that burn a core each:")
                        rounds = 1 if quick or burners else 2
                        _table("one tenant", ready, asks[:1], max_tokens, weights, rounds)
                        of_eight = [client[:1] for client in asks] if quick else asks
                        _table("eight tenants, eight adapters", ready, of_eight, max_tokens, weights, rounds, with_raw=False)
            adapter_figures(base, adapters, asks, 20 if quick else 60)
            trace_figures(base, adapters[0], Path(folder), stores.settings, 200 if quick else 1000)
    finally:
        weights.close()


def _contenders(base: BaseModel, adapters: Sequence[tuple[Path, str]], slots: int, quick: bool) -> list[Contender]:
    about: dict[str, Any] = {
        "name": base.name, "base": str(base.gguf_path), "base_sha256": base.sha256, "slots": slots,
        "adapters": [(str(path), sha256) for path, sha256 in adapters],
    }  # fmt: skip
    found = [Contender(OURS, {**about, "kind": "ours", "options": {"conversations": TENANTS}})]
    if not quick:
        found.append(Contender(f"{OURS}, weighing declining", {**found[0].about, "declining": DECLINE}))
        found.append(Contender(PLAIN, {**about, "kind": "ours", "options": {"conversations": TENANTS, "guesses": False}}))
    found += [Contender(name, {**about, "kind": "raw", "threads": number}) for number, name in enumerate(RAW, 1)]
    packages = server_folder()
    if packages is None:
        print(f"  {SERVER}: xllamacpp is not installed and not to be had here")
        return found
    where = {"PYTHONPATH": str(packages)}
    for threads in (1, 2):
        name = f"{SERVER}, {threads} thread{'s'[: threads - 1]}"
        found.append(Contender(name, {**about, "kind": "server", "threads": threads}, where))
        if threads == 2 and not quick:
            found.append(Contender(f"{name}, ngram", {**about, "kind": "server", "threads": threads, "ngram": NGRAM}, where))
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
            lines = recall_evidence(
                person.user.user_id, person.generation, question.question, stores.vectors, stores.embedder,
                stores.settings.recall,
            )  # fmt: skip
            messages = twin_messages(person.user, question.question, lines)
            ids = weights.tokenize(render_chatml(messages, open_answer=True))
            found[-1].append({"tenant": tenant, "messages": [(one.role, one.content) for one in messages], "ids": ids})
    return found


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
        print(f"    {contender.name:38}{_line(found[contender.name], weights, like)}", flush=True)


def _line(served: Sequence[Mapping[str, Any]], weights: Weights, like: Sequence[Mapping[tuple[int, int], str]]) -> str:
    answers = [answer for one in served for client in one["results"] for answer in client]
    tokens = [len(weights.tokenize(answer["text"])) for answer in answers]
    total = sum(tokens) / sum(one["wall"] for one in served)
    # What follows the first piece, in the time that follows it: how fast one listener reads.
    writing = [
        (count - 1) / (answer["ended"] - answer["first"]) for count, answer in zip(tokens, answers, strict=True) if count > 4
    ]
    first = [answer["first"] for answer in answers]
    same = statistics.mean(
        text == other[key] for one, other in zip(served, like, strict=True) for key, text in _texts(one).items()
    )
    return (
        f"{total:7.1f}{statistics.median(writing or [0]):9.1f}{np.percentile(first, 50):11.2f}{np.percentile(first, 95):7.2f}"
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
