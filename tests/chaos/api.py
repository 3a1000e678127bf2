"""The API as a process to be killed: real stores, a model that is there at once. `python -m tests.chaos.api PORT FOLDER`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import open_stores
from tests.twin_serving.test_outage import NoPreferences, ReadingLlm
from twin_serving.app import create_app
from twin_serving.deps import Services
from twin_serving.server import build_server


def main() -> None:
    settings = load_settings(overrides={"serving": {"requests_per_minute": 0, "docs": False}})

    def services() -> Services:
        stores = open_stores(settings, os.environ, prompt=True)
        stores = replace(stores, preference_head=NoPreferences(stores.embedder))
        return Services(stores, ReadingLlm, Path(sys.argv[2]))

    build_server(create_app(services, settings), settings, port=int(sys.argv[1])).run()


if __name__ == "__main__":
    main()
