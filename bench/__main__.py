"""`make bench`: what a pool does on this machine, as a report: bench/results/report.md.

    python -m bench             # all of it, some two hours
    python -m bench NAME...     # these parts; of the others the report has what was measured last

Load comes from processes of their own, over loopback. Nothing here is a test: a slow machine is no failure.
Whoever interrupts it has the report of before; parts that were over by then are in the next one.
"""

import sys
import time

from bench import report
from bench.parts import PARTS
from bench.stamp import stamp


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise SystemExit(f"there is no part {', '.join(unknown)}: {', '.join(PARTS)}")
    chosen = {name: PARTS[name] for name in PARTS if name in names or not names}
    minutes = sum(it.seconds for it in chosen.values()) / 60
    print(f"{', '.join(chosen)}: about {minutes:.0f} minutes", flush=True)
    for name, part in chosen.items():
        since_s, stamped = time.monotonic(), stamp()
        print(f"{name} ...", flush=True)
        report.keep(name, report.Ran(stamped, part.run()))
        print(f"{name}: {time.monotonic() - since_s:.0f} s", flush=True)
    print(f"written to {report.write()}")


if __name__ == "__main__":
    main(sys.argv[1:])
