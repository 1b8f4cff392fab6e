"""Blocks that edges told, whose files are at the hub, and that nobody has booked.

An edge tells a block until its hub has booked it, and where that is killed before, tells the next one; but
not an edge whose disk was lost since, nor one that is no edge any more.

Must not know: how a block is booked, whose it is.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import trio

from pool.books.database_waits import read_books
from pool.books.found_blocks import taken_files, unbooked
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.hub import HubAway

log = structlog.get_logger()

LOOK_S: Final = 10.0
LEFT_S: Final = 30.0  # six times that an edge tells a block again


class LeftBlocks:
    """`book` is given the hashes of those that have been left for so long."""

    def __init__(
        self, store: Store, directory: Path, book: Callable[[frozenset[str]], Awaitable[None]]
    ) -> None:
        self._store, self._directory, self._book = store, directory, book
        self._since_s: dict[str, float] = {}
        # Of those here: the books are asked once, and never let go of a block. A hash a file.
        self._booked: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(LOOK_S)
            try:
                await self._look()
            except (HubAway, OSError, *DATABASE_ERRORS) as error:  # no reason to stop sites
                log.error("left_blocks_not_booked", reason=words_of(error)[:300])

    async def _look(self) -> None:
        here: frozenset[str] = await trio.to_thread.run_sync(_hashes_in, self._directory)
        left = await self._unbooked(here - self._booked)
        self._booked = here - left
        now_s = trio.current_time()
        self._since_s = {it: self._since_s.get(it, now_s) for it in left}
        if due := frozenset(it for it in left if now_s - self._since_s[it] >= LEFT_S):
            await self._book(due)

    async def _unbooked(self, hashes: frozenset[str]) -> frozenset[str]:
        return await read_books(self._store, partial(unbooked, hashes=hashes)) if hashes else hashes


def _hashes_in(directory: Path) -> frozenset[str]:
    return frozenset(hash_hex for hash_hex, _ in taken_files(directory))
