"""Who was not let in, as rows of the changes: the record of who changed what also says who tried to.

A row has as its command why somebody was refused (`pool.people.refusals.Refused`), and where from; "nobody"
did it. Its subject is the source, so that `angara change list 192.0.2.1` has all of one.

Invariants: nothing is written on the loop that miners are served on, nor more than ROWS_A_DAY_MAX; while the
database is away its rows wait, and what comes meanwhile is counted on. A row is there twice at worst, where
nobody heard what became of its commit. Must not know: who decides.
"""

from collections.abc import Callable
from typing import Any, Final

import structlog
import trio

from pool.admin.operators import SOCKET, operator_of
from pool.books.changes.changes import note_change
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.people.refusals import RefusalRow, Refusals, Refused

log = structlog.get_logger()

LOOK_S: Final = 5.0  # whoever reads the record finds what has just begun
NOBODY: Final = "nobody"
OTHERS: Final = "others"


class RefusalRecord:
    """Of one running pool. `clock` is that of the refusals."""

    def __init__(
        self,
        store: Store,
        refusals: Refusals,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._store, self._refusals = store, refusals
        self._clock, self._wall_clock = clock, wall_clock
        self._unwritten: list[dict[str, Any]] = []
        self._away = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    async def look(self, *, last: bool = False) -> None:
        """Write what is due; with `last` all there is, of a pool that ends."""
        rows = self._refusals.take(self._clock(), last=last) if last or not self._unwritten else []
        if not rows and not self._unwritten:
            return
        try:
            await trio.to_thread.run_sync(self._write, rows)
        except DATABASE_ERRORS as error:
            if not self._away:
                log.error("refusals_not_written", rows=len(self._unwritten), reason=words_of(error)[:300])
            self._away = True
        else:
            self._away = False

    def _write(self, rows: list[RefusalRow]) -> None:
        """In a worker thread: names of accounts may take a while too."""
        for row in rows:
            self._unwritten.append(told := _change(row))
            log.warning("not_let_in", why=told["command"], who=told["subject"], counts=told["became"])
        with self._store.write() as connection:
            for told in self._unwritten:
                note_change(connection, by=NOBODY, was=None, now_s=int(self._wall_clock()), **told)
        self._unwritten = []


def _change(row: RefusalRow) -> dict[str, Any]:
    who = OTHERS if row.source is None else row.source
    at_socket = row.refused is Refused.ACCOUNT
    if at_socket and row.source is not None:
        who = f"account {operator_of(int(row.source))}"
    became: dict[str, Any] = {"tries": row.tries, "over_s": row.over_s}
    if row.source is None:
        became["sources"] = row.sources
    if not at_socket:
        became |= {"unknown" if it is None else f"token {it}": tries for it, tries in row.tokens.items()}
    if row.more_tokens:
        became["more tokens"] = row.more_tokens
    return {
        "source": SOCKET if at_socket else who,
        "command": row.refused.value,
        "subject": who,
        "became": became,
    }
