"""A hub whose edges' prices are held against a bitcoind that a test has, and what an edge says of prices."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from payouts.accrual import settle
from payouts.book_time import book_time
from payouts.ledger import balance_sat, payable
from pool.books.audit.verify import verify
from pool.books.book import bind
from pool.books.store import Store
from pool.chain.node_set import NodeSet
from pool.chain.price_history import PriceHistory
from pool.journal.records import Noted, Paid
from pool.orders.rows import add_order
from pool.upstreams.rows import add_upstream
from tests.fakes.bitcoinds import LongChain
from tests.histories.orders import new_order, new_upstream
from tests.stages.hub import Hub
from tests.stages.journal import NOW_S, PRICE
from tests.stages.site_journal import SiteJournal

NORTH, SOUTH = "north", "south"
DAY_S = 86_400
REGTEST = msgspec.structs.replace(PRICE, nbits=0x207FFFFF, subsidy_sat=25 * 10**8)
MADE_UP = 77  # the number of a rate


class PricedHub(Hub):
    """Its edges' prices are held against a bitcoind; what it is asked for is asked for between two folds."""

    nodes: NodeSet

    async def taken(self, folds: int = 4) -> dict[str, int]:
        """What is in the books after some minutes."""
        for _ in range(folds):
            await self.folding.fold()
            assert self.history is not None
            if self.nodes.current is not None:
                await self.history.ask()
        await self.folding.fold()
        return self.shares()

    async def site_that_begins(self, name: str) -> SiteJournal:
        site = self.site(name)
        self.granted = await self.begin(name, site)
        return site

    async def sent(self, site: SiteJournal, name: str = NORTH) -> dict[str, int]:
        """All of its journal, in the books."""
        await self.edges.receive(name, 1, b"".join(site.frames()))
        return await self.taken()

    def waits(self) -> str | None:
        (standing, *_) = self.edges.standing()
        return standing.waits

    def paid_sat(self) -> int:
        """To acme, when the hour is settled."""
        with self.store.write() as connection:
            settle(connection, book_time(connection, int(self.clock.now_s) + 7_200))
            return balance_sat(connection, payable(1))


@asynccontextmanager
async def hub_on(
    store: Store, home: Path, *fakes: LongChain, chain: str = "main", **at: Any
) -> AsyncIterator[PricedHub]:
    transports = {fake.name: fake for fake in fakes}
    nodes = NodeSet(
        [fake.config for fake in fakes], chain=chain, transport=lambda config: transports[config.name]
    )
    bind(store, chain)
    hub = PricedHub(store, home, NORTH, SOUTH, **at)
    hub.nodes = nodes
    hub.history = PriceHistory(nodes, wall_clock=hub.clock, clock=hub.clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(nodes.run)
        await nodes.chosen()
        await hub.start()
        yield hub
        nursery.cancel_scope.cancel()
    with store.read() as connection:
        assert verify(connection).wrong is None


def say(site: SiteJournal, number: int = MADE_UP, **changes: Any) -> None:
    """A price of its own, from here on."""
    assert site.rate is not None
    site.rate = msgspec.structs.replace(site.rate, number=number, **changes)


def paid(tenant: str = "acme", **changes: Any) -> Paid:
    terms: dict[str, Any] = {
        "scheme": "pps",
        "fee_bps": 200,
        "sat_per_ph_day": None,
        "upstream_risk": "tenant",
    }
    return Paid(tenant=tenant, **(terms | changes))


def under_way(site: SiteJournal, log2: int = 63, key: bytes = bytes(32)) -> Noted:
    assert site.rate is not None
    return Noted(
        key=key,
        worker=site.number("acme.c01.u1"),
        epoch=site.rate.number,
        difficulty_log2=log2,
        counted=False,
        target=b"\1" * 32,
    )


def sell(hub: PricedHub, **changes: Any) -> None:
    order = {"from_s": NOW_S, "until_s": NOW_S + DAY_S, "tenants": ("borealis",), "containers": ()}
    with hub.store.write() as connection:
        add_upstream(connection, new_upstream(), by="ann", now_s=NOW_S)
        add_order(connection, new_order("blue", **(order | changes)), by="ann", now_s=NOW_S)
