"""What happens in a world of routes, as its seed draws it: what operators do, and what goes wrong."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
import trio

from pool.fleet.registry import parse_worker_name
from pool.orders.mining import Assigned, OrderMachines
from pool.orders.rows import OrderRecord
from pool.upstreams.rows import UpstreamRecord
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.fakes.upstreams import PASSWORD, USER
from tests.simulation.dice import Dice, dice
from tests.simulation.routes_world import TENANTS, UPSTREAMS, RoutesWorld

OUTAGE_S: Final = 4
LIVES_S: Final = (60.0, 150.0)
PAUSES_S: Final = (0.0, 0.3, 2.0, 5.0, 12.0)  # between two things that an operator or fate does
LASTS_S: Final = (1.0, 20.0)
ORDER_S: Final = (10.0, 90.0)


class Happenings:
    """`run` returns when all that was to happen has begun; it is over after the longest of LASTS_S."""

    def __init__(self, world: RoutesWorld) -> None:
        self._world = world
        self._orders = 0

    # What operators do

    def _upstream(self, record: UpstreamRecord) -> None:
        self._world.plan = msgspec.structs.replace(
            self._world.plan, upstreams={**self._world.plan.upstreams, record.id: record}
        )

    def _some_upstream(self, chance: Dice) -> int:
        """One that there is by now."""
        number = chance.choice(tuple(UPSTREAMS))
        if number not in self._world.plan.upstreams:
            host = f"{UPSTREAMS[number]}.test"
            record = UpstreamRecord(
                id=number,
                name=UPSTREAMS[number],
                fallback_id=None,
                outage_s=OUTAGE_S,
                connections=chance.choice((1, 1, 2)),
                suggest_difficulty=None,
                endpoints=(UpstreamEndpoint(host=host, port=3333, user=USER, password=PASSWORD),),
                created_at_s=0,
                created_by="world",
            )
            self._upstream(record)
        return number

    async def terms_change(self, chance: Dice) -> None:
        tenant = self._world.registry.tenants[chance.choice(tuple(TENANTS.values()))]
        number = None if chance.random() < 0.25 else self._some_upstream(chance)
        self._world.registry.put_tenant(msgspec.structs.replace(tenant, upstream_id=number))
        self._world.follow()

    async def order_is_sold(self, chance: Dice) -> None:
        self._orders += 1
        from_s = int(self._world.clock.true_s()) + chance.choice((0, 0, 20))
        order = OrderRecord(
            id=self._orders,
            name=f"order{self._orders}",
            upstream_id=self._some_upstream(chance),
            hashrate_hps=10**15,
            tolerance_bps=200,
            from_s=from_s,
            until_s=from_s + int(chance.uniform(*ORDER_S)),
            priority=1,
            sat_per_ph_day=1,
            suppliers=((1, 0),),
        )
        self._world.plan = msgspec.structs.replace(
            self._world.plan, orders={**self._world.plan.orders, order.id: order}
        )
        self._world.follow()

    async def order_is_removed(self, chance: Dice) -> None:
        gone = chance.choice((0, *self._world.plan.orders))
        left = {number: it for number, it in self._world.plan.orders.items() if number != gone}
        self._world.plan = msgspec.structs.replace(self._world.plan, orders=left)
        self._world.follow()

    async def machines_are_assigned(self, chance: Dice) -> None:
        orders = tuple(self._world.plan.orders)
        some = [it for it in self._world.machines if orders and chance.random() < 0.6]
        self._world.assigned = {name: chance.choice(orders) for name in some}
        self._world.note_what_each_may()
        machines = []
        for name, order in self._world.assigned.items():
            tenant, container, unit = parse_worker_name(name)
            machines.append(OrderMachines(order=order, tenant=tenant, container=container, units=(unit,)))
        version = self._world.admission.assignments.version + 1
        await self._world.admission.assignments.tell(Assigned(version=version, machines=tuple(machines)))
        self._world.placement.reconsider()

    async def upstream_is_another(self, chance: Dice) -> None:
        number = self._some_upstream(chance)
        record = self._world.plan.upstreams[number]
        endpoint = msgspec.structs.replace(record.endpoints[0], port=chance.randint(3333, 3340))
        fallback = None if chance.random() < 0.3 else self._some_upstream(chance)
        change = chance.choice(
            (
                {"fallback_id": fallback},
                {"endpoints": (endpoint,)},
                {"connections": chance.randint(1, 3)},
                {"suggest_difficulty": chance.choice((None, 1))},
            )
        )
        self._upstream(msgspec.structs.replace(record, **change))
        self._world.follow()

    # What goes wrong

    async def pool_hangs_up(self, chance: Dice) -> None:
        self._world.pools[self._some_upstream(chance)].cut()

    async def pool_is_down(self, chance: Dice) -> None:
        pool = self._world.pools[self._some_upstream(chance)]
        pool.up = False
        pool.cut()
        self._world.network.after(chance.uniform(*LASTS_S), partial(setattr, pool, "up", True))

    async def pool_is_silent(self, chance: Dice) -> None:
        pool = self._world.pools[self._some_upstream(chance)]
        pool.silent = True
        self._world.network.after(chance.uniform(*LASTS_S), partial(setattr, pool, "silent", False))

    async def no_node_answers(self, chance: Dice) -> None:
        self._world.placement.let_go("no node answers")
        self._world.network.after(chance.uniform(*LASTS_S), self._a_node_answers)

    def _a_node_answers(self) -> None:
        self._world.placement.readmit()
        self._world.publish_own(other_block=True)

    async def lines_are_cut(self, chance: Dice) -> None:
        for it in self._world.everybody:
            if chance.random() < 0.5:
                it.hang_up()

    async def pool_is_drained(self, chance: Dice) -> None:
        """And is not restarted after all."""
        drain = self._world.drain
        drain.begin(chance.choice((1, 5, 20)))
        self._world.network.after(chance.uniform(*LASTS_S), drain.resume)

    async def run(self) -> None:
        chance = dice(self._world.seed, "operators")
        kinds: dict[Callable[[Dice], Awaitable[None]], int] = {
            self.terms_change: 4,
            self.machines_are_assigned: 4,
            self.order_is_sold: 3,
            self.upstream_is_another: 3,
            self.order_is_removed: 2,
            self.pool_hangs_up: 2,
            self.pool_is_down: 2,
            self.pool_is_silent: 1,
            self.no_node_answers: 1,
            self.lines_are_cut: 1,
            self.pool_is_drained: 1,
        }
        for _ in range(2):
            await self.terms_change(chance)
        ends_s = trio.current_time() + chance.uniform(*LIVES_S)
        while trio.current_time() < ends_s:
            (happens,) = chance.choices([*kinds], [*kinds.values()])
            self._world.note(happens.__name__.replace("_", " "))
            await happens(chance)
            await trio.sleep(chance.choice(PAUSES_S))
