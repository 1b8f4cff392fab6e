"""Everybody who serves miners, asked as if they were one.

Each is asked everything, and what they say is put together here. Must not know: where they are.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from pool.edges.edge import Edge, MachineMet
from pool.edges.figures import EdgeFigures, grouped, merged
from pool.orders.status import OrderStatus
from pool.routing.status import RouteStatus
from stratum.miners.decisions import KEPT_MAX

CONNECTIONS_MAX: Final = 20  # of a machine, shown: who invents names may have thousands under one
_Answer = TypeVar("_Answer")


class Edges:
    """One at least."""

    def __init__(self, edges: Sequence[Edge]) -> None:
        self._edges = edges

    async def figures(self) -> EdgeFigures:
        """Of all of them."""
        return merged(await self._each(lambda it: it.figures()))

    async def routes(self) -> RouteStatus:
        """Each of their channels; an order's machines on all of them."""
        return merged_routes(await self._each(lambda it: it.routes()))

    async def machine(self, name: str) -> MachineMet:
        """On whichever it mines or has mined."""
        return merged_machine(await self._each(lambda it: it.machine(name)))

    async def _each(self, ask: Callable[[Edge], Awaitable[_Answer]]) -> list[_Answer]:
        return [await ask(it) for it in self._edges]


def merged_routes(of: Sequence[RouteStatus]) -> RouteStatus:
    """An order has what all of them deliver, and lacks what all of them lack."""
    if len(of) == 1:
        return of[0]
    orders = grouped({it.order_id: it for it in status.orders} for status in of)
    return RouteStatus(
        upstreams=tuple(it for status in of for it in status.upstreams),
        orders=tuple(
            OrderStatus(
                order_id=number,
                supply_hps=sum(it.supply_hps for it in parts),
                shortage_hps=sum(it.shortage_hps for it in parts),
                machines=sum(it.machines for it in parts),
                moving=sum(it.moving for it in parts),
            )
            for number, parts in orders.items()
        ),
    )


def merged_machine(of: Sequence[MachineMet]) -> MachineMet:
    """The newest first of what was decided anywhere."""
    if len(of) == 1:
        return of[0]
    why = sorted((it for met in of for it in met.why), key=lambda it: it.at_s, reverse=True)
    return MachineMet(
        connections=[it for met in of for it in met.connections][:CONNECTIONS_MAX],
        why=why[:KEPT_MAX],
    )
