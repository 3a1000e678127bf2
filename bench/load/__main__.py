"""`python -m bench.load --seconds 120`, or `--quick` with a fifth of the people for a first look."""

from __future__ import annotations

import argparse

from bench.engines import on_engines
from bench.load.run import SECONDS, run
from bench.machine import name_machine

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seconds", type=int, default=SECONDS)
parser.add_argument("--quick", action="store_true")
parser.add_argument("--priority", choices=["nice", "idle"], default="idle", help="serving.decode_priority")
chosen = parser.parse_args()
print(name_machine())
on_engines(
    lambda stores: print(
        "  goals met" if run(stores, seconds=chosen.seconds, quick=chosen.quick, priority=chosen.priority) else "  goals missed"
    )
)
