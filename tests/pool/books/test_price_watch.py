"""What our own work was priced by, held against our nodes afterwards: told, and nothing stopped."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing

from payouts.rates import Scheme
from pool.books.price_watch import PriceWatch
from pool.books.store import Store
from pool.chain.node_set import NodeSet
from pool.chain.price_history import PriceHistory
from pool.fleet.rows import TenantTerms, add_tenant
from tests.fakes.bitcoinds import LongChain, refuses_connections
from tests.fixtures.databases import store_in
from tests.stages.journal import NOW_S, PRICE
from tests.stages.prices import open_epoch

TIP = 840_300


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Store]:
    with closing(store_in(tmp_path)) as store:
        with store.write() as connection:
            terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
            add_tenant(connection, "acme", terms, by="test", now_s=NOW_S)
        yield store


def priced(store: Store, nbits: int, height: int = TIP) -> None:
    with store.write() as connection:
        open_epoch(connection, msgspec.structs.replace(PRICE, nbits=nbits), height, NOW_S)


@asynccontextmanager
async def watching(store: Store, fake: LongChain) -> AsyncIterator[list[Any]]:
    """What is told."""
    nodes = NodeSet([fake.config], chain="main", transport=lambda config: fake)
    history = PriceHistory(nodes)
    watch = PriceWatch(store, history.difficulties)
    async with trio.open_nursery() as nursery:
        await nursery.start(nodes.run)
        await nodes.chosen()
        nursery.start_soon(history.run)
        nursery.start_soon(watch.run)
        with structlog.testing.capture_logs() as logs:
            yield logs
        nursery.cancel_scope.cancel()


def wrong(logs: list[Any]) -> list[tuple[int, str]]:
    return [(it["epoch"], it["nbits"]) for it in logs if it["event"] == "price_is_wrong"]


async def test_a_price_that_one_node_gave_and_no_chain_has_is_told(
    books: Store, autojump_clock: trio.testing.MockClock
) -> None:
    fake = LongChain(height=TIP, tip_at_s=NOW_S, usual=PRICE.nbits)
    priced(books, PRICE.nbits)
    async with watching(books, fake) as logs:
        await trio.sleep(200)
        assert wrong(logs) == []
        priced(books, 0x1D00FFFF)
        priced(books, PRICE.nbits)
        await trio.sleep(300)
        assert wrong(logs) == [(2, "1d00ffff")]


async def test_what_no_node_says_is_looked_at_later(
    books: Store, autojump_clock: trio.testing.MockClock
) -> None:
    fake = LongChain(height=TIP, tip_at_s=NOW_S, usual=PRICE.nbits)
    priced(books, 0x1703FFFF)
    async with watching(books, fake) as logs:
        fake.fault = refuses_connections
        await trio.sleep(600)
        assert wrong(logs) == []
        assert [it["event"] for it in logs].count("prices_not_looked_up") == 1
        fake.fault = None
        await trio.sleep(600)
        assert wrong(logs) == [(1, "1703ffff")]
