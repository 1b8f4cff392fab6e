"""What an edge is told of the fleet: its own tenants and containers, and nothing of anybody else's."""

from payouts.rates import Scheme
from pool.books.edges.known import known_to
from pool.books.edges.rows import EdgePlace, EdgeRecord
from pool.fleet.registry import ContainerRecord, Snapshot, TenantRecord, WorkerRecord
from pool.journal.records import Machine


def tenant(number: int, name: str) -> TenantRecord:
    return TenantRecord(id=number, name=name, active=True, scheme=Scheme.PPS, fee_bps=200)


FLEET = Snapshot(
    (tenant(1, "acme"), tenant(2, "borealis"), tenant(3, "cygnus")),
    (
        ContainerRecord(id=1, tenant_id=1, name="c01"),
        ContainerRecord(id=2, tenant_id=1, name="c02"),
        ContainerRecord(id=3, tenant_id=2, name="c01"),
        ContainerRecord(id=4, tenant_id=3, name="c01"),
    ),
    tuple(WorkerRecord(id=number, tenant_id=1, container_id=number, unit="u1") for number in (1, 2, 3, 4)),
)


def edge(*places: EdgePlace) -> EdgeRecord:
    return EdgeRecord(
        id=1,
        name="north",
        nkey="U",
        part=1,
        epoch=1,
        writer="ab" * 16,
        ths=None,
        places=places,
        host=None,
        process=None,
        lease_until_s=0,
        created_at_s=0,
        created_by="ann",
        retired_at_s=None,
        held=None,
        held_at_s=None,
    )


def machine(tenant: str, container: str, unit: str = "u1") -> Machine:
    return Machine(
        number=1, tenant_id=1, tenant=tenant, container_id=1, container=container, unit=unit, agent=None
    )


def test_all_of_a_tenant_or_one_of_its_containers() -> None:
    told = known_to(edge(EdgePlace("acme", "c02"), EdgePlace("borealis")), FLEET)
    assert [it.name for it in told.tenants] == ["acme", "borealis"]
    assert [it.id for it in told.containers] == [2, 3]
    assert [it.id for it in told.workers] == [2, 3]


def test_whom_it_may_count_for_is_said_by_names_that_a_machine_can_have() -> None:
    it = edge(EdgePlace("acme", "c02"), EdgePlace("borealis"))
    assert it.may_count_for(machine("acme", "c02"))
    assert it.may_count_for(machine("borealis", "any"))
    assert not it.may_count_for(machine("acme", "c01"))
    assert not it.may_count_for(machine("cygnus", "c01"))
    assert not it.may_count_for(machine("acme", ""))
    assert it.may_count_for(machine("borealis", "", "")), "the tenant's name alone"
    assert not it.may_count_for(machine("borealis", "c01", "u" * 64))
    assert not it.may_count_for(machine("borealis", "c" * 64))
