"""The engine: answers a second of ours, streamed and in batches, beside plain llama-cpp-python on the same base and prompts."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.people import silent, take_in
from lpm_kernel.L2.base_model import prepare_base
from lpm_kernel.L2.engine import cache_folder
from lpm_kernel.L2.llama import LlamaCpp
from lpm_kernel.L2.prompt import render_chatml, twin_messages
from lpm_kernel.recall.search import recall_evidence
from lpm_kernel.stores.open import Stores

QUESTIONS, ANSWER_TOKENS = 16, 24


def run(stores: Stores) -> None:
    """Prompts with retrieved lines, as a live chat has them; greedy answers of at most 24 tokens; one thread a context."""
    from llama_cpp import Llama

    person = take_in(stores, "1")
    prompts = [
        twin_messages(
            person.user,
            question.question,
            recall_evidence("1", person.generation, question.question, stores.vectors, stores.embedder, stores.settings.recall),
        )
        for question in person.golden.questions[:QUESTIONS]
    ]
    base = prepare_base(stores.settings.models, cache_folder(), silent)
    ours = LlamaCpp(base, slots=1, context_tokens=stores.settings.models.context_tokens)
    plain = Llama(str(base.gguf_path), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)

    def ask_plain() -> int:
        written = 0
        for messages in prompts:
            text = render_chatml(messages, open_answer=True)
            ids = plain.tokenize(text.encode(), add_bos=False, special=True)
            reply = plain.create_completion(ids, max_tokens=ANSWER_TOKENS, temperature=0.0)
            written += reply["usage"]["completion_tokens"]  # type: ignore[index,call-overload]
        return written

    def stream_ours() -> int:
        return sum(sum(1 for _ in ours.stream(messages, tenant="1", max_tokens=ANSWER_TOKENS)) for messages in prompts)

    def batch_ours() -> int:
        answers = ours.answer_batch(prompts[:8], tenant="1", max_tokens=ANSWER_TOKENS)
        answers += ours.answer_batch(prompts[8:], tenant="1", max_tokens=ANSWER_TOKENS)
        return sum(len(plain.tokenize(answer.encode(), add_bos=False)) for answer in answers)

    try:
        quantisation = stores.settings.models.base_quantisation
        print(f"  {QUESTIONS} questions with retrieved lines, base {base.name} {quantisation}, one thread")
        print(f"  {'':28} {'seconds':>8} {'answers/s':>10} {'tokens written':>15}")
        for name, work in (
            ("plain llama-cpp-python", ask_plain),
            ("ours, streamed", stream_ours),
            ("ours, batches of 8", batch_ours),
        ):
            _timed(name, work)
    finally:
        ours.close()
        plain.close()


def _timed(name: str, work: Callable[[], int]) -> None:
    began = time.perf_counter()
    written = work()
    seconds = time.perf_counter() - began
    print(f"  {name:28} {seconds:8.1f} {QUESTIONS / seconds:10.2f} {written:15}")
