"""Blocks that edges told, whose files are at the hub, and that nobody has booked.

An edge tells a block until its hub has it in a file, and a hub that is killed before it has booked it is told
again; but not by an edge whose disk was lost since, nor by one that is no edge any more.

Must not know: how a block is booked, whose it is.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import trio

from pool.books.database_waits import read_books
from pool.books.found_blocks import left_behind
from pool.books.store import Store
from pool.hub import HubAway

log = structlog.get_logger()

LOOK_S: Final = 10.0
LEFT_S: Final = 30.0  # six times that an edge tells a block again
# For the journal that names its finder: without that a block of a group is divided among nobody.
UNKNOWN_S: Final = 86_400.0


class LeftBlocks:
    """`book` is given the hashes of those that have been left for so long."""

    def __init__(
        self, store: Store, directory: Path, book: Callable[[frozenset[str]], Awaitable[None]]
    ) -> None:
        self._store, self._directory, self._book = store, directory, book
        self._since_s: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(LOOK_S)
            try:
                await self._look()
            except (HubAway, OSError) as error:
                log.warning("left_blocks_not_booked", reason=str(error))

    async def _look(self) -> None:
        left = await read_books(self._store, partial(left_behind, directory=self._directory))
        now_s = trio.current_time()
        self._since_s = {it: self._since_s.get(it, now_s) for it in left}
        waits_s = {it: LEFT_S if known else UNKNOWN_S for it, known in left.items()}
        if due := frozenset(it for it in left if now_s - self._since_s[it] >= waits_s[it]):
            await self._book(due)
