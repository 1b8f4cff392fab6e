"""What an operator waits for when the books have a month of 5,600 machines in them: reports, and a start.

The book is bench.year's.
"""

import time
from typing import Any, Final

from bench.part import Part, Section, table
from bench.servers import NO_BLOCKS, angara, is_mining, pool, regtest, running, temporary_directory, wait_for
from bench.year import Year

MACHINES, DAYS, MINUTE_HOURS = 5_600, 30, 2
PERIOD: Final = ("--from", "2025-01-01", "--to", "2025-01-31")
COMMANDS: Final = (
    ("report", "statement", "--tenant", "site1", *PERIOD),
    ("report", "hashrate", *PERIOD),
    ("worker", "list", "--tenant", "site1"),
    ("ledger", "verify", "--full"),
    ("ledger", "checkpoint"),
    ("ledger", "verify"),
)


def run() -> dict[str, Any]:
    with pool() as empty:
        empty_s = empty.started_in_s
    with temporary_directory() as directory:
        year = Year(MACHINES, DAYS, MINUTE_HOURS, directory)
        year.make()
        took = [{"command": " ".join(it), "took_s": _timed(*it, "--data-dir", directory)} for it in COMMANDS]
        book_bytes = year.book.stat().st_size
        (directory / "node").mkdir()
        with regtest(directory / "node", "--network-bits", NO_BLOCKS) as (node, cookie):
            since_s = time.perf_counter()
            with running(directory, node, cookie) as server:
                wait_for(lambda: is_mining(server.port, "site1"))
                mining_s = time.perf_counter() - since_s
    return {
        "commands": took,
        "book_bytes": book_bytes,
        "start_empty_s": round(empty_s, 2),
        "start_s": round(server.started_in_s, 2),
        "mining_s": round(mining_s, 2),
    }


def _timed(*command: object) -> float:
    since_s = time.perf_counter()
    angara(*command)
    return round(time.perf_counter() - since_s, 2)


def section(result: dict[str, Any]) -> Section:
    rows = [[f"`angara {it['command']}`", it["took_s"]] for it in result["commands"]]
    return Section(
        (
            f"A book of {MACHINES:,} machines over {DAYS} days, {result['book_bytes'] / 1e6:,.0f} MB "
            "(SQLite); each command with the start of Python, without a running pool:\n",
            *table(("", "s"), rows),
            "\nFrom `angara run` until it listens:\n",
            *table(
                ("", "s"),
                (
                    ["with an empty book", result["start_empty_s"]],
                    ["with the month", result["start_s"]],
                    ["with the month, until a miner has work", result["mining_s"]],
                ),
            ),
        )
    )


PART: Final = Part(title="After a month of 5,600 machines", seconds=200, run=run, section=section)
