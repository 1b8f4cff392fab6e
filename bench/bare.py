"""A Stratum server without a pool: the switchboard on work made by hand, with a journal that keeps nothing.

What the proxy of `make bench` mines for. Prints its port.
"""

import sys

import structlog
import trio

from stratum._engine import Engine
from stratum.difficulty import DIFF1, DIFFICULTY_LOG2_MIN
from stratum.job import Solution, Work
from stratum.miners.channel import Channel, JobIds
from stratum.miners.contracts import Admitted, Refusal, Services
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.listening.listeners import Endpoint, Server
from stratum.miners.liveness import SessionLimits
from stratum.miners.owner import Owner
from stratum.miners.switchboard import BoardLimits, Switchboard
from stratum.miners.turns.connection_limits import ConnectionBounds, ConnectionLimits
from stratum.miners.vardiff import VardiffPolicy

BRANCHES = 12
NTIME = 1_700_000_000


class JournalThatKeepsNothing:
    durable = False

    async def commit(self, tallies: bytes) -> None:
        await trio.lowlevel.checkpoint()


class SourceThatForgets:
    def on_solution(self, solution: Solution) -> None:
        pass


class OpenAdmission:
    """Lets everybody in, with numbers in the order of their coming."""

    def __init__(self) -> None:
        self._workers = 0

    def admit(self, name: str, agent: str, owner: Owner) -> Admitted | Refusal:
        self._workers += 1
        return Admitted(self._workers)

    def leave(self, owner: Owner) -> None:
        pass


async def serve(difficulty_log2: int) -> None:
    engine = Engine()
    channel = Channel(
        1,
        SourceThatForgets(),
        engine=engine,
        job_ids=JobIds(),
        extranonces=ExtranonceSpace(4),
        extranonce2_size=8,
    )
    services = Services(
        engine=engine,
        channel=channel,
        admission=OpenAdmission(),
        vardiff=VardiffPolicy(difficulty_log2_min=difficulty_log2, difficulty_log2_max=difficulty_log2),
        start_difficulty_log2=difficulty_log2,
        limits=SessionLimits(),
    )
    connection_limits = ConnectionLimits(ConnectionBounds())
    board = Switchboard(
        services=services,
        connection_limits=connection_limits,
        journal=JournalThatKeepsNothing(),
        limits=BoardLimits(),
    )
    work = Work(
        prevhash_internal=bytes(range(32)),
        coinbase1=bytes(58),
        coinbase2=bytes(100),
        branch=tuple(bytes([level]) * 32 for level in range(BRANCHES)),
        version=0x20000000,
        nbits=0x1D00FFFF,
        ntime=NTIME,
        ntime_min=NTIME,
        ntime_max=NTIME + 7000,
        height=1,
        network_target=DIFF1,
    )
    server = Server(
        board=board, connection_limits=connection_limits, endpoints=(Endpoint(host="127.0.0.1", port=0),)
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(board.run)
        board.distribution.publish(channel, work, rate=1)
        await nursery.start(server.run)
        sys.stdout.write(f"{server.addresses[0][1]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    trio.run(serve, int(sys.argv[1]) if len(sys.argv) > 1 else DIFFICULTY_LOG2_MIN)
