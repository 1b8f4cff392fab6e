"""Machines of Stratum V2 in a process of their own, one standard channel each, that all come back at once.

    python -m bench.sv2_machines PORT MACHINES SHARES_PER_S CONNECTS_PER_S

Prints a line when all mine. For each line that it reads it cuts every connection, comes back as fast as it is
let, and prints how that went. A certificate is not checked here, which costs a machine and no server.
"""

import json
import random
import struct
import sys
import time
from typing import Any, Final

import trio

from stratum.sv2.noise import HEADER_BYTES, MAC_BYTES, CipherState, SymmetricState, encrypted_size
from stratum.sv2.secp256k1 import ENCODED_BYTES, key_pair

SECOND_BYTES: Final = 234
RECV_BYTES: Final = 65_536
ANY_TARGET: Final = b"\xff" * 32
SETUP: Final = (
    struct.pack("<BHHI", 0, 2, 2, 0) + b"\x09127.0.0.1" + struct.pack("<H", 0) + b"\x01a\x01b\x01c\0"
)
BACK_S_MAX: Final = 120.0
COMES_AGAIN_S: Final = 1.0  # who was let go
NEW_JOB, NEW_PREVHASH, SHARE_OK, SHARE_ERROR = 0x15, 0x20, 0x1C, 0x1D


class MachineState(SymmetricState):
    """The half that answers nobody."""

    def decrypt_and_hash(self, data: bytes) -> bytes:
        assert self._cipher is not None
        plain = self._cipher.decrypt(data, self.hash)
        self.mix_hash(data)
        return plain


class Counts:
    """Of all machines."""

    def __init__(self) -> None:
        self.mining = self.lost = self.accepted = self.rejected = 0


class Machine:
    """One connection."""

    _stream: trio.SocketStream

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._received = bytearray()
        self._job: bytes | None = None  # that it mines
        self._channel = self._version = self._ntime = b""
        self._said: CipherState | None = None
        self._heard: CipherState | None = None

    @property
    def has_work(self) -> bool:
        return self._job is not None

    async def run(self, stream: trio.SocketStream, name: str, shares_per_s: float) -> None:
        self._stream = stream
        await self._shake()
        asked = (
            struct.pack("<I", 1) + bytes([len(name)]) + name.encode() + struct.pack("<f", 0.0) + ANY_TARGET
        )
        await self._say(0x00, SETUP)
        await self._say(0x10, asked)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mine, shares_per_s)
            while True:
                self._told(*await self._frame())

    async def _shake(self) -> None:
        state, ephemeral = MachineState(), key_pair()
        state.mix_hash(ephemeral.encoded)
        state.mix_hash(b"")
        await self._stream.send_all(ephemeral.encoded)
        theirs = await self._take(ENCODED_BYTES)
        sealed = await self._take(ENCODED_BYTES + MAC_BYTES)
        certificate = await self._take(SECOND_BYTES - 2 * ENCODED_BYTES - MAC_BYTES)
        state.mix_hash(theirs)
        state.mix_key(ephemeral.shared_secret(theirs, initiates=True))
        static = state.decrypt_and_hash(sealed)
        state.mix_key(ephemeral.shared_secret(static, initiates=True))
        state.decrypt_and_hash(certificate)
        self._said, self._heard = state.split()

    async def _say(self, kind: int, payload: bytes, extension: int = 0) -> None:
        assert self._said is not None
        header = struct.pack("<HB", extension, kind) + len(payload).to_bytes(3, "little")
        await self._stream.send_all(self._said.encrypt(header) + self._said.encrypt(payload))

    async def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            data = await self._stream.receive_some(RECV_BYTES)
            if not data:
                raise trio.BrokenResourceError
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    async def _frame(self) -> tuple[int, bytes]:
        assert self._heard is not None
        header = self._heard.decrypt(await self._take(HEADER_BYTES + MAC_BYTES))
        size = int.from_bytes(header[3:], "little")
        payload = self._heard.decrypt(await self._take(encrypted_size(size))) if size else b""
        return header[2], payload

    def _told(self, kind: int, payload: bytes) -> None:
        if kind == NEW_JOB:
            self._channel = payload[:4]
            if payload[8]:  # from now on; else with the next previous hash
                self._job, self._ntime = payload[4:8], payload[9:13]
            self._version = payload[13:17] if payload[8] else payload[9:13]
        elif kind == NEW_PREVHASH:
            if self._job is None:
                self._counts.mining += 1
            self._job, self._ntime = payload[4:8], payload[40:44]
        elif kind == SHARE_OK:
            self._counts.accepted += int.from_bytes(payload[8:12], "little")
        elif kind == SHARE_ERROR:
            self._counts.rejected += 1

    async def _mine(self, shares_per_s: float) -> None:
        sequence = 0
        while True:
            await trio.sleep(random.expovariate(shares_per_s))
            if self._job is None:
                continue
            sequence += 1
            numbers = struct.pack("<I", sequence), self._job, random.randbytes(4), self._ntime, self._version
            await self._say(0x1A, b"".join((self._channel, *numbers)), 0x8000)


async def _one(
    port: int, number: int, shares_per_s: float, counts: Counts, scopes: set[trio.CancelScope]
) -> None:
    with trio.CancelScope() as scope:
        scopes.add(scope)
        while True:
            machine = Machine(counts)
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await machine.run(stream, f"acme.v2.u{number:04}", shares_per_s)
            except* (OSError, trio.BrokenResourceError):
                counts.lost += 1
                counts.mining -= machine.has_work
            await trio.sleep(COMES_AGAIN_S)


async def _play(port: int, machines: int, shares_per_s: float, connects_per_s: float) -> None:
    counts = Counts()
    async with trio.open_nursery() as nursery:
        while True:
            scopes, since_s = set[trio.CancelScope](), time.monotonic()
            accepted, rejected, lost = counts.accepted, counts.rejected, counts.lost
            counts.mining = 0
            for number in range(machines):
                nursery.start_soon(_one, port, number, shares_per_s / machines, counts, scopes)
                due_s = since_s + number / connects_per_s - time.monotonic()
                if due_s > 0:
                    await trio.sleep(due_s)
            times: dict[str, float] = {}
            with trio.move_on_after(BACK_S_MAX):
                while counts.mining < machines:
                    for percent in (50, 99):
                        if counts.mining * 100 >= machines * percent:
                            times.setdefault(str(percent), time.monotonic() - since_s)
                    await trio.sleep(0.01)
            times["all"] = time.monotonic() - since_s
            _print({"mining": counts.mining, "lost": counts.lost - lost, "back_after_s": times})
            if not await trio.to_thread.run_sync(sys.stdin.readline):
                nursery.cancel_scope.cancel()
                return
            _print({"accepted": counts.accepted - accepted, "rejected": counts.rejected - rejected})
            for scope in scopes:
                scope.cancel()


def _print(said: dict[str, Any]) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    trio.run(_play, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
