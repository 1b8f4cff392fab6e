"""Stratum with a task for each connection, on Trio alone: what one would write first, as a measure.

    python -m bench.trio_server answers|hashes

Every line is parsed and answered, in the order of lines; what has arrived together is answered with one send.
`answers` does not look at a share, `hashes` builds its header and judges it with hashlib. Neither knows
workers, duplicates, times or a journal. Prints its port.
"""

import hashlib
import itertools
import resource
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import trio

from stratum.difficulty import DIFF1, DIFFICULTY_LOG2_MIN

RECV_BYTES: Final = 4096
LINE_BYTES_MAX: Final = 8192
BACKLOG: Final = 4096
BRANCH: Final = tuple(bytes([level]) * 32 for level in range(12))
COINBASE1, COINBASE2 = bytes(58), bytes(100)
EXTRANONCE2_BYTES: Final = 4
PREVHASH: Final = bytes(31) + b"\x01"
VERSION, NBITS, NTIME = 0x20000000, 0x1D00FFFF, 1_700_000_000
MASK: Final = 0x1FFFE000
TARGET: Final = DIFF1 << -DIFFICULTY_LOG2_MIN
LOW: Final = [23, "low difficulty share", None]

Judge = Callable[[bytes, list[str]], bool]


class Request(msgspec.Struct):
    method: str
    params: list[Any] = []  # msgspec copies it
    id: Any = None


def answers(extranonce1: bytes, params: list[str]) -> bool:
    return True


def hashes(extranonce1: bytes, params: list[str]) -> bool:
    """Whether the header's hash meets the target that everybody has."""
    _, _, extranonce2, ntime, nonce, *rolled = params
    version = VERSION & ~MASK | int(rolled[0], 16) & MASK if rolled else VERSION
    root = sha256d(COINBASE1 + extranonce1 + bytes.fromhex(extranonce2) + COINBASE2)
    for node in BRANCH:
        root = sha256d(root + node)
    header = struct.pack("<I32s32sIII", version, PREVHASH, root, int(ntime, 16), NBITS, int(nonce, 16))
    return int.from_bytes(sha256d(header), "little") <= TARGET


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def notify() -> bytes:
    """The only work there is."""
    words = b"".join(PREVHASH[at : at + 4][::-1] for at in range(0, 32, 4)).hex()
    branch = [node.hex() for node in BRANCH]
    times = [f"{VERSION:08x}", f"{NBITS:08x}", f"{NTIME:08x}"]
    return line(
        {
            "id": None,
            "method": "mining.notify",
            "params": ["1", words, COINBASE1.hex(), COINBASE2.hex(), branch, *times, True],
        }
    )


def line(message: object) -> bytes:
    return msgspec.json.encode(message) + b"\n"


DIFFICULTY_LINE: Final = line(
    {"id": None, "method": "mining.set_difficulty", "params": [2.0**DIFFICULTY_LOG2_MIN]}
)
NOTIFY_LINE: Final = notify()


def answer(said: bytes, extranonce1: bytes, judge: Judge) -> bytes:
    """What is said to one line. Raises MsgspecError for what is none."""
    request = msgspec.json.decode(said, type=Request)
    result: object = True
    error: object = None
    more = b""
    match request.method:
        case "mining.submit":
            if not judge(extranonce1, request.params):
                result, error = None, LOW
        case "mining.subscribe":
            result = [[["mining.notify", "1"]], extranonce1.hex(), EXTRANONCE2_BYTES]
        case "mining.configure":
            result = {"version-rolling": True, "version-rolling.mask": f"{MASK:08x}"}
        case "mining.authorize":
            more = DIFFICULTY_LINE + NOTIFY_LINE
    return line({"id": request.id, "result": result, "error": error}) + more


async def serve_miner(numbers: "itertools.count[int]", judge: Judge, stream: trio.SocketStream) -> None:
    """Until it leaves, or says what is no line."""
    extranonce1, unfinished = next(numbers).to_bytes(4, "big"), b""
    try:
        while data := await stream.receive_some(RECV_BYTES):
            *lines, unfinished = (unfinished + data).split(b"\n")
            if said := b"".join([answer(it, extranonce1, judge) for it in lines]):
                await stream.send_all(said)
            if len(unfinished) > LINE_BYTES_MAX:
                return
    except (trio.BrokenResourceError, msgspec.MsgspecError, ValueError):
        return


async def serve(judge: Judge, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    """On a free port of loopback, which is told."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=BACKLOG)
    task_status.started(listener.socket.getsockname()[1])
    await trio.serve_listeners(partial(serve_miner, itertools.count(), judge), [listener])


async def main(judge: Judge) -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, judge)
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    trio.run(main, {"answers": answers, "hashes": hashes}[sys.argv[1]])
