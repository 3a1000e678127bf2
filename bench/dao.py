"""The DAO: how long a vote waits for its resolution, by event and by the sensor alone; a thousand open votes; tallies a second.

`make bench-dao` runs all of it; `python -m bench dao` a short form. Both want a ledger that nobody has used.
"""

from __future__ import annotations

import argparse

from bench.dao_by_event import by_event
from bench.dao_by_sensor import by_sensor
from bench.dao_many import many
from bench.dao_members import make_members
from bench.dao_tallies import tallies
from bench.engines import on_engines
from bench.machine import name_machine
from lpm_kernel.stores.open import Stores

VOTERS = 100


def run(stores: Stores, quick: bool = True) -> None:
    """What is measured by the sensor alone has engines of its own: an API beside it would resolve each vote before it."""
    voters = make_members(stores, VOTERS)
    by_event(stores, voters, proposals=3 if quick else 20)
    many(stores, voters, proposals=100 if quick else 1000)
    tallies(stores, voters, seconds=1.0 if quick else 4.0)
    by_sensor(proposals=2 if quick else 6, within_s=60.0 if quick else 240.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    print(name_machine())
    on_engines(lambda stores: run(stores, quick=chosen.quick))


if __name__ == "__main__":
    main()
