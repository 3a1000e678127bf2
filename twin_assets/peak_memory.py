"""How much memory a piece of work took, with the engines beside it.

Belongs here: sampling.
Does not belong here: deciding whether it is too much.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable


class PeakMemory:
    """The most memory that this process, its children and the given processes held together, sampled once a second.

    Units: bytes of proportional set size: a page shared by n processes counts 1/n in each.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self.peak_bytes = 0
        self._pids = tuple(pids)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        import psutil

        heads = [psutil.Process()]
        for pid in self._pids:
            try:
                heads.append(psutil.Process(pid))
            except psutil.NoSuchProcess:
                continue
        while not self._stop.wait(1.0):
            total_bytes = 0
            for head in heads:
                try:
                    total_bytes += sum(_held_bytes(process) for process in (head, *head.children(recursive=True)))
                except psutil.NoSuchProcess:
                    continue
            self.peak_bytes = max(self.peak_bytes, total_bytes)


def _held_bytes(process: object) -> int:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return process.memory_full_info().pss
    except psutil.NoSuchProcess:
        return 0
    except (psutil.AccessDenied, AttributeError):  # no proportional size here: count it whole
        return process.memory_info().rss
