"""Bitcoinds for tests: one that behaves, and faults that one can be given, named after what it does then.

They speak JSON-RPC through httpx's transport interface, so that the client under test is the real one and
time can be virtual. Must not know: what the test is about.
"""

import struct
from collections.abc import Awaitable, Callable
from functools import cache
from hashlib import sha256
from typing import Any

import httpx
import msgspec
import trio

from pool.chain.networks import NETWORKS
from pool.chain.nodes import NodeConfig

Fault = Callable[[httpx.Request], Awaitable[httpx.Response]]

REGTEST_BITS = "207fffff"
REGTEST_TARGET = f"{0x7FFFFF << 8 * (0x20 - 3):064x}"
# What a template on signet has besides, of a challenge that everybody meets.
SIGNET = {"signet_challenge": "51", "bits": "1e0377ae", "target": f"{0x0377AE << 8 * (0x1E - 3):064x}"}
COMMITMENT = "6a24aa21a9ed" + "e2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9"
USER, PASSWORD = "pool", "hunter2-secret"
CALLS_MAX = 20_000  # a client that asks more often than any test needs is in a loop


def template_result(**changes: Any) -> dict[str, Any]:
    """What getblocktemplate answers on an empty memory pool, with changes; None leaves a field out."""
    result = {
        "capabilities": ["proposal"],
        "version": 0x20000000,
        "rules": ["csv", "!segwit", "taproot"],
        "vbavailable": {},
        "vbrequired": 0,
        "previousblockhash": "0f" * 32,
        "transactions": [],
        "coinbaseaux": {},
        "coinbasevalue": 50_0000_0000,
        "longpollid": "0f" * 32 + "7",
        "target": REGTEST_TARGET,
        "mintime": 1_700_000_001,
        "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff",
        "sigoplimit": 80_000,
        "sizelimit": 4_000_000,
        "weightlimit": 4_000_000,
        "curtime": 1_700_000_600,
        "bits": REGTEST_BITS,
        "height": 101,
        "default_witness_commitment": COMMITMENT,
    } | changes
    return {field: value for field, value in result.items() if value is not None}


