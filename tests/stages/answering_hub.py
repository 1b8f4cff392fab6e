"""A hub as it answers its edges, without a line to them."""

from pathlib import Path

import trio
import trio.testing
from sqlalchemy import select

from payouts.schemas.divisions import block_funds
from payouts.schemas.money import blocks, workers
from pool.books.bookkeeper import Bookkeeper, BookTimes
from pool.books.edges.leases import Granted
from pool.books.store import Store
from pool.chain.networks import NETWORKS
from pool.chain.node_set import NodeSet
from pool.hub import Begin
from pool.keeping import Keeping
from pool.sites.answers import Answers
from pool.sites.signet import OurSignet
from pool.sites.sites import ASKED_AT_ONCE
from stratum.difficulty import target_from_nbits
from tests.fakes.bitcoinds import FakeBitcoind
from tests.histories.solving import PAYOUT
from tests.stages.hub import Hub
from tests.stages.site_journal import SiteJournal
from tests.stages.two_pools import settings

NORTH, SOUTH = "north", "south"
EASIEST = target_from_nbits(NETWORKS["regtest"].easiest_nbits)


class House:
    """A hub with two edges, of which north has begun; `easiest` is what a block takes now."""

    def __init__(self, store: Store, home: Path, chain: str = "regtest") -> None:
        self.hub = Hub(store, home, NORTH, SOUTH)
        self.easiest: int | None = EASIEST
        self.room = True
        self.node = fake = FakeBitcoind(chain=chain)
        self.nodes = nodes = NodeSet([fake.config], chain=chain, transport=lambda it: fake)
        bookkeeper = Bookkeeper(store, nodes, times=BookTimes())
        self.config = settings(home, fake.config, payout_script=PAYOUT)
        self.keeping = Keeping(self.config, store, bookkeeper, lambda it: self.hub.registry.renumbered(it))
        self.turns = trio.CapacityLimiter(ASKED_AT_ONCE)
        self.signet = OurSignet(nodes, self.keeping)

    async def start(self) -> None:
        await self.hub.start()
        self.site: SiteJournal = self.hub.site(NORTH)
        self.granted: Granted = await self.hub.begin(NORTH, self.site)
        self.north = self.answers(NORTH)

    def answers(self, name: str) -> Answers:
        return Answers(
            name,
            self.config,
            self.hub.store,
            self.keeping,
            self.hub.edges,
            begin=lambda edge: begin(edge.name),
            changes=lambda: 7,
            has_room=lambda it: self.room,
            tenants=tuple,
            easiest_target=lambda: self.easiest,
            signet=self.signet,
            turns=self.turns,
            wall_clock=self.hub.clock,
        )

    def in_books(self) -> list[tuple[str, int, int, int | None]]:
        with self.hub.store.read() as connection:
            columns = blocks.c.hash, blocks.c.height, blocks.c.income_sat, blocks.c.worker_id
            return [tuple(row) for row in connection.execute(select(*columns))]

    def finders(self) -> dict[str, str | None]:
        """By block."""
        with self.hub.store.read() as connection:
            rows = select(blocks.c.hash, workers.c.unit).outerjoin(
                workers, workers.c.id == blocks.c.worker_id
            )
            return {row.hash: row.unit for row in connection.execute(rows)}

    def divided_by(self) -> dict[str, str]:
        with self.hub.store.read() as connection:
            of = block_funds.c
            return {row[0]: row[1] for row in connection.execute(select(of.block_hash, of.scheme))}


def begin(name: str) -> Begin:
    raise AssertionError(f"{name} is told all")
