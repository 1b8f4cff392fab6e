"""A machine, and a proxy, that speak Stratum V2 to a pool: written from the specification, and from nothing
that the pool has of it. The curve is the judge's.

It hashes with hashlib, builds its roots from what it was told, and checks the pool's certificate.
"""

import hashlib
import hmac
import itertools
import struct
import time
from collections.abc import Callable
from random import Random
from typing import Any

import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.judges import curve
from tests.stages.waiting import PATIENCE_S

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
ANY_TARGET = (1 << 256) - 1


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def authority_of(text: str) -> bytes:
    """The x of the key that stands behind a pool's address."""
    number = 0
    for letter in text:
        number = number * 58 + BASE58.index(letter)
    raw = number.to_bytes(38, "big")
    assert sha256d(raw[:-4])[:4] == raw[-4:]
    assert raw[:2] == b"\x01\x00"
    return raw[2:-4]


class WrongPool(Exception):
    """Who answers is not the pool."""


class Cipher:
    def __init__(self, key: bytes) -> None:
        self._aead, self._count = ChaCha20Poly1305(key), 0

    def _nonce(self) -> bytes:
        self._count += 1
        return struct.pack("<IQ", 0, self._count - 1)

    def seal(self, data: bytes, ad: bytes = b"") -> bytes:
        return self._aead.encrypt(self._nonce(), data, ad)

    def unseal(self, data: bytes, ad: bytes = b"") -> bytes:
        return self._aead.decrypt(self._nonce(), data, ad)


def derive(chain: bytes, secret: bytes) -> tuple[bytes, bytes]:
    temporary = hmac.new(chain, secret, hashlib.sha256).digest()
    one = hmac.new(temporary, b"\x01", hashlib.sha256).digest()
    return one, hmac.new(temporary, one + b"\x02", hashlib.sha256).digest()


