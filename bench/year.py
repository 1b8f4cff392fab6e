"""`make year`: what the books of many machines cost after a long time. Bytes, and the time of each report.

The book (SQLite) is not mined: tallies are written by bulk statements, a container at a time, and what
follows from them (shares by rate, sums, settlements) by the pool's own code, so that `ledger verify --full`
passes on it. A machine has 1.3 rows an hour, as at a site: accepted shares, in every tenth hour others of the
next difficulty, in every fifth rejected ones.

    python -m bench.year                                # a month of 5,600 machines: 5.2 million rows
    python -m bench.year --machines 22400 --days 365    # a year of the built-out sites: 255 million

Writes bench/results/year-MACHINES-DAYS.md, and deletes the book, unless --keep says where it stays.
"""

# ruff: noqa: S608 - names of ours

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, insert, text

from payouts.accrual import settle
from payouts.book_time import book_time
from payouts.rates import Scheme
from payouts.schemas.money import containers, workers
from pool.books.journal.rate_epochs import WorkPrice, rate_of
from pool.books.migrations.versions import sums
from pool.books.store import Store, open_store
from pool.data_dir import database_url
from pool.fleet.rows import TenantTerms, add_tenant
from tests.stages.prices import open_epoch

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "bench" / "results"
FIRST_DAY: Final = date(2025, 1, 1)
HEIGHT: Final = 600  # where a regtest chain pays SUBSIDY_SAT: the book is started with one
FROM_S: Final = (FIRST_DAY - date(1970, 1, 1)).days * 86_400
HOUR_S: Final = 3600
PER_CONTAINER: Final = 400
PER_TENANT: Final = 5_600
RETARGET_H: Final = 336  # a price lasts two weeks
SUBSIDY_SAT: Final = 312_500_000
NBITS: Final = 0x17028CFA
LOG2: Final = 16
BYTES_A_ROW: Final = 120  # of the disk: the book, its write-ahead log, a backup
BYTES_LEFT: Final = 10 << 30  # and so much stays free
TABLES: Final = (
    "tally_minutes",
    "tally_hours",
    "worker_days",
    "container_hours",
    "rate_hours",
    "settlements",
)
MONTH_DAYS: Final = 30  # what reports are asked for

# What a machine has in an hour: difficulty, verdict, in every n-th hour, shares. Rejected ones have no
# difficulty.
KINDS: Final = f"VALUES (0, 5, 5, 3), ({LOG2}, 0, 1, 39), ({LOG2 + 1}, 0, 10, 11)"
ROWS_AN_HOUR: Final = 1.3
HOURS: Final = """
    CREATE TABLE bench_hours (tenant_id INT, hour INT, rate_id INT, PRIMARY KEY (tenant_id, hour))
    WITHOUT ROWID
    """
BY_HOUR: Final = (
    f"""
    WITH kinds (log2, verdict, every, shares) AS ({KINDS})
    INSERT INTO tally_hours (worker_id, hour, rate_id, difficulty_log2, verdict, shares, minutes)
    SELECT w.id, h.hour, h.rate_id, k.log2, k.verdict, k.shares + (w.id * 7 + h.hour) % 5,
           1152921504606846975 - (1 << ((w.id + h.hour * 3) % 60))
    FROM workers w CROSS JOIN bench_hours h CROSS JOIN kinds k
    WHERE w.container_id = :container AND h.tenant_id = w.tenant_id AND h.hour < :until
      AND (w.id + h.hour) % k.every = 0
    """,
    """
    INSERT INTO rate_hours (rate_id, hour, difficulty_log2, shares, settled, undelivered)
    SELECT t.rate_id, t.hour, t.difficulty_log2, SUM(t.shares), 0, 0
    FROM workers w CROSS JOIN tally_hours t ON t.worker_id = w.id
    WHERE w.container_id = :container AND t.verdict = 0
    GROUP BY t.rate_id, t.hour, t.difficulty_log2
    ON CONFLICT (rate_id, hour, difficulty_log2) DO UPDATE SET shares = rate_hours.shares + excluded.shares
    """,
)
BY_MINUTE: Final = (
    f"""
    WITH RECURSIVE minutes (minute) AS (SELECT :hour * 60 UNION ALL
                                        SELECT minute + 1 FROM minutes WHERE minute < :hour * 60 + 59)
    INSERT INTO tally_minutes (minute, worker_id, rate_id, difficulty_log2, verdict, shares)
    SELECT m.minute, w.id, (SELECT rate_id FROM bench_hours WHERE tenant_id = w.tenant_id AND hour = :hour),
           {LOG2}, 0, 1
    FROM minutes m CROSS JOIN workers w
    """,
    """
    INSERT INTO rate_hours (rate_id, hour, difficulty_log2, shares, settled, undelivered)
    SELECT rate_id, minute / 60, difficulty_log2, SUM(shares), 0, 0 FROM tally_minutes
    WHERE minute BETWEEN :hour * 60 AND :hour * 60 + 59 GROUP BY rate_id, minute / 60, difficulty_log2
    """,
)


