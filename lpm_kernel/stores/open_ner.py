"""The extractor of names that the settings choose, opened.

Belongs here: which class stands behind `models.ner`.
Does not belong here: the classes themselves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from lpm_kernel.settings import Settings
from lpm_kernel.stores.breaker import Breakers
from lpm_kernel.stores.fallback_ner import FallbackNer
from lpm_kernel.stores.gemini_ner import COOL_S, FAILURES_IN_A_ROW, GeminiNer
from lpm_kernel.stores.ner import SMALL_MODEL, SPACY_MODEL, Ner, SpacyNer

MODELS = {"en-core-web-md+rules": SPACY_MODEL, "en-core-web-sm+rules": SMALL_MODEL}


def open_ner(settings: Settings, environ: Mapping[str, str] | None = None, breakers: Breakers | None = None) -> Ner:
    """Nothing is loaded or asked yet.

    Gemini always has spaCy behind it: without a key spaCy reads everything, and every reading says that the key is missing.
    """
    environ = os.environ if environ is None else environ
    if settings.models.ner != "gemini":
        return SpacyNer(MODELS[settings.models.ner])
    gemini = GeminiNer(
        environ.get(settings.stores.gemini_api_key) or None,
        settings.models.gemini,
        base_url=environ.get(settings.stores.gemini_base_url) or None,
        retries=settings.retries.max_retries,
        delay_s=settings.retries.delay_s,
        breaker=(breakers or Breakers()).named("gemini", FAILURES_IN_A_ROW, COOL_S),
    )
    return FallbackNer(gemini, SpacyNer())
