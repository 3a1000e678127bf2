"""Claims about the base model that all users share.

Belongs here: checks without a partition. Does not belong here: checks of one user's artefacts (`l2.py`).
"""

import dagster as dg

from lpm_kernel.settings import load_settings
from twin_assets.assets import base
from twin_assets.checks.claim import claim

PROMPTS = ("What is the capital of France?", "Name three colours.", "How do I boil an egg?", "Who are you?", "Count to five.")
TOKENS = 44


@claim(base.base_model, partitioned=False)
def base_gguf_matches_weights(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """llama.cpp on the f16 GGUF prefers the same tokens as torch on the weights it was made from, without any adapter."""
    from lpm_kernel.L2.base_model import prepare_base
    from lpm_kernel.L2.engine import cache_folder
    from lpm_kernel.L2.match import greedy_tokens_match
    from lpm_kernel.L2.prompt import render_chatml
    from lpm_kernel.records import Message

    prepared = prepare_base(load_settings().models, cache_folder(), lambda share, words: None)
    # A system message, because some templates put one of their own where there is none.
    asked = [(Message("system", "You answer briefly."), Message("user", prompt)) for prompt in PROMPTS]
    prompts = [render_chatml(messages, open_answer=True) for messages in asked]
    report = greedy_tokens_match(None, None, None, prepared, prompts, TOKENS, past_the_end=True)
    return dg.AssetCheckResult(
        passed=report.holds,
        metadata={"tokens": report.tokens, "agreement": report.agreement, "ties": report.ties, "base": prepared.name},
    )
