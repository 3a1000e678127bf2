"""One table of an archive, decoded in a process of its own to see what it becomes: a few bytes of Parquet may be gigabytes.

Belongs here: the limits this process puts on itself, and the look at every row.
Does not belong here: anything of ours; this file is run alone, with nothing but pyarrow and the standard library in reach.

Why a process: the file's own figures are what whoever made it wrote there, and a decoder that follows them cannot be stopped
from within.
"""

from __future__ import annotations

import sys
from importlib import import_module

FITS, TOO_LARGE, DAMAGED = 0, 3, 4
"""How this process ends, once it has said that it can read at all."""
READY = b"ready"
"""Said before the file is opened: what ends this process sooner is no fault of the file."""
BATCH_ROWS = 256
OWN_BYTES = 400 * 2**20
"""Of memory that the decoder takes for itself and one batch."""
CPU_S = 300


def measure(path: str, most_bytes: int) -> int:
    """Whether the table at `path`, decoded, takes at most so many bytes: FITS, TOO_LARGE or DAMAGED."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_memory_pool(pa.system_memory_pool())
    decoded = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                decoded += batch.nbytes
                if decoded > most_bytes:
                    return TOO_LARGE
    except (MemoryError, pa.ArrowMemoryError):
        return TOO_LARGE
    except Exception:  # whatever a decoder raises at a file
        return DAMAGED
    return FITS


def main() -> None:
    import resource

    path, most_bytes = sys.argv[1], int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (OWN_BYTES + most_bytes, OWN_BYTES + most_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write
    import_module("pyarrow.parquet")
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    sys.exit(measure(path, most_bytes))


if __name__ == "__main__":
    main()
