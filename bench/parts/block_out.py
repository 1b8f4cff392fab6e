"""From a share that is a block to the block at a node: a block of 1.5 MB, which is on disk before it leaves.

One machine mines; the node is a stand-in in this process that notes when a block arrives, its first bytes and
its last. Every share is a block: some come by themselves, as a chain's do, and some as soon as there is work
behind the one before, which the pool is booking then, beside the template that came of it.
"""

import random
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, Final

import httpx
import msgspec
import trio

from bench.part import Part, Section, table
from bench.servers import angara, is_mining, running, temporary_directory, wait_for
from pool.swarm.machine import MinerMachine, SwarmStats
from tests.fakes.bitcoinds import FakeBitcoind

TXS, TX_BYTES = 3_000, 500
BLOCKS: Final = 30
ALONE_S: Final = 1.0  # behind new work: what the block before has left to do is done
DIFFICULTY_LOG2: Final = -31  # of a share: a little more than regtest asks of a block
ARRIVES_S_MAX: Final = 60.0


class Arrivals:
    """Of blocks at the node."""

    def __init__(self) -> None:
        self.first_s = self.last_s = 0.0
        self.bytes = 0
        self.there = threading.Event()


class Tip:
    """The node's chain: it goes on with every block, so that the next one has a parent of its own."""

    def __init__(self, fake: FakeBitcoind) -> None:
        self._fake, self._changed, self._over = fake, threading.Condition(), False

    def has_left(self, longpoll_id: str) -> bool:
        """Waits until it has; it has not where all is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or longpoll_id != self._fake.best)
            return not self._over

    def on(self) -> None:
        with self._changed:
            self._fake.move_to(self._fake.height + 1)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()


class Node(BaseHTTPRequestHandler):
    """JSON-RPC over HTTP, by the bitcoind of the tests."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one piece: the second of two waits 40 ms for the first's acknowledgement
    fake: FakeBitcoind
    arrivals: Arrivals
    tip: Tip

    def do_POST(self) -> None:
        first_s = time.perf_counter()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        last_s = time.perf_counter()
        call = msgspec.json.decode(body)
        if call["method"] == "submitblock":
            self.arrivals.first_s, self.arrivals.last_s = first_s, last_s
            self.arrivals.bytes = len(call["params"][0]) // 2
            self.arrivals.there.set()
        waits = call["method"] == "getblocktemplate" and call["params"][0].pop("longpollid", None)
        if waits and not self.tip.has_left(waits):
            return
        answered = trio.run(_answer, self.fake, msgspec.json.encode(call))
        self.send_response(200)
        self.send_header("Content-Length", str(len(answered)))
        self.end_headers()
        self.wfile.write(answered)
        if call["method"] == "submitblock":
            self.tip.on()

    def log_message(self, format: str, *args: object) -> None:
        pass


async def _answer(fake: FakeBitcoind, body: bytes) -> bytes:
    response = await fake.handle_async_request(httpx.Request("POST", "http://node", content=body))
    return await response.aread()


@contextmanager
def node() -> Iterator[tuple[str, Arrivals]]:
    """Its host and port."""
    fake, arrivals = FakeBitcoind(), Arrivals()
    tip = Tip(fake)
    data = bytes(TX_BYTES).hex()
    fake.template_changes = {
        "transactions": [{"data": data, "txid": f"{it:064x}", "fee": 1_000} for it in range(TXS)],
        "curtime": int(time.time()),
    }
    handler = type("BoundNode", (Node,), {"fake": fake, "arrivals": arrivals, "tip": tip})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", arrivals
        finally:
            tip.end()
            server.shutdown()
            thread.join()


def run() -> dict[str, Any]:
    with temporary_directory() as directory, node() as (address, arrivals):
        cookie = directory / "cookie"
        cookie.write_text("__cookie__:bench")
        with running(directory, address, cookie, difficulty_log2=DIFFICULTY_LOG2) as pool:
            angara("tenant", "add", "acme", "--data-dir", directory)
            wait_for(lambda: is_mining(pool.port, "acme"))
            at_once, alone = (_mine(pool.port, arrivals, rest_s) for rest_s in (0.0, ALONE_S))
    return {"bytes": arrivals.bytes, "alone": alone, "at_once": at_once}


def _mine(port: int, arrivals: Arrivals, rest_s: float) -> dict[str, list[float]]:
    """For each block, until its first and until its last bytes were there."""
    first_ms, last_ms = [], []
    machine = MinerMachine("acme.c01.u1", random.Random(1), SwarmStats())
    with closing(socket.create_connection(("127.0.0.1", port))) as sock, sock.makefile("rb") as lines:
        for said in machine.open():
            sock.sendall(said)
        for _ in range(BLOCKS):
            arrivals.there.clear()
            while (share := machine.next_share(1_000)) is None:
                for said in machine.receive_line(lines.readline().rstrip()):
                    sock.sendall(said)
            time.sleep(rest_s)
            sent_s = time.perf_counter()
            sock.sendall(share)
            assert arrivals.there.wait(ARRIVES_S_MAX)
            first_ms.append((arrivals.first_s - sent_s) * 1e3)
            last_ms.append((arrivals.last_s - sent_s) * 1e3)
            _await_work(machine, lines)
    return {"first_ms": first_ms, "last_ms": last_ms}


def _await_work(machine: MinerMachine, lines: BinaryIO) -> None:
    """On the block behind the one that was found."""
    before = machine.job
    while machine.job is before:
        machine.receive_line(lines.readline().rstrip())


def section(result: dict[str, Any]) -> Section:
    rows = [
        [f"{part}, {words}", f"{statistics.median(took):.1f}", f"{max(took):.1f}"]
        for words, name in (("a block by itself", "alone"), ("as soon as there is work", "at_once"))
        for part, took in zip(("its first bytes", "its last"), result[name].values(), strict=True)
    ]
    return Section(
        (
            f"From a share sent to a block of {result['bytes'] / 1e6:.1f} MB at the node, over loopback, "
            f"{BLOCKS} blocks each; a block is written and synced to disk on the way:\n",
            *table(("the node has", "median, ms", "longest, ms"), rows),
        )
    )


PART: Final = Part(title="A block out", seconds=45, run=run, section=section)
