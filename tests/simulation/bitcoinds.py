"""The bitcoinds of a world, and the chain that they follow: they look at a block before they take it.

Each has the chain as far as it has heard of it; blocks take a while between them, and longer where a line is
cut. Questions and answers of a pool take their time as well, so that two of them overtake each other.

What a node checks is built from the bytes of the block alone: its hash against its own target and that of its
parent's template, its merkle root, the height in its coinbase.
"""

import hashlib
import struct
from collections.abc import Callable
from typing import Any, Final

import httpx
import msgspec
import trio

from tests.fakes.bitcoinds import FakeBitcoind, mined
from tests.simulation.dice import Dice
from tests.simulation.network import Network

HALVING: Final = 150
BEGIN_HEIGHT: Final = 146  # the fourth block from here is worth half
ANSWER_S: Final = (0.001, 0.04)
RELAY_S: Final = (0.05, 2.5)  # that a block takes to another node
NETWORK_BITS: Final = (0x1F1FFFFF, 0x1F0FFFFF, 0x1E7FFFFF)  # a block in 2^11, 2^12 and 2^17 hashes


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def target_of(bits: int) -> int:
    return (bits & 0x7FFFFF) << 8 * ((bits >> 24) - 3)


class Submitted(msgspec.Struct, frozen=True):
    """A block that was brought to a node, and what the node said."""

    hash_hex: str
    parent_hex: str
    height: int
    verdict: str | None


class Bitcoind(FakeBitcoind):
    """`up`: it answers. `slow_s`: after so much more."""

    def __init__(self, name: str, world: "Bitcoinds", chance: Dice) -> None:
        super().__init__(name, height=BEGIN_HEIGHT)
        self.up = True
        self.slow_s = 0.0
        self.cut_off = False  # hears of no block, and nobody hears of its blocks
        self.submitted: list[Submitted] = []
        self._world, self._chance = world, chance

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(self._chance.uniform(*ANSWER_S) + self.slow_s)
        self._answers(request)
        answer = await super().handle_async_request(request)
        self._answers(request)
        return answer

    def _answers(self, request: httpx.Request) -> None:
        if not self.up:
            raise httpx.ConnectError("connection refused", request=request)

    def hear(self, chain: list[str], header: bytes) -> None:
        """Of a block that ends this chain: the best one is the first of those that are longest."""
        self.headers[chain[-1]] = header
        if len(chain) > len(self.chain):
            self.headers |= {it: self._world.headers[it] for it in chain if it not in self.headers}
            self.chain, self.height, self.best = chain, len(chain) - 1, chain[-1]
            moved, self._moved = self._moved, trio.Event()
            moved.set()

    async def _getblocktemplate(self, request: dict[str, Any]) -> dict[str, Any]:
        template: dict[str, Any] = await super()._getblocktemplate(request)
        now_s, bits = int(self._world.wall_s()), self._world.bits
        return template | {
            "bits": f"{bits:08x}",
            "target": f"{target_of(bits):064x}",
            "curtime": now_s,
            "mintime": now_s - 3_000,
            "coinbasevalue": subsidy_sat(template["height"]),
        }

    async def _submitblock(self, block_hex: str) -> str | None:
        block = bytes.fromhex(block_hex)
        hash_hex, parent_hex = sha256d(block[:80])[::-1].hex(), block[4:36][::-1].hex()
        verdict = self._judge(block, hash_hex, parent_hex)
        height = self.chain.index(parent_hex) + 1 if parent_hex in self.chain else 0
        self.submitted.append(Submitted(hash_hex, parent_hex, height, verdict))
        if verdict is None:
            self._world.found(self, [*self.chain, hash_hex], block[:80])
        return verdict

    def _judge(self, block: bytes, hash_hex: str, parent_hex: str) -> str | None:
        if hash_hex in self.headers:
            return "duplicate"
        if parent_hex not in self.headers:
            return "prev-blk-not-found"
        bits = struct.unpack_from("<I", block, 72)[0]
        if int(hash_hex, 16) > target_of(bits) or bits not in NETWORK_BITS:
            return "high-hash"
        if block[80] != 1 or sha256d(_without_witness(block[81:])) != block[36:68]:
            return "bad-txnmrklroot"
        if parent_hex != self.best:
            self.headers[hash_hex] = block[:80]
            return "inconclusive"
        return None


def _without_witness(coinbase: bytes) -> bytes:
    """The bytes that a coinbase's id is the hash of (BIP 144)."""
    assert coinbase[4:6] == b"\x00\x01", "a coinbase with a witness"
    return coinbase[:4] + coinbase[6 : -4 - 34] + coinbase[-4:]


def subsidy_sat(height: int) -> int:
    return 50 * 10**8 >> height // HALVING


class Bitcoinds:
    """All of them, what goes on between them, and what the rest of the world finds."""

    def __init__(self, names: tuple[str, ...], network: Network, chance: Dice, wall_s: Callable[[], float]):
        self.wall_s = wall_s  # theirs, which nobody puts forward
        self.bits = NETWORK_BITS[0]
        self.headers: dict[str, bytes] = {}
        self.nodes = [Bitcoind(name, self, chance) for name in names]
        self.headers |= self.nodes[0].headers
        self._network, self._chance = network, chance
        self._others = 0

    def found(self, at: Bitcoind, chain: list[str], header: bytes) -> None:
        """A block that a node has, which the others hear of when it has reached them."""
        self.headers[chain[-1]] = header
        at.hear(chain, header)
        for node in self.nodes:
            if node is not at:
                self._relay(at, node, chain, header)

    def found_elsewhere(self, blocks: int = 1, *, behind: int = 0) -> None:
        """By others: so many blocks at the tip, or on the block that is so many behind it."""
        best = max((it for it in self.nodes), key=lambda it: it.height)
        chain = best.chain[: len(best.chain) - behind]
        for _ in range(blocks):
            self._others += 1
            found, header = mined(chain[-1], len(chain), f"others {self._others}", int(self.wall_s()))
            chain = [*chain, found]
            self.headers[found] = header
        self.found(
            self._chance.choice([it for it in self.nodes if not it.cut_off] or self.nodes), chain, header
        )

    def _relay(self, at: Bitcoind, to: Bitcoind, chain: list[str], header: bytes) -> None:
        def arrives() -> None:
            if at.cut_off or to.cut_off:
                self._network.after(self._chance.uniform(*RELAY_S), arrives)
            else:
                to.hear(chain, header)

        self._network.after(self._chance.uniform(*RELAY_S), arrives)
