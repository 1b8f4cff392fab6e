"""Routes: every upstream and every order that machines may mine on, each with its channels and its fallback.

Read from the database at the start and whenever they change; an upstream runs while a tenant, an order or
another one's fallback needs it, an order from a moment before its time until a moment after it.

A route whose channels have all been without an upstream for longer than its bound is *diverted*: its miners
go to the fallback, and come back when it has served for a while again. Both are events for the reports.

Invariants: whoever leads to itself as fallback ends at the own pool. Must not know: sessions one by one,
tenants' terms, how orders choose machines.
"""

from collections.abc import Callable, Iterator
from typing import Final

import structlog
import trio

from pool.hub import Plan
from pool.orders.rows import OrderRecord
from pool.upstreams.channel import UpstreamChannel
from pool.upstreams.rows import UpstreamRecord
from pool.upstreams.status import UpstreamStatus
from stratum.miners.channel import Channel

log = structlog.get_logger()

# An upstream that serves for so long has its miners back; one that comes and goes has not.
RETURN_S: Final = 10.0
EARLY_S: Final = 60  # an order's upstream is connected so long before its time
DRAIN_S: Final = 10.0  # an order is over: shares on the way, and their answers
UNEVEN: Final = 2  # times as many sessions on one connection as on another are worth moving some
FALLBACKS_MAX: Final = 8  # one leads to the next; further than that somebody has lost the thread
# An upstream with short extranonces has prefixes for 256 sessions a connection: with so many left others are
# opened, a quarter of them at a time, once all that there are serve. 128 have room for 22,400 machines.
ROOM_MIN: Final = 64
CONNECTIONS_PER_ROUTE_MAX: Final = 128
SPARE_S: Final = 600.0  # longer than a prefix rests; then one that nobody mines on is closed again

UPSTREAM: Final = "upstream"
ORDER: Final = "order"
RouteKey = tuple[str, int]  # UPSTREAM or ORDER, and its number


