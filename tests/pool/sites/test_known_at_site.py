"""What an edge is told of prices and orders: nothing of anybody whose machines are not there."""

from payouts.rates import Scheme, UpstreamRisk
from pool.books.edges.rows import EdgePlace
from pool.books.journal.prices import KnownPrices, Sold
from pool.fleet.registry import Snapshot
from pool.hub import Begin, Part, Plan, Start
from pool.journal.beginning import Beginning
from pool.journal.frames import Place
from pool.journal.records import Noted, Paid, Rate
from pool.orders.mining import Assigned, OrderMachines
from pool.sites.known_at_site import begin_of
from tests.pool.books.edges.test_known import edge
from tests.pool.sites.test_routes_of_site import order, upstream


def rate(number: int) -> Rate:
    """Of which both tenants are paid."""
    paid = [
        Paid(
            tenant=name, scheme=Scheme.PPS, fee_bps=fee, sat_per_ph_day=None, upstream_risk=UpstreamRisk.POOL
        )
        for name, fee in (("acme", 100), ("borealis", 200))
    ]
    return Rate(
        number=number,
        opened_at_s=0,
        height=1,
        nbits=0x207FFFFF,
        subsidy_sat=1,
        basis=b"",
        upstream="pool1",
        order=None,
        solo=False,
        paid=tuple(paid),
    )


def under_way(epoch: int) -> Noted:
    return Noted(key=b"k", worker=1, epoch=epoch, difficulty_log2=0, counted=True, target=bytes(32))


EVERYTHING = Begin(
    part=Part(1, 256),
    journal="",
    snapshot=Snapshot((), (), ()),
    start=Start(
        beginning=Beginning(book="book", behind=Place(), moment_s=0, accepted=0, left=(under_way(5),)),
        tips=(),
        fee_basis_id=None,
        prices=KnownPrices(
            next_number=9,
            upstreams={1: "pool1", 2: "pool2"},
            orders={1: Sold("order1", 40), 2: Sold("order2", 50)},
            bases=(),
            left=(rate(5), rate(6)),
        ),
    ),
    assigned=Assigned(
        version=3,
        machines=(
            OrderMachines(order=1, tenant="acme", container="c01", units=("u1",)),
            OrderMachines(order=1, tenant="acme", container="c02", units=("u1",)),
            OrderMachines(order=2, tenant="borealis", container="c01", units=("u1",)),
        ),
    ),
)


def test_orders_prices_and_upstreams_of_others_are_not_told() -> None:
    plan = Plan({1: upstream(1)}, {1: order(1, 1, (1, 1))})
    told = begin_of(EVERYTHING, edge(EdgePlace("acme", "c02")), plan)
    assert told.assigned == Assigned(
        version=3, machines=(OrderMachines(order=1, tenant="acme", container="c02", units=("u1",)),)
    )
    prices = told.start.prices
    assert (prices.upstreams, prices.orders) == ({1: "pool1"}, {1: Sold("order1", 40)})
    assert [(it.number, [paid.tenant for paid in it.paid]) for it in prices.left] == [(5, ["acme"])]
    assert prices.next_number == 9


def test_who_has_all_is_told_all() -> None:
    plan = Plan({1: upstream(1), 2: upstream(2)}, {1: order(1, 1, (1, 1)), 2: order(2, 2, (2, 1))})
    told = begin_of(EVERYTHING, edge(EdgePlace("acme"), EdgePlace("borealis")), plan)
    assert told.assigned == EVERYTHING.assigned
    assert told.start.prices.upstreams == EVERYTHING.start.prices.upstreams
    assert told.start.prices.orders == EVERYTHING.start.prices.orders
