"""What pages cost miners: a whole site's acknowledgement times beside a hundred pages that look on.

    python -m bench.browsers [SECONDS [ROUNDS]]

19,000 machines send a site's shares, in turn without and with a hundred streams of events. Each page gets the
map first, and again whenever it is told to. Ratios of one run.
"""

import gzip
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.parts.latency import SHARES_PER_S
from bench.servers import load, pool
from pool.admin.client import ask

SESSIONS = 19_000
PAGES = 100
USERS = 10  # of ten pages each
PERCENTILES = ("p50", "p99", "p999", "max")


def tokens(directory: Path) -> list[str]:
    """Of viewers."""

    def give(command: str, **params: Any) -> Any:
        return ask(directory, _no_pool, command, params)

    users = [f"viewer{number}" for number in range(USERS)]
    for user in users:
        give("user.add", name=user, role="viewer")
    return [give("token.create", user=user, label="bench")["token"] for user in users]


def _no_pool(name: str, body: bytes) -> Any:
    raise SystemExit("the pool does not answer")


class Page:
    """A browser that has the map open."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._head = port, f"Host: pool\r\nAuthorization: Bearer {token}\r\n"
        self.map_ms: list[float] = []
        self.map = b""
        self.events = 0
        # One after the other: a door has few places for who has not shown a token yet.
        self.get_map()
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(f"GET /api/v1/events HTTP/1.1\r\n{self._head}\r\n".encode())
        self.stream_bytes = len(self.socket.recv(65_536))

    def get_map(self) -> None:
        since_s = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self._port)) as sock:
            head = f"{self._head}Accept-Encoding: gzip\r\nConnection: close\r\n"
            sock.sendall(f"GET /api/v1/map HTTP/1.1\r\n{head}\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(65_536), b""))
        self.map_ms.append((time.perf_counter() - since_s) * 1e3)
        _, _, body = answer.partition(b"\r\n\r\n")
        self.map = body

    def look_on(self) -> None:
        """Until the socket is shut."""
        while heard := self.socket.recv(65_536):
            self.stream_bytes += len(heard)
            self.events += heard.count(b"event: ")
            if b'"base":null' in heard:
                self.get_map()


@contextmanager
def looking_on(pages: list[Page]) -> Iterator[None]:
    threads = [threading.Thread(target=page.look_on) for page in pages]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for page in pages:
            page.socket.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def main(seconds: float, rounds: int) -> None:
    options = (SESSIONS, "--rate", SHARES_PER_S, "--warmup", 5, "--seconds", seconds)
    measured: dict[str, list[dict[str, float]]] = {"alone": [], "looked at": []}
    with pool() as server:
        shown = tokens(server.directory)
        pages: list[Page] = []
        for _ in range(rounds):
            measured["alone"].append(load(server.port, *options)["ack_ms"])
            pages = [Page(server.web, shown[at % USERS]) for at in range(PAGES)]
            with looking_on(pages):
                measured["looked at"].append(load(server.port, *options)["ack_ms"])
    for what, latencies in measured.items():
        medians = (f"{part} {statistics.median(it[part] for it in latencies):8.2f}" for part in PERCENTILES)
        print(f"{what:>10}: {'  '.join(medians)} ms, {SESSIONS:,} sessions, {SHARES_PER_S:,} shares/s")
    ratios = (
        f"{part} {statistics.median(b[part] / a[part] for a, b in zip(*measured.values(), strict=True)):.2f}"
        for part in PERCENTILES
    )
    print(f"     ratio: {', '.join(ratios)} (medians of {rounds} rounds)")
    shown_map = json.loads(gzip.decompress(pages[0].map))
    machines = sum(len(it["units"]) for it in shown_map["containers"])
    maps = [it for page in pages for it in page.map_ms]
    print(
        f"     pages: {PAGES} streams, {statistics.median(it.events for it in pages):.0f} events and"
        f" {statistics.median(it.stream_bytes for it in pages) / 1024:.0f} KiB each; the map of"
        f" {machines:,} machines is {len(pages[0].map):,} bytes packed, and took"
        f" {statistics.median(maps):.0f} ms (median of {len(maps)}), {max(maps):.0f} ms (max)"
    )


if __name__ == "__main__":
    arguments = (*sys.argv[1:], *("60", "3")[len(sys.argv[1:]) :])
    main(float(arguments[0]), int(arguments[1]))
