"""Whose the account is that an upstream pays: a tenant's who mines there by proxy, else the pool's.

Work of such an upstream pays that tenant, whatever its terms say later, so the pool pays nothing for it; and
no machine that the pool does pay is to be led there, as its tenant's upstream or as what one falls back on.

Invariants: an account is who it was once said to be: another account is another upstream. Reads only.
Must not know: channels and sessions.
"""

from typing import Any

from sqlalchemy import Connection, Row, select

from payouts.rates import Scheme
from payouts.schemas.money import tenant_terms, tenants
from payouts.schemas.orders import orders, upstreams
from pool.fleet.registry_error import RegistryError


def proxied(connection: Connection, tenant_id: int) -> frozenset[int]:
    """The upstreams that pay the tenant, as its terms said once."""
    paid = select(tenant_terms.c.upstream_id).where(
        tenant_terms.c.tenant_id == tenant_id,
        tenant_terms.c.scheme == Scheme.PROXY.value,
        tenant_terms.c.upstream_id.is_not(None),  # terms of old books: they mine for the pool
    )
    return frozenset(connection.scalars(paid.distinct()))


def check_paid_work(connection: Connection, upstream_id: int, whose: str) -> None:
    """That work which the pool pays may be led to the upstream. Raises RegistryError."""
    for number, name in _chain(connection, upstream_id):
        if payees := _payees(connection, number):
            raise RegistryError(
                f"{whose} would lead machines that the pool pays to the upstream {name}, whose account pays "
                f"{' and '.join(payees)} by proxy: both would pay. Give an upstream whose account is the "
                "pool's, or pool"
            )


def check_proxy(connection: Connection, upstream_id: int, tenant: str, now_s: int) -> None:
    """That an upstream may be a tenant's own: nobody's machines that the pool pays are led there. Raises
    RegistryError."""
    led = [*_led_by_terms(connection, tenant), *_led_by_orders(connection, now_s)]
    for whose, leads_to in led:
        if upstream_id in {number for number, _ in _chain(connection, leads_to)}:
            raise RegistryError(
                f"machines that the pool pays are led to this upstream by {whose}: its account cannot be "
                f"{tenant}'s. Add {tenant}'s account as another upstream"
            )


def _led_by_terms(connection: Connection, but: str) -> list[tuple[str, int]]:
    newest: dict[str, Row[Any]] = {}
    rows = connection.execute(
        select(tenant_terms, tenants.c.name)
        .join(tenants, tenants.c.id == tenant_terms.c.tenant_id)
        .where(tenants.c.name != but)
        .order_by(tenant_terms.c.id)
    )
    for row in rows:
        newest[row.name] = row
    return [
        (f"the terms of {name}", row.upstream_id)
        for name, row in newest.items()
        if row.upstream_id is not None and row.scheme != Scheme.PROXY
    ]


def _led_by_orders(connection: Connection, now_s: int) -> list[tuple[str, int]]:
    """What an order's machines fall back on: its own upstream's account is the buyer's."""
    rows = connection.execute(
        select(orders.c.name, upstreams.c.fallback_id)
        .join(upstreams, upstreams.c.id == orders.c.upstream_id)
        .where(orders.c.until_s > now_s, orders.c.ended_at_s.is_(None), upstreams.c.fallback_id.is_not(None))
    )
    return [(f"the fallback of order {row.name}", row.fallback_id) for row in rows]


def _payees(connection: Connection, upstream_id: int) -> tuple[str, ...]:
    query = (
        select(tenants.c.name)
        .join(tenant_terms, tenant_terms.c.tenant_id == tenants.c.id)
        .where(tenant_terms.c.upstream_id == upstream_id, tenant_terms.c.scheme == Scheme.PROXY.value)
    )
    return tuple(connection.scalars(query.distinct().order_by(tenants.c.name)))


def _chain(connection: Connection, upstream_id: int) -> list[tuple[int, str]]:
    """An upstream and what it falls back on, and so on."""
    known = {row.id: row for row in connection.execute(select(upstreams))}
    found: dict[int, str] = {}
    number: int | None = upstream_id
    while number is not None and number not in found:
        found[number] = known[number].name
        number = known[number].fallback_id
    return list(found.items())
