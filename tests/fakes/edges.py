"""Who would serve miners, and has none: for commands that need no more of a pool than its registry."""

from typing import cast

from pool.edges.edge import Edge, EdgeRoutes
from pool.edges.edges import Edges
from pool.fleet.registry import Registry, UnlistedWorker
from pool.routing.status import RouteStatus


class EdgeWithoutMiners:
    """`status` is what its routes do."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.status = RouteStatus()

    async def routes(self) -> EdgeRoutes:
        return EdgeRoutes(upstreams=self.status.upstreams, misplaced={})

    async def unlisted(
        self, after: int, tenant_id: int | None, container: str | None, rows_max: int
    ) -> list[UnlistedWorker]:
        return self._registry.unlisted(after, tenant_id, container, rows_max)

    async def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        return self._registry.find_unlisted(tenant, container, unit)


def edges_of(*edges: object) -> Edges:
    """That do as much of what is asked of one as a test asks."""
    known = [it for it in edges if isinstance(it, EdgeWithoutMiners)]
    return Edges([cast(Edge, it) for it in edges], orders=lambda _: known[0].status.orders if known else ())
