"""What a session and a share cost in memory and on disk: what the process grows by."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bench.part import Part, Section, table
from bench.servers import load_measured, pool, rss_kib, swarm

SESSIONS: Final = 19_000
# They use up what the process has free when it starts: some 200 bytes for each of all, another number at each
# start. What those cost who come later is what a session costs.
FIRST_SESSIONS: Final = 4_000
HELD_S: Final = 600  # at most: they are told to end
BUSY_SESSIONS: Final = 1_000
BUSY_S: Final = 20.0


@contextmanager
def machines(port: int, sessions: int, *options: object) -> Iterator[int]:
    """How many of them have work, while they are there and send nothing."""
    command = swarm(port, sessions, "--rate", 0, "--seconds", HELD_S, *options)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as holding:
        assert holding.stderr is not None
        said = holding.stderr.readline()  # all machines have work
        try:
            yield int(said.split()[0].replace(",", ""))
        finally:
            holding.terminate()


def run() -> dict[str, Any]:
    with pool() as server, machines(server.port, FIRST_SESSIONS) as first:
        before = rss_kib(server.process)
        with machines(server.port, SESSIONS - FIRST_SESSIONS, "--user", "acme.others") as others:
            grown_kib = rss_kib(server.process) - before
    with pool() as server:
        loaded = load_measured(server, BUSY_SESSIONS, "--closed-loop", warmup_s=2, seconds=BUSY_S)
        journal = sum(it.stat().st_size for it in (server.directory / "journal").rglob("*") if it.is_file())
    return {
        "sessions": first + others,
        "kib_a_session": round(grown_kib / others, 2),
        "shares": loaded.report["accepted"],
        "bytes_a_share": round(loaded.rss_kib * 1024 / loaded.report["accepted"], 1),
        "journal_bytes_a_share": round(journal / (loaded.report["accepted"] * (1 + 2 / BUSY_S)), 1),
    }


def section(result: dict[str, Any]) -> Section:
    return Section(
        (
            "What the process grows by, in resident memory; of a share while its block lasts, since it is "
            "known again by its hash, within a bound.\n",
            *table(
                ("", "bytes"),
                (
                    [
                        f"a session, of {result['sessions']:,} that have work",
                        f"{result['kib_a_session'] * 1024:,.0f}",
                    ],
                    [f"a share, of {result['shares']:,}", f"{result['bytes_a_share']:,.0f}"],
                    [
                        "a share on disk, in the journal until the books have it",
                        result["journal_bytes_a_share"],
                    ],
                ),
            ),
        )
    )


PART: Final = Part(title="Memory", seconds=70, run=run, section=section)
