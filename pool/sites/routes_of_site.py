"""Which upstreams and orders an edge has to know: those that its tenants' machines may mine on. Each has what
it takes to be let in there.

Must not know: how an edge is told.
"""

from collections.abc import Iterable

from pool.fleet.registry import TenantRecord
from pool.hub import Plan


def routes_of(plan: Plan, tenants: Iterable[TenantRecord]) -> Plan:
    """Of all that there are."""
    known = list(tenants)
    numbers = {it.id for it in known}
    orders = {
        number: it
        for number, it in plan.orders.items()
        if any(tenant in numbers for tenant, _ in it.suppliers)
    }
    wanted = {it.upstream_id for it in orders.values()}
    for tenant in known:
        wanted |= tenant.proxied
        wanted |= set() if tenant.upstream_id is None else {tenant.upstream_id}
    found: set[int] = set()
    while new := (wanted & plan.upstreams.keys()) - found:
        found |= new
        wanted |= {it for number in new if (it := plan.upstreams[number].fallback_id) is not None}
    return Plan({number: it for number, it in plan.upstreams.items() if number in found}, orders)
