"""Opening the language model from settings.

Belongs here: which class stands behind the `Llm` port, and the local folders it reads.
Does not belong here: llama.cpp (`llama.py`) and preparing weights (`base_model.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lpm_kernel.L2.base_model import default_cache_dir, prepare_base
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import twin_home
from lpm_kernel.stores.breaker import Breakers
from lpm_kernel.stores.compute import Progress
from lpm_kernel.stores.llm import Llm


def open_llm(settings: Settings, progress: Progress, prepare_thread: Callable[[], None] | None = None) -> Llm:
    """The shared base in memory; weights are made ready at the first time. The caller closes it.

    `prepare_thread`: what threads that decode do first, where they are to be others than the callers'.
    """
    from lpm_kernel.L2.llama import LlamaCpp

    base = prepare_base(settings.models, cache_folder(), progress)
    models = settings.models
    return LlamaCpp(
        base,
        slots=models.slots,
        context_tokens=models.context_tokens,
        conversations=models.conversations,
        adapters_bytes=settings.serving.adapters_mb * 2**20,
        prepare_thread=prepare_thread,
    )


def open_serving_llm(
    settings: Settings,
    progress: Progress,
    breakers: Breakers | None = None,
    prepare_thread: Callable[[], None] | None = None,
) -> Llm:
    """What answers chats: the base in this process, or, as `serving.engine` says, on Modal.

    Then the base's files are made ready all the same, to measure prompts by. Evaluations and the command line ask the first.
    """
    if settings.serving.engine == "local":
        return open_llm(settings, progress, prepare_thread)
    from lpm_kernel.L2.modal_llm import BREAKER, ModalLlm

    breaker = (breakers or Breakers()).named("modal_engine", *BREAKER)
    return ModalLlm(prepare_base(settings.models, cache_folder(), progress), settings, breaker)


def cache_folder() -> Path:
    """Prepared base weights, shared by every home on this machine."""
    return default_cache_dir(os.environ)


def adapter_folder() -> Path:
    """Local copies of users' adapters."""
    return twin_home() / "adapters"
