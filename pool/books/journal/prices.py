"""What work is worth, in memory: a rate number for every change of a price, given out at once.

A number means what it meant when it was opened: the terms that each tenant had then, whatever commands say
later. What it means goes to the journal by names, with the next commit and again in each new file before its
first use there (`Journal`), so no database is asked on the way to a job: work at a new difficulty, a failover
or an order that begins waits for nobody, and the books make rows of it when they take the journal.

Invariants: a number is never given out twice; what was opened is in the journal before, or with, its first
share. Must not know: templates, sessions, shares.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection, func, select

from payouts.ratebook import WorkSource, blocks_of_basis
from payouts.rates import BlockFees, Scheme
from payouts.schemas.money import fee_bases
from payouts.schemas.orders import orders, upstreams
from pool.books.journal.book_clock import BookClock
from pool.books.journal.rate_epochs import WorkPrice, by_fees, packed_basis, paid_for
from pool.books.journal.rate_rows import described
from pool.books.journal.schema import rate_epochs, upstream_submits
from pool.fleet.registry import Registry
from pool.journal.records import Paid, Rate

log = structlog.get_logger()

# The pool itself, its upstreams, the orders on them: what operators make, 64 orders at a time.
SOURCES_MAX: Final = 1_000
# What a job that is still mined may have: the newest of each source, and those of before. A source has 24 a
# day where tenants are paid by fees, and its jobs last until the next block.
RATES_MAX: Final = 2 * SOURCES_MAX
BASES_MAX: Final = 8  # one an hour; the price of the last template has the newest, or the one before it


class Sold(msgspec.Struct, frozen=True):
    """An order as prices need it."""

    name: str
    sat_per_ph_day: int


class KnownPrices(msgspec.Struct, frozen=True, kw_only=True):
    """What the books know that new prices begin with."""

    next_number: int
    upstreams: dict[int, str]
    orders: dict[int, Sold]
    bases: tuple[tuple[int, bytes], ...]  # oldest first
    left: tuple[Rate, ...]  # of shares that dead processes had forwarded


def known_prices(connection: Connection) -> KnownPrices:
    """As of now."""
    sold = connection.execute(select(orders.c.id, orders.c.name, orders.c.sat_per_ph_day))
    newest = select(fee_bases.c.id).order_by(fee_bases.c.id.desc()).limit(BASES_MAX)
    bases = reversed(connection.scalars(newest).all())
    left = connection.scalars(select(upstream_submits.c.epoch).distinct()).all()
    return KnownPrices(
        next_number=int(connection.scalar(select(func.max(rate_epochs.c.epoch))) or 0) + 1,
        upstreams=dict(connection.execute(select(upstreams.c.id, upstreams.c.name)).all()),
        orders={id_: Sold(name, sat) for id_, name, sat in sold},
        bases=tuple((it, packed_basis(blocks_of_basis(connection, it))) for it in bases),
        left=tuple(described(connection, number) for number in left),
    )


class Prices:
    """`on_opened` is told when there is something for the journal, and must not block."""

    def __init__(
        self,
        known: KnownPrices,
        registry: Registry,
        *,
        clock: BookClock,
        on_opened: Callable[[], None] = lambda: None,
    ) -> None:
        self.on_opened = on_opened
        self._registry, self._next = registry, known.next_number
        self.clock = clock  # the journal's too
        self._newest: dict[WorkSource, tuple[WorkPrice | None, int]] = {}
        self._opened: list[Rate] = []  # that the journal does not have
        self._upstreams, self._orders = dict(known.upstreams), dict(known.orders)
        self._bases = dict(known.bases)
        # Shares that a dead process had forwarded are counted at what they were sent at.
        self._rates = {rate.number: rate for rate in known.left}

    def epoch(self, price: WorkPrice, height: int) -> int:
        """The rate number of work of this price: the same one until its source has another price."""
        known, number = self._newest.get(price.source, (None, 0))
        if price == known:
            return number
        number, self._next = self._next, self._next + 1
        rate = self._rate(number, price, height)
        self._opened.append(rate)
        self._rates[number] = rate
        self._newest.pop(price.source, None)
        self._newest[price.source] = (price, number)
        self._forget_old()
        log.info(
            "price_opened",
            epoch=number,
            nbits=f"{price.nbits:08x}",
            subsidy_sat=price.subsidy_sat,
            upstream=rate.upstream,
            order=rate.order,
            solo=price.solo,
        )
        self.on_opened()
        return number

    def terms_changed(self) -> None:
        """A tenant is another one than before: the next work of every source opens a new number."""
        self._newest = {source: (None, number) for source, (_, number) in self._newest.items()}

    def note_basis(self, basis: int, blocks: tuple[BlockFees, ...]) -> None:
        """A list of recent blocks that the books have under this number."""
        self._bases[basis] = packed_basis(blocks)
        while len(self._bases) > BASES_MAX:
            del self._bases[next(iter(self._bases))]

    def note_sources(self, names: Mapping[int, str], sold: Mapping[int, Sold]) -> None:
        """Upstreams and orders that work may come of from now on; those of before may still have some."""
        self._upstreams |= names
        self._orders |= sold

    def opened(self) -> tuple[Rate, ...]:
        """What the journal does not have. Whoever asks writes it, or stops the pool."""
        opened = tuple(self._opened)
        self._opened.clear()
        return opened

    @property
    def opened_since_s(self) -> int | None:
        """When the oldest was opened that the journal does not have."""
        return self._opened[0].opened_at_s if self._opened else None

    def meaning(self, number: int) -> Rate:
        """What a number means that a job has."""
        return self._rates[number]

    def scheme_of(self, number: int, tenant: str) -> Scheme | None:
        """How that tenant's shares of it are paid; None: it came later, or the number is forgotten."""
        rate = self._rates.get(number)
        paid = () if rate is None else rate.paid
        return next((Scheme(it.scheme) for it in paid if it.tenant == tenant), None)

    def remember(self, rate: Rate) -> None:
        """Of the books."""
        self._rates[rate.number] = rate

    def _rate(self, number: int, price: WorkPrice, height: int) -> Rate:
        sold = None if price.order_id is None else self._orders[price.order_id]
        # Terms may have been agreed on by a clock that was ahead of ours, or before ours stepped back.
        self.clock.reach(max((it.terms_at_s for it in self._registry.tenants.values()), default=0))
        return Rate(
            number=number,
            opened_at_s=self.clock.now_s(),
            height=height,
            nbits=price.nbits,
            subsidy_sat=price.subsidy_sat,
            basis=b"" if price.fee_basis_id is None else self._bases[price.fee_basis_id],
            upstream=None if price.upstream_id is None else self._upstreams[price.upstream_id],
            order=None if sold is None else sold.name,
            solo=price.solo,
            paid=self._paid(price, None if sold is None else sold.sat_per_ph_day),
        )

    def _paid(self, price: WorkPrice, order_sat_per_ph_day: int | None) -> tuple[Paid, ...]:
        """Every tenant that may mine it; one that comes later joins with its shares, by the books."""
        found = []
        for tenant in sorted(self._registry.tenants.values(), key=lambda it: it.id):
            if price.solo and tenant.scheme is not Scheme.SOLO:
                continue  # one that is no solo tenant any more and has not moved yet joins with its shares
            paid = paid_for(tenant, price.source, order_sat_per_ph_day)
            if price.fee_basis_id is not None or not by_fees(paid):
                found.append(paid)
        return tuple(found)

    def _forget_old(self) -> None:
        while len(self._newest) > SOURCES_MAX:
            del self._newest[next(iter(self._newest))]
        if len(self._rates) > RATES_MAX:
            newest = {number for _, number in self._newest.values()}
            del self._rates[next(it for it in self._rates if it not in newest)]
