"""A worker that can be killed: it reads what waits, as the first stage of a run does. `python -m tests.chaos.reader USER...`"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from lpm_kernel.errors import TwinError
from lpm_kernel.L0.library import read_documents
from lpm_kernel.settings import load_settings
from lpm_kernel.stores.open import open_stores


def main() -> None:
    settings = load_settings()
    stores = open_stores(settings, os.environ)
    while True:
        for user_id in sys.argv[1:]:
            with suppress(TwinError):  # a store is away, or nothing is there yet: it looks again
                read_documents(stores.tables, stores.blobs, settings.limits, user_id, lambda share, words: None)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
