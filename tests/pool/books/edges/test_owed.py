"""What an edge of a test chain may be owed, where each share is a block: nothing that ends the hub, or takes
from what others may be owed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pool.books.journal import folding
from pool.books.store import Store
from stratum.tallies import Verdict
from tests.fakes.bitcoinds import LongChain
from tests.stages.journal import NOW_S
from tests.stages.priced_hub import (
    DAY_S,
    NORTH,
    REGTEST,
    SOUTH,
    PricedHub,
    hub_on,
    paid,
    say,
    sell,
    under_way,
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)


@pytest.fixture
async def hub(store: Store, tmp_path: Path) -> AsyncIterator[PricedHub]:
    """A share is worth 24.5 bitcoin there, to tenants that are paid by PPS."""
    fake = LongChain(chain="regtest", height=160, tip_at_s=NOW_S, usual=REGTEST.nbits)
    async with hub_on(store, tmp_path, fake, chain="regtest", price=REGTEST, height=161) as made:
        yield made


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.UNDELIVERED])
async def test_who_is_owed_more_than_all_coins_of_a_test_chain_holds_his_edge(
    hub: PricedHub, verdict: Verdict
) -> None:
    """One record of 2^32 shares: no ledger takes the 107,374,182,375 bitcoin, and the hub ended by its
    settlement. A hub that begins again does not book it either."""
    site = await hub.site_that_begins(NORTH)
    site.share("acme.c01.u1", 1_000)
    await hub.sent(site)
    site.share("acme.c01.u1", 2**32 - 1, log2=63, verdict=verdict)
    assert await hub.sent(site) == {"acme.c01.u1": 1_000}
    words = "shares worth 107374182375 bitcoin up to record"
    assert words in (hub.edge(NORTH).held or "")
    await hub.start()
    assert await hub.taken() == {"acme.c01.u1": 1_000}
    assert words in (hub.edge(NORTH).held or "")
    assert hub.paid_sat() == 1_000 * 2_450_000_000


@pytest.mark.sqlite_suffices
async def test_so_does_what_is_under_way_at_an_orders_price(hub: PricedHub) -> None:
    """Of an order a share is worth its hashes, and not a block at most: 170 of difficulty 2^63 are a sixth of
    all coins, and there are 200."""
    sell(hub, tenants=("acme",))
    site = await hub.site_that_begins(NORTH)
    say(site, upstream="north", order="blue", paid=(paid(),))
    site.share("acme.c01.u1", log2=-32)
    assert await hub.sent(site) == {"acme.c01.u1": 1}
    site.say(b"", noted=tuple(under_way(site, key=it.to_bytes(32)) for it in range(200)))
    await hub.sent(site)
    assert "shares worth 4131529 bitcoin" in (hub.edge(NORTH).held or "")


@pytest.mark.sqlite_suffices
async def test_who_fills_his_room_up_takes_nothing_of_what_others_may_be_owed(hub: PricedHub) -> None:
    """He is owed a sixth of all coins at once, as one of two edges, and another one in the hour. All of both
    is one price of one tenant, which a settlement pays at once."""
    north, south = [await hub.site_that_begins(it) for it in (NORTH, SOUTH)]
    each = 7_000_000 // 2 // 25  # shares: the third of the coins is theirs, by two
    north.share("acme.c01.u1", each)
    await hub.sent(north)
    hub.clock.now_s += 1_800
    north.moment_s = south.moment_s = int(hub.clock.now_s)
    north.share("acme.c01.u1", each // 2)
    await hub.sent(north)
    assert hub.edge(NORTH).held is None
    north.share("acme.c01.u1", 1_000)
    await hub.sent(north)
    assert "a third of all coins that there are, shared by 2 edges" in (hub.edge(NORTH).held or "")
    south.share("acme.c02.u1", each)
    assert await hub.sent(south, SOUTH) == {"acme.c01.u1": each + each // 2, "acme.c02.u1": each}
    assert hub.edge(SOUTH).held is None
    assert hub.paid_sat() == (each * 5 // 2) * 2_450_000_000


@pytest.mark.sqlite_suffices
async def test_a_hub_that_begins_while_the_books_are_ahead_of_its_clock_holds_nobody(hub: PricedHub) -> None:
    """Our clock was a day ahead for a moment: when something was taken last is nowhere."""
    site = await hub.site_that_begins(NORTH)
    hub.clock.now_s += DAY_S
    site.share("acme.c01.u1", 1_000)
    await hub.sent(site)
    hub.clock.now_s -= DAY_S
    await hub.start()
    site.share("acme.c01.u1", 500)
    assert await hub.sent(site) == {"acme.c01.u1": 1_500}
    assert hub.edge(NORTH).held is None
