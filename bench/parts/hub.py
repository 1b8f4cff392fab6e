"""What one hub's books take of many sites, and what they are made of later: the ground of docs/scale.md.

Each site has a journal of its own with its machines by name, as edges write them; the books take these in
turn, a minute of all sites after the other. Then minutes become hours, as they do when their hour is over.
"""

import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from sqlalchemy import insert, text

from bench.databases import Database, databases
from bench.part import Part, Section, table
from payouts.rates import Scheme
from payouts.schemas.money import containers
from payouts.tallies import WORKERS_HOURS_MAX, roll_up_minutes
from pool.books.journal.rate_rows import described
from pool.books.journal.start import OpenJournal, open_journals
from pool.books.store import Store, open_store
from pool.fleet.rows import TenantTerms, add_tenant
from pool.journal.records import Batch, Machine, packed
from stratum.tallies import RECORD
from tests.stages.journal import NOW_S, PRICE
from tests.stages.prices import open_epoch

SITES: Final = 4  # of 75
MACHINES: Final = 18_700  # of each
PER_CONTAINER: Final = 400
MINUTES: Final = 2  # behind the first
NUMBERS: Final = 1_000_000  # a site's machines are numbered from its own multiple on
ROLLED: Final = 40  # steps
WHOLE_SITES: Final = 75


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    rows: int
    steps: int
    took_s: float
    python_s: float
    server_s: float
    log_bytes: int


class Clocks:
    """What has been used between two moments."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database, self._store = database, store
        self._before = self._now()

    def stretch(self, rows: int, steps: int) -> Stretch:
        now = self._now()
        took_s, python_s, server_s, log_bytes = (b - a for a, b in zip(self._before, now, strict=True))
        self._before = now
        return Stretch(
            rows=rows,
            steps=steps,
            took_s=took_s,
            python_s=python_s,
            server_s=server_s,
            log_bytes=int(log_bytes),
        )

    def _now(self) -> tuple[float, float, float, float]:
        log_bytes = float(self._database.log_bytes(self._store))
        return time.monotonic(), time.process_time(), self._database.server_s(), log_bytes


def run() -> dict[str, Any]:
    with (
        databases()[-1]() as database,
        tempfile.TemporaryDirectory(prefix="angara-bench-") as at,
        closing(open_store(database.url)) as store,
        ExitStack() as stack,
    ):
        epoch = _begin_book(store)
        opened = open_journals(store, Path(at), count=SITES)
        for site in opened:
            stack.callback(site.log.close)
            site.log.begin(site.beginning.behind, NOW_S, 0)
        _fill(store, opened, epoch)
        clocks = Clocks(database, store)
        stretches = [
            clocks.stretch(SITES * MACHINES, _take(opened, minute + 1)) for minute in range(1 + MINUTES)
        ]
        hours_s = NOW_S + 3 * 3600
        sizes = _bytes(store, "tally_minutes"), _rows(store, "tally_minutes")
        _fill_hour(store)
        rolled = 0
        clocks.stretch(0, 0)
        for _ in range(ROLLED):
            with store.write() as connection:
                rolled += roll_up_minutes(connection, hours_s)
        found: dict[str, Any] = msgspec.to_builtins(
            {
                "database": database.name,
                "minutes": stretches,
                "rolled": clocks.stretch(rolled, ROLLED),
                "bytes_a_minute": round(sizes[0] / sizes[1]),
            }
        )
        return found


def _begin_book(store: Store) -> int:
    """Sites with their containers, and a price; its number."""
    with store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        boxes: list[dict[str, Any]] = []
        for site in range(SITES):
            add_tenant(connection, _tenant(site), terms, by="bench", now_s=NOW_S)
            for box in range(-(-MACHINES // PER_CONTAINER)):
                named = {"id": len(boxes) + 1, "tenant_id": site + 1, "name": f"c{box:03}"}
                boxes.append(named | {"created_at_s": NOW_S})
        connection.execute(insert(containers), boxes)
        return open_epoch(connection, PRICE, 840_000, NOW_S)


def _fill(store: Store, opened: list[OpenJournal], epoch: int) -> None:
    """A batch a minute in each journal; the first has the machines' names and what the price means."""
    with store.read() as connection:
        rate = described(connection, epoch)
    for site, journal in enumerate(opened):
        first = (site + 1) * NUMBERS
        tallies = np.zeros(MACHINES, dtype=RECORD)
        tallies["worker"] = np.arange(first, first + MACHINES)
        tallies["rate"], tallies["difficulty_log2"], tallies["count"] = epoch, 16, 10
        for minute in range(1 + MINUTES):
            batch = Batch(
                moment_s=NOW_S + 60 * minute,
                accepted=10 * MACHINES * (minute + 1),
                tallies=tallies.tobytes(),
                machines=() if minute else tuple(_machine(site, it) for it in range(MACHINES)),
                rates=() if minute else (rate,),
            )
            journal.log.append(packed(batch), batch.moment_s, batch.accepted)


