"""What the door over HTTP costs miners: a scrape a second beside a whole site, and memory by connection.

    python -m bench.web [SECONDS [ROUNDS]]

What floods of it cost is in bench.flood: `http_requests`, `http_churn`.
"""

import socket
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.parts.latency import SHARES_PER_S
from bench.servers import load, pool, rss_kib

SESSIONS = 19_000
SCRAPE_S = 1.0
ADDRESSES = tuple(f"127.0.1.{number}" for number in range(1, 9))
CONNECTIONS_PER_ADDRESS = 30  # below the bound of those that ask for nothing
SETTLE_S = 3.0


class Scrapes:
    """One after the other, as long as there is somebody who wants to know."""

    def __init__(self, port: int) -> None:
        self.took_ms: list[float] = []
        self.bytes = 0
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(SCRAPE_S):
            since_s = time.perf_counter()
            with urllib.request.urlopen(self._url) as answered:  # noqa: S310 - our own
                self.bytes = len(answered.read())
            self.took_ms.append((time.perf_counter() - since_s) * 1e3)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self._over.clear()
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def scraped(seconds: float, rounds: int) -> None:
    """A site's shares, in turn without and with a scrape a second."""
    options = (SESSIONS, "--rate", SHARES_PER_S, "--warmup", 3, "--seconds", seconds)
    measured: dict[str, list[dict[str, float]]] = {"alone": [], "scraped": []}
    with pool() as server:
        scrapes = Scrapes(server.web)
        for _ in range(rounds):
            measured["alone"].append(load(server.port, *options)["ack_ms"])
            with scrapes.going_on():
                measured["scraped"].append(load(server.port, *options)["ack_ms"])
    for what, latencies in measured.items():
        medians = "  ".join(
            f"{part} {statistics.median(it[part] for it in latencies):6.2f}"
            for part in ("p50", "p99", "p999")
        )
        print(f"{what:>8}: {medians} ms, {SESSIONS:,} sessions, {SHARES_PER_S:,} shares/s")
    print(
        f"  scrape: {statistics.median(scrapes.took_ms):.0f} ms (median of {len(scrapes.took_ms)}), "
        f"{max(scrapes.took_ms):.0f} ms (max), {scrapes.bytes:,} bytes"
    )


def memory() -> None:
    """Connections that have had an answer, and stay."""
    with pool() as server, ExitStack() as stack:
        before = rss_kib(server.process)
        for address in ADDRESSES:
            for _ in range(CONNECTIONS_PER_ADDRESS):
                sock = stack.enter_context(
                    socket.create_connection(("127.0.0.1", server.web), 10, (address, 0))
                )
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                sock.recv(4_096)
        time.sleep(SETTLE_S)
        count = len(ADDRESSES) * CONNECTIONS_PER_ADDRESS
        print(f"  memory: {(rss_kib(server.process) - before) / count:.1f} KiB RSS per connection ({count})")


def main(seconds: float, rounds: int) -> None:
    memory()
    scraped(seconds, rounds)


if __name__ == "__main__":
    arguments = (*sys.argv[1:], *("20", "3")[len(sys.argv[1:]) :])
    main(float(arguments[0]), int(arguments[1]))
