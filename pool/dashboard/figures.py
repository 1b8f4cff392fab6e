"""What the pool does at this moment, in figures: for a page's head, once for all who look.

Hashrates, states and shares are the map's, of the same look: nothing is added up twice. What only the books
have is a minute old, and nobody waits for it.

Must not know: who looks, and how it gets there.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from pool.books.edges.watch import LinkFigures, RemoteFigures
from pool.dashboard.machine_states import WORDS
from pool.dashboard.site_map import SiteMap, Total
from pool.metrics.book_figures import BookFigures
from pool.metrics.collector import Sources
from pool.upstreams.status import UpstreamStatus


class TenantFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's: its machines by state, and by verdict the shares that these sent since the pool began."""

    name: str
    hashrate_hps: int
    machines: dict[str, int]
    shares: dict[str, int]


class UpstreamFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A connection to an upstream."""

    name: str | None
    order: str | None
    serving: str | None
    since_s: int
    sessions: int
    unanswered: int
    diverted: bool


class MomentFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool does: all of it, or what is a tenant's, who is told no more than `shares`. A hub has
    `edges` at other sites, and a `link` to them."""

    at_s: int
    height: int | None
    template_age_s: float | None
    hashrate_hps: int
    machines: dict[str, int]
    shares: dict[str, int]
    tenants: list[TenantFigures] | UnsetType = UNSET
    sessions: dict[str, int] | UnsetType = UNSET
    upstreams: list[UpstreamFigures] | UnsetType = UNSET
    waiting: dict[str, int] | UnsetType = UNSET
    edges: tuple[RemoteFigures, ...] | UnsetType = UNSET
    link: LinkFigures | UnsetType = UNSET


class Figures(msgspec.Struct, frozen=True):
    """Of one moment: everybody's, and each tenant's alone."""

    whole: MomentFigures
    tenants: dict[str, MomentFigures]

    def of(self, tenant: str | None) -> MomentFigures | None:
        return self.whole if tenant is None else self.tenants.get(tenant)


async def figures_of(sources: Sources, site_map: SiteMap) -> Figures:
    """As of the map's last look."""
    edges, routes = await sources.edges.now()
    age_s = edges.template_age_s
    said: dict[str, Any] = {
        "at_s": site_map.at_s,
        "height": edges.template_height,
        "template_age_s": None if age_s is None else round(age_s, 1),
    }
    tenants = site_map.tenants.items()
    sources.figures.want()
    booked, hub = sources.figures.figures, sources.hub()
    whole = MomentFigures(
        **said,
        **_total(site_map.total),
        tenants=[TenantFigures(name=name, **_total(it)) for name, it in tenants],
        sessions=edges.sessions,
        upstreams=_upstreams(routes.upstreams, booked),
        waiting={} if booked is None else booked.waiting,
        edges=hub.edges or UNSET,
        link=UNSET if hub.link is None else hub.link,
    )
    return Figures(whole, {name: MomentFigures(**said, **_total(it)) for name, it in tenants})


def _total(it: Total) -> dict[str, Any]:
    return {
        "hashrate_hps": round(it.hashrate_hps),
        "machines": {WORDS[letter]: count for letter, count in it.machines.items()},
        "shares": it.shares,
    }


def _upstreams(status: Iterable[UpstreamStatus], booked: BookFigures | None) -> list[UpstreamFigures]:
    """Each connection that the pool has to one."""
    names = {} if booked is None else booked.upstreams
    orders = {} if booked is None else {number: it.name for number, it in booked.orders.items()}
    return [
        UpstreamFigures(
            name=names.get(it.upstream_id),
            order=None if it.order_id is None else orders.get(it.order_id),
            serving=it.serving,
            since_s=round(it.since_s),
            sessions=it.sessions,
            unanswered=it.unanswered,
            diverted=it.diverted,
        )
        for it in status
    ]
