"""A world of one seed: a pool with its disk and books, bitcoinds, miners, and what goes wrong between them.

`play` lives it from the first connection until everything has come to rest, and asks the auditor. A world
of several sites is `tests.simulation.sites_world`.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from tests.simulation.auditor import Audit, Found
from tests.simulation.course import Clock, Threads
from tests.simulation.dice import dice
from tests.simulation.faults import KINDS, Faults
from tests.simulation.ground import (
    ELSEWHERE,
    ELSEWHERE_TOO,
    FEES_BPS,
    Ground,
    Size,
    habits,
    play_on,
)
from tests.simulation.ground import (
    LARGE as LARGE,
)
from tests.simulation.ground import (
    SMALL as SMALL,
)
from tests.simulation.ground import (
    Outcome as Outcome,
)
from tests.simulation.kept_auditor import kept
from tests.simulation.miners import Miner
from tests.simulation.network import Connection
from tests.simulation.pool_node import PoolNode
from tests.simulation.proxies import MACHINES_MAX, Proxy, proxy, translator
from tests.simulation.upstreams import PROMPT_S

PROXIES: Final = (0, 0, 1, 2)  # of Stratum V2
REST_S: Final = 27.0  # that one process serves until all is folded and settled, and all blocks are in place
QUIET_S: Final = 4.0  # for what is under way at the end to be answered
PATIENCE_S: Final = 300.0  # for a pool to serve again, when all is well


class World(Ground):
    """One pool on one host."""

    def __init__(self, seed: int, size: Size, directory: Path, clock: Clock, threads: Threads) -> None:
        super().__init__(seed, size, directory, clock, threads, ("first", "second"))
        self.node = PoolNode(self, directory, FEES_BPS)
        self.faults = Faults(self, KINDS)
        self.tenants = [it for it in FEES_BPS if it != ELSEWHERE or self.chance.random() < ELSEWHERE_TOO]
        self.miners = [self._miner(number) for number in range(self.chance.randint(*size.machines))]
        proxies = dice(seed, "proxies").choice(PROXIES)
        self.proxies = [self._proxy(number) for number in range(proxies)]

    def _miner(self, number: int) -> Miner:
        chance, links = dice(self.seed, "miner", number), dice(self.seed, "links", number)
        its = habits(chance)
        tenant = chance.choice(self.tenants)
        return Miner(
            f"{tenant}.c{number % 3:02}.u{number}",
            its,
            self,
            chance,
            connect=lambda miner: self._connect(miner, number, links),
            after=self.network.after,
            session_number=self.next_session,
        )

    def _proxy(self, number: int) -> Proxy:
        chance, links = dice(self.seed, "proxy", number), dice(self.seed, "proxy's links", number)
        tenant, manners = chance.choice(self.tenants), chance.choice((translator, proxy))(chance)
        return Proxy(
            [f"{tenant}.v{number:02}.u{unit}" for unit in range(chance.randint(1, MACHINES_MAX))],
            manners,
            self,
            chance,
            reach=lambda line: self.node.reach(line, f"10.1.0.{number}", links),
            authority=self.node.authority,
        )

    def session_of(self, name: str) -> int:
        return self.next_session()

    def wrong(self, verdict: str, words: object) -> None:
        self.found.append(Found(verdict, str(words)))

    def _connect(self, miner: Miner, number: int, links: Any) -> Connection | None:
        return self.node.connect(miner, f"10.0.{number % 7}.{number}", links)

    async def live(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.network.run)
            nursery.start_soon(self.node.run)
            nursery.start_soon(self.upstream.run)
            chance = dice(self.seed, "power")
            for miner in self.miners:
                self.network.after(chance.uniform(0.0, 3.0), miner.start)
            for its in self.proxies:
                nursery.start_soon(its.run)
            self.faults.plan()
            await trio.sleep(self.seconds)
            self.faults.over()
            self.upstream.answer_s = PROMPT_S
            await self._within(self.node.served, "the pool never came back")
            await trio.sleep(QUIET_S)
            for miner in self.miners:
                miner.stop()
            for its in self.proxies:
                its.stop()
            await self._within(self._all_is_at_rest, "the pool never came to rest")
            await self.node.stop()
            nursery.cancel_scope.cancel()

    async def _within(self, what: Callable[[], Awaitable[None]], verdict: str) -> None:
        with trio.move_on_after(PATIENCE_S) as patience:
            await what()
        if patience.cancelled_caught:
            self.found.append(Found(verdict, f"in {PATIENCE_S:.0f} s"))

    async def _all_is_at_rest(self) -> None:
        """A fuse that was lit may go off only now: who is killed begins again, and settles what was left."""
        process = None
        while process is None or self.node.serving is not process:
            await self.node.served()
            process = self.node.serving
            await trio.sleep(REST_S)

    def outcome(self) -> Outcome:
        fees = {tenant: {fee} for tenant, fee in FEES_BPS.items()}
        counted = len(self.upstream.counted)
        audit = Audit(self.node.database, self.shares, self.works, self.bitcoinds.nodes, fees, counted)
        found = (*self.found, *audit.findings(), *kept(self.node.database, self.shares))
        return self.ended(found, self.node.lives)


def play(seed: int, size: Size = SMALL) -> Outcome:
    """Live the world of a seed."""
    return play_on(seed, partial(World, seed, size))
