"""How many rows a second the books take from a journal: minutes of the built-out site, a row a machine.

Beside it the same rows are written to a table of the same shape as plainly as the database can: PostgreSQL by
one COPY, SQLite by one INSERT. What that takes less is the price of exactly once, in steps.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
from sqlalchemy import text

from bench.databases import Database, databases
from bench.part import Part, Section, table
from payouts.rates import Scheme
from pool.books.journal.journal import Journal
from pool.books.journal.start import OpenJournal, open_journals
from pool.books.journal.taker import Taker
from pool.books.store import Store, open_store
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from stratum.miners.contracts import Admitted
from tests.fakes.owners import ConnectionFrom
from tests.stages.journal import NOW_S, PRICE, Clock, tally
from tests.stages.prices import open_epoch, prices_of

MACHINES: Final = 22_400
PER_CONTAINER: Final = 400
MINUTES: Final = 10  # behind the first, which has each machine's own row besides


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Of some minutes. `server_s` and `log_bytes` are PostgreSQL's: its processor, its write-ahead log."""

    rows: int
    steps: int
    took_s: float
    python_s: float
    server_s: float
    log_bytes: int
    longest_ms: float


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A database: the first minute, the others, and the rows of these once more, plainly."""

    database: str
    first: Taken
    later: Taken
    plain: Taken


def run() -> dict[str, Any]:
    sides = []
    for opened in databases():
        with opened() as database, tempfile.TemporaryDirectory(prefix="angara-bench-") as at:
            sides.append(_measured(database, Path(at)))
    hub = sides[-1].later
    found: dict[str, Any] = msgspec.to_builtins(
        {"machines": MACHINES, "rows_per_s": round(hub.rows / hub.took_s), "sides": sides}
    )
    return found


def _measured(database: Database, directory: Path) -> Side:
    with closing(open_store(database.url)) as store:
        _begin_book(store)
        (opened,) = open_journals(store, directory)
        with closing(opened.log):
            first, last = _fill(store, opened)
            before = _taken(database, store, 0, lambda: _steps(opened.taker, first))
            rows = _rows(store)
            later = _taken(database, store, rows, lambda: _steps(opened.taker, last))
        write = database.plainly(store, NOW_S // 60)
        plain = _taken(database, store, rows, lambda: _once(write))
        return Side(database=database.name, first=before, later=later, plain=plain)


def _taken(database: Database, store: Store, rows: int, work: Callable[[], Iterator[float]]) -> Taken:
    """Of what is in the minutes behind so many rows."""
    server_s, wal = database.server_s(), database.log_bytes(store)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    steps = list(work())
    return Taken(
        took_s=time.monotonic() - began_s,
        python_s=time.process_time() - began_cpu_s,
        server_s=database.server_s() - server_s,
        log_bytes=database.log_bytes(store) - wal,
        rows=_rows(store) - rows,
        steps=len(steps),
        longest_ms=max(steps) * 1e3,
    )


def _steps(taker: Taker, until: int) -> Iterator[float]:
    """How long each was."""
    while True:
        began_s = time.monotonic()
        if taker.step(until) is None:
            return
        yield time.monotonic() - began_s


def _once(work: Callable[[], None]) -> Iterator[float]:
    began_s = time.monotonic()
    work()
    yield time.monotonic() - began_s


def _rows(store: Store) -> int:
    with store.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM tally_minutes")).scalar_one())


def _begin_book(store: Store) -> None:
    with store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        add_tenant(connection, "acme", terms, by="bench", now_s=NOW_S)
        open_epoch(connection, PRICE, 840_000, NOW_S)


def _fill(store: Store, opened: OpenJournal) -> tuple[int, int]:
    """Minutes of everybody, in the journal alone: the number of the first one's record, and of the last's."""
    clock = Clock()
    with store.read() as connection:
        registry = Registry(load(connection))
        prices = prices_of(connection, registry, clock)
    journal = Journal(registry, opened.log, opened.beginning, prices)
    shares = b""
    for number in range(MACHINES):
        container, unit = divmod(number, PER_CONTAINER)
        admitted = registry.admit(f"acme.c{container:03}.u{unit:03}", "cgminer", ConnectionFrom())
        assert isinstance(admitted, Admitted)
        shares += tally(admitted.worker, 1)
    first = 0
    for _ in range(1 + MINUTES):
        trio.run(journal.commit, shares)
        first = first or opened.log.at.number
        clock.now_s += 60
    return first, opened.log.at.number


def section(result: dict[str, Any]) -> Section:
    sides = msgspec.convert(result["sides"], type=list[Side])
    rows = [
        (
            f"{side.database}: {what}",
            f"{taken.rows / taken.took_s:,.0f}",
            f"{taken.python_s / taken.rows * 1e6:.1f}",
            f"{taken.server_s / taken.rows * 1e6:.1f}" if taken.server_s else "",
            f"{taken.log_bytes / taken.rows:.0f}" if taken.log_bytes else "",
            f"{taken.steps}, {taken.longest_ms:.0f} ms",
        )
        for side in sides
        for what, taken in (
            ("the first minute, with each machine's own row", side.first),
            (f"{MINUTES} minutes", side.later),
            ("their rows once more, plainly", side.plain),
        )
    ]
    ratios = ", ".join(
        f"{side.later.took_s / side.plain.took_s:.1f} times what plain writing takes on {side.database}"
        for side in sides
    )
    return Section(
        (
            f"Minutes of {result['machines']:,} machines, a row each, out of a journal; plainly is one INSERT"
            f" on SQLite, one COPY on PostgreSQL, into a table of the same shape: {ratios}.\n",
            *table(
                (
                    "what",
                    "rows/s",
                    "us of Python a row",
                    "us of the server",
                    "bytes of its log",
                    "transactions, the longest",
                ),
                rows,
            ),
        )
    )


PART: Final = Part(title="Rows that the books take", seconds=40, run=run, section=section)
