"""Judges a world of routes by what miners and other pools saw, and plays it.

Each machine comes to the one destination that is its own; each acknowledged share is counted once, at the
difficulty that it was mined for and for the route whose work it was; and when everybody has gone, no place,
prefix, channel or share is left.
"""

from collections import Counter
from collections.abc import Iterator, Sized
from types import SimpleNamespace
from typing import Final

import pytest
import trio
from structlog.testing import capture_logs

from pool.routing import channels, routes
from pool.routing.routes import ORDER, UPSTREAM, RouteKey
from stratum.difficulty import floor_log2
from stratum.miners.mining_session import State
from tests.simulation.auditor import DUPLICATE, LOW
from tests.simulation.course import course
from tests.simulation.dice import dice
from tests.simulation.miners import Share
from tests.simulation.other_pools import Route
from tests.simulation.routes_happenings import Happenings
from tests.simulation.routes_world import OWN, RoutesWorld

NEVER: Final = ("invalid-extranonce-size", "invalid-timestamp")
UNKNOWN: Final = ("Unauthorized worker", "unknown-user")  # while no node answers
GOOD_S: Final = 100.0  # who has had no share accepted for so long mines for nothing
ROOM: Final = 1  # prefixes that are left when another connection is opened: there may be three of all
Of = tuple[str | None, int]  # a machine, and a difficulty


class RoutesAuditor:
    def __init__(self, world: RoutesWorld) -> None:
        self._world = world

    # When all is well

    def all_are_where_they_belong(self) -> None:
        world = self._world
        if world.few:  # not all have room
            return
        at = {}
        for connection in world.board.connections:
            assignment = connection.session.assignment
            if connection.session.state is State.MINING and not assignment.leaving:
                at[world.registry.finder(assignment.workers[0])] = assignment.channel
        for name in self._stay():
            if name not in at:
                world.wrong("a machine does not mine", name)
                continue
            key, belongs = world.routes.key_of(at[name]), self._belongs(name)
            sessions = (it for it in reversed(world.names) if world.names[it] == name)
            job = next(world.newest[it] for it in sessions if it in world.newest)
            if key != belongs or self._route(belongs) not in world.routes_of(job):
                told = set(world.routes_of(job))
                world.wrong("a machine is elsewhere", f"{name} is at {key}, told of {told}: {belongs}")
        for proxy in world.proxies:
            since_s = trio.current_time() - GOOD_S
            for name in proxy.of_channels:
                if proxy.accepted_s.get(name, 0.0) < since_s:
                    world.wrong("a machine mines for nothing", f"{name}, {proxy.manners}")

    def _stay(self) -> Iterator[str]:
        """Machines that are here: a restless one may be on its way, and who has to come again may wait for
        one of its address."""
        world = self._world
        for miner in world.miners:
            waits = world.addresses < len(world.miners) and not miner.habits.takes_extranonces
            if not miner.habits.restless and not waits:
                yield miner.name
        for proxy in world.proxies:
            yield from proxy.of_channels

    def _belongs(self, name: str) -> RouteKey | None:
        order, tenant = self._world.assigned.get(name), self._world.registry.tenants[name.partition(".")[0]]
        if order is not None and order in self._world.plan.orders:
            return ORDER, order
        return None if tenant.upstream_id is None else (UPSTREAM, tenant.upstream_id)

    def _route(self, key: RouteKey | None) -> Route:
        if key is None:
            return OWN
        kind, number = key
        return (self._world.plan.orders[number].upstream_id, number) if kind == ORDER else (number, None)

    # When nobody works any more

    def all_is_counted(self) -> None:
        world = self._world
        world.found += world.works.twice
        sure, perhaps, of_route, at_most = Counter[Of](), Counter[Of](), Counter[object](), Counter[object]()
        for share in world.shares:
            of = share.worker, floor_log2(share.job.difficulty)
            of_routes = world.routes_of(share.job)
            if share.verdict == "accepted":
                sure[of] += 1
                if len(of_routes) == 1:
                    of_route[of, *of_routes] += 1
                if share.hash_int > share.job.target:
                    world.wrong("accepted below its difficulty", share.worker)
            elif share.verdict is None:
                perhaps[of] += 1
            else:
                self._is_refused(share)
                continue
            at_most.update((of, route) for route in of_routes)
        counted, by_route = Counter[Of](), Counter[object]()
        for (name, rate, log2, _), count in world.journal.counted.items():
            price = world.rates[rate]
            counted[name, log2] += count
            by_route[(name, log2), (price.upstream_id or 0, price.order_id)] += count
        self._compare("not counted once", sure, sure + perhaps, counted)
        self._compare("counted for another route", of_route, at_most, by_route)
        if len(world.submits):
            world.wrong("shares are never resolved", len(world.submits))

    def _compare(
        self, verdict: str, least: Counter[Of] | Counter[object], most: object, found: object
    ) -> None:
        assert isinstance(most, Counter)
        assert isinstance(found, Counter)
        for key in {**most, **found}:
            if not least[key] <= found[key] <= most[key]:
                self._world.wrong(
                    verdict, f"{key}: {least[key]} to {most[key]}, and {found[key]} are counted"
                )

    def _is_refused(self, share: Share) -> None:
        alike = sum(it.hash_int == share.hash_int for it in self._world.shares)
        if share.verdict in DUPLICATE and alike == 1:
            self._world.wrong("refused for another's share", share.worker)
        if share.verdict in LOW and share.hash_int <= share.job.target:
            self._world.wrong("refused below a difficulty that it reaches", share.worker)
        if share.verdict in NEVER or (share.verdict in UNKNOWN and share.sent_s > self._world.well_s):
            self._world.wrong("refused for what it is not", f"{share.worker}: {share.verdict}")

    # When everybody has gone

    def nothing_is_left(self) -> None:
        world = self._world
        left: dict[str, Sized] = {
            "channels": [it.number for it in world.board.distribution.channels if it is not world.own],
            "routes": [it.key for it in world.routes],
            "connections": world.board.connections,
            "channels of V2": range(world.sv2.channels),
            "connections of V2": range(world.sv2.connections),
            "sessions": world.own.sessions | world.own.waiting,
            "prefixes": range(len(world.own.extranonces)),
            "prefixes without a name": world.own.extranonces.unnamed,
            "channels that share prefixes": world.own.extranonces.sharers[1:],
            "spaces": world.upstreams.spaces._used,
            "names that are held": range(world.registry.newcomers.held),
            "places": range(world.connection_limits.mining),
        }
        for what, there in left.items():
            if there:
                world.wrong(f"{what} are left", len(there))


def play_routes(seed: int) -> RoutesWorld:
    """Live the world of a seed."""
    with course(seed) as (clock, _), capture_logs(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(routes, "ROOM_MIN", ROOM)
        patch.setattr(channels, "random", SimpleNamespace(getrandbits=dice(seed, "firsts").getrandbits))
        world = RoutesWorld(seed, clock)
        trio.run(world.live, RoutesAuditor(world), Happenings(world).run, clock=clock.trio)
    return world
