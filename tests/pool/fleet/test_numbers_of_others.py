"""Machines that other processes have numbered, and sites where not everybody mines: the registry goes by
names, and nobody's number makes one machine another."""

import pytest

from payouts.rates import Scheme
from pool.fleet.registry import (
    ContainerRecord,
    KnownMachine,
    Registry,
    Snapshot,
    TenantRecord,
    WorkerRecord,
)
from pool.journal.records import Machine
from stratum.miners.contracts import Admitted, Refusal
from tests.fakes.owners import ConnectionFrom


def of(*names: str) -> Snapshot:
    """Tenants acme and borealis, and machines tenant.container.unit, numbered from 1."""
    tenants = {
        name: TenantRecord(id=number, name=name, active=True, scheme=Scheme.PPS, fee_bps=200)
        for number, name in enumerate(("acme", "borealis"), start=1)
    }
    places: dict[tuple[str, str], ContainerRecord] = {}
    workers = []
    for number, name in enumerate(names, start=1):
        tenant, container, unit = name.split(".")
        place = places.setdefault(
            (tenant, container),
            ContainerRecord(id=len(places) + 1, tenant_id=tenants[tenant].id, name=container),
        )
        workers.append(WorkerRecord(id=number, tenant_id=place.tenant_id, container_id=place.id, unit=unit))
    return Snapshot(tuple(tenants.values()), tuple(places.values()), tuple(workers))


def named(name: str, number: int, container_id: int = 257) -> Machine:
    tenant, container, unit = name.split(".")
    return Machine(
        number=number,
        tenant_id=1,
        tenant=tenant,
        container_id=container_id,
        container=container,
        unit=unit,
        agent=None,
        new=True,
        new_container=True,
    )


def test_a_machine_with_anothers_number_takes_nothing_from_it() -> None:
    registry = Registry(of("acme.c01.u1", "borealis.c01.u1"))
    number = registry.adopt(named("acme.c09.evil", number=2, container_id=2))
    assert number not in (1, 2)
    assert registry.name_of(2) == "borealis.c01.u1"
    assert registry.name_of(number or 0) == "acme.c09.evil"
    assert registry.container_of("borealis", "c01") == registry.containers[2]


def test_what_a_hub_tells_under_a_number_that_is_given_out_here_gets_another_one() -> None:
    registry = Registry(of("acme.c01.u1"), part=3, of=256, taken=(10, 900))
    admitted = registry.admit("acme.c01.new", "", ConnectionFrom())
    assert isinstance(admitted, Admitted)
    registry.prove(admitted.worker)
    assert admitted.worker % 256 == 3
    assert admitted.worker > 900
    told = KnownMachine(
        tenant="acme",
        container="c01",
        unit="other",
        number=admitted.worker,
        container_id=1,
        difficulty_log2=None,
    )
    registry.learn(told)
    assert registry.name_of(admitted.worker) == "acme.c01.new"
    assert registry.number_of("acme", "c01", "other") not in (None, admitted.worker)
    registry.learn_container(ContainerRecord(id=1, tenant_id=2, name="c01"))
    assert registry.containers[1].tenant_id == 1


def test_what_a_hub_tells_under_a_number_that_nobody_has_here_is_given_out_to_nobody_later() -> None:
    """Else the shares of a machine that comes next would be another's, which mines elsewhere."""
    registry = Registry(of(), part=3, of=256)
    for number, unit in enumerate(("u1", "u2", "u3", "u4"), start=1):
        registry.learn(told_of(unit, number))
    admitted = registry.admit("acme.c01.new", "", ConnectionFrom())
    assert isinstance(admitted, Admitted)
    registry.prove(admitted.worker)
    assert registry.name_of(admitted.worker) == "acme.c01.new"
    assert registry.name_of(3) == "acme.c01.u3"


@pytest.mark.parametrize(("part", "parts", "free"), [(3, 256, 3), (0, 1, 1)])
def test_nor_is_it_one_that_was_given_out_and_is_free_again(part: int, parts: int, free: int) -> None:
    """Also where one process numbers them all: who has found a block that a kill kept out of the books was
    numbered by the one before it."""
    registry, gone = Registry(of(), part=part, of=parts), ConnectionFrom()
    assert registry.admit("acme.c01.gone", "", gone) == Admitted(free, party=1)
    registry.leave(gone)
    registry.newcomers.forget(registry.newcomers.gone)
    registry.learn(told_of("u3", free))
    for unit in ("new", "newer"):
        admitted = registry.admit(f"acme.c01.{unit}", "", ConnectionFrom())
        assert isinstance(admitted, Admitted)
        registry.prove(admitted.worker)
        assert registry.name_of(admitted.worker) == f"acme.c01.{unit}"
    number = registry.number_of("acme", "c01", "u3")
    assert registry.name_of(number or 0) == "acme.c01.u3"


def test_nor_is_a_container_given_the_number_that_a_command_is_about_to_give_another() -> None:
    registry = Registry(of())
    number = registry.reserve_container("acme", "c01")
    worker = registry.adopt(named("acme.c09.u1", number=7, container_id=number))
    registry.put_container(ContainerRecord(id=number, tenant_id=1, name="c01"))
    assert registry.name_of(worker or 0) == "acme.c09.u1"
    assert registry.containers[number].name == "c01"


def told_of(unit: str, number: int) -> KnownMachine:
    return KnownMachine(
        tenant="acme", container="c01", unit=unit, number=number, container_id=1, difficulty_log2=None
    )


def test_a_hub_numbers_without_the_gaps_of_its_edges() -> None:
    registry = Registry(of("acme.c01.u1"), renumbers=True)
    numbers = [registry.adopt(named(f"acme.c01.m{it}", number=7 + 256 * it)) for it in range(1, 4)]
    assert numbers == [2, 3, 4]
    assert registry.adopt(named("acme.c01.m1", number=7 + 256)) == 2


@pytest.mark.parametrize(
    ("name", "here"),
    [("acme.c01.u1", True), ("acme.c02.u1", False), ("acme.u1", False), ("borealis.any.u1", True)],
)
def test_machines_that_a_site_may_not_count_for_are_not_let_in(name: str, here: bool) -> None:
    """Else one miner that says another container's name would have the whole site's journal held."""
    registry = Registry(of(), places=frozenset((("acme", "c01"), ("borealis", ""))))
    admitted = registry.admit(name, "", ConnectionFrom())
    assert isinstance(admitted, Admitted if here else Refusal)