class Year:
    """A book of so many machines over so many days, with minutes of the last hours, and what it costs."""

    def __init__(self, machines: int, days: int, minute_hours: int, directory: Path) -> None:
        self.machines = machines
        self.days = days
        self.directory = directory
        self.first_hour = FROM_S // HOUR_S
        self.first_young_hour = self.first_hour + days * 24  # from here on there are minutes
        self.until_hour = self.first_young_hour + minute_hours
        self.containers = -(-machines // PER_CONTAINER)
        self.tenants = range(1, -(-machines // PER_TENANT) + 1)
        self.figures: list[tuple[str, str, str]] = []

    @property
    def book(self) -> Path:
        return self.directory / "angara.db"

    def make(self) -> None:
        """Each container, and each hour of minutes, is a transaction."""
        with closing(open_store(database_url(self.directory))) as store:
            self.timed("making it: machines, prices", lambda: self._register(store))
            self.timed("making it: tallies by hour", lambda: self._fill_hours(store))
            self.timed("making it: tallies by minute", lambda: self._fill_minutes(store))
            self.timed("the upgrade that adds sums", lambda: self._sum_up(store))
            self.timed("making it: settlements", lambda: self._settle(store))
            with store.write() as connection:
                connection.execute(text("DROP TABLE bench_hours"))

    def _register(self, store: Store) -> None:
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=100_000)
        with store.write() as connection:
            for tenant in self.tenants:
                add_tenant(connection, f"site{tenant}", terms, by="bench", now_s=FROM_S)
            self._machines(connection)
            connection.execute(text(HOURS))
            for hour in range(self.first_hour, self.until_hour, RETARGET_H):
                self._price(connection, hour)
            book_time(connection, self.until_hour * HOUR_S)

    def _machines(self, connection: Connection) -> None:
        box = {"created_at_s": FROM_S, "nameplate_units": PER_CONTAINER, "nameplate_ths": PER_CONTAINER * 200}
        unit = {"agent": "bmminer/2.0.0", "difficulty_log2": LOG2, "first_seen_at_s": FROM_S}
        boxes, units = {}, []
        for number in range(self.machines):
            tenant, container = number // PER_TENANT + 1, number // PER_CONTAINER + 1
            boxes[container] = box | {"id": container, "tenant_id": tenant, "name": f"c{container:03}"}
            name = f"u{number % PER_CONTAINER + 1:03}"
            units.append(
                unit
                | {"id": number + 1, "tenant_id": tenant, "container_id": container, "unit": name}
                | {"last_seen_at_s": self.until_hour * HOUR_S}
            )
        connection.execute(insert(containers), list(boxes.values()))
        connection.execute(insert(workers), units)

    def _price(self, connection: Connection, hour: int) -> None:
        """One that holds from this hour on."""
        number = (hour - self.first_hour) // RETARGET_H
        now_s = book_time(connection, hour * HOUR_S)
        price = WorkPrice(nbits=NBITS - number, subsidy_sat=SUBSIDY_SAT)
        epoch = open_epoch(connection, price, HEIGHT + number, now_s)
        hours = range(hour, min(hour + RETARGET_H, self.until_hour))
        for tenant in self.tenants:
            rate = rate_of(connection, epoch, tenant).rate_id
            rows = [{"tenant": tenant, "hour": it, "rate": rate} for it in hours]
            connection.execute(text("INSERT INTO bench_hours VALUES (:tenant, :hour, :rate)"), rows)

    def _fill_hours(self, store: Store) -> None:
        for container in range(1, self.containers + 1):
            with store.write() as connection:
                for statement in BY_HOUR:
                    of = {"container": container, "until": self.first_young_hour}
                    of = {name: value for name, value in of.items() if f":{name}" in statement}
                    connection.execute(text(statement), of)

    def _fill_minutes(self, store: Store) -> None:
        for hour in range(self.first_young_hour, self.until_hour):
            with store.write() as connection:
                for statement in BY_MINUTE:
                    connection.execute(text(statement), {"hour": hour})

    def _sum_up(self, store: Store) -> None:
        """As a book of before gets them."""
        with store.write() as connection:
            sums.fill(connection)

    def _settle(self, store: Store) -> None:
        """Hour for hour as a pool that runs does, a day in a transaction."""
        for first in range(self.first_hour + 1, self.until_hour + 2, 24):
            with store.write() as connection:
                for hour in range(first, min(first + 24, self.until_hour + 2)):
                    while settle(connection, hour * HOUR_S + 60):
                        pass

    # Figures

    def measure(self) -> None:
        """What an operator asks for, each as a command of its own: with the start of Python."""
        self.say("the book", f"{self.book.stat().st_size / 1e9:.2f} GB")
        self._count()
        from_day = FIRST_DAY + timedelta(self.days - min(MONTH_DAYS, self.days))
        period = ("--from", str(from_day), "--to", str(FIRST_DAY + timedelta(self.days)))
        day = (
            "--from",
            str(FIRST_DAY + timedelta(self.days - 1)),
            "--to",
            str(FIRST_DAY + timedelta(self.days)),
        )
        for command in (
            ("report", "statement", "--tenant", "site1", *period),
            (
                "report",
                "statement",
                "--tenant",
                "site1",
                *period,
                "--format",
                "pdf",
                "--out",
                "statement.pdf",
            ),
            ("report", "hashrate", *period),
            ("report", "hashrate", *period, "--by", "hour", "--of", "tenant"),
            ("report", "hashrate", *day, "--tenant", "site1", "--by", "hour", "--of", "worker"),
            ("report", "luck", *period, "--of", "container"),
            ("report", "pool", *period),
            ("worker", "list", "--tenant", "site1"),
            ("tenant", "list"),
            ("reject", "show", "--tenant", "site1", "--since", str(from_day)),
            ("ledger", "verify", "--full"),
            ("ledger", "checkpoint"),
            ("ledger", "verify"),
            ("db", "backup", "copy.db"),
        ):
            self.timed(f"`angara {' '.join(command)}`", partial(self._run, *command))

    def _count(self) -> None:
        with closing(open_store(database_url(self.directory))) as store, store.read() as connection:
            for name in TABLES:
                rows = connection.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar_one()
                self.say(f"rows of {name}", f"{rows:,}")

    def _run(self, *command: str) -> None:
        angara = [str(Path(sys.executable).parent / "angara"), *command, "--data-dir", "."]
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        subprocess.run(angara, check=True, stdout=subprocess.DEVNULL, cwd=self.directory, env=kept)

    def timed(self, what: str, work: Callable[[], Any]) -> None:
        began_s, began_cpu_s = time.monotonic(), cpu_s()
        work()
        self.say(what, f"{time.monotonic() - began_s:.1f} s", f"{cpu_s() - began_cpu_s:.1f} s")

    def say(self, what: str, figure: str, of_cpu: str = "") -> None:
        print(f"{what:110} {figure:>12} {of_cpu:>8}", flush=True)
        self.figures.append((what, figure, of_cpu))

    def written(self) -> Path:
        """The figures as a table."""
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"year-{self.machines}-{self.days}.md"
        lines = [
            f"# {self.machines:,} machines, {self.days} days\n",
            f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite. By `python -m bench.year"
            f" --machines {self.machines} --days {self.days}`; compare ratios of one run, not of two.\n",
            "| what | | of a core |",
            "| --- | ---: | ---: |",
            *(f"| {what} | {figure} | {of_cpu} |" for what, figure, of_cpu in self.figures),
        ]
        file.write_text("\n".join(lines) + "\n")
        return file


def cpu_s() -> float:
    """Of this process and those that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description="What the books of many machines cost after a long time.")
    parser.add_argument("--machines", type=int, default=5_600)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--minute-hours", type=int, default=2, help="of which minutes are kept")
    parser.add_argument("--keep", type=Path, help="an empty directory where the book stays")
    said = parser.parse_args()
    rows = said.machines * (said.days * 24 * ROWS_AN_HOUR + said.minute_hours * 60)
    with (
        tempfile.TemporaryDirectory(prefix="angara-year-")
        if said.keep is None
        else nullcontext(said.keep) as at
    ):
        directory = Path(at)
        directory.mkdir(exist_ok=True)
        needed = int(rows * BYTES_A_ROW) + BYTES_LEFT
        if shutil.disk_usage(directory).free < needed:
            raise SystemExit(
                f"{directory} has less than {needed >> 30} GiB free: fewer machines, or fewer days"
            )
        year = Year(said.machines, said.days, said.minute_hours, directory)
        year.make()
        year.measure()
        print(f"\nwritten to {year.written()}")


if __name__ == "__main__":
    main()
