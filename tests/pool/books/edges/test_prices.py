"""What a captured edge, or one whose bitcoind lies, gains by its prices: nothing; and no honest one is held
for what its node, or ours, does not know yet."""

import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from sqlalchemy import select

from payouts.book_time import latest_s
from payouts.rates import BlockFees, OrderCredit, Scheme, UpstreamRisk, quote
from payouts.receipts.making_good import MakeGood, Tolerance
from payouts.schemas.money import fee_bases, rates, tenants
from pool.books.audit.verify import verify
from pool.books.book import bind
from pool.books.edges import prices
from pool.books.edges.paid_terms import ALONE_S, LATE_S
from pool.books.edges.prices import CATCHES_UP, HEARD_MAX, RATES_MAX, STREAM_STANDS_S, Heard
from pool.books.edges.rows import release_edge
from pool.books.journal import folding
from pool.books.journal.rate_epochs import packed_basis
from pool.books.journal.rate_epochs import rate_of as joined_rate
from pool.books.journal.rate_rows import described
from pool.books.store import Store
from pool.chain.fee_watch import recent_fees
from pool.chain.node_set import NodeSet
from pool.chain.nodes import NodeConfig
from pool.chain.paid_fees import heights_of
from pool.chain.price_history import PriceHistory
from pool.fleet.rows import TenantTerms, add_tenant, set_terms
from pool.journal import log
from pool.journal.beginning import Mark
from pool.upstreams.rows import add_upstream
from stratum.tallies import Verdict
from tests.fakes.bitcoinds import LongChain, refuses_connections
from tests.histories.orders import PRICE as SOLD_SAT
from tests.histories.orders import new_upstream
from tests.stages.hub import Hub
from tests.stages.journal import NOW_S, PRICE, tally
from tests.stages.priced_hub import (
    DAY_S,
    MADE_UP,
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
from tests.stages.regtest import MINER_ADDRESS, running
from tests.stages.site_journal import SiteJournal

TIP = 840_300
FIRST, NEXT, HALVING = 838_656, 840_672, 840_000
BITS, EASIER, HARDER, FORKED = PRICE.nbits, 0x1703FFFF, 0x17031ABE, 0x17031A00
TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
FEES_SAT = 6_000_000


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)


@pytest.fixture
def fake() -> LongChain:
    found = LongChain(height=TIP, tip_at_s=NOW_S, usual=BITS, bits={FIRST - 2016: EASIER, NEXT: HARDER})
    found.fees_sat = FEES_SAT
    return found


@pytest.fixture
async def hub(store: Store, tmp_path: Path, fake: LongChain) -> AsyncIterator[PricedHub]:
    async with hub_on(store, tmp_path, fake) as made:
        yield made


def basis(top: int, fees_sat: int = FEES_SAT) -> bytes:
    return packed_basis(
        [BlockFees(height=it, hash=f"{it:064x}", fees_sat=fees_sat) for it in heights_of(top)]
    )


def change_terms(hub: Hub, **changes: Any) -> None:
    with hub.store.write() as connection:
        terms = msgspec.structs.replace(TERMS, **changes)
        set_terms(connection, "acme", terms, by="ann", now_s=int(hub.clock.now_s))


# What it was worth


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("checked", [False, True])
async def test_a_captured_edge_that_says_a_difficulty_of_1_is_paid_nothing(
    store: Store, tmp_path: Path, fake: LongChain, checked: bool
) -> None:
    """A thousand shares of difficulty 65,536 are 232 sat. At a network of difficulty 1 each is a block. The
    bits of that are within the rules of the chain, so without a look at its height the books pay three
    thousand bitcoin."""
    async with hub_on(store, tmp_path, fake) as hub:
        if not checked:
            hub.history_was, hub.history = hub.history, None  # type: ignore[attr-defined]
            await hub.start()
            hub.history = hub.history_was  # type: ignore[attr-defined]
        site = await hub.site_that_begins(NORTH)
        say(site, nbits=0x1D00FFFF)
        site.share("acme.c01.u1", 1_000)
        await hub.sent(site)
        honest = quote(BITS, HALVING, Fraction(1 << 16), 1_000, 200).sat
        assert honest == 232
        assert hub.paid_sat() == (0 if checked else 306_250_000_000)
        held = hub.edge(NORTH).held
        if checked:
            assert held is not None
            assert "has bits 1d00ffff at height 840000, where our nodes have 17034219" in held
        else:
            assert held is None


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.UNDELIVERED])
async def test_more_work_than_the_whole_network_does_holds_the_edge(hub: PricedHub, verdict: Verdict) -> None:
    """One record of it would be owed more than all coins that there are: no ledger takes such a settlement,
    and the hub ended by it, again at each start."""
    site = await hub.site_that_begins(NORTH)
    site.share("acme.c01.u1", 1_000)
    await hub.sent(site)
    site.share("acme.c01.u1", 2**32 - 1, log2=63, verdict=verdict)
    assert await hub.sent(site) == {"acme.c01.u1": 1_000}
    assert "all machines of the network, which do 618402828 TH/s" in (hub.edge(NORTH).held or "")
    assert hub.paid_sat() == 232


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("log2", [63, 1 << 62])
async def test_so_does_what_is_under_way(hub: PricedHub, log2: int) -> None:
    """Of a journal that is over, each is booked as a share without an answer, by whoever keeps the books."""
    site = await hub.site_that_begins(NORTH)
    site.share("acme.c01.u1", 1_000)
    await hub.sent(site)
    site.say(b"", noted=(under_way(site, log2),))
    await hub.sent(site)
    assert "all machines of the network, which do 618402828 TH/s" in (hub.edge(NORTH).held or "")


