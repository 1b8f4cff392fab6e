"""The journals of other processes as they grow: who mines there, and how fast, for eyes.

What the books say comes of their own reading (`Taker`), up to a mark; here a record that is not synced yet is
as good. Must not know: rows, money.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import structlog
import trio

from pool.journal.frames import Place
from pool.journal.records import Batch, Machine, Opening, unpacked
from pool.journal.segments import JournalDamaged, Walk
from stratum.tallies import RECORD, Records, Verdict

log = structlog.get_logger()

LOOK_S: Final = 1.0
OLD_S: Final = 300.0  # what was made before is no work of now: it comes when a line is up again
AGAIN_S: Final = 30.0  # of a disk that does not read
LOOK_BYTES_MAX: Final = 16 << 20
# A record may be of 64 MiB, and all of it names: a million. Looked at before others have their turn: two
# milliseconds each.
NAMES_AT_ONCE: Final = 256
TALLIES_AT_ONCE: Final = 1 << 13
# Of one process, in one file: more are no machines that there are, and cost memory for eyes alone.
NAMES_MAX: Final = 200_000


def a_moment_ago(moment_s: int) -> float:
    """Of who writes on this host: whatever his clock does, what is new is of now."""
    return 0.0


class Tail:
    """Of one journal, behind a place: `begin` says which now. `number` says what number a machine has here,
    None for one that is not counted, or not yet; `on_tallies` gets them with those numbers, and with how long
    ago they were made. `age_s` says that of what is dated so."""

    def __init__(
        self,
        begin: Callable[[], tuple[Walk, Place]],
        number: Callable[[Machine], int | None],
        on_tallies: Callable[[bytes, float], None],
        *,
        age_s: Callable[[int], float] = a_moment_ago,
    ) -> None:
        self._begin, self._number = begin, number
        self._walk, self._after = begin()
        self._on_tallies, self._age_s = on_tallies, age_s
        self._numbers: dict[int, int] = {}  # ours by theirs, in the file that is read
        self._unknown: dict[int, Machine] = {}  # the same file's, who have no number here yet

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                for said, new in await trio.to_thread.run_sync(self._read):
                    await self._look(said, new)
            except (JournalDamaged, ValueError) as error:  # whoever takes it for the books says so, and stops
                log.error("journal_not_followed", reason=str(error))
                return
            except OSError as error:  # also of a file that the books are done with, and is removed
                log.error("journal_not_read", reason=error.strerror or str(error), again_in_s=AGAIN_S)
                await trio.sleep(AGAIN_S)
                self._begin_again()
            await trio.sleep(LOOK_S)

    def _begin_again(self) -> None:
        self._walk, self._after = self._begin()
        self._numbers.clear()
        self._unknown.clear()

    def _read(self) -> list[tuple[Batch | Opening, bool]]:
        """Some: of who was away for a night there are gigabytes."""
        found, size = list[tuple[Batch | Opening, bool]](), 0
        for it in self._walk.frames():
            found.append((unpacked(it.body), it.at.number > self._after.number))
            size += len(it.body)
            if size >= LOOK_BYTES_MAX:
                break
        return found

    async def _look(self, said: Batch | Opening, new: bool) -> None:
        if isinstance(said, Opening):
            self._numbers.clear()
            self._unknown.clear()
            return
        for at in range(0, len(said.machines), NAMES_AT_ONCE):
            for machine in said.machines[at : at + NAMES_AT_ONCE]:
                self._name(machine)
            await trio.lowlevel.checkpoint()
        age_s = self._age_s(said.moment_s)
        if new and said.tallies and age_s <= OLD_S:
            records = np.frombuffer(said.tallies, dtype=RECORD)
            for at in range(0, len(records), TALLIES_AT_ONCE):
                self._count(records[at : at + TALLIES_AT_ONCE], age_s)
                await trio.lowlevel.checkpoint()

    def _name(self, machine: Machine) -> None:
        ours = self._number(machine)
        if ours is not None:
            self._unknown.pop(machine.number, None)
        names: dict[int, Any] = self._unknown if ours is None else self._numbers
        if len(self._numbers) + len(self._unknown) < NAMES_MAX or machine.number in names:
            names[machine.number] = machine if ours is None else ours

    def _count(self, some: Records, age_s: float) -> None:
        records = some[some["verdict"] <= max(Verdict)]
        theirs, places = np.unique(records["worker"], return_inverse=True)
        for it in theirs.tolist() if self._unknown else ():
            if (machine := self._unknown.get(it)) is not None:
                self._name(machine)
        ours = [self._numbers.get(it, 0) for it in theirs.tolist()]
        records["worker"] = np.array(ours, dtype=np.uint32)[places]
        self._on_tallies(records[records["worker"] > 0].tobytes(), age_s)
