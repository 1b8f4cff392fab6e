"""`GET /api/v1/map`: what a page shows all the time, for who shows a token; a tenant's user sees its own.

Must not know: where a figure is from.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pool.dashboard.site_map import SiteMap
from pool.dashboard.viewers import has_it, json_bytes, same, sees, tag_of, takes_packed
from pool.people.roles import Role
from pool.web.access import Access, WebRoute

MAP_PATH: Final = "/api/v1/map"


class Dashboard:
    """Of one pool."""

    def __init__(self, site_map: SiteMap) -> None:
        self._site_map = site_map

    def routes(self) -> tuple[WebRoute, ...]:
        return (WebRoute(MAP_PATH, Access.BEARER, self._map, least=Role.TENANT),)

    async def _map(self, request: Request) -> Response:
        tenant = sees(request.state.who)
        await self._site_map.look()
        tag = tag_of(self._site_map.name, tenant)
        if has_it(request, tag):
            return same(tag)
        packed = takes_packed(request)
        version, body = await self._site_map.body(tenant, packed=packed)
        encoding = {"Content-Encoding": "gzip"} if packed else {}
        return json_bytes(body, {"ETag": tag_of(version, tenant), **encoding})
