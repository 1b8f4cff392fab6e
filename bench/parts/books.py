"""How many rows a second the books take from a journal: minutes of the built-out site, a row a machine."""

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import trio

from bench.part import Part, Section
from payouts.rates import Scheme
from pool.books.journal.journal import Journal
from pool.books.journal.start import OpenJournal, open_journals
from pool.books.store import Store, open_store
from pool.data_dir import database_url
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from stratum.miners.contracts import Admitted
from tests.fakes.owners import ConnectionFrom
from tests.stages.journal import NOW_S, PRICE, Clock, tally
from tests.stages.prices import open_epoch, prices_of

MACHINES: Final = 22_400
PER_CONTAINER: Final = 400
MINUTES: Final = 10


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="angara-bench-") as at:
        directory = Path(at)
        with closing(open_store(database_url(directory))) as store:
            _begin_book(store)
            (opened,) = open_journals(store, directory)
            with closing(opened.log):
                _fill(store, opened)
                began_s, began_cpu_s, steps = time.monotonic(), time.process_time(), 0
                while opened.taker.step() is not None:
                    steps += 1
                took_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    rows = MACHINES * MINUTES
    return {
        "rows": rows,
        "steps": steps,
        "rows_per_s": round(rows / took_s),
        "us_a_row": round(cpu_s / rows * 1e6, 1),
    }


def _begin_book(store: Store) -> None:
    with store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        add_tenant(connection, "acme", terms, by="bench", now_s=NOW_S)
        open_epoch(connection, PRICE, 840_000, NOW_S)


def _fill(store: Store, opened: OpenJournal) -> None:
    """Minutes of everybody, in the journal alone."""
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
    for _ in range(MINUTES):
        trio.run(journal.commit, shares)
        clock.now_s += 60


def section(result: dict[str, Any]) -> Section:
    return Section(
        (
            f"{result['rows']:,} rows of {MINUTES} minutes of {MACHINES:,} machines, the first with each "
            f"machine's own row besides, in {result['steps']} transactions (SQLite): "
            f"**{result['rows_per_s']:,} rows a second**, {result['us_a_row']} us of processor each.",
        )
    )


PART: Final = Part(title="Rows that the books take", seconds=30, run=run, section=section)