class SaysNo(Exception):
    """An error that a call answers with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@cache
def mined(previous_hex: str, height: int, fork: str, at_s: int | None = None) -> tuple[str, bytes]:
    """The block of a fork at a height: its hash, and its header with the work that regtest asks for. `at_s`
    is when it was found, where that matters."""
    target, nonce = int(REGTEST_TARGET, 16), 0
    root = sha256(f"{height} {fork}".encode()).digest()
    head = struct.pack("<I32s32s", 0x20000000, bytes.fromhex(previous_hex)[::-1], root)
    head += struct.pack("<II", 1_600_000_000 + height if at_s is None else at_s, int(REGTEST_BITS, 16))
    while True:
        header = head + struct.pack("<I", nonce)
        found = sha256(sha256(header).digest()).digest()
        if int.from_bytes(found, "little") <= target:
            return found[::-1].hex(), header
        nonce += 1


class FakeBitcoind(httpx.AsyncBaseTransport):
    """A node whose chain a test moves. `fault` answers in its place while it is set."""

    def __init__(self, name: str = "first", *, chain: str = "regtest", height: int = 100) -> None:
        self.name = name
        self.config = NodeConfig(name=name, url=f"http://{name}:18443", user=USER, password=PASSWORD)
        self.fault: Fault | None = None
        self.template_changes: dict[str, Any] = {}
        self.chain_changes: dict[str, Any] = {"chain": chain}
        self.network_changes: dict[str, Any] = {}
        self.verdicts: list[str | None] = []  # of the next blocks; then they are accepted
        self.calls: list[tuple[str, list[Any]]] = []
        self.longpolls = 0  # waiting now
        self.chain: list[str] = []  # hashes by height
        self.headers: dict[str, bytes] = {}  # all that it ever had
        self.fees_sat = 0  # of every block
        self.forgets_fees = False  # fails when it is asked for them
        self.says: dict[str, Any] = {}  # by method, whatever the truth is
        self._moved = trio.Event()
        self.move_to(height)

    def move_to(self, height: int, fork: str = "best", since: int | None = None) -> None:
        """Have another chain: the blocks from `since` on, by default the last one, are those of the fork."""
        first = 0 if fork == "best" else height if since is None else since
        self.chain = self._blocks([], first, "best")
        self.chain = self._blocks(self.chain, height + 1, fork)
        self.height, self.best = height, self.chain[-1]
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def _blocks(self, chain: list[str], until: int, fork: str) -> list[str]:
        chain = list(chain)
        while len(chain) < until:
            found, header = mined(chain[-1] if chain else "00" * 32, len(chain), fork)
            self.headers[found] = header
            chain.append(found)
        return chain

    def methods(self) -> list[str]:
        """What was called, in order."""
        return [method for method, _ in self.calls]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        call = msgspec.json.decode(await request.aread())
        self.calls.append((call["method"], call["params"]))
        assert len(self.calls) <= CALLS_MAX
        if self.fault is not None:
            return await self.fault(request)
        if call["method"] in self.says:
            return json_response({"result": self.says[call["method"]], "error": None, "id": call["id"]})
        try:
            result = await getattr(self, "_" + call["method"], _unknown)(*call["params"])
        except SaysNo as no:
            return _error(request, no.code, str(no))
        if self.fault is not None:  # it came while the call was kept waiting
            return await self.fault(request)
        return json_response({"result": result, "error": None, "id": call["id"]})

    async def _getblockchaininfo(self) -> dict[str, Any]:
        return {
            "blocks": self.height,
            "headers": self.height,
            "bestblockhash": self.best,
            "initialblockdownload": False,
        } | self.chain_changes

    async def _getblockstats(self, height: int, stats: list[str]) -> dict[str, Any]:
        if self.forgets_fees:
            raise httpx.ReadError("connection reset by peer")
        if height > self.height:
            raise SaysNo(-8, "Target block height after current tip")
        return {"height": height, "blockhash": self.chain[height], "totalfee": self.fees_sat}

    async def _getnetworkinfo(self) -> dict[str, Any]:
        services = {"subversion": "/Fake:1/", "connections": 8, "localservicesnames": ["NETWORK", "WITNESS"]}
        return services | self.network_changes

    async def _getblocktemplate(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("longpollid") == self.best:
            self.longpolls += 1
            try:
                await self._moved.wait()
            finally:
                self.longpolls -= 1
        present = {"height": self.height + 1, "previousblockhash": self.best, "longpollid": self.best}
        return template_result(**present | self.template_changes)

    async def _getblockcount(self) -> int:
        return self.height

    async def _getblockhash(self, height: int) -> str:
        if height > self.height:
            raise SaysNo(-8, "Block height out of range")
        if height == 0:
            return NETWORKS[self.chain_changes["chain"]].genesis
        return self.chain[height]

    async def _getblockheader(self, block_hash: str, verbose: bool = True) -> Any:
        header = self.headers.get(block_hash)
        if header is None:
            raise SaysNo(-5, "Block not found")
        if not verbose:
            return header.hex()
        height = self.chain.index(block_hash) if block_hash in self.chain else None
        return {"confirmations": -1 if height is None else self.height - height + 1}

    async def _submitblock(self, block_hex: str) -> str | None:
        return self.verdicts.pop(0) if self.verdicts else None

    async def _preciousblock(self, hash_hex: str) -> None:
        return None


class LongChain(FakeBitcoind):
    """A node whose chain nobody has mined: a block at each height, ten minutes apart, with the bits of its
    period (`bits` of first blocks; of `usual` where none are said). `forks` are stale blocks that it has, by
    height."""

    def __init__(
        self,
        name: str = "first",
        *,
        chain: str = "main",
        height: int,
        tip_at_s: int,
        usual: int,
        bits: dict[int, int] | None = None,
    ) -> None:
        self.usual, self.bits = usual, bits or {}
        self.block_fees: dict[int, int] = {}  # of blocks that paid others than `fees_sat`
        self.forks: dict[int, int] = {}  # height of a stale tip, one block long, to its bits
        self.tells_of_forks = True
        self.forget_blocks_before = 0  # it is pruned
        self._tip_at_s, self._tip_height = tip_at_s, height
        super().__init__(name, chain=chain, height=0)
        self.grow_to(height)
        self.calls.clear()

    def grow_to(self, height: int) -> None:
        """Ten minutes a block."""
        self.height, self.best = height, self._hash(height)
        bits = self.bits_at(height + 1)
        target = (bits & 0x7FFFFF) << 8 * ((bits >> 24) - 3)
        self.template_changes = {"bits": f"{bits:08x}", "target": f"{target:064x}"}

    def bits_at(self, height: int) -> int:
        return self.bits.get(height - height % 2016, self.usual)

    def time_at(self, height: int) -> int:
        return self._tip_at_s + 600 * (height - self._tip_height)

    def _hash(self, height: int, fork: int = 0) -> str:
        return f"{fork:08x}" + "00" * 20 + f"{height:016x}"

    def _header(self, height: int, bits: int) -> bytes:
        before = bytes.fromhex(self._hash(height - 1))[::-1] if height else bytes(32)
        head = struct.pack("<I32s32s", 0x20000000, before, bytes(32))
        return head + struct.pack("<III", self.time_at(height) & 0xFFFFFFFF, bits, 0)

    async def _getblockhash(self, height: int) -> str:
        if not 0 <= height <= self.height:
            raise SaysNo(-8, "Block height out of range")
        return NETWORKS[self.chain_changes["chain"]].genesis if height == 0 else self._hash(height)

    async def _getblockheader(self, block_hash: str, verbose: bool = True) -> Any:
        assert not verbose
        if block_hash == NETWORKS[self.chain_changes["chain"]].genesis:
            return self._header(0, self.bits_at(0)).hex()
        fork, height = int(block_hash[:8], 16), int(block_hash[-16:], 16)
        if not fork and height > self.height:
            raise SaysNo(-5, "Block not found")
        return self._header(height, self.forks[height] if fork else self.bits_at(height)).hex()

    async def _getchaintips(self) -> list[dict[str, Any]]:
        if not self.tells_of_forks:
            raise SaysNo(-32601, "Method not found")
        best = {"height": self.height, "hash": self.best, "branchlen": 0, "status": "active"}
        stale = [
            {"height": height, "hash": self._hash(height, 1), "branchlen": 1, "status": "headers-only"}
            for height in self.forks
        ]
        return [best, *stale]

    async def _getblockstats(self, height: int, stats: list[str]) -> dict[str, Any]:
        if height > self.height:
            raise SaysNo(-8, "Target block height after current tip")
        if height < self.forget_blocks_before:
            raise SaysNo(-1, "Block not available (pruned data)")
        fees_sat = self.block_fees.get(height, self.fees_sat)
        return {"height": height, "blockhash": self._hash(height), "totalfee": fees_sat}


async def _unknown(*_: object) -> None:
    raise SaysNo(-32601, "Method not found")


def json_response(answer: object, status: int = 200) -> httpx.Response:
    """An answer as it comes from the network: a stream of bytes."""
    return bytes_response(msgspec.json.encode(answer), status)


def bytes_response(answer: bytes, status: int = 200) -> httpx.Response:
    """Any bytes as an answer."""
    return httpx.Response(status, stream=httpx.ByteStream(answer))


async def refuses_connections(request: httpx.Request) -> httpx.Response:
    """Nobody listens."""
    raise httpx.ConnectError("connection refused", request=request)


async def never_answers(request: httpx.Request) -> httpx.Response:
    """Takes the request, and that is all."""
    await trio.sleep_forever()
    raise AssertionError


async def closes_the_connection(request: httpx.Request) -> httpx.Response:
    """Hangs up without an answer."""
    raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)


async def answers_401(request: httpx.Request) -> httpx.Response:
    """Wrong password."""
    return bytes_response(b"", 401)


async def answers_403(request: httpx.Request) -> httpx.Response:
    """This host is not in rpcallowip."""
    return bytes_response(b"", 403)


async def answers_503(request: httpx.Request) -> httpx.Response:
    """The work queue is full."""
    return bytes_response(b"Work queue depth exceeded", 503)


async def warms_up(request: httpx.Request) -> httpx.Response:
    """Has just been started."""
    return _error(request, -28, "Loading block index...")


async def says_not_connected(request: httpx.Request) -> httpx.Response:
    """Has no peers: bitcoind offers no template then."""
    return _error(request, -9, "Bitcoin Core is not connected!")


async def truncates_json(request: httpx.Request) -> httpx.Response:
    """Stops in the middle of its answer, as if that were all."""
    return bytes_response(b'{"result":{"chain":"regt')


async def answers_html(request: httpx.Request) -> httpx.Response:
    """Is not a bitcoind, but somebody's web server."""
    return bytes_response(b"<html><body>It works!</body></html>")


def _error(request: httpx.Request, code: int, message: str) -> httpx.Response:
    call_id = msgspec.json.decode(request.content)["id"]
    error = {"code": code, "message": message}
    return json_response({"result": None, "error": error, "id": call_id}, 500)
