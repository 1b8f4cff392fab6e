"""What strangers do to a good miner: its acknowledgement times alone, and beside each kind of flood.

    python -m bench.flood [SECONDS]

Each flood comes from 127.0.0.2, below every limit of a connection; the good miners are at 127.0.0.1.
"""

import contextlib
import itertools
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.__main__ import build_load, load, pool

GOOD_SESSIONS = 100
GOOD_SHARES_PER_S = 100
SESSIONS = 600
STEP_S = 0.1
STRANGER = "127.0.0.2"
JOIN = (
    b'{"id":1,"method":"mining.subscribe","params":["flood/1"]}\n'
    b'{"id":2,"method":"mining.authorize","params":["acme.c66.u%d","x"]}\n'
)
PING = b'{"id":3,"method":"mining.ping","params":[]}\n'
BAD = (
    b'{"id":4,"method":"mining.submit",'
    b'"params":["acme.c66.u%d","1","0000000000000000","00000000","00000000"]}\n'
)


def connect(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((STRANGER, 0))
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.connect(("127.0.0.1", port))
    return sock


class Crowd:
    """So many connections; each says `head`, then `talk` every step, and hears out what it is told."""

    def __init__(self, port: int, head: Callable[[int], bytes], talk: Callable[[int], bytes]) -> None:
        self._port, self._head, self._talk = port, head, talk
        self._selector = selectors.DefaultSelector()
        self._numbers = itertools.count()
        self.opened = self.said = 0

    def open(self) -> None:
        sock = connect(self._port)
        self._selector.register(sock, selectors.EVENT_WRITE, next(self._numbers))
        self.opened += 1

    def step(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            for key, events in self._selector.select(left_s):
                sock, number = key.fileobj, key.data
                assert isinstance(sock, socket.socket)
                try:
                    if events & selectors.EVENT_WRITE:
                        sock.send(self._head(number))
                        self._selector.modify(sock, selectors.EVENT_READ, number)
                    elif not sock.recv(65_536):
                        raise ConnectionResetError
                except BlockingIOError:
                    pass
                except OSError:
                    self._gone(sock)

    def talk(self) -> None:
        for key in list(self._selector.get_map().values()):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            data = self._talk(key.data)
            try:
                self.said += sock.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self._gone(sock)

    def _gone(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()

    def churn(self, count: int) -> None:
        """Close the oldest, whatever they do, for as many new ones."""
        for key in list(self._selector.get_map().values())[:count]:
            assert isinstance(key.fileobj, socket.socket)
            self._gone(key.fileobj)
        self.fill(count)

    def fill(self, count: int) -> None:
        for _ in range(count):
            self.open()

    def __len__(self) -> int:
        return len(self._selector.get_map())


def nothing(number: int) -> bytes:
    return b""


def pings(port: int) -> Iterator[Crowd]:
    """199 pings a second each: below the old limit."""
    yield from keep_up(Crowd(port, lambda n: JOIN % n, lambda n: 20 * PING))


def rejects(port: int) -> Iterator[Crowd]:
    """90 shares a second each, on jobs that nobody knows."""
    yield from keep_up(Crowd(port, lambda n: JOIN % n, lambda n: 9 * (BAD % n)))


def churn(port: int) -> Iterator[Crowd]:
    """Connect, subscribe, authorise, leave: some 2,000 a second."""
    crowd = Crowd(port, lambda n: JOIN % (n % 1000), nothing)
    while True:
        crowd.churn(200)
        yield crowd


def half_open(port: int) -> Iterator[Crowd]:
    """Connections that say nothing, always as many as there may be."""
    crowd = Crowd(port, lambda n: b" ", nothing)
    while True:
        crowd.fill(max(0, min(200, 1_100 - len(crowd))))
        yield crowd


def endless(port: int) -> Iterator[Crowd]:
    """Lines that never end, some 1,000 a second."""
    crowd = Crowd(port, lambda n: b"x" * 9_000, nothing)
    while True:
        crowd.fill(max(0, min(100, 600 - len(crowd))))
        yield crowd


def keep_up(crowd: Crowd) -> Iterator[Crowd]:
    while True:
        crowd.fill(min(100, SESSIONS - len(crowd)))
        crowd.talk()
        yield crowd


FLOODS = {it.__name__: it for it in (pings, rejects, churn, half_open, endless)}


def run(kind: str, port: int) -> None:
    """One flood, until it is terminated."""
    told_s = time.monotonic()
    for crowd in FLOODS[kind](port):
        crowd.step(time.monotonic() + STEP_S)
        if time.monotonic() - told_s > 5:
            told_s = time.monotonic()
            print(f"{kind}: open {len(crowd)}, opened {crowd.opened}, {crowd.said:,} bytes", file=sys.stderr)


@contextmanager
def flooding(kind: str, port: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "bench.flood", kind, str(port)])
    try:
        time.sleep(3)
        yield
    finally:
        process.terminate()
        process.wait()


def measure(port: int, seconds: float) -> str:
    options = ("--sessions", GOOD_SESSIONS, "--rate", GOOD_SHARES_PER_S, "--warmup", 1, "--seconds", seconds)
    ack = load(port, *options)["ack_ms"]
    return f"p50 {ack['p50']:7.1f}  p99 {ack['p99']:7.1f} ms"


def main(seconds: float) -> None:
    build_load()
    for kind in FLOODS:
        with pool() as (_, port):
            print(f"{kind:>10}: alone   {measure(port, seconds)}", flush=True)
            with flooding(kind, port):
                print(f"{'':>10}  flooded {measure(port, seconds)}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.nice(0)
        run(sys.argv[1], int(sys.argv[2]))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