class Initiator:
    """The machine's half of the handshake."""

    def __init__(self, random: Random) -> None:
        self._secret = random.randrange(1, curve.N)
        self.first = curve.encode(curve.public_x(self._secret), random)
        name = b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256"
        self._chain = hashlib.sha256(name).digest()
        self._hash = hashlib.sha256(self._chain).digest()
        self._mix(self.first)
        self._mix(b"")

    def _mix(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _agree(self, theirs: bytes) -> Cipher:
        secret = curve.shared_secret(self._secret, self.first, theirs, initiates=True)
        self._chain, key = derive(self._chain, secret)
        return Cipher(key)

    def finish(self, second: bytes, authority: bytes, now_s: int) -> tuple[Cipher, Cipher]:
        """Ciphers for what is said and what is heard. Raises WrongPool."""
        ephemeral, static, certificate = second[:64], second[64:144], second[144:]
        self._mix(ephemeral)
        server = self._agree(ephemeral).unseal(static, self._hash)
        self._mix(static)
        shown = self._agree(server).unseal(certificate, self._hash)
        self._mix(certificate)
        version, since_s, until_s = struct.unpack("<HII", shown[:10])
        signed = shown[:10] + curve.decode(server).to_bytes(32, "big")
        if version != 0 or not since_s <= now_s <= until_s:
            raise WrongPool("its certificate is not of now")
        if not curve.verifies(shown[10:], hashlib.sha256(signed).digest(), authority):
            raise WrongPool("its certificate is not the authority's")
        said, heard = derive(self._chain, b"")
        return Cipher(said), Cipher(heard)


class Fields:
    """Reads what the pool says."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        assert len(taken) == size
        return taken

    def u(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def b(self, size: int = 1) -> bytes:
        return self.take(self.u(size))

    def ntime(self) -> int | None:
        return self.u(4) if self.u(1) else None


def u256(value: int) -> bytes:
    return value.to_bytes(32, "little")


def short(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return bytes([len(raw)]) + raw


KINDS: dict[int, tuple[str, Callable[["Fields"], dict[str, Any]]]] = {
    0x01: ("SetupConnection.Success", lambda f: {"version": f.u(2), "flags": f.u(4)}),
    0x02: ("SetupConnection.Error", lambda f: {"flags": f.u(4), "code": f.b().decode()}),
    0x11: (
        "OpenStandardMiningChannel.Success",
        lambda f: {
            "request": f.u(4),
            "channel": f.u(4),
            "target": f.u(32),
            "prefix": f.b(),
            "group": f.u(4),
        },
    ),
    0x12: ("OpenMiningChannel.Error", lambda f: {"request": f.u(4), "code": f.b().decode()}),
    0x14: (
        "OpenExtendedMiningChannel.Success",
        lambda f: {
            "request": f.u(4),
            "channel": f.u(4),
            "target": f.u(32),
            "size": f.u(2),
            "prefix": f.b(),
            "group": f.u(4),
        },
    ),
    0x15: (
        "NewMiningJob",
        lambda f: {
            "channel": f.u(4),
            "job": f.u(4),
            "ntime": f.ntime(),
            "version": f.u(4),
            "root": f.take(32),
        },
    ),
    0x17: ("UpdateChannel.Error", lambda f: {"channel": f.u(4), "code": f.b().decode()}),
    0x18: ("CloseChannel", lambda f: {"channel": f.u(4), "code": f.b().decode()}),
    0x19: ("SetExtranoncePrefix", lambda f: {"channel": f.u(4), "prefix": f.b()}),
    0x1C: (
        "SubmitShares.Success",
        lambda f: {"channel": f.u(4), "last": f.u(4), "count": f.u(4), "sum": f.u(8)},
    ),
    0x1D: (
        "SubmitShares.Error",
        lambda f: {"channel": f.u(4), "sequence": f.u(4), "code": f.b().decode()},
    ),
    0x1F: (
        "NewExtendedMiningJob",
        lambda f: {
            "channel": f.u(4),
            "job": f.u(4),
            "ntime": f.ntime(),
            "version": f.u(4),
            "rolls": f.u(1) & 1,
            "branch": [f.take(32) for _ in range(f.u(1))],
            "coinbase": (f.b(2), f.b(2)),
        },
    ),
    0x20: (
        "SetNewPrevHash",
        lambda f: {
            "channel": f.u(4),
            "job": f.u(4),
            "prevhash": f.take(32),
            "ntime": f.u(4),
            "nbits": f.u(4),
        },
    ),
    0x21: ("SetTarget", lambda f: {"channel": f.u(4), "target": f.u(32)}),
}
Said = dict[str, Any]


class MachineChannel:
    """An open channel and what it mines on."""

    def __init__(self, opened: Said, *, extended: bool) -> None:
        self.number: int = opened["channel"]
        self.target: int = opened["target"]
        self.prefix: bytes = opened["prefix"]
        self.size: int = opened.get("size", 0)
        self.extended = extended
        self.jobs: dict[int, Said] = {}
        self.job: Said | None = None  # that it mines
        self.prevhash = b""
        self.nbits = 0
        self.closed: str | None = None
        self._sequences = itertools.count(1)
        self._nonces = itertools.count(1)

    def told(self, name: str, said: Said) -> None:
        if name in ("NewMiningJob", "NewExtendedMiningJob"):
            job = said | {"prefix": self.prefix, "target": self.target}
            assert job["job"] not in self.jobs, "an id that is in use"
            self.jobs[job["job"]] = job
            if job["ntime"] is not None:
                assert self.prevhash, "an active job without a previous hash"
                self.job = job
        elif name == "SetNewPrevHash":
            self.job = self.jobs[said["job"]]
            assert self.job["ntime"] is None, "only a future job is begun"
            self.jobs = {said["job"]: self.job}
            self.job |= {"ntime": said["ntime"], "target": self.target}
            self.prevhash, self.nbits = said["prevhash"], said["nbits"]
        elif name == "SetTarget":
            self.target = said["target"]
        elif name == "SetExtranoncePrefix":
            self.prefix = said["prefix"]
        elif name == "CloseChannel":
            self.closed = said["code"]

    def share(self, *, job: Said | None = None, roll: int = 0, **changes: Any) -> tuple[Said, int]:
        """One that meets the job's target where the target is easy, and its hash."""
        job = job or self.job
        assert job is not None
        nonce = next(self._nonces)
        share = {
            "sequence": next(self._sequences),
            "job": job["job"],
            "nonce": nonce,
            "ntime": job["ntime"],
            "version": job["version"] ^ roll,
            "extranonce": nonce.to_bytes(8, "big")[8 - self.size :],
        } | changes
        return share, self.hash_of(share, job)

    def hash_of(self, share: Said, job: Said) -> int:
        root = job.get("root")
        if root is None:
            one, two = job["coinbase"]
            root = sha256d(one + job["prefix"] + share["extranonce"] + two)
            for node in job["branch"]:
                root = sha256d(root + node)
        header = struct.pack("<I", share["version"]) + self.prevhash + root
        header += struct.pack("<III", share["ntime"], self.nbits, share["nonce"])
        return int.from_bytes(sha256d(header), "little")


class Sv2Machine:
    """One connection. Whatever the pool says is in `heard`, and has been followed."""

    def __init__(self, stream: trio.abc.Stream, said: Cipher, heard: Cipher) -> None:
        self.stream = stream
        self.cipher, self._unsealed = said, heard
        self._received = b""
        self.heard: list[tuple[str, Said]] = []
        self.channels: dict[int, MachineChannel] = {}
        self._requests = itertools.count(1)

    # Frames

    async def raw(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE_S):
            await self.stream.send_all(data)

    def frame(self, kind: int, payload: bytes, extension: int = 0) -> bytes:
        header = struct.pack("<HB", extension, kind) + len(payload).to_bytes(3, "little")
        sealed = self.cipher.seal(header)
        for at in range(0, len(payload), 65_519):
            sealed += self.cipher.seal(payload[at : at + 65_519])
        return sealed

    async def say(self, kind: int, payload: bytes, extension: int = 0) -> None:
        await self.raw(self.frame(kind, payload, extension))

    async def _bytes(self, size: int) -> bytes:
        while len(self._received) < size:
            data = await self.stream.receive_some(65_536)
            if not data:
                raise EOFError("the pool closed the connection")
            self._received += data
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    async def hear(self) -> tuple[str, Said]:
        """The next message. Raises EOFError at the end."""
        with trio.fail_after(PATIENCE_S):
            try:
                header = self._unsealed.unseal(await self._bytes(22))
                extension, kind = struct.unpack("<HB", header[:3])
                left, payload = int.from_bytes(header[3:], "little"), b""
                while left:
                    part = min(left, 65_519)
                    payload += self._unsealed.unseal(await self._bytes(part + 16))
                    left -= part
            except trio.BrokenResourceError:
                raise EOFError("the pool closed the connection") from None
        fields = Fields(payload)
        if extension & 0x7FFF == 1:
            said: Said = {"request": fields.u(2), "list": [fields.u(2) for _ in range(fields.u(2))]}
            name = {1: "RequestExtensions.Success", 2: "RequestExtensions.Error"}[kind]
            fields.data = b""
        else:
            name, read = KINDS[kind]
            said = read(fields)
        assert not fields.data, f"{name} has more than it should"
        assert bool(extension & 0x8000) == (0x15 <= kind <= 0x21), "the bit of channel messages"
        self.heard.append((name, said))
        if name.startswith("Open") and name.endswith("Success"):
            self.channels[said["channel"]] = MachineChannel(said, extended="size" in said)
        elif "channel" in said and said["channel"] in self.channels:
            self.channels[said["channel"]].told(name, said)
        return name, said

    async def until(self, *names: str) -> Said:
        """Hear until one of these comes. That others do is no reason to wait for ever: a pool that serves has
        a job for everybody twice a minute."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            name, said = await self.hear()
            if name in names:
                return said
        raise AssertionError(f"none of {names} came, and what did was {self.heard[-10:]}")

    # What machines say

    async def setup(self, flags: int = 0, *, protocol: int = 0, low: int = 2, high: int = 2) -> Said:
        texts = b"".join(map(short, ("Maker", "S21", "firmware-1.2", "")))
        head = struct.pack("<BHHI", protocol, low, high, flags)
        await self.say(0x00, head + short("pool.test") + struct.pack("<H", 34254) + texts)
        return await self.until("SetupConnection.Success", "SetupConnection.Error")

    async def extend(self, *extensions: int) -> Said:
        payload = struct.pack(f"<HH{len(extensions)}H", 7, len(extensions), *extensions)
        await self.say(0x00, payload, extension=1)
        return await self.until("RequestExtensions.Success", "RequestExtensions.Error")

    async def ask_to_open(
        self, name: str, *, least: int | None = None, hashrate: float = 0.0, max_target: int = ANY_TARGET
    ) -> int:
        """The number of the request."""
        request = next(self._requests)
        payload = struct.pack("<I", request) + short(name) + struct.pack("<f", hashrate)
        payload += u256(max_target) + (b"" if least is None else struct.pack("<H", least))
        await self.say(0x10 if least is None else 0x13, payload)
        return request

    async def open(self, name: str = "acme.c01.u1", **options: Any) -> MachineChannel:
        """A channel that has work; extended where `least` says how much extranonce it needs."""
        await self.ask_to_open(name, **options)
        opened = await self.until(
            "OpenStandardMiningChannel.Success",
            "OpenExtendedMiningChannel.Success",
            "OpenMiningChannel.Error",
        )
        assert "channel" in opened, opened
        channel = self.channels[opened["channel"]]
        while channel.job is None:
            await self.hear()
        return channel

    async def submit(
        self, channel: MachineChannel, share: Said, worker: str | None = None, number: int | None = None
    ) -> None:
        fields = ("sequence", "job", "nonce", "ntime", "version")
        payload = struct.pack("<6I", number or channel.number, *(share[it] for it in fields))
        if channel.extended:
            payload += short(share["extranonce"])
        if worker is not None:
            raw = worker.encode()
            payload += struct.pack(">HBH", 2, 1, len(raw)) + raw
        await self.say(0x1B if channel.extended else 0x1A, payload, extension=0x8000)

    async def update(self, channel: MachineChannel, *, hashrate: float, max_target: int = ANY_TARGET) -> None:
        payload = struct.pack("<If", channel.number, hashrate) + u256(max_target)
        await self.say(0x16, payload, extension=0x8000)

    async def close_channel(self, channel: MachineChannel) -> None:
        payload = struct.pack("<I", channel.number) + short("switched off")
        await self.say(0x18, payload, extension=0x8000)

    async def mine(self, channel: MachineChannel, worker: str | None = None, **options: Any) -> Said:
        """A share and its answer."""
        share, _ = channel.share(**options)
        await self.submit(channel, share, worker)
        return await self.until("SubmitShares.Success", "SubmitShares.Error")

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


async def connect_sv2(
    port: int, authority: str, now_s: int, *, random: Random | None = None, setup: bool = True
) -> Sv2Machine:
    """Handshake and, with `setup`, SetupConnection done. Raises WrongPool."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    initiator = Initiator(random or Random(port))
    try:
        with trio.fail_after(PATIENCE_S):
            await stream.send_all(initiator.first)
            second = b""
            while len(second) < 234:
                data = await stream.receive_some(234 - len(second))
                if not data:
                    raise EOFError("the pool closed the connection")
                second += data
        machine = Sv2Machine(stream, *initiator.finish(second, authority_of(authority), now_s))
        if setup:
            assert "version" in await machine.setup()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return machine