@pytest.mark.sqlite_suffices
async def test_half_of_the_network_is_booked(hub: PricedHub) -> None:
    """Ten minutes of it are 160,000 shares of difficulty 2^28."""
    site = await hub.site_that_begins(NORTH)
    for _ in range(4):
        site.share("acme.c01.u1", 160_000, log2=28)
        await hub.sent(site)
        hub.clock.now_s += 600
    assert (hub.shares(), hub.edge(NORTH).held) == ({"acme.c01.u1": 640_000}, None)


# What it may not say


def difficulty_of_two_weeks_before(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    say(site, height=FIRST - 1, nbits=EASIER, subsidy_sat=625_000_000)


def the_same_for_a_part_of_blocks(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    """Its shares are paid nothing at once, and would count for more of each block to come."""
    change_terms(hub, scheme=Scheme.PPLNS2)
    say(site, height=FIRST - 1, nbits=EASIER, subsidy_sat=625_000_000, paid=(paid(scheme="pplns2"),))


def subsidy_of_before_the_halving(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    say(site, height=HALVING - 1, subsidy_sat=625_000_000)


def subsidy_of_its_own(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    say(site, subsidy_sat=625_000_000)


def height_of_no_block(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    say(site, height=-1)


def date_of_the_year_2100(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    """All that is booked from then on would be of that year."""
    say(site, opened_at_s=4_102_444_800)


def fees_that_no_block_paid(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    change_terms(hub, scheme=Scheme.FPPS)
    say(site, basis=basis(TIP - 6, 21 * 10**14 // 144), paid=(paid(scheme="fpps"),))


def fees_of_work_that_is_paid_by_none(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    """They would be the newest of the books, and what others are paid by."""
    say(site, solo=True, basis=basis(TIP - 6, 10**9), paid=(paid(scheme="solo"),))


def fees_of_the_best_blocks(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    change_terms(hub, scheme=Scheme.FPPS)
    blocks = [BlockFees(height=it, hash=f"{it:064x}", fees_sat=FEES_SAT) for it in range(TIP - 288, TIP, 2)]
    say(site, basis=packed_basis(blocks), paid=(paid(scheme="fpps"),))


def fees_of_the_best_week(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    change_terms(hub, scheme=Scheme.FPPS)
    top = TIP - 1_200
    fake.block_fees = dict.fromkeys(heights_of(top), 900_000_000)
    say(site, basis=basis(top, 900_000_000), paid=(paid(scheme="fpps"),))


def fees_without_a_list(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    change_terms(hub, scheme=Scheme.FPPS)
    say(site, paid=(paid(scheme="fpps"),))


def another_scheme(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    say(site, basis=basis(TIP), paid=(paid(scheme="fpps"),))


def another_fee(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    say(site, paid=(paid(fee_bps=0),))


def another_risk(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    say(site, paid=(paid(upstream_risk="pool"),))


def fee_of_before(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    change_terms(hub, fee_bps=300)
    hub.clock.now_s += ALONE_S + 60
    site.moment_s = int(hub.clock.now_s)
    say(site, opened_at_s=site.moment_s)


def price_without_its_tenant(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    """Who is not named is paid by his terms of when he joined, and these were better."""
    say(site, paid=(paid("borealis"),))
    hub.clock.now_s += ALONE_S + 120
    site.moment_s = int(hub.clock.now_s)


def work_that_the_upstream_pays(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    with hub.store.write() as connection:
        upstream = add_upstream(connection, new_upstream(), by="ann", now_s=NOW_S)
    change_terms(hub, scheme=Scheme.PROXY, upstream_id=upstream.id)
    say(site, upstream="north", paid=(paid(),))


def order_that_it_does_not_supply(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    sell(hub)
    say(site, upstream="north", order="blue", paid=(paid(),))


def order_that_is_over(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    sell(hub, tenants=("acme",))
    hub.clock.now_s += 2 * DAY_S + 120
    site.moment_s = int(hub.clock.now_s)
    say(site, upstream="north", order="blue", paid=(paid(),))


def more_prices_than_there_are(hub: PricedHub, fake: LongChain, site: SiteJournal) -> None:
    assert site.rate is not None
    numbered = (msgspec.structs.replace(site.rate, number=1_000 + it) for it in range(RATES_MAX + 1))
    site.say(b"", rates=tuple(numbered))


SAYS: dict[str, tuple[Callable[[PricedHub, LongChain, SiteJournal], None], str]] = {
    "the difficulty of two weeks before": (
        difficulty_of_two_weeks_before,
        "was over 274 hours before shares",
    ),
    "that difficulty for a part of blocks": (
        the_same_for_a_part_of_blocks,
        "was over 274 hours before shares",
    ),
    "the subsidy of before the halving": (subsidy_of_before_the_halving, "was over 50 hours before shares"),
    "a subsidy of its own": (subsidy_of_its_own, "at height 840000 brings no 625000000 sat"),
    "the height of no block": (height_of_no_block, "of height -1, which no block ever has"),
    "a date of the year 2100": (date_of_the_year_2100, "is dated later than what it is with"),
    "fees that no block paid": (
        fees_that_no_block_paid,
        "goes by 14583333333333 sat .* they paid 6000000 sat",
    ),
    "fees of work that is paid by none": (fees_of_work_that_is_paid_by_none, "goes by 1000000000 sat"),
    "fees of the best blocks": (fees_of_the_best_blocks, "it is not of the last 144 blocks before one"),
    "fees of the best week": (fees_of_the_best_week, "blocks paid up to 839100, 8 days before shares"),
    "fees without a list": (fees_without_a_list, "goes by the fees of blocks, and names none"),
    "another scheme": (another_scheme, "no terms of acme ever paid its work as rate 77 does"),
    "another fee": (another_fee, "no terms of acme ever paid its work as rate 77 does"),
    "another risk": (another_risk, "no terms of acme ever paid its work as rate 77 does"),
    "a fee of before": (fee_of_before, "pays acme by terms that were over more than a week before"),
    "a price without its tenant": (price_without_its_tenant, "has shares of acme, and does not say"),
    "work that its upstream pays": (work_that_the_upstream_pays, "no terms of acme ever paid its work as"),
    "an order that it does not supply": (
        order_that_it_does_not_supply,
        "acme supplies nothing to order blue",
    ),
    "an order that is over": (order_that_is_over, "has shares for order blue, which was over by then"),
    "more prices than there are": (more_prices_than_there_are, "new rates at once"),
}


@pytest.mark.parametrize(
    "lie", [pytest.param(it, marks=() if "order" in it else pytest.mark.sqlite_suffices) for it in SAYS]
)
async def test_a_price_that_the_chain_or_the_books_do_not_have_is_not_paid_and_holds_that_edge_alone(
    hub: PricedHub, fake: LongChain, lie: str
) -> None:
    says, words = SAYS[lie]
    north, south = await hub.site_that_begins(NORTH), await hub.site_that_begins(SOUTH)
    north.share("acme.c01.u1", 3)
    assert await hub.sent(north) == {"acme.c01.u1": 3}
    says(hub, fake, north)
    north.share("acme.c01.u1", 500)
    south.share("acme.c02.u1", 2)
    await hub.sent(south, SOUTH)
    assert await hub.sent(north) == {"acme.c01.u1": 3, "acme.c02.u1": 2}
    held = hub.edge(NORTH).held
    assert held is not None, hub.edges.standing()
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(held)
    with hub.store.read() as connection:
        assert latest_s(connection) <= hub.clock.now_s
        assert connection.scalars(select(fee_bases.c.id)).all() == []
        assert set(connection.scalars(select(rates.c.nbits))) == {BITS}


@pytest.mark.sqlite_suffices
async def test_a_journal_that_numbers_the_rows_of_our_prices_is_none_of_an_edge(
    hub: PricedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the first version have no prices: numbers are rows of the books, and the oldest may be the
    best."""
    monkeypatch.setattr(log, "VERSION", 1)
    site = await hub.site_that_begins(NORTH)
    site.rate = None
    site.say(tally(site.number("acme.c01.u1"), hub.epoch), accepted=1)
    assert await hub.sent(site) == {}
    assert "does not say what its rates are" in (hub.edge(NORTH).held or "")


# When it was


@pytest.mark.sqlite_suffices
async def test_who_is_heard_of_cannot_go_on_at_the_price_of_before(hub: PricedHub, fake: LongChain) -> None:
    """The best that a captured edge can do about a difficulty that is over: to go on with it, and to say that
    each share is of the moment before. It has a day, and what a line may be late, of 14 days."""
    fake.grow_to(NEXT - 1)
    site = await hub.site_that_begins(NORTH)
    hours = 0
    for hour in range(1, 14 * 24):
        for minute in range(0, 60, 2):
            hub.clock.now_s = NOW_S + 3600 * hour + 60 * minute
            mark = Mark(number=site.log.at.number, moment_s=site.moment_s)
            await hub.edges.renew(NORTH, 1, mark)
        if hour % 6 == 0:
            site.share("acme.c01.u1", 6)
            hours = (await hub.sent(site)).get("acme.c01.u1", 0)
        if hub.edge(NORTH).held is not None:
            break
    assert "was over" in (hub.edge(NORTH).held or "")
    before = (fake.time_at(NEXT - 1) - NOW_S) // 3600
    assert hours - before == 29, "of 336"
    assert hours - before <= (LATE_S + STREAM_STANDS_S) // 3600


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("named", [True, False])
async def test_who_is_heard_of_is_not_paid_by_terms_of_before_for_a_week(
    hub: PricedHub, fake: LongChain, named: bool
) -> None:
    """Its tenant is paid by luck from now on: its blocks are divided, and it says that it has not heard of
    it, so that each share is paid at once as well; or does not say by what, at a price that he came to
    before. It had eight days of that."""
    site = await hub.site_that_begins(NORTH)
    if not named:
        say(site, paid=())
    site.share("acme.c01.u1", 1)
    await hub.sent(site)
    changed_h = 36  # when nothing can have gathered any more that was on its way
    for hour in range(240):
        if hour == changed_h - 1 and not named:
            say(site, MADE_UP + 1, paid=(), opened_at_s=NOW_S + 3600 * hour)
        if hour == changed_h:
            change_terms(hub, scheme=Scheme.PPLNS2)
        for minute in range(0, 60, 2):
            hub.clock.now_s = NOW_S + 3600 * hour + 60 * minute
            await hub.edges.renew(NORTH, 1, Mark(number=site.log.at.number, moment_s=site.moment_s))
        if hour >= changed_h - 1:
            site.moment_s = NOW_S + 3600 * min(hour, changed_h + 3)  # it says the best that it can
            site.share("acme.c01.u1", 1)
            await hub.sent(site)
        if hub.edge(NORTH).held is not None:
            break
    assert "by terms that the edge cannot have worked by" in (hub.edge(NORTH).held or "")
    assert hour - changed_h == 4 + STREAM_STANDS_S // 3600, "of 192"


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("named", [True, False])
async def test_who_was_alone_has_not_worked_by_terms_that_it_was_not_told(
    hub: PricedHub, fake: LongChain, named: bool
) -> None:
    """Its tenant was paid by luck, and is paid by PPS since the day before: its blocks of that day are
    divided, and each share of it is paid, if it says so or does not say by what."""
    change_terms(hub, scheme=Scheme.PPLNS2)
    site = await hub.site_that_begins(NORTH)
    hub.clock.now_s += 60
    site.moment_s = int(hub.clock.now_s)
    say(site, opened_at_s=site.moment_s, paid=(paid(scheme="pplns2"),))
    site.share("acme.c01.u1", 1)
    await hub.sent(site)
    hub.clock.now_s += 3_600
    change_terms(hub, scheme=Scheme.PPS)
    changed_at_s = int(hub.clock.now_s)
    hub.clock.now_s += DAY_S
    say(site, MADE_UP + 1, opened_at_s=changed_at_s + 60, paid=(paid(),) if named else ())
    site.moment_s = changed_at_s + DAY_S // 2
    site.share("acme.c01.u1", 1_000)
    await hub.begin(NORTH, site)
    await hub.edges.receive(NORTH, 2, b"".join(site.frames()))
    assert await hub.taken() == {"acme.c01.u1": 1}
    assert "or it was not told of them yet" in (hub.edge(NORTH).held or "")


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(("published_h", "back_h"), [(1 / 6, 1), (10, 11)])
async def test_what_the_stream_had_while_the_hub_was_away_is_no_sign_that_its_edge_was_told(
    hub: PricedHub, fake: LongChain, published_h: float, back_h: int
) -> None:
    """The hub is cut off, and terms change. The edge's own line fails ten minutes after that, or never: what
    it had published is read when the hub is back, and the edge is heard of in the eleventh hour. Until then
    it worked by the terms of before, as an honest one does."""
    site = await hub.site_that_begins(NORTH)
    began_s = site.moment_s = int(hub.clock.now_s)
    site.share("acme.c01.u1", 1)
    ahead_s = began_s + 3_600  # by the clock of a server: nothing is of later than now
    await hub.edges.take(NORTH, 1, b"".join(site.frames()), ahead_s)
    await hub.taken()
    hub.clock.now_s = began_s + 1_800
    change_terms(hub, scheme=Scheme.PPLNS2)

    def work(hour: float) -> None:
        site.moment_s = began_s + int(3_600 * hour)
        site.share("acme.c01.u1", 1)

    hours = (1 / 6, *range(1, 11))
    for hour in hours:
        if hour <= published_h:
            work(hour)
    hub.clock.now_s = began_s + 3_600 * back_h
    await hub.edges.take(NORTH, 1, b"".join(site.frames()), None)
    await hub.taken()
    for hour in hours:
        if hour > published_h:
            work(hour)
    hub.clock.now_s = began_s + 3_600 * 11
    assert await hub.sent(site) == {"acme.c01.u1": 1 + len(hours)}
    assert hub.edge(NORTH).held is None


@pytest.mark.sqlite_suffices
async def test_who_lets_only_the_stream_say_that_he_lives_is_told_all_the_same(
    hub: PricedHub, fake: LongChain
) -> None:
    """Else he went on by terms of before for a week, and was not even silent."""
    site = await hub.site_that_begins(NORTH)
    site.share("acme.c01.u1", 1)
    await hub.sent(site)
    for minute in range(7 * 60):
        if minute == 60:
            change_terms(hub, scheme=Scheme.PPLNS2)
        hub.clock.now_s += 60
        site.moment_s = int(hub.clock.now_s)
        whole_hour = minute % 60 == 59
        if whole_hour:
            site.share("acme.c01.u1", 1)
        frames = b"".join(site.frames()) if whole_hour else b""
        await hub.edges.take(NORTH, 1, frames, hub.clock.now_s)
        if whole_hour:
            await hub.taken()
        if hub.edge(NORTH).held is not None:
            break
    assert "by terms that the edge cannot have worked by" in (hub.edge(NORTH).held or "")
    assert (minute + 1) // 60 - 1 == 5, "of 192"


@pytest.mark.sqlite_suffices
async def test_an_edge_that_was_alone_for_a_week_is_paid_for_it_by_the_difficulty_of_then(
    hub: PricedHub, fake: LongChain
) -> None:
    site = await hub.site_that_begins(NORTH)
    site.share("acme.c01.u1", 2)
    await hub.sent(site)
    for day in range(7):
        site.moment_s = NOW_S + day * DAY_S
        if fake.height + 144 * day >= NEXT:
            say(site, height=NEXT, nbits=HARDER, opened_at_s=NOW_S + 3 * DAY_S)
        site.share("acme.c01.u1", 10)
    hub.clock.now_s += 7 * DAY_S
    fake.grow_to(TIP + 7 * 144)
    await hub.begin(NORTH, site)
    await hub.edges.receive(NORTH, 2, b"".join(site.frames()))
    assert await hub.taken() == {"acme.c01.u1": 72}
    assert hub.edge(NORTH).held is None


async def test_an_edge_that_was_alone_over_two_changes_of_terms_is_paid_by_those_that_it_knew(
    hub: PricedHub, fake: LongChain
) -> None:
    """And the audit finds nothing: its price became a row after both."""
    site = await hub.site_that_begins(NORTH)
    for fee_bps in (300, 400):
        hub.clock.now_s += DAY_S
        change_terms(hub, fee_bps=fee_bps)
    say(site, height=NEXT, nbits=HARDER, opened_at_s=NOW_S + 3 * DAY_S)
    site.moment_s = NOW_S + 4 * DAY_S
    site.share("acme.c01.u1", 5)
    hub.clock.now_s = NOW_S + 5 * DAY_S
    fake.grow_to(TIP + 5 * 144)
    await hub.begin(NORTH, site)
    await hub.edges.receive(NORTH, 2, b"".join(site.frames()))
    assert await hub.taken() == {"acme.c01.u1": 5}
    assert hub.edge(NORTH).held is None
    with hub.store.read() as connection:
        assert verify(connection).wrong is None


def test_what_comes_of_an_edge_is_of_as_late_as_it_can_be() -> None:
    """Heard of for a day, what is new is six hours old at most. After three days of silence it may be three
    days older; and that is over when it has been heard of for as long as its line needs to catch up."""
    heard = Heard(NOW_S, NOW_S)
    now_s, number = NOW_S, 0

    def listen(hours: int) -> int:
        nonlocal now_s, number
        for _ in range(60 * hours):
            now_s, number = now_s + 60, number + 1
            heard.note(number, now_s)
        return now_s - heard.not_before_s(number + 1)

    assert listen(24 + 7) == STREAM_STANDS_S
    now_s += 3 * DAY_S
    assert listen(1) == 3 * DAY_S + 60 - 59 * 60 * CATCHES_UP + STREAM_STANDS_S
    assert listen(9) == STREAM_STANDS_S
    assert heard.not_before_s(1) == NOW_S
    listen(300)
    assert len(heard._known) == HEARD_MAX
    heard.note(number + 1, NOW_S)  # our clock stepped back


def test_a_sign_of_life_changes_nothing_of_what_is_just_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The books ask in a thread of theirs: the floor of a later record would date this one when its price was
    over, and an honest edge was held for it."""
    heard, minutes = Heard(NOW_S, NOW_S), iter(range(1, 1 << 20))

    def listen(hours: int) -> int:
        for _ in range(60 * hours):
            minute = next(minutes)
            heard.note(minute, NOW_S + 60 * minute)
        return minute

    def meanwhile(*given: Any, **key: Any) -> int:
        at = bisect_left(*given, **key)
        listen(1)
        return at

    newest = listen(300)
    for number in (newest - 60 * 5, newest + 1):
        floor_s = heard.not_before_s(number)
        with monkeypatch.context() as patched:
            patched.setattr(prices, "bisect_left", meanwhile)
            assert heard.not_before_s(number) == floor_s


@pytest.mark.sqlite_suffices
async def test_shares_that_were_on_their_way_when_a_process_died_are_paid_a_week_later(
    hub: PricedHub, fake: LongChain
) -> None:
    """The pool bears what an upstream did not take: who begins again counts it, at the price of then."""
    change_terms(hub, upstream_risk=UpstreamRisk.POOL)
    site = await hub.site_that_begins(NORTH)
    say(site, paid=(paid(upstream_risk="pool"),))
    site.share("acme.c01.u1", 2)
    assert await hub.sent(site) == {"acme.c01.u1": 2}
    fake.grow_to(NEXT + 144)
    hub.clock.now_s += 4 * DAY_S
    site.moment_s = int(hub.clock.now_s)
    site.share("acme.c01.u1", 1, verdict=Verdict.UNDELIVERED)
    assert await hub.sent(site) == {"acme.c01.u1": 3}
    assert hub.edge(NORTH).held is None


# Whoever is honest is not held


@pytest.mark.sqlite_suffices
async def test_an_edge_whose_node_is_away_for_days_works_for_an_order(
    hub: PricedHub, fake: LongChain
) -> None:
    """Its price has the difficulty that it knew last, and the order's price does not follow from that."""
    change_terms(hub, order_credit=OrderCredit.ORDER)
    sell(hub, tenants=("acme",), until_s=NOW_S + 9 * DAY_S)
    site = await hub.site_that_begins(NORTH)
    say(site, upstream="north", order="blue", paid=(paid(sat_per_ph_day=SOLD_SAT),))
    site.share("acme.c01.u1", 1)
    assert await hub.sent(site) == {"acme.c01.u1": 1}
    fake.grow_to(NEXT + 144)
    hub.clock.now_s += 7 * DAY_S
    site.moment_s = int(hub.clock.now_s)
    site.share("acme.c01.u1", 2)
    assert await hub.sent(site) == {"acme.c01.u1": 3}
    assert hub.edge(NORTH).held is None


@pytest.mark.sqlite_suffices
async def test_an_edge_that_delivers_what_is_owed_after_an_order_s_end_is_not_held(
    hub: PricedHub, fake: LongChain
) -> None:
    """Five percent of a month is a day and a half of work."""
    terms = {"make_good": MakeGood.EXTENSION, "tolerances": (Tolerance(100, 24),), "extension_h": 72}
    change_terms(hub, order_credit=OrderCredit.ORDER)
    sell(hub, tenants=("acme",), **terms)
    site = await hub.site_that_begins(NORTH)
    hub.clock.now_s += 3 * DAY_S
    site.moment_s = int(hub.clock.now_s)
    say(site, upstream="north", order="blue", paid=(paid(sat_per_ph_day=SOLD_SAT),))
    site.share("acme.c01.u1", 1)
    assert await hub.sent(site) == {"acme.c01.u1": 1}
    assert hub.edge(NORTH).held is None
    hub.clock.now_s += 2 * DAY_S + 120
    site.moment_s = int(hub.clock.now_s)
    site.share("acme.c01.u1", 1)
    assert await hub.sent(site) == {"acme.c01.u1": 1}
    assert "which was over by then" in (hub.edge(NORTH).held or "")


@pytest.mark.sqlite_suffices
async def test_a_price_that_a_new_tenant_came_to_is_said_again_as_the_books_have_it(hub: PricedHub) -> None:
    """By a process that begins again, with shares of before on their way."""
    hub.clock.now_s += 60
    with hub.store.write() as connection:
        add_tenant(connection, "cirrus", TERMS, by="ann", now_s=int(hub.clock.now_s))
        tenant_id = connection.execute(select(tenants.c.id).where(tenants.c.name == "cirrus")).scalar_one()
        joined_rate(connection, hub.epoch, tenant_id)
        said = described(connection, hub.epoch)
    assert [it.tenant for it in said.paid] == ["acme", "borealis", "cirrus"]
    site = await hub.site_that_begins(NORTH)
    site.rate = said
    site.share("acme.c01.u1", 1)
    assert await hub.sent(site) == {"acme.c01.u1": 1}
    assert hub.edge(NORTH).held is None


@pytest.mark.sqlite_suffices
async def test_our_node_is_an_hour_behind_that_of_the_edge(
    store: Store, tmp_path: Path, fake: LongChain
) -> None:
    fake.grow_to(TIP - 6)
    async with hub_on(store, tmp_path, fake) as hub:
        site = await hub.site_that_begins(NORTH)
        say(site, height=TIP + 1)
        site.share("acme.c01.u1", 5)
        assert await hub.sent(site) == {"acme.c01.u1": 5}
        fake.grow_to(NEXT - 6)
        say(site, 78, height=NEXT, nbits=HARDER)
        site.share("acme.c01.u1", 5)
        await hub.sent(site)
        assert "our nodes have not said what bits 17031abe at height 840672 are" in (hub.waits() or "")
        assert hub.edge(NORTH).held is None
        fake.grow_to(NEXT)
        assert await hub.taken() == {"acme.c01.u1": 10}
        assert hub.waits() is None


@pytest.mark.sqlite_suffices
async def test_an_edge_on_a_fork_of_two_blocks(hub: PricedHub, fake: LongChain) -> None:
    """In the middle of a period it is nothing. Over the end of one it waits until our node is sure, and is
    held when no node of ours has that block; who gives it the header has all of it taken."""
    site = await hub.site_that_begins(NORTH)
    say(site, height=TIP + 2)
    site.share("acme.c01.u1", 1)
    assert await hub.sent(site) == {"acme.c01.u1": 1}
    fake.grow_to(NEXT + 1)
    say(site, 78, height=NEXT, nbits=FORKED)
    site.share("acme.c01.u1", 5)
    assert await hub.sent(site) == {"acme.c01.u1": 1}
    assert (hub.edge(NORTH).held, hub.waits() is None) == (None, False)
    fake.grow_to(NEXT + 6)
    assert await hub.taken() == {"acme.c01.u1": 1}
    assert "our node takes its header (submitheader)" in (hub.edge(NORTH).held or "")
    fake.forks[NEXT] = FORKED
    await hub.change(lambda it: release_edge(it, NORTH))
    assert await hub.taken() == {"acme.c01.u1": 6}
    assert hub.edge(NORTH).held is None


@pytest.mark.sqlite_suffices
async def test_all_our_nodes_are_away_for_a_day(
    hub: PricedHub, fake: LongChain, autojump_clock: trio.testing.MockClock
) -> None:
    """What is known is booked and paid, new prices of the same two weeks as well. What is not known waits for
    the first node, and so does everything where the nodes are away for longer than a difficulty is sure."""
    site = await hub.site_that_begins(NORTH)
    site.share("acme.c01.u1", 1)
    assert await hub.sent(site) == {"acme.c01.u1": 1}
    fake.fault = refuses_connections
    await trio.sleep(60)
    assert hub.nodes.current is None
    hub.clock.now_s += DAY_S
    site.moment_s = int(hub.clock.now_s)
    change_terms(hub, fee_bps=100)
    say(site, height=TIP + 140, paid=(paid(fee_bps=100),), opened_at_s=site.moment_s)
    site.share("acme.c01.u1", 2)
    assert await hub.sent(site) == {"acme.c01.u1": 3}
    say(site, 78, height=NEXT, nbits=HARDER)
    site.share("acme.c01.u1", 4)
    assert await hub.sent(site) == {"acme.c01.u1": 3}
    assert "our nodes have not said what bits" in (hub.waits() or "")
    assert hub.edge(NORTH).held is None
    fake.fault = None
    fake.grow_to(NEXT + 1)
    await hub.nodes.chosen()
    assert await hub.taken() == {"acme.c01.u1": 7}


@pytest.mark.sqlite_suffices
async def test_a_hub_that_begins_without_a_node_waits_and_holds_nobody(
    hub: PricedHub, fake: LongChain, autojump_clock: trio.testing.MockClock
) -> None:
    site = await hub.site_that_begins(NORTH)
    site.share("acme.c01.u1", 3)
    fake.fault = refuses_connections
    await trio.sleep(60)
    assert await hub.sent(site) == {}
    assert (hub.edge(NORTH).held, hub.waits() is None) == (None, False)
    fake.fault = None
    await hub.nodes.chosen()
    assert await hub.taken() == {"acme.c01.u1": 3}


async def test_fees_are_those_of_144_blocks_that_our_node_has_too(hub: PricedHub, fake: LongChain) -> None:
    change_terms(hub, scheme=Scheme.FPPS)
    site = await hub.site_that_begins(NORTH)
    for number, top in enumerate((TIP - 3, TIP), start=80):
        say(site, number, height=TIP + 1, basis=basis(top), paid=(paid(scheme="fpps"),))
        site.share("acme.c01.u1", 2)
        await hub.sent(site)
    assert hub.shares() == {"acme.c01.u1": 4}
    blocks = [BlockFees(height=it, hash=f"{it:064x}", fees_sat=FEES_SAT) for it in heights_of(TIP + 1)]
    stale = packed_basis([*blocks[:-1], msgspec.structs.replace(blocks[-1], hash="1" * 64, fees_sat=0)])
    say(site, height=TIP + 1, basis=stale, paid=(paid(scheme="fpps"),))
    site.share("acme.c01.u1", 1)
    await hub.sent(site)
    assert "our nodes have not said what the blocks up to 840301 paid" in (hub.waits() or "")
    fake.grow_to(TIP + 1)
    assert await hub.taken() == {"acme.c01.u1": 5}, "one block of it was replaced"


# On a real node


@pytest.mark.sqlite_suffices
async def test_on_regtest_by_a_real_node(store: Store, tmp_path: Path) -> None:
    """Halvings are its prices: every 150 blocks. And 160 blocks with their fees."""
    async with running(tmp_path / "node") as rpc:
        config = NodeConfig(name="first", url=rpc.node.url, cookie_file=rpc.node.cookie_file)
        nodes = NodeSet([config], chain="regtest")
        await rpc("generatetoaddress", 160, MINER_ADDRESS)
        bind(store, "regtest")
        hub = PricedHub(store, tmp_path, NORTH, SOUTH, price=REGTEST, height=161)
        hub.nodes, hub.clock.now_s = nodes, time.time()
        hub.history = PriceHistory(nodes, wall_clock=hub.clock, clock=hub.clock)
        async with trio.open_nursery() as nursery:
            await nursery.start(nodes.run)
            node = await nodes.chosen()
            await hub.start()
            site = await hub.site_that_begins(NORTH)
            site.moment_s = int(hub.clock.now_s)
            with store.write() as connection:
                set_terms(
                    connection,
                    "acme",
                    msgspec.structs.replace(TERMS, scheme=Scheme.FPPS),
                    by="ann",
                    now_s=site.moment_s,
                )
            fees = packed_basis(await recent_fees(node))
            say(site, paid=(paid(scheme="fpps"),), basis=fees, opened_at_s=site.moment_s)
            site.share("acme.c01.u1", 3, log2=-32)
            assert await hub.sent(site) == {"acme.c01.u1": 3}
            hub.clock.now_s += 2 * DAY_S
            site.moment_s = int(hub.clock.now_s)
            say(site, 78, height=149, subsidy_sat=50 * 10**8)
            site.share("acme.c01.u1", 3, log2=-32)
            assert await hub.sent(site) == {"acme.c01.u1": 3}
            assert "the price of height 149, which was over 4" in (hub.edge(NORTH).held or "")
            nursery.cancel_scope.cancel()
