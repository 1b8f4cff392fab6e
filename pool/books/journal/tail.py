"""The journals of other processes as they grow: who mines there, and how fast, for eyes.

What the books say comes of their own reading (`Taker`), up to a mark; here a record that is not synced yet is
as good. Must not know: rows, money.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import structlog
import trio

from pool.fleet.registry import Registry
from pool.journal.frames import Place
from pool.journal.records import Batch, Opening, unpacked
from pool.journal.segments import JournalDamaged, Walk
from stratum.tallies import RECORD

log = structlog.get_logger()

LOOK_S: Final = 1.0


class Tail:
    """Of one journal, behind a place. `on_tallies` gets them with the numbers that the registry has."""

    def __init__(
        self, walk: Walk, after: Place, registry: Registry, on_tallies: Callable[[bytes], None]
    ) -> None:
        self._walk, self._after, self._registry = walk, after, registry
        self._on_tallies = on_tallies
        self._numbers = np.zeros(1, dtype=np.uint32)  # ours by theirs, in the file that is read

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                for said, new in await trio.to_thread.run_sync(self._read):
                    self._look(said, new)
            except JournalDamaged as error:  # whoever takes it for the books says so, and stops
                log.error("journal_not_followed", reason=str(error))
                return
            await trio.sleep(LOOK_S)

    def _read(self) -> list[tuple[Batch | Opening, bool]]:
        return [(unpacked(it.body), it.at.number > self._after.number) for it in self._walk.frames()]

    def _look(self, said: Batch | Opening, new: bool) -> None:
        if isinstance(said, Opening):
            self._numbers[:] = 0
            return
        for machine in said.machines:
            number = self._registry.adopt(machine)
            if machine.number >= len(self._numbers):
                self._numbers = np.append(self._numbers, np.zeros(machine.number + 1, dtype=np.uint32))
            self._numbers[machine.number] = number or 0
        if new and said.tallies:
            records = np.frombuffer(said.tallies, dtype=RECORD).copy()
            records["worker"] = self._numbers[records["worker"]]
            self._on_tallies(records[records["worker"] > 0].tobytes())
