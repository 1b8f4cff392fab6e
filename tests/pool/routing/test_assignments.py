"""What was assigned by name holds for whoever has the name here, now or later, and for nobody else."""

import pytest

from payouts.rates import Scheme
from pool.fleet.registry import Registry, Snapshot, TenantRecord
from pool.orders.mining import Assigned, OrderMachines
from pool.routing.assignments import Assignments
from stratum.miners.contracts import Admitted
from tests.fakes.owners import ConnectionFrom

BLUE, GREEN = 1, 2


class Desk:
    def __init__(self) -> None:
        tenant = TenantRecord(id=1, name="acme", active=True, scheme=Scheme.PPS, fee_bps=0)
        self.registry = Registry(Snapshot((tenant,), (), ()))
        self.assignments = Assignments(self.registry)

    def comes(self, name: str) -> tuple[int, ConnectionFrom]:
        """Its number, and its connection."""
        owner = ConnectionFrom("10.0.0.1")
        admitted = self.registry.admit(name, "", owner)
        assert isinstance(admitted, Admitted)
        self.assignments.met(admitted.worker, name)
        return admitted.worker, owner

    def goes(self, owner: ConnectionFrom) -> None:
        """And all that it sent is committed."""
        self.registry.leave(owner)
        self.registry.newcomers.forget(self.registry.newcomers.gone)

    async def tell(self, version: int, **units: int) -> None:
        machines = tuple(
            OrderMachines(order=order, tenant="acme", container="c01", units=(unit,))
            for unit, order in units.items()
        )
        await self.assignments.tell(Assigned(version=version, machines=machines))


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_who_is_here_has_its_order_at_once_and_who_comes_later_when_it_says_its_name(
    desk: Desk,
) -> None:
    here, _ = desk.comes("acme.c01.u1")
    other, _ = desk.comes("acme.c01.u3")
    await desk.tell(5, u1=BLUE, u2=GREEN)
    assert (desk.assignments.orders, desk.assignments.version) == ({here: BLUE}, 5)
    later, _ = desk.comes("acme.c01.u2")
    assert desk.assignments.orders == {here: BLUE, later: GREEN}
    await desk.tell(6, u2=BLUE, u3=BLUE)
    assert desk.assignments.orders == {later: BLUE, other: BLUE}, "what is not told any more is over"
    await desk.tell(7)
    assert desk.assignments.orders == {}


async def test_a_number_that_is_somebody_elses_by_now_has_not_the_order_of_before(desk: Desk) -> None:
    """A name without a share gives its number back."""
    await desk.tell(1, u1=BLUE)
    number, owner = desk.comes("acme.c01.u1")
    assert desk.assignments.orders == {number: BLUE}
    desk.goes(owner)
    assert desk.assignments.orders == {}
    again, _ = desk.comes("acme.c01.u2")
    assert again == number
    assert desk.assignments.orders == {}
    anew, _ = desk.comes("acme.c01.u1")
    assert desk.assignments.orders == {anew: BLUE}


async def test_names_that_nobody_has_are_kept_as_names(desk: Desk) -> None:
    await desk.tell(1, **{f"u{number}": BLUE for number in range(5_000)})
    assert desk.assignments.orders == {}
    number, _ = desk.comes("acme.c01.u4999")
    assert desk.assignments.orders == {number: BLUE}
