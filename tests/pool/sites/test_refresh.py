"""What the hub knows by now is taken over by name, and nobody who came since is lost by it."""

import msgspec
import pytest

from payouts.rates import Scheme
from pool.fleet.registry import ContainerRecord, Registry, Snapshot, TenantRecord, WorkerRecord
from pool.sites.refresh import refresh
from stratum.miners.contracts import Admitted, Refusal
from tests.fakes.owners import ConnectionFrom

ACME = TenantRecord(id=1, name="acme", active=True, scheme=Scheme.PPS, fee_bps=200)
PLACE = ContainerRecord(id=1, tenant_id=1, name="c1")
MACHINE = WorkerRecord(id=1, tenant_id=1, container_id=1, unit="u1", difficulty_log2=16)
HUB = Snapshot((ACME,), (PLACE,), (MACHINE,))


class Site:
    def __init__(self, snapshot: Snapshot = HUB) -> None:
        self.registry = Registry(snapshot, part=3, of=256)
        self.tenants: list[str] = []
        self.removed: set[int] = set()

    async def hears(self, snapshot: Snapshot) -> None:
        await refresh(
            self.registry,
            snapshot,
            on_tenant=lambda it: self.tenants.append(it.name),
            on_removed=self.removed.update,
        )

    def mines(self, name: str) -> int:
        """With an accepted share."""
        admitted = self.registry.admit(name, "", ConnectionFrom())
        assert isinstance(admitted, Admitted)
        self.registry.prove(admitted.worker)
        return admitted.worker


def removed(record: WorkerRecord) -> WorkerRecord:
    return msgspec.structs.replace(record, removed=True)


async def test_nothing_new_changes_nothing() -> None:
    site = Site()
    before = site.registry.generation
    await site.hears(HUB)
    assert (site.tenants, site.removed, site.registry.generation) == ([], set(), before)


async def test_a_tenant_that_was_suspended_while_the_line_was_down_mines_no_more() -> None:
    site = Site()
    await site.hears(msgspec.structs.replace(HUB, tenants=(msgspec.structs.replace(ACME, active=False),)))
    assert site.tenants == ["acme"]
    assert isinstance(site.registry.admit("acme.c1.u1", "", ConnectionFrom()), Refusal)


async def test_a_machine_of_another_site_starts_here_where_it_was_there() -> None:
    site = Site()
    moved = WorkerRecord(id=1_021, tenant_id=1, container_id=1, unit="u2", difficulty_log2=19)
    await site.hears(msgspec.structs.replace(HUB, workers=(MACHINE, moved)))
    admitted = site.registry.admit("acme.c1.u2", "", ConnectionFrom())
    assert isinstance(admitted, Admitted)
    assert admitted.difficulty_log2 == 19


async def test_a_machine_that_both_have_met_keeps_its_number_here() -> None:
    site = Site()
    mine = site.mines("acme.c9.u9")
    place = ContainerRecord(id=77, tenant_id=1, name="c9")
    theirs = WorkerRecord(id=4_096, tenant_id=1, container_id=77, unit="u9", difficulty_log2=18)

    await site.hears(Snapshot((ACME,), (PLACE, place), (MACHINE, theirs)))

    assert site.registry.called("acme.c9.u9") == mine
    assert site.registry.workers[mine].difficulty_log2 == 18
    assert site.registry.rowless == {}
    assert site.mines("acme.c9.u8") != mine


@pytest.mark.parametrize("came_back", [False, True])
async def test_a_machine_that_was_removed_is_dropped_unless_it_has_come_back(came_back: bool) -> None:
    site = Site(msgspec.structs.replace(HUB, workers=(removed(MACHINE),)) if came_back else HUB)
    if came_back:  # which the hub does not know yet
        assert site.mines("acme.c1.u1") == MACHINE.id
    await site.hears(msgspec.structs.replace(HUB, workers=(removed(MACHINE),)))
    assert site.removed == (set() if came_back else {MACHINE.id})
    assert (MACHINE.id in site.registry.workers) == came_back


async def test_a_container_that_was_removed_stays_where_machines_have_come_since() -> None:
    gone = msgspec.structs.replace(PLACE, removed=True)
    site = Site(Snapshot((ACME,), (gone,), ()))
    site.mines("acme.c1.u5")
    await site.hears(Snapshot((ACME,), (gone,), ()))
    found = site.registry.container_of("acme", "c1")
    assert found is not None
    assert not found.removed
