"""A Stratum server that a test plays, in the test's own thread: it moves when it is told to, between two
steps of the machines. It judges shares with hashlib, from nothing but what is on the wire.
"""

import hashlib
import json
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from pool.swarm._swarm import Swarm
from pool.swarm.load import LoadOptions, machine_rows
from pool.swarm.profiles import PROFILES, spoken

STEP_S = 0.002
DIFFICULTY = 2.0**-28  # sixteen hashes a share
PREVHASH = "".join(f"{number:08x}" for number in range(8))
BRANCH = ["11" * 32, "22" * 32]
NTIME = 0x655F0000


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


class Connection:
    """One machine's, as the server has it."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.extranonce1 = f"{number:08x}"
        self.mask = 0
        self.lines: list[dict[str, Any]] = []
        self.end: str | None = None  # closed, or reset
        self._received = b""

    def say(self, method: str, *params: object) -> None:
        self.write({"id": None, "method": method, "params": params})

    def write(self, message: dict[str, Any]) -> None:
        self.raw(json.dumps(message).encode() + b"\n")

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def methods(self) -> list[str]:
        return [line.get("method", "answer") for line in self.lines]

    def submits(self) -> list[list[str]]:
        return [line["params"] for line in self.lines if line.get("method") == "mining.submit"]

    def read(self) -> list[dict[str, Any]]:
        try:
            data = self.sock.recv(65_536)
            if not data:
                self.end = "closed"
        except (BlockingIOError, ssl.SSLWantReadError):
            return []
        except ConnectionResetError:
            self.end = "reset"
            return []
        *lines, self._received = (self._received + data).split(b"\n")
        self.lines += (heard := [json.loads(line) for line in lines])
        return heard


class StratumServer:
    """Answers every request as pools do; `judge` says what becomes of a share, None for accepted."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.setblocking(False)
        self._context = context
        self.port = self.listener.getsockname()[1]
        self.connections: list[Connection] = []
        self.judge: Callable[[Connection, list[str]], list[Any] | None] = lambda connection, params: None
        self.rejects: Callable[[], str] | None = None  # every share, in these words, without a code
        self.silent = False  # it answers nothing
        self.refuses: bytes | None = None  # as the whole answer to authorize

    def close(self) -> None:
        self.listener.close()
        for connection in self.connections:
            connection.sock.close()

    def step(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            pass
        else:
            if self._context is not None:
                sock.setblocking(False)
                sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            sock.setblocking(False)
            self.connections.append(Connection(sock, len(self.connections) + 1))
        for connection in self.connections:
            for line in connection.read() if connection.end is None else ():
                if not self.silent:
                    self._answer(connection, line)

    def _answer(self, connection: Connection, line: dict[str, Any]) -> None:
        method: str | None = line.get("method")
        params: Any = line.get("params")
        result: Any = True
        error = None
        if method == "mining.configure":
            asked = int(params[1]["version-rolling.mask"], 16)
            connection.mask = asked & 0x1FFFE000
            result = {"version-rolling": True, "version-rolling.mask": f"{connection.mask:08x}"}
        elif method == "mining.subscribe":
            result = [[["mining.notify", "1"]], connection.extranonce1, 4]
        elif method == "mining.authorize" and self.refuses is not None:
            return connection.raw(self.refuses)
        elif method == "mining.submit" and self.rejects is not None:
            reason = self.rejects()
            return connection.write(
                {"id": line["id"], "result": False, "error": None, "reject-reason": reason}
            )
        elif method == "mining.submit":
            error = self.judge(connection, params)
            result = None if error else True
        elif method in (None, "pong"):
            return None
        connection.write({"id": line["id"], "result": result, "error": error})
        if method == "mining.authorize":
            connection.say("mining.set_difficulty", DIFFICULTY)
            self.job(connection, "1")
        return None

    def job(
        self, connection: Connection, job_id: str, *, prevhash: str = PREVHASH, clean: bool = True
    ) -> None:
        work = (prevhash, "0200", "00ff", BRANCH, "20000000", "1d00ffff", f"{NTIME:08x}", clean)
        connection.say("mining.notify", job_id, *work)


def hash_of(connection: Connection, params: list[str], extranonce1: str | None = None) -> int:
    """Of the header that a share is."""
    _, _, extranonce2, ntime, nonce, *rolled = params
    coinbase = bytes.fromhex("0200" + (extranonce1 or connection.extranonce1) + extranonce2 + "00ff")
    root = sha256d(coinbase)
    for node in BRANCH:
        root = sha256d(root + bytes.fromhex(node))
    bits = int(rolled[0], 16) if rolled else 0
    assert bits & ~connection.mask == 0, "bits outside the mask"
    prevhash = b"".join(bytes.fromhex(PREVHASH[at : at + 8])[::-1] for at in range(0, 64, 8))
    header = (
        struct.pack("<I", 0x20000000 & ~connection.mask | bits)
        + prevhash
        + root
        + struct.pack("<III", int(ntime, 16), 0x1D00FFFF, int(nonce, 16))
    )
    return int.from_bytes(sha256d(header), "little")


def meets(share_hash: int, difficulty: float) -> bool:
    return share_hash <= int((0xFFFF << 208) / difficulty)


class Hall:
    """Machines and the server they mine at."""

    def __init__(self, server: StratumServer, **changes: Any) -> None:
        self.server = server
        fields: dict[str, Any] = {"containers": 1, "units": 1, "closed_loop": True, "hashing": 1.0}
        options = LoadOptions(host="localhost", address="127.0.0.1", port=server.port, **(fields | changes))
        profiles = [
            spoken(
                PROFILES[name],
                password="d=1",
                host=options.host,
                port=options.port,
                suggest_difficulty=options.suggest_difficulty,
            )
            for name in options.profiles
        ]
        self.swarm = Swarm(
            options.address,
            options.port,
            profiles,
            machine_rows(options),
            shares_per_s=options.shares_per_s / options.machines,
            hashrate_hps=options.hashrate_hps,
            closed_loop=options.closed_loop,
            hashing=options.hashing,
            connects_per_s=options.connects_per_s,
            bad=options.bad,
            late=options.late,
            tls=options.tls,
            seed=options.seed,
        )

    def until(self, holds: Callable[[], object]) -> None:
        """Both sides move on until it does."""
        while not holds():
            self.swarm.run(STEP_S)
            self.server.step()

    def begin(self) -> Connection:
        """Power, and the first machine's connection, when all machines have work."""
        count = len(self.server.connections)
        self.swarm.restore()
        self.until(lambda: self.swarm.mining() and len(self.server.connections) > count)
        return self.server.connections[count]
