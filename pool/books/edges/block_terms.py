"""By which terms a block of an edge was mined: as it says, where it may have worked by them then.

Reads only. Must not know: what a block is divided over.
"""

from sqlalchemy import Connection, select

from payouts.rates import Scheme
from payouts.schemas.money import tenant_terms, tenants
from pool.books.edges.told import Told


def mined_by(
    connection: Connection, tenant: str, said: Scheme | None, at_s: int, told: Told
) -> Scheme | None:
    """`at_s` is what its header says. None: it may be of several, and the edge said none of them."""
    of = tenant_terms.c
    terms = connection.execute(
        select(of.scheme, of.changed_at_s)
        .join(tenants, tenants.c.id == of.tenant_id)
        .where(tenants.c.name == tenant)
        .order_by(of.id)
    ).all()
    schemes, changes = [Scheme(it.scheme) for it in terms], [it.changed_at_s for it in terms[1:]]
    possible = {
        scheme.group: scheme
        for scheme, since_s, until_s in zip(schemes, [None, *changes], [*changes, None], strict=False)
        if told.worked_by_it(at_s, since_s, until_s)
    }
    if said is not None and said.group in possible:
        return said
    return next(iter(possible.values())) if len(possible) == 1 else None
