"""What others would read at a process's start is left unread, until somebody wants it."""

import subprocess
import sys

READ = """
import gc
import sys
from pool import short_start
python = gc.get_threshold()
short_start.begin()
import pool.main
assert not [name for name in sys.modules if name.startswith(("rich.", "aiohttp."))]
assert gc.get_threshold() == (short_start.YOUNG_OBJECTS_MAX, *python[1:])
short_start.begun()
assert gc.get_threshold() == python
for library in short_start.SPARED:
    short_start.wanted(library)
    short_start.wanted(library)
import aiohttp, rich
from pool.power.signals.openadr_ven import Ven
from pool.demo import run_demo
"""


def test_a_pool_begins_without_what_nothing_of_it_needs_and_finds_it_when_it_is_wanted() -> None:
    subprocess.run([sys.executable, "-c", READ], check=True)
