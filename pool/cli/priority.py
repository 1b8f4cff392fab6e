"""Who works for seconds or minutes beside a pool leaves the processor to its miners.

Must not know: what a command does.
"""

import os
from collections.abc import Sequence
from typing import Final

LONG: Final = (("report",), ("db", "backup"), ("ledger", "verify"), ("reconcile",))
# Beside work on every core a process that woke up waited 0.8 to 4.5 ms for one (median), and 0.1 to 0.2 where
# that work had this priority.
NICE: Final = 10


def make_way(words: Sequence[str]) -> None:
    """For a command line that is long work."""
    named = tuple(word for word in words if not word.startswith("-"))
    if any(named[: len(it)] == it for it in LONG):
        os.nice(NICE)
