"""What goes wrong in a world of sites: with hosts, their disks and clocks, between them, and with what the
operator changes meanwhile. What goes wrong with nodes, chain and the other pool is as in every world.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final

import trio

from tests.simulation.faults import KINDS_AROUND, MOMENTS, MOMENTS_OF_A_START, Faults, Kinds, Undo
from tests.simulation.host import Host
from tests.simulation.nats import Weather
from tests.simulation.process import Moment
from tests.simulation.sites import EdgeHost, HubHost

COPY_AGE_S: Final = (2.0, 9.0)  # of what an edge is put back from
ON_THEIR_WAY_S: Final = (15.0, 30.0)  # messages of an edge: another process of it has begun by then
EDGE_STEPS_S: Final = (-86_400.0, -3_600.0, -30.0, 30.0, 50.0)  # ahead: as long as it has to wait then
HUB_STEPS_S: Final = (30.0, 90.0, 3_600.0)
FEES_BPS: Final = (0, 75, 300)


class SiteFaults(Faults):
    """Some of them take a while: `plan` is given where."""

    def plan(self, tasks: trio.Nursery | None = None) -> None:
        self._tasks = tasks
        super().plan()

    def _soon(self, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(work, *args)

    @property
    def _edge(self) -> EdgeHost:
        edge: EdgeHost = self._chance.choice(self._world.edges)
        return edge

    @property
    def _hub(self) -> HubHost:
        hub: HubHost = self._world.hub or self._chance.choice(self._world.hubs)
        return hub

    @property
    def _host(self) -> Host:
        return self._hub if self._chance.random() < 0.4 else self._edge

    # Processes

    def process_is_killed_at_some_moment(self) -> None:
        host = self._host
        if host.process is not None and host.process.alive:
            moment = self._chance.choice(list(Moment))
            host.process.light(moment, self._chance.randrange(1, MOMENTS[moment]))
            host.power_fails_too = self._chance.random() < 0.5

    def process_is_killed_and_killed_again_as_it_starts(self) -> None:
        host, moment = self._host, self._chance.choice(list(Moment))
        host.next_fuse = moment, self._chance.randrange(1, MOMENTS_OF_A_START[moment])
        host.power_fails_too = self._chance.random() < 0.5
        host.kill()

    def hub_is_killed_at_a_commit(self) -> None:
        process = self._hub.process
        if process is not None and process.alive:
            process.light(Moment.BOOKS, self._chance.randrange(1, MOMENTS[Moment.BOOKS]))

    def another_hub_takes_over(self) -> None:
        self._hub.lose_lease()

    def hubs_are_away(self) -> Undo:
        """Both are killed, and begin again where the books are."""
        for hub in self._world.hubs:
            hub.kill()
        return self.books_away(self._world.health)

    def site_begins_alone(self) -> Undo:
        """Its line is cut, and its process is started anew meanwhile."""
        edge = self._edge
        undo = self._cut_off(edge)
        edge.kill()
        return undo

    # Disks

    def disk_fails_at_a_sync(self) -> Undo:
        host = self._host
        host.power_fails_too = self._chance.random() < 0.5
        host.disk.fails_at_sync()
        return host.disk.is_good

    def disk_is_full(self) -> Undo:
        host = self._host
        host.disk.is_full()
        return host.disk.is_good

    def disk_of_an_edge_is_lost(self) -> None:
        self._edge.lose_disk()

    def second_disk_of_an_edge_is_lost(self) -> None:
        self._edge.lose_second_disk()

    def edge_is_put_back_from_a_copy(self) -> None:
        edge = self._edge
        copy = edge.copy_disk()
        self._world.network.after(self._chance.uniform(*COPY_AGE_S), lambda: self._put_back(edge, copy))

    def edge_is_put_back_while_its_messages_are_on_their_way(self) -> None:
        """The hub does not know that it went on since, and hears it of a process that is no more."""
        edge = self._chance.choice([it for it in self._world.edges if it.second is None] or [self._edge])
        release, copy = self._world.nats.hold_back(edge.name), edge.copy_disk()
        self._world.network.after(self._chance.uniform(*COPY_AGE_S), lambda: self._put_back(edge, copy))
        self._world.network.after(self._chance.uniform(*ON_THEIR_WAY_S), release)

    def _put_back(self, edge: EdgeHost, copy: Any) -> None:
        if not self.is_over:
            edge.put_back(copy)

    def books_are_away(self) -> Undo:
        return self.books_away(self._world.health)

    def answers_of_the_books_are_lost(self) -> None:
        self._world.health.loses_answers = self._chance.randint(1, 4)

    # The way between

    def messages_are_lost(self) -> Undo:
        return self._weather(loses=0.3)

    def messages_come_twice_and_out_of_order(self) -> Undo:
        return self._weather(repeats=0.3, delays=0.4)

    def everything_is_wrong_with_messages(self) -> Undo:
        return self._weather(loses=0.15, repeats=0.2, delays=0.3)

    def _weather(self, **chances: float) -> Undo:
        nats = self._world.nats
        nats.weather = Weather(**chances)

        def well() -> None:
            nats.weather = Weather()

        return well

    def stores_are_emptied(self) -> None:
        self._world.nats.forget()

    def disk_of_the_servers_is_full(self) -> None:
        """They say so to nobody, and store nothing for good."""
        self._world.nats.stores = False

    def servers_are_away(self) -> Undo:
        nats = self._world.nats
        nats.up = False
        nats.cut()

        def well() -> None:
            nats.up = True

        return well

    def host_is_cut_off(self) -> Undo:
        return self._cut_off(self._host)

    def _cut_off(self, host: Host) -> Undo:
        nats = self._world.nats
        told = self._chance.random() < 0.5
        where = nats.cut_off if told else nats.silent
        where.add(host.name)
        if told:
            nats.cut(host.name)

        def well() -> None:
            where.discard(host.name)

        return well

    def two_are_kept_apart(self) -> Undo:
        nats, apart = self._world.nats, frozenset((self._edge.name, self._hub.name))
        nats.apart.add(apart)

        def well() -> None:
            nats.apart.discard(apart)

        return well

    # Clocks

    def clock_of_a_site_steps(self) -> Undo:
        edge = self._edge
        edge.ahead_s += self._chance.choice(EDGE_STEPS_S)

        def well() -> None:
            edge.ahead_s = 0.0

        return well

    def clock_of_the_hubs_steps(self) -> None:
        self._world.clock.ahead_s += self._chance.choice(HUB_STEPS_S)

    # What the operator changes, and where machines go

    def terms_of_a_tenant_change(self) -> None:
        tenant, fee = self._chance.choice(self._world.tenants), self._chance.choice(FEES_BPS)
        self._world.fees[tenant].add(fee)
        self._soon(self._command, "tenant.set-terms", {"name": tenant, "fee_bps": fee})

    def tenant_moves_to_another_pool_or_back(self) -> None:
        tenant, where = self._chance.choice(self._world.tenants), self._chance.choice(("north", "pool"))
        self._soon(self._command, "tenant.set-terms", {"name": tenant, "upstream": where})

    def tenant_is_suspended(self) -> Undo:
        tenant = self._chance.choice(self._world.tenants)
        self._soon(self._command, "tenant.set-status", {"name": tenant, "active": False})

        def well() -> None:
            self._soon(self._command, "tenant.set-status", {"name": tenant, "active": True})

        return well

    async def _command(self, name: str, params: dict[str, Any]) -> None:
        """Until it is done, or everything is over."""
        while not await self._world.command(name, **params):  # noqa: ASYNC110 - a hub is asked, again
            await trio.sleep(1.0)

    def machines_go_to_their_other_edge(self) -> None:
        for number, miner in enumerate(self._world.miners):
            if self._chance.random() < 0.5:
                self._world.known[number].reverse()
                miner.hang_up()


SITE_KINDS: Final[Kinds] = (
    (SiteFaults.process_is_killed_at_some_moment, 8),
    (SiteFaults.process_is_killed_and_killed_again_as_it_starts, 4),
    (SiteFaults.hub_is_killed_at_a_commit, 2),
    (SiteFaults.another_hub_takes_over, 3),
    (SiteFaults.hubs_are_away, 2),
    (SiteFaults.site_begins_alone, 3),
    (SiteFaults.disk_fails_at_a_sync, 2),
    (SiteFaults.disk_is_full, 1),
    (SiteFaults.disk_of_an_edge_is_lost, 2),
    (SiteFaults.second_disk_of_an_edge_is_lost, 1),
    (SiteFaults.edge_is_put_back_from_a_copy, 3),
    (SiteFaults.edge_is_put_back_while_its_messages_are_on_their_way, 2),
    (SiteFaults.books_are_away, 2),
    (SiteFaults.answers_of_the_books_are_lost, 2),
    (SiteFaults.messages_are_lost, 3),
    (SiteFaults.messages_come_twice_and_out_of_order, 3),
    (SiteFaults.everything_is_wrong_with_messages, 2),
    (SiteFaults.stores_are_emptied, 3),
    (SiteFaults.servers_are_away, 2),
    (SiteFaults.host_is_cut_off, 3),
    (SiteFaults.two_are_kept_apart, 2),
    (SiteFaults.clock_of_a_site_steps, 2),
    (SiteFaults.clock_of_the_hubs_steps, 1),
    (SiteFaults.terms_of_a_tenant_change, 2),
    (SiteFaults.tenant_moves_to_another_pool_or_back, 1),
    (SiteFaults.tenant_is_suspended, 1),
    (SiteFaults.machines_go_to_their_other_edge, 3),
    *KINDS_AROUND,
)
