"""An edge knows the upstreams and orders that its own tenants' machines may mine on, no others' secrets."""

from payouts.rates import Scheme
from pool.fleet.registry import TenantRecord
from pool.hub import Plan
from pool.orders.rows import OrderRecord
from pool.sites.routes_of_site import routes_of
from pool.upstreams.rows import UpstreamRecord


def upstream(number: int, fallback_id: int | None = None) -> UpstreamRecord:
    return UpstreamRecord(
        id=number,
        name=f"pool{number}",
        fallback_id=fallback_id,
        outage_s=60,
        connections=1,
        suggest_difficulty=None,
        endpoints=(),
        created_at_s=0,
        created_by="ann",
    )


def order(number: int, upstream_id: int, *suppliers: tuple[int, int]) -> OrderRecord:
    return OrderRecord(
        id=number,
        name=f"order{number}",
        upstream_id=upstream_id,
        hashrate_hps=1,
        tolerance_bps=1,
        from_s=0,
        until_s=1,
        priority=1,
        sat_per_ph_day=1,
        suppliers=suppliers,
    )


def tenant(number: int, *, upstream_id: int | None = None, proxied: tuple[int, ...] = ()) -> TenantRecord:
    return TenantRecord(
        id=number,
        name=f"t{number}",
        active=True,
        scheme=Scheme.PPS,
        fee_bps=0,
        upstream_id=upstream_id,
        proxied=frozenset(proxied),
    )


PLAN = Plan(
    # Two that stand in for each other, in a circle; others for tenants and orders of somebody else.
    {
        it.id: it
        for it in (upstream(1, 2), upstream(2, 1), upstream(3), upstream(4), upstream(5), upstream(6))
    },
    {it.id: it for it in (order(1, 4, (7, 0), (8, 3)), order(2, 5, (8, 0)))},
)


def test_of_its_tenants_their_orders_and_what_stands_in_for_them() -> None:
    told = routes_of(PLAN, [tenant(7, upstream_id=1, proxied=(3, 99))])
    assert sorted(told.upstreams) == [1, 2, 3, 4]
    assert sorted(told.orders) == [1]


def test_of_nobody_nothing() -> None:
    assert routes_of(PLAN, []) == Plan({}, {})
