"""A calendar of OpenTimestamps on this host, over HTTP: it promises a block for what it is told, and names
one when the chain has what it promised. Its answers are written by the library."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from bitcoin.core import CBlock
from opentimestamps.bitcoin import make_timestamp_from_block
from opentimestamps.core.notary import PendingAttestation
from opentimestamps.core.op import OpAppend, OpSHA256
from opentimestamps.core.serialize import BytesSerializationContext
from opentimestamps.core.timestamp import Timestamp

from payouts.batches.transaction import TxOutput
from tests.stages.payouts import World

NONCE = bytes(range(16))


def written(tree: Timestamp) -> bytes:
    context = BytesSerializationContext()
    tree.serialize(context)
    data: bytes = context.getbytes()
    return data


def commitment_of(digest: bytes) -> bytes:
    return sha256(digest + NONCE).digest()


def promise(digest: bytes, calendar: str) -> bytes:
    """What a calendar answers at once."""
    tree = Timestamp(digest)
    tree.ops.add(OpAppend(NONCE)).ops.add(OpSHA256()).attestations.add(PendingAttestation(calendar))
    return written(tree)


async def mined(world: World, commitment: bytes) -> bytes:
    """What it answers when a block has it, six blocks deep: the way through a transaction to the block."""
    await world.fund(TxOutput(0, b"\x6a\x20" + commitment))
    height = world.chain.tip.height - 5
    block_hash = (world.chain.hash_at(height) or b"")[::-1].hex()
    block = CBlock.deserialize(bytes.fromhex(await world.rpc.call("getblock", block_hash, 0)))
    tree = make_timestamp_from_block(commitment, block, height)
    assert tree is not None
    return written(tree)


class Calendar:
    """`known`: what it answers by now, by commitment. `told`: all that it was told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: list[bytes] = []
        self.known: dict[str, bytes] = {}

    def submit(self, digest: bytes) -> bytes:
        self.told.append(digest)
        return promise(digest, self.url)


@contextmanager
def calendar() -> Iterator[Calendar]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/digest"
            self._say(it.submit(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self._say(it.known.get(self.path.removeprefix("/timestamp/")))

        def _say(self, answer: bytes | None) -> None:
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Length", str(len(answer or b"")))
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it = Calendar(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield it
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
