"""Machines of several sites: each mines at its site's edge, and at another one while that is not there.

As firmware does that has two addresses, which looks now and then whether the first one is back. For each
machine and edge it counts what was sent, and what was acknowledged: what is in the books is compared with it.

Must not know: processes, books.
"""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog
import trio

from pool.demo_sites.programs import answers
from pool.swarm.fleet import CONNECT_TIMEOUT_S, START_SPREAD_S, MachineConnection, SwarmOptions
from pool.swarm.machine import BrokenPool, MinerMachine, RefusedByPool, SwarmStats

log = structlog.get_logger()

OF_A_SITE: Final = 4
# So many that each second of a fault is seen in the figures, and a small computer does not notice.
SHARES_PER_MINUTE: Final = 30.0
SEED: Final = 1
AGAIN_S: Final = (0.5, 1.5)  # between two rounds through its addresses
HOMEWARD_S: Final = 5.0  # between two looks whether the first address is back


class Address(msgspec.Struct, frozen=True):
    """Where an edge takes miners."""

    edge: str
    host: str
    port: int


class Machine:
    """One of them: its addresses in order, and what became of its shares at each edge."""

    def __init__(self, name: str, addresses: Sequence[Address]) -> None:
        self.name = name
        self.addresses = tuple(addresses)
        self.at: Address | None = None  # where it is connected
        self.connection: MachineConnection | None = None
        self.counted = {it.edge: SwarmStats() for it in addresses}

    @property
    def acknowledged(self) -> int:
        return sum(it.accepted for it in self.counted.values())

    @property
    def unanswered(self) -> int:
        """What it sent and heard nothing of: it may be counted or not."""
        return sum(it.submitted - it.accepted - sum(it.rejected.values()) for it in self.counted.values())


class Machines:
    """All of them: OF_A_SITE at each edge, of the tenants in turn."""

    def __init__(self, edges: Sequence[Address], tenants: Sequence[str]) -> None:
        self.all: list[Machine] = []
        for at, home in enumerate(edges):
            others = [*edges[at + 1 :], *edges[:at]]
            for place in range(OF_A_SITE):
                tenant = tenants[place % len(tenants)]
                failover = others[place % len(others)] if others else home
                name = f"{tenant}.{home.edge}.m{place + 1:02d}"
                self.all.append(Machine(name, tuple(dict.fromkeys((home, failover)))))
        self._options = SwarmOptions(
            host="",
            port=0,
            miners=len(self.all),
            tenants=tuple(tenants),
            shares_per_minute=SHARES_PER_MINUTE,
        )
        self._over = False
        self._gone = trio.Event()

    async def run(self) -> None:
        """Until all have stopped, or cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_homeward)
            async with trio.open_nursery() as mining:
                for machine in self.all:
                    mining.start_soon(self._mine, machine)
            nursery.cancel_scope.cancel()
        self._gone.set()

    async def stop(self) -> None:
        """Each sends nothing more, and goes when all that it sent is answered. Wait for it: seconds."""
        self._over = True
        for machine in self.all:
            if machine.connection is not None:
                machine.connection.leave()
        await self._gone.wait()

    def acknowledged(self) -> Counter[str]:
        """Shares, by the edge that has acknowledged them."""
        return self._sums("accepted")

    def connected(self) -> Counter[str]:
        """Machines that mine, by edge."""
        return self._sums("connected")

    @property
    def at_home(self) -> bool:
        """Whether all mine where they belong."""
        return all(it.counted[it.addresses[0].edge].connected for it in self.all)

    def _sums(self, what: str) -> Counter[str]:
        sums: Counter[str] = Counter()
        for machine in self.all:
            for edge, counted in machine.counted.items():
                sums[edge] += getattr(counted, what)
        return sums

    async def _mine(self, machine: Machine) -> None:
        # Not for secrets: a demo that can be repeated.
        rng = random.Random(f"{SEED}/{machine.name}")  # noqa: S311
        await trio.sleep(rng.uniform(0.0, START_SPREAD_S))
        while not self._over:
            for address in machine.addresses:
                if await self._mine_at(machine, address, rng):
                    break  # and begin again with the first one
            await trio.sleep(rng.uniform(*AGAIN_S))

    async def _mine_at(self, machine: Machine, address: Address, rng: random.Random) -> bool:
        """Whether somebody was there."""
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                stream = await trio.open_tcp_stream(address.host, address.port)
        except (OSError, trio.TooSlowError):
            return False
        counted = machine.counted[address.edge]
        protocol = MinerMachine(machine.name, rng, counted)
        machine.connection = MachineConnection(stream, protocol, rng, self._options, counted)
        machine.at = address
        if self._over:
            machine.connection.leave()
        try:
            async with stream:
                await machine.connection.mine()
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, BrokenPool) as error:
            log.debug("machine_lost_its_edge", machine=machine.name, edge=address.edge, reason=str(error))
        except RefusedByPool as error:
            log.warning("machine_refused", machine=machine.name, edge=address.edge, reason=str(error))
        finally:
            machine.connection = machine.at = None
        return True

    async def _look_homeward(self) -> None:
        while True:
            await trio.sleep(HOMEWARD_S)
            away = {it.addresses[0] for it in self.all if it.at not in (None, it.addresses[0])}
            for home in sorted(away, key=lambda it: it.edge):
                if not await answers(home.host, home.port):
                    continue
                for machine in self.all:
                    if machine.addresses[0] == home != machine.at and machine.connection is not None:
                        machine.connection.leave()
