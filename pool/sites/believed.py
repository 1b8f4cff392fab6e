"""An edge at another site as its hub believes it: what it says adds up with what others say, is of its own
machines, and it hears of no others.

Numbers are held to their types where they are read (`stratum.figures`). Must not know: how it is reached.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from pool.books.edges.rows import EdgeRecord
from pool.edges.edge import Edge
from pool.edges.edges import UNCHARGED_NONE
from pool.edges.figures import NOBODY, EdgeFigures, merged
from pool.orders.mining import Assigned, EdgeMining
from pool.questions import AnsweredWithError, by_name
from pool.sites.known_at_site import assigned_of
from stratum.histogram import Histogram


def believed(asked: Edge, record: Callable[[], EdgeRecord | None]) -> Edge:
    """Who is asked, as if he were honest. `record` is what the books say of him now."""

    async def figures() -> EdgeFigures:
        said = await asked.figures()
        try:
            merged((NOBODY, said))
            Histogram().plus(*(it.template_times for it in said.nodes))
        except ValueError as error:
            raise AnsweredWithError(f"its figures are none: {error}") from None
        return said

    async def mining() -> EdgeMining:
        said, known = await asked.mining(), record()
        mine = (it for it in said.machines if known is not None and known.has(it.tenant, it.container))
        return msgspec.structs.replace(said, machines=tuple(mine))

    async def assign(assigned: Assigned) -> None:
        known = record()
        await asked.assign(Assigned() if known is None else assigned_of(assigned, known))

    async def uncharged(name: str | None, tenant_id: int | None, since_day: int) -> list[int]:
        said = await asked.uncharged(name, tenant_id, since_day)
        if len(said) != len(UNCHARGED_NONE):
            raise AnsweredWithError(f"it counts {len(said)} kinds of what is in no tally")
        return said

    answers: dict[str, Callable[..., Awaitable[Any]]] = {
        "figures": figures,
        "mining": mining,
        "assign": assign,
        "uncharged": uncharged,
    }
    edge: Edge = by_name(Edge, lambda name: answers.get(name) or getattr(asked, name))
    return edge
