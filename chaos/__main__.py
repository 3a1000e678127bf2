"""`make chaos`: a hundred kills. `python -m chaos fuzz` sends 2,000 corrupt documents and as many corrupt requests, and
`python -m chaos stops` stops each store for a minute.

The exit status is 1 where anything is not as it must be. With the same seed the same is done in the same order; when a process
dies is the machine's.
"""

from __future__ import annotations

import argparse
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("kills", "fuzz", "stops"), default="kills")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--count", type=int, default=2000, help="of documents, and of requests")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which each store is stopped")
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.what == "kills":
        from chaos import kills

        wrong = kills.run(arguments.seed, arguments.kills)
    elif arguments.what == "fuzz":
        from chaos import fuzz

        wrong = fuzz.run(arguments.seed, arguments.count)
    else:
        from chaos import stops

        wrong = stops.run(arguments.seconds)
    for line in wrong[:50]:
        print(f"WRONG  {line}")
    print(f"{len(wrong)} wrong; {time.monotonic() - began:.0f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
