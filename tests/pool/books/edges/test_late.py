"""What a payer has booked at a price that was over: what was held, and nothing that he has not seen."""

from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from payouts.rates import BlockFees, Scheme, quote
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.edges.late import BOOK_LATE, RECORDS_MAX
from pool.books.journal.rate_epochs import packed_basis
from pool.chain.paid_fees import heights_of
from pool.fleet.registry_error import RegistryError
from pool.people.roles import host_account
from tests.fakes.bitcoinds import LongChain
from tests.pool.books.edges import test_prices as prices
from tests.pool.books.edges.test_prices import BITS, EASIER, FIRST, HALVING, HARDER, NEXT, TIP, change_terms
from tests.stages.priced_hub import DAY_S, NORTH, PricedHub, paid, say
from tests.stages.site_journal import SiteJournal

fake, hub, _at_once = prices.fake, prices.hub, prices._at_once  # the fixtures

WORKER = "acme.c01.u1"
SHARES = 1_000


async def site_whose_node_stood(hub: PricedHub, fake: LongChain) -> SiteJournal:
    """Two days past the end of a difficulty it works by the price of before."""
    site = await hub.site_that_begins(NORTH)
    fake.grow_to(NEXT + 2 * 144)
    hub.clock.now_s = fake.time_at(NEXT - 1) + 2 * DAY_S
    site.moment_s = int(hub.clock.now_s)
    say(site, height=TIP)
    site.share(WORKER, SHARES)
    return site


def give(hub: PricedHub, until: int, height: int = TIP, live: Any = None) -> None:
    params = msgspec.json.encode({"name": NORTH, "height": height, "until": until})
    execute(Desk(hub.store, "main", live), BOOK_LATE, params, host_account("ann", ALONE))


async def allow(hub: PricedHub, site: SiteJournal) -> dict[str, int]:
    """All that it has: what is in the books then."""
    give(hub, site.log.at.number)
    await hub.edges.changed()
    return await hub.taken()


@pytest.mark.sqlite_suffices
async def test_an_edge_whose_node_stood_is_paid_for_what_was_held_by_the_price_that_it_had(
    hub: PricedHub, fake: LongChain
) -> None:
    site = await site_whose_node_stood(hub, fake)
    assert await hub.sent(site) == {}
    assert "the price of height 840300, which was over 48 hours before shares" in (hub.edge(NORTH).held or "")
    assert await allow(hub, site) == {WORKER: SHARES}
    assert hub.edge(NORTH).held is None
    say(site, 78, height=NEXT + 288, nbits=HARDER)
    site.share(WORKER, 5)
    assert await hub.sent(site) == {WORKER: SHARES + 5}, "it goes on by the price of now"


# What an edge does that knows a payer who believes it


def goes_on(site: SiteJournal) -> None:
    """After it was allowed."""


def price_of_two_weeks_before(site: SiteJournal) -> None:
    say(site, 78, height=FIRST - 1, nbits=EASIER, subsidy_sat=625_000_000)


def subsidy_of_before_the_halving(site: SiteJournal) -> None:
    """The difficulty is the same."""
    say(site, 78, height=HALVING - 1, subsidy_sat=625_000_000)


def earlier_height(site: SiteJournal) -> None:
    say(site, 78, height=TIP - 1)


def fees_of_better_days(site: SiteJournal) -> None:
    blocks = [BlockFees(height=it, hash=f"{it:064x}", fees_sat=900_000_000) for it in heights_of(TIP - 600)]
    say(site, 78, height=TIP, basis=packed_basis(blocks), paid=(paid(scheme="fpps"),))


CHEATS: dict[Callable[[SiteJournal], None], str] = {
    goes_on: "which was over 48 hours before shares",
    price_of_two_weeks_before: "the price of height 838655, which was over",
    subsidy_of_before_the_halving: "the price of height 839999, which was over",
    earlier_height: "the price of height 840299, which was over",
    fees_of_better_days: "goes by what blocks paid up to 839700, which was days before",
}


@pytest.mark.parametrize("cheat", CHEATS)
@pytest.mark.sqlite_suffices
async def test_what_a_payer_allows_is_no_more_than_what_was_held(
    hub: PricedHub, fake: LongChain, cheat: Callable[[SiteJournal], None]
) -> None:
    """The best that an edge gets is the rise of the difficulty, of what a person has looked at."""
    if cheat is fees_of_better_days:
        change_terms(hub, scheme=Scheme.FPPS)
        fake.block_fees = dict.fromkeys(heights_of(TIP - 600), 900_000_000)
        change_terms(hub, scheme=Scheme.PPS)
    site = await site_whose_node_stood(hub, fake)
    if cheat is goes_on:
        await hub.sent(site)
        assert await allow(hub, site) == {WORKER: SHARES}
    cheat(site)
    site.share(WORKER, 7 * SHARES)
    booked = {WORKER: SHARES} if cheat is goes_on else {}
    assert await hub.sent(site) == booked
    if cheat is not goes_on:
        assert await allow(hub, site) == {}, "what was held has more in it than he has seen"
    assert CHEATS[cheat] in (hub.edge(NORTH).held or ""), hub.edge(NORTH).held
    honest, old = (quote(it, HALVING, Fraction(1 << 16), SHARES, 200).psat for it in (HARDER, BITS))
    assert f"{old / honest - 1:.2%}" == "4.95%"
    assert hub.paid_sat() in (0, 232)


# What a payer cannot say


@pytest.mark.sqlite_suffices
async def test_nothing_is_allowed_of_what_is_not_here_or_not_held(hub: PricedHub, fake: LongChain) -> None:
    site = await site_whose_node_stood(hub, fake)
    with pytest.raises(RegistryError, match="the journal of edge north is not held"):
        give(hub, 2)
    await hub.sent(site)
    here = site.log.at.number
    live = SimpleNamespace(edge_standing=hub.edges.standing, edges_changed=lambda: None)
    with pytest.raises(RegistryError, match=f"record {here + 1} of edge north is not here: only {here} are"):
        give(hub, here + 1, live=live)
    for until in (0, RECORDS_MAX + 1):
        with pytest.raises(RegistryError, match="is none of the 691200 behind record 0"):
            give(hub, until)
    assert hub.edge(NORTH).held is not None
