"""What a page reads all the time, for who shows a token; a tenant's user sees its own.

    GET /api/v1/map              every machine in its place
    GET /api/v1/figures          what the pool does, in figures
    GET /api/v1/figures/history  hashrates of a day
    GET /api/v1/events           map and figures as they change, and what happens
    GET /api/v1/machines         a list, searched, filtered, sorted
    GET /api/v1/machine/NAME     one of them, and why it does what it does

Must not know: where a figure is from.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog
import trio
from starlette.requests import Request
from starlette.responses import Response

from pool.chain.blocks import BlockResult
from pool.dashboard.event_stream import EventStream
from pool.dashboard.figures import Figures, MomentFigures, figures_of
from pool.dashboard.history import Hashrates, History
from pool.dashboard.machine import MachineShown, OneMachine
from pool.dashboard.machine_list import Asked, BadCursor, MachineList, MachinePage
from pool.dashboard.site_map import LOOK_S, Cells, Changes, MapShown, SiteMap, changes_for
from pool.dashboard.streams import Nothing, Streams
from pool.dashboard.viewers import has_it, json_bytes, same, sees, tag_of, takes_packed
from pool.fleet.registry import parse_worker_name
from pool.http_server import failure
from pool.messages.conditions import Thresholds
from pool.messages.message import Message
from pool.metrics.collector import Sources
from pool.people.roles import Role
from pool.web.access import Access, Told, WebRoute

log = structlog.get_logger()

MAP_PATH: Final = "/api/v1/map"
FIGURES_PATH: Final = "/api/v1/figures"
HISTORY_PATH: Final = "/api/v1/figures/history"
EVENTS_PATH: Final = "/api/v1/events"
MACHINES_PATH: Final = "/api/v1/machines"
MACHINE_PATH: Final = "/api/v1/machine/{name:path}"


class BlockTold(msgspec.Struct, frozen=True):
    """A block of ours that was submitted, and what became of it so far."""

    height: int
    hash: str
    state: str


MAP: Final = Told(words="Every machine in its place.", result=MapShown, tagged=True)
NOW: Final = Told(
    words="What the pool does, in figures; null to a tenant without any.", result=MomentFigures | None
)
DAY: Final = Told(words="Hashrates of a day.", result=Hashrates)
PAGE: Final = Told(words="Machines: searched, filtered, sorted.", result=MachinePage, takes=Asked)
ONE: Final = Told(words="One machine, and why it does what it does.", result=MachineShown)
EVENTS: Final = Told(
    words="Map and figures as they change, and what happens, until the token ends.",
    media="text/event-stream",
    events=(
        ("figures", MomentFigures),
        ("cells", Cells),
        ("block", BlockTold),
        ("message", Message),
        ("reset", Nothing),
    ),
)


class Dashboard:
    """Of one pool. `figures` are those of the map's last look."""

    def __init__(
        self,
        site_map: SiteMap,
        figures: Callable[[], Awaitable[Figures]],
        history: History,
        machines: MachineList,
        machine: OneMachine,
    ) -> None:
        self._site_map, self._figures, self._history = site_map, figures, history
        self._machines, self._machine = machines, machine
        self._streams = Streams()
        site_map.on_change.append(self._tell_changes)

    def routes(self) -> tuple[WebRoute, ...]:
        answers = (
            (MAP_PATH, self._map, MAP),
            (FIGURES_PATH, self._now, NOW),
            (HISTORY_PATH, self._day, DAY),
            (EVENTS_PATH, self._events, EVENTS),
            (MACHINES_PATH, self._page, PAGE),
            (MACHINE_PATH, self._one, ONE),
        )
        return tuple(
            WebRoute(path, Access.BEARER, answer, least=Role.TENANT, told=told)
            for path, answer, told in answers
        )

    async def run(self) -> None:
        """Look for all who look on, and keep a day of it, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._history.run)
            nursery.start_soon(self._look_on)

    async def _look_on(self) -> None:
        while True:
            await self._streams.somebody.wait()
            try:
                await self._site_map.look()
                figures = await self._figures()
                self._streams.tell("figures", figures.of)
            except Exception:  # a mistake of ours in what is shown must not cost miners their work
                log.exception("dashboard_failed")
            await trio.sleep(LOOK_S)

    def judge_by(self, thresholds: Thresholds) -> None:
        """Of what is slow or rejecting, from the next look on."""
        self._site_map.thresholds = thresholds

    def tell_block(self, result: BlockResult) -> None:
        """A block of ours was submitted."""
        told = BlockTold(result.height, result.hash_hex, result.state.value)
        self._streams.tell("block", _whole(told))

    def tell_message(self, message: Message) -> None:
        """Somebody is told this."""
        self._streams.tell("message", _whole(message))

    def _tell_changes(self, changes: Changes) -> None:
        self._streams.tell("cells", lambda tenant: changes_for(changes, self._site_map.boot, tenant))

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

    async def _now(self, request: Request) -> Response:
        await self._site_map.look()
        figures = await self._figures()
        return json_bytes(msgspec.json.encode(figures.of(sees(request.state.who))), {})

    async def _day(self, request: Request) -> Response:
        return json_bytes(msgspec.json.encode(self._history.totals(sees(request.state.who))), {})

    async def _page(self, request: Request) -> Response:
        try:
            asked = msgspec.convert(dict(request.query_params), Asked, strict=False)
            asked = msgspec.structs.replace(asked, tenant=request.state.who.own_tenant(asked.tenant))
            return json_bytes(msgspec.json.encode(await self._machines.page(asked)), {})
        except (msgspec.ValidationError, BadCursor) as error:
            return failure(400, f"machines: {error}")

    async def _one(self, request: Request) -> Response:
        name = request.path_params["name"]
        request.state.who.own_tenant(parse_worker_name(name)[0])
        told = await self._machine.of(name)
        if told is None:
            return failure(404, f"no machine of the name {name!r:.200} has mined")
        return json_bytes(msgspec.json.encode(told), {})

    async def _events(self, request: Request) -> Response:
        return EventStream(self._streams, request)


def dashboard_of(sources: Sources, thresholds: Thresholds) -> Dashboard:
    """Of what is told of a pool."""
    registry, hashrates = sources.registry, sources.hashrates
    site_map = SiteMap(registry, hashrates, thresholds)
    history = History(registry, hashrates)
    machines = MachineList(site_map, registry, hashrates)
    machine = OneMachine(machines, site_map, registry, history, sources.edges)
    return Dashboard(site_map, lambda: figures_of(sources, site_map), history, machines, machine)


def _whole(told: Any) -> Callable[[str | None], Any]:
    """For those who see everything."""
    return lambda tenant: told if tenant is None else None