def _fill_hour(store: Store) -> None:
    """Of the machines whose minutes become hours, which is the work of all sixty of them."""
    query = """
        INSERT INTO tally_minutes SELECT minute + :more, worker_id, rate_id, difficulty_log2, verdict, shares
        FROM tally_minutes WHERE minute = :first AND worker_id < :until"""
    with store.write() as connection:
        for more in range(1 + MINUTES, 60):
            of = {"more": more, "first": NOW_S // 60, "until": NUMBERS + ROLLED * WORKERS_HOURS_MAX}
            connection.execute(text(query), of)


def _tenant(site: int) -> str:
    return f"site{site + 1:02}"


def _machine(site: int, unit: int) -> Machine:
    return Machine(
        number=(site + 1) * NUMBERS + unit,
        tenant_id=site + 1,
        tenant=_tenant(site),
        container_id=0,
        container=f"c{unit // PER_CONTAINER:03}",
        unit=f"u{unit % PER_CONTAINER:03}",
        agent="cgminer",
        new=True,
    )


def _take(opened: list[OpenJournal], minutes: int) -> int:
    """So many batches of each journal, in turn; in how many transactions."""
    steps = 0
    for journal in opened:
        until = journal.log.at.number - (1 + MINUTES) + minutes
        while journal.taker.step(until) is not None:
            steps += 1
    return steps


def _bytes(store: Store, name: str) -> int:
    """Of a table with its indices; nothing is known of one of SQLite's."""
    with store.read() as connection:
        if connection.dialect.name != "postgresql":
            return 0
        size = text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
        return int(connection.execute(size, {"name": name}).scalar_one())


def _rows(store: Store, name: str) -> int:
    with store.read() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one())  # noqa: S608


def section(result: dict[str, Any]) -> Section:
    first, *later = msgspec.convert(result["minutes"], type=list[Stretch])
    rolled = msgspec.convert(result["rolled"], type=Stretch)
    needed = WHOLE_SITES * MACHINES / 60
    rows = [
        (
            words,
            f"{it.rows / it.took_s:,.0f}",
            f"{it.python_s / it.rows * 1e6:.1f}",
            f"{it.server_s / it.rows * 1e6:.1f}",
            f"{it.log_bytes / it.rows:.0f}",
            f"{(it.python_s + it.server_s) / it.rows * needed:.2f}",
        )
        for words, it in (
            ("the first minute, with each machine's own row", first),
            *((f"minute {at}", it) for at, it in enumerate(later, start=2)),
            ("minutes that become hours", rolled),
        )
    ]
    return Section(
        (
            f"{SITES} journals of {MACHINES:,} machines each, {result['database']}. {WHOLE_SITES} such sites,"
            f" 1.4 million machines, make {needed:,.0f} rows a second. A row of a minute has"
            f" {result['bytes_a_minute']} bytes on disk with its index.\n",
            *table(
                (
                    "what",
                    "rows/s",
                    "us of Python a row",
                    "us of the server",
                    "bytes of its log",
                    f"cores at {WHOLE_SITES} sites",
                ),
                rows,
            ),
        )
    )


PART: Final = Part(title="Many sites, one hub", seconds=120, run=run, section=section)
