"""When Python looks through everything that has grown old for cycles that nobody holds any more.

That stops everybody for a fifth of a second where there are 16,000 sessions, and finds next to nothing: by
itself Python does it whenever there is a quarter more than the last time, a dozen times while a site arrives
and every other minute after that. What is young is looked through as ever, in a millisecond. The rest is here
looked through when the process has grown, and every few hours for whatever has not shown.

Must not know: what the objects are.
"""

import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

NEVER: Final = 1_000_000_000  # rounds of the middle generation before the old one: years
GROWTH_BYTES_MAX: Final = 256 << 20  # three times what 22,400 machines arrive with
EVERY_S: Final = 6 * 3600.0
LOOK_S: Final = 10.0
_STATM: Final = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Of this process; where the system does not tell, the most that it ever had."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def collect_rarely(
    *, resident: Callable[[], int] = resident_bytes, collect: Callable[[], object] = gc.collect
) -> None:
    """Until cancelled; then it is Python's again."""
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, NEVER)
    try:
        left_bytes, looked_s = resident(), trio.current_time()
        while True:
            await trio.sleep(LOOK_S)
            grown = resident() - left_bytes > GROWTH_BYTES_MAX
            if grown or trio.current_time() - looked_s >= EVERY_S:
                collect()
                left_bytes, looked_s = resident(), trio.current_time()
    finally:
        gc.set_threshold(young, middle, old)
