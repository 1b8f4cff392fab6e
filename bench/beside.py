"""What else is done beside miners, and what it costs them: backups of the database, and wrong tokens.

    python -m bench.beside [SECONDS [ROUNDS]]

A site's shares, in turn alone, beside `angara db backup` again and again, and beside whoever shows wrong
tokens as fast as he is answered, over as many connections as one address may have. Ratios of one run.
"""

import statistics
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from bench.parts.latency import SHARES_PER_S
from bench.servers import angara, load, pool

SESSIONS = 5_600
GUESSERS = 32  # as many half-open connections as an address may have
PERCENTILES = ("p50", "p99", "p999", "max")


def backups(directory: Path, over: threading.Event) -> int:
    """How many were made."""
    made = 0
    while not over.is_set():
        copy = directory / f"copy-{made}.db"
        angara("db", "backup", copy, "--data-dir", directory)
        copy.unlink()
        made += 1
    return made


def guesses(port: int, over: threading.Event) -> int:
    """How many were answered."""
    answered = [0] * GUESSERS

    def guess(at: int) -> None:
        while not over.is_set():
            with suppress(OSError, HTTPException):
                connection = HTTPConnection("127.0.0.1", port, timeout=5)
                token = f"angara_{at}_{answered[at]:040x}"
                connection.request("GET", "/api/v1/map", headers={"Authorization": f"Bearer {token}"})
                connection.getresponse().read()
                answered[at] += 1
                connection.close()

    threads = [threading.Thread(target=guess, args=(at,)) for at in range(GUESSERS)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    return sum(answered)


def main(seconds: float, rounds: int) -> None:
    options = (SESSIONS, "--rate", SHARES_PER_S, "--warmup", 3, "--seconds", seconds)
    with pool() as server:
        beside: dict[str, Callable[[threading.Event], int]] = {
            "alone": lambda over: 0,
            "backups": lambda over: backups(server.directory, over),
            "wrong tokens": lambda over: guesses(server.web, over),
        }
        measured: dict[str, list[dict[str, float]]] = {what: [] for what in beside}
        done = dict.fromkeys(beside, 0)
        for _ in range(rounds):
            for what, work in beside.items():
                over, count = threading.Event(), [0]

                def run(
                    work: Callable[[threading.Event], int], over: threading.Event, count: list[int]
                ) -> None:
                    count[0] = work(over)

                thread = threading.Thread(target=run, args=(work, over, count))
                thread.start()
                measured[what].append(load(server.port, *options)["ack_ms"])
                over.set()
                thread.join()
                done[what] += count[0]
    for what, latencies in measured.items():
        medians = "  ".join(
            f"{it} {statistics.median(of[it] for of in latencies):7.2f}" for it in PERCENTILES
        )
        ratio = statistics.median(
            of["p99"] / alone["p99"] for of, alone in zip(latencies, measured["alone"], strict=True)
        )
        print(f"{what:>12}: {medians} ms, p99 {ratio:.2f} of alone, {done[what]:,} done")
    load_words = f"{SESSIONS:,} sessions, {SHARES_PER_S:,} shares/s"
    print(f"{load_words}, medians of {rounds} rounds of {seconds:.0f} s")


if __name__ == "__main__":
    arguments = (*sys.argv[1:], *("20", "3")[len(sys.argv[1:]) :])
    main(float(arguments[0]), int(arguments[1]))
