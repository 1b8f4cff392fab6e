"""What of the fleet an edge has to know: the tenants that it may count for, and their machines there.

Must not know: how an edge is told.
"""

from pool.books.edges.rows import EdgeRecord
from pool.fleet.registry import Snapshot


def known_to(edge: EdgeRecord, snapshot: Snapshot) -> Snapshot:
    """Of all that there is."""
    tenants = tuple(it for it in snapshot.tenants if it.name in edge.tenants)
    name_of = {it.id: it.name for it in tenants}
    containers = tuple(
        it
        for it in snapshot.containers
        if it.tenant_id in name_of and edge.has(name_of[it.tenant_id], it.name)
    )
    numbers = {it.id for it in containers}
    return Snapshot(
        tenants=tenants,
        containers=containers,
        workers=tuple(it for it in snapshot.workers if it.container_id in numbers),
    )
