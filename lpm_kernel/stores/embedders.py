"""Every embedding model this program knows, found by the name in the settings or by the fingerprint in a release.

Belongs here: which class makes the vectors of which fingerprint.
Does not belong here: the classes themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack

from lpm_kernel.errors import LlmError
from lpm_kernel.settings import Settings
from lpm_kernel.stores.addresses import read_openai_address
from lpm_kernel.stores.breaker import Breakers
from lpm_kernel.stores.embedder import Embedder, MiniLmEmbedder
from lpm_kernel.stores.openai_client import BREAKER, open_openai
from lpm_kernel.stores.openai_embedder import OpenAiEmbedder

FINGERPRINTS: dict[str, str] = {
    "all-MiniLM-L6-v2-int8": MiniLmEmbedder.fingerprint,
    OpenAiEmbedder.model: OpenAiEmbedder.fingerprint,
}


class Embedders:
    """Each model is opened at its first use and kept. Safe to share between threads."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] | None = None, breakers: Breakers | None = None) -> None:
        self._settings = settings
        self._environ = environ
        self._breakers = breakers or Breakers()
        self._opened: dict[str, Embedder] = {}
        self._opening = threading.Lock()
        self._clients = ExitStack()

    def named(self, model: str) -> Embedder:
        """Raises: SettingsError `address_missing` when the model is on a server whose key is not set."""
        with self._opening:
            if model not in self._opened:
                self._opened[model] = self._open(model)
            return self._opened[model]

    def of(self, fingerprint: str) -> Embedder:
        """The model that made vectors of this fingerprint: a release is searched with its own, whatever the settings say today.

        Raises: LlmError `embedder_unknown`; SettingsError `address_missing`.
        """
        for model, known in FINGERPRINTS.items():
            if known == fingerprint:
                return self.named(model)
        raise LlmError(
            "embedder_unknown",
            f"no model of this version makes vectors of {fingerprint}: materialize `embeddings` and what follows",
            retryable=False,
        )

    def close(self) -> None:
        with self._opening:
            self._clients.close()
            self._opened.clear()

    def _open(self, model: str) -> Embedder:
        if model == OpenAiEmbedder.model:
            address = read_openai_address(self._settings, self._environ)
            breaker = self._breakers.named("openai_embedder", *BREAKER)
            return OpenAiEmbedder(lambda: self._clients.enter_context(open_openai(address)), breaker)
        return MiniLmEmbedder()
