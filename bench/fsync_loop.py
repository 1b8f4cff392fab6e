"""What a disk gives: appends 4 KiB and syncs, some hundred times a second, until it is asked to stop.

    python -m bench.fsync_loop FILE

Prints a line when it begins, and percentiles in milliseconds as JSON when it ends.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

BYTES = bytes(4096)
EVERY_S = 0.01  # as often as a pool commits


def main(file: Path) -> None:
    took_ms: list[float] = []
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    print("syncing", flush=True)
    while not over:
        time.sleep(EVERY_S)
        since_s = time.perf_counter()
        os.write(descriptor, BYTES)
        os.fdatasync(descriptor)
        took_ms.append((time.perf_counter() - since_s) * 1e3)
    took_ms.sort()
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
    told = {name: round(took_ms[round(share * (len(took_ms) - 1))], 3) for name, share in shares.items()}
    print(json.dumps(told | {"count": len(took_ms)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