class Route:
    """One upstream, or one order on an upstream, with a channel for each connection."""

    def __init__(self, key: RouteKey, record: UpstreamRecord, channels: tuple[UpstreamChannel, ...]) -> None:
        self.key = key
        self.record = record
        self.channels = channels
        self.diverted = False
        self.ending = False
        self.leaving: set[UpstreamChannel] = set()  # that nobody is sent to any more
        self.spare_since_s: float | None = None  # the last connection is not needed
        self.crowded = False  # there are no more prefixes, however many connections there were
        self.nursery: trio.Nursery | None = None
        self.scopes: dict[UpstreamChannel, trio.CancelScope] = {}
        self.scope = trio.CancelScope()
        self.over = trio.Event()  # nothing of it runs any more

    @property
    def order_id(self) -> int | None:
        """The order that it is of; None for an upstream that tenants mine on."""
        kind, number = self.key
        return number if kind == ORDER else None

    @property
    def mined(self) -> tuple[Channel, ...]:
        """All its channels, also those that were replaced and may still have sessions."""
        return tuple(channel for it in self.channels for channel in it.channels)

    @property
    def serves(self) -> bool:
        """Whether there is anything to mine on it."""
        return any(it.ready for it in self.channels)

    def pick(self, here: Channel) -> Channel:
        """Where a session that is `here` is to mine on this route: where it is, or where the fewest are.

        It stays unless there are far more than elsewhere, as after a connection was lost and is back: where
        connections are opened because others are full, that they are new is no reason to move.
        """
        ready = [it.channel for it in self.channels if it.ready and it not in self.leaving]
        now_s = trio.current_time()
        able = [channel for channel in ready if channel is here or not channel.extranonces.full(now_s)]
        able = able or ready or [it.channel for it in self.channels]
        least = min(able, key=lambda channel: len(channel.sessions))
        even = len(here.sessions) <= UNEVEN * (len(least.sessions) + 1) or self.grown
        return here if here in able and even else least

    @property
    def grown(self) -> bool:
        """Whether it has more connections than it was set up with."""
        return len(self.channels) > self.record.connections

    def wants(self) -> int:
        """How many more connections are needed now, for room; none while one is still on its way."""
        spaces = {it.channel.extranonces for it in self.channels}
        if self.ending or not all(it.ready for it in self.channels):
            return 0
        if any(space.has_room(ROOM_MIN) for space in spaces):
            self.crowded = False
            return 0
        # With an extranonce1 that another connection has too, one more has no more room.
        crowded = len(spaces) < len(self.channels) or len(self.channels) >= CONNECTIONS_PER_ROUTE_MAX
        if crowded and not self.crowded:
            log.warning(
                "upstream_has_no_room",
                upstream=self.record.name,
                order=self.order_id,
                connections=len(self.channels),
                reason="it gives connections the same extranonce1"
                if len(spaces) < len(self.channels)
                else f"at most {CONNECTIONS_PER_ROUTE_MAX} connections",
            )
        self.crowded = crowded
        return (
            0 if crowded else min(1 + len(self.channels) // 4, CONNECTIONS_PER_ROUTE_MAX - len(self.channels))
        )

    def spare(self, now_s: float) -> UpstreamChannel | None:
        """A connection that was opened for room and has not been needed for a while."""
        last, others = self.channels[-1], self.channels[:-1]
        needed = (
            not self.grown
            or last in self.leaving
            or any(channel.sessions for channel in last.channels)
            or not any(it.ready and it.channel.extranonces.has_room(2 * ROOM_MIN) for it in others)
        )
        if needed or self.spare_since_s is None:
            self.spare_since_s = None if needed else now_s
            return None
        if now_s - self.spare_since_s < SPARE_S:
            return None
        self.spare_since_s = None
        return last

    def mind(self, now_s: float) -> str | None:
        """Whether it falls back or returns now, and that word."""
        gone_s = min((now_s - it.out_since_s for it in self.channels if not it.ready), default=0.0)
        back_s = max((now_s - it.since_s for it in self.channels if it.ready), default=0.0)
        if not self.diverted and not self.serves and gone_s >= self.record.outage_s:
            self.diverted = True
            return "fell_back"
        if self.diverted and back_s >= RETURN_S:
            self.diverted = False
            return "returned"
        return None


# Opens a channel on an upstream, for an order or for tenants.
OpenChannel = Callable[[UpstreamRecord, int | None], UpstreamChannel]


class Routes:
    """`needed` says which upstreams tenants mine on; `on_change` is called when sessions may be misplaced.

    `tell` gets events: upstream, order, event, words, sessions.
    """

    def __init__(
        self,
        *,
        needed: Callable[[], set[int]],
        on_change: Callable[[], None],
        tell: Callable[[int, int | None, str, str, int], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self._needed = needed
        self._on_change = on_change
        self._tell = tell
        self._wall_clock = wall_clock
        self._routes: dict[RouteKey, Route] = {}
        self._plan = Plan({}, {})
        self._nursery: trio.Nursery | None = None
        self._open: OpenChannel | None = None

    @property
    def upstreams(self) -> tuple[UpstreamRecord, ...]:
        """All that are known, whether they run or not."""
        return tuple(self._plan.upstreams.values())

    @property
    def orders(self) -> tuple[OrderRecord, ...]:
        """Orders whose time it is."""
        now_s = self._wall_clock()
        return tuple(it for it in self._plan.orders.values() if it.from_s <= now_s < it.until_s)

    @property
    def over(self) -> set[Channel]:
        """Channels of orders that have ended: what is done there is sold to nobody."""
        ended = (route for route in self if route.ending and route.order_id is not None)
        return {channel for route in ended for channel in route.mined}

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def __len__(self) -> int:
        return len(self._routes)

    def get(self, key: RouteKey) -> Route | None:
        """None for what does not run."""
        route = self._routes.get(key)
        return None if route is None or route.ending else route

    def key_of(self, channel: Channel) -> RouteKey | None:
        """The route that is mined on a channel at present; None: no route's, or one that was replaced."""
        for key, route in self._routes.items():
            if any(it.channel is channel for it in route.channels):
                return key
        return None

    def order_serves(self, order_id: int) -> bool:
        """Whether an order's machines can be where they are sold to."""
        route = self.get((ORDER, order_id))
        return route is not None and route.serves and not route.diverted

    def lead(self, key: RouteKey | None, here: Channel) -> Channel | None:
        """The channel for a session that is `here` and belongs to a route; None: the own pool's."""
        for _ in range(FALLBACKS_MAX):
            route = None if key is None else self.get(key)
            if route is None:
                return None
            if not route.diverted:
                return route.pick(here)
            fallback = route.record.fallback_id
            key = None if fallback is None else (UPSTREAM, fallback)
        return None

    def chain(self, key: RouteKey | None) -> list[RouteKey]:
        """All that who belongs to a route may be led to: itself, its fallback, and so on."""
        keys: list[RouteKey] = []
        while key is not None and len(keys) < FALLBACKS_MAX:
            keys.append(key)
            route = self._routes.get(key)
            fallback = None if route is None else route.record.fallback_id
            key = None if fallback is None else (UPSTREAM, fallback)
        return keys

    async def run(
        self, open_channel: OpenChannel, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Hold up what `follow` asks for, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery, self._open = nursery, open_channel
            self._reconcile()
            task_status.started()
            await trio.sleep_forever()

    def follow(self, plan: Plan) -> None:
        """The database says something else."""
        self._plan = plan
        if self._nursery is None:
            return
        for route in self._routes.values():
            record = plan.upstreams.get(route.record.id)
            if record is not None:
                route.record = record
                for it in route.channels:
                    it.follow(record)
        self._reconcile()

    def mind(self) -> None:
        """Once a second: what falls back, returns, begins and ends."""
        now_s = trio.current_time()
        for route in self._routes.values():
            for it in route.channels:
                it.forget_the_old()
            event = route.mind(now_s)
            if event is not None:
                count = sum(len(channel.sessions) for channel in route.mined)
                fallback = self._plan.upstreams.get(route.record.fallback_id or 0)
                words = f"fallback {'pool' if fallback is None else fallback.name}"
                log.warning("route_" + event, upstream=route.record.name, order=route.order_id, to=words)
                self._tell(route.record.id, route.order_id, event, words, count)
                self._on_change()
            self._keep_room(route, now_s)
        self._reconcile()

    def _keep_room(self, route: Route, now_s: float) -> None:
        """Open connections for more prefixes, and close those that nobody needs any more."""
        wanted = route.wants()
        for _ in range(wanted):
            assert route.nursery is not None
            assert self._open is not None
            it = self._open(route.record, route.order_id)
            route.channels = (*route.channels, it)
            route.nursery.start_soon(self._connect, route, it)
        spare = route.spare(now_s)
        if wanted or spare is not None:
            log.info(
                "upstream_connections",
                upstream=route.record.name,
                order=route.order_id,
                connections=len(route.channels) - (spare is not None),
            )
        if spare is not None:
            route.leaving.add(spare)
            route.scopes[spare].cancel()

    def status(self) -> tuple[UpstreamStatus, ...]:
        """Of every channel."""
        return tuple(
            it.status(diverted=route.diverted) for route in self._routes.values() for it in route.channels
        )

    def _reconcile(self) -> None:
        """Start what is needed and does not run, end what runs and is not needed."""
        wanted = self._wanted()
        for key, record in wanted.items():
            if key not in self._routes:
                self._start(key, record)
        for key, route in self._routes.items():
            if key not in wanted and not route.ending:
                self._end(route)

    def _wanted(self) -> dict[RouteKey, UpstreamRecord]:
        now_s, plan = self._wall_clock(), self._plan
        wanted: dict[RouteKey, UpstreamRecord] = {}
        numbers = list(self._needed())
        for order in plan.orders.values():
            record = plan.upstreams.get(order.upstream_id)
            if record is not None and order.from_s - EARLY_S <= now_s < order.until_s:
                wanted[ORDER, order.id] = record
                numbers += [] if record.fallback_id is None else [record.fallback_id]
        while numbers:
            number = numbers.pop()
            record = plan.upstreams.get(number)
            if record is not None and (UPSTREAM, number) not in wanted:
                wanted[UPSTREAM, number] = record
                numbers += [] if record.fallback_id is None else [record.fallback_id]
        return wanted

    def _start(self, key: RouteKey, record: UpstreamRecord) -> None:
        assert self._nursery is not None
        assert self._open is not None
        kind, number = key
        order_id = number if kind == ORDER else None
        channels = tuple(self._open(record, order_id) for _ in range(record.connections))
        self._routes[key] = route = Route(key, record, channels)
        self._nursery.start_soon(self._hold, route)
        self._on_change()

    async def _hold(self, route: Route) -> None:
        with route.scope:
            async with trio.open_nursery() as route.nursery:
                for it in route.channels:
                    route.nursery.start_soon(self._connect, route, it)
        route.over.set()

    async def _connect(self, route: Route, it: UpstreamChannel) -> None:
        """One connection, until the route ends or it is spare."""
        route.scopes[it] = trio.CancelScope()
        with route.scopes[it]:
            await it.run()
        while any(channel.sessions for channel in it.channels):  # noqa: ASYNC110 - who came meanwhile goes on
            await trio.sleep(1.0)
        route.channels = tuple(other for other in route.channels if other is not it)
        route.leaving.discard(it)
        del route.scopes[it]
        it.close()

    def _end(self, route: Route) -> None:
        assert self._nursery is not None
        route.ending = True
        self._on_change()
        self._nursery.start_soon(self._drain, route)

    async def _drain(self, route: Route) -> None:
        """When its sessions are gone, and a moment after, it stops."""
        await self._until_left(route)
        await trio.sleep(DRAIN_S)
        route.scope.cancel()
        await route.over.wait()
        await self._until_left(route)
        for it in route.channels:
            it.close()
        del self._routes[route.key]
        self._on_change()

    async def _until_left(self, route: Route) -> None:
        """Who was let in before it ended may subscribe after all others have gone: it is sent on, too."""
        while True:
            with trio.move_on_after(DRAIN_S):
                while any(channel.sessions for channel in route.mined):  # noqa: ASYNC110
                    await trio.sleep(1.0)
                return
            self._on_change()
