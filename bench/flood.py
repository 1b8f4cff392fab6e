"""What strangers do to a good miner: its acknowledgement times beside each kind of flood.

    python -m bench.flood [SECONDS [ROUNDS [KIND...]]]

Each flood stays below every limit of a connection; the good miners are at 127.0.0.1. A flood costs the
machine something whoever it is for, so each is measured in turn for a server that keeps nothing, beside a
pool that it does not touch, and for the pool: the difference between these two is the pool's.
"""

import contextlib
import itertools
import select
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.servers import load, pool

Latency = dict[str, float]  # in milliseconds
GOOD_SESSIONS = 100
GOOD_SHARES_PER_S = 100
SESSIONS = 600
STEP_S = 0.1
PERCENTILES = ("p50", "p99", "p999")
STRANGERS = tuple(f"127.0.{1 + at // 250}.{1 + at % 250}" for at in range(1_000))
ANSWER = b" " * 2_000 + b"\n"  # of a server that keeps nothing: as many bytes as two answers and a job
JOIN = (
    b'{"id":1,"method":"mining.subscribe","params":["flood/1"]}\n'
    b'{"id":2,"method":"mining.authorize","params":["acme.c66.u%d","x"]}\n'
)
WRONG = b"GET /metrics HTTP/1.1\r\nHost: pool.example\r\nAuthorization: Bearer wrong\r\n\r\n"
PING = b'{"id":3,"method":"mining.ping","params":[]}\n'
BAD = (
    b'{"id":4,"method":"mining.submit",'
    b'"params":["acme.c66.u%d","1","0000000000000000","00000000","00000000"]}\n'
)


def connect(port: int, address: str) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, 0))
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.connect(("127.0.0.1", port))
    return sock


class Crowd:
    """So many connections; each says `head`, then `talk` every step, and hears out what it is told."""

    def __init__(
        self, port: int, head: Callable[[int], bytes], talk: Callable[[int], bytes], *, addresses: int = 1
    ) -> None:
        self._port, self._head, self._talk, self._addresses = port, head, talk, addresses
        self._selector = selectors.DefaultSelector()
        self._numbers = itertools.count()
        self.opened = self.said = 0

    def open(self) -> None:
        number = next(self._numbers)
        sock = connect(self._port, STRANGERS[number % self._addresses])
        self._selector.register(sock, selectors.EVENT_WRITE, number)
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


def churn(port: int, addresses: int = 1) -> Iterator[Crowd]:
    """Connect, subscribe, authorise, leave: 1,500 a second."""
    crowd = Crowd(port, lambda n: JOIN % (n % 1000), nothing, addresses=addresses)
    while True:
        crowd.churn(150)
        yield crowd


def churn_everywhere(port: int) -> Iterator[Crowd]:
    """The same from a thousand addresses."""
    yield from churn(port, len(STRANGERS))


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


def http_requests(port: int) -> Iterator[Crowd]:
    """A wrong request over HTTP from each of a thousand addresses, again and again: some 2,000 a second."""
    crowd = Crowd(port, lambda n: WRONG, lambda n: WRONG, addresses=len(STRANGERS))
    while True:
        crowd.fill(max(0, min(50, 200 - len(crowd))))
        crowd.talk()
        yield crowd


def http_churn(port: int) -> Iterator[Crowd]:
    """Connect, ask for what there is not, leave: 1,500 a second, from a thousand addresses."""
    crowd = Crowd(port, lambda n: WRONG, nothing, addresses=len(STRANGERS))
    while True:
        crowd.churn(150)
        yield crowd


def keep_up(crowd: Crowd) -> Iterator[Crowd]:
    while True:
        crowd.fill(min(100, SESSIONS - len(crowd)))
        crowd.talk()
        yield crowd


HTTP = {it.__name__: it for it in (http_requests, http_churn)}  # at the other door
FLOODS = {it.__name__: it for it in (pings, rejects, churn, churn_everywhere, half_open, endless)} | HTTP


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


def mirror() -> None:
    """Takes every connection, answers each packet, keeps nothing. Prints its port."""
    listener, poller = socket.create_server(("127.0.0.1", 0), backlog=4096), select.epoll()
    listener.setblocking(False)
    poller.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        for descriptor, _ in poller.poll():
            with contextlib.suppress(BlockingIOError):
                if descriptor == listener.fileno():
                    sock, _ = listener.accept()
                    sock.setblocking(False)
                    connections[sock.fileno()] = sock
                    poller.register(sock, select.EPOLLIN)
                elif not _answered(connections[descriptor]):
                    poller.unregister(descriptor)
                    connections.pop(descriptor).close()


def _answered(sock: socket.socket) -> bool:
    try:
        data = sock.recv(4_096)
        if b"\n" not in data:
            return 0 < len(data) < 4_096  # else it has left, or will never end
        return sock.send(ANSWER) > 0
    except ConnectionError:
        return False


@contextmanager
def mirroring() -> Iterator[int]:
    """`mirror` in a process of its own: its port."""
    command = [sys.executable, "-m", "bench.flood", "mirror"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def measure(port: int, seconds: float) -> Latency:
    """Of good miners."""
    options = (GOOD_SESSIONS, "--rate", GOOD_SHARES_PER_S, "--warmup", 1, "--seconds", seconds)
    result = load(port, *options)
    assert result["accepted"] > 0.9 * GOOD_SHARES_PER_S * seconds, result
    latency: Latency = result["ack_ms"]
    return latency


def in_turn(kind: str, seconds: float, rounds: int) -> tuple[Latency, Latency, Latency]:
    """Alone, beside a flood that is for somebody else, and under the flood: medians over the rounds."""
    measured: tuple[list[Latency], ...] = ([], [], [])
    with pool() as server, mirroring() as elsewhere:
        door = server.web if kind in HTTP else server.port
        for _ in range(rounds):
            measured[0].append(measure(server.port, seconds))
            for whom, latencies in ((elsewhere, measured[1]), (door, measured[2])):
                with flooding(kind, whom):
                    latencies.append(measure(server.port, seconds))
    alone, beside, flooded = (
        {what: statistics.median(it[what] for it in latencies) for what in PERCENTILES}
        | {"max": max(it["max"] for it in latencies)}
        for latencies in measured
    )
    return alone, beside, flooded


def words(latency: Latency) -> str:
    """In a line."""
    return "  ".join(f"{what} {latency[what]:7.1f}" for what in (*PERCENTILES, "max")) + " ms"


def main(seconds: float, rounds: int, kinds: list[str]) -> None:
    for kind in kinds or FLOODS:
        alone, beside, flooded = in_turn(kind, seconds, rounds)
        print(f"{kind:>16}: alone    {words(alone)}")
        print(f"{'':>16}  beside   {words(beside)}")
        print(f"{'':>16}  flooded  {words(flooded)}")
        ratios = (f"{what} {flooded[what] / beside[what]:.2f}" for what in PERCENTILES)
        print(f"{'':>16}  flooded / beside: {', '.join(ratios)}", flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments == ["mirror"]:
        mirror()
    elif arguments and arguments[0] in FLOODS:
        run(arguments[0], int(arguments[1]))
    else:
        seconds, rounds, *kinds = (*arguments, *("60", "3")[len(arguments) :])
        main(float(seconds), int(rounds), kinds)
