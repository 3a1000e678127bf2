"""What a request needs: the stores and the model of this process.

Belongs here: opening them once and handing them to routes.
Does not belong here: what a route does with them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from lpm_kernel.stores.llm import Llm
from lpm_kernel.stores.open import Stores


class Services:
    """Stores at once, the model at its first use: uploads and profiles need none."""

    def __init__(self, stores: Stores, open_model: Callable[[], Llm], adapters: Path) -> None:
        self.stores = stores
        self.adapters = adapters
        self._open_model = open_model
        self._model: Llm | None = None
        self._lock = threading.Lock()

    @property
    def llm(self) -> Llm:
        with self._lock:
            if self._model is None:
                self._model = self._open_model()
            return self._model

    def close(self) -> None:
        with self._lock:
            if self._model is not None:
                self._model.close()
                self._model = None
        self.stores.close()


def services_of(request: Request) -> Services:
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(services_of)]
