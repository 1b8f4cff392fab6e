"""Journals of several processes, in which the same machines have different numbers: one row each."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from payouts.rates import Scheme
from payouts.schemas.money import containers, tally_minutes, workers
from pool.books.journal.positions import uid_of
from pool.books.journal.start import OpenJournal, open_journals
from pool.books.store import Store
from pool.fleet.registry import ContainerRecord, KnownMachine, Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from pool.journal.records import Batch, Machine, packed
from stratum.tallies import Verdict
from tests.stages.journal import NOW_S, DiskInMemory, tally

UNITS = ("u1", "u2", "u3")


class TwoProcesses:
    """Their journals, and the registry of the hub that has them taken."""

    def __init__(self, store: Store, path: Path) -> None:
        self.store = store
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        with store.write() as connection:
            add_tenant(connection, "acme", terms, by="test", now_s=NOW_S)
        self.opened = open_journals(store, path, count=2, disk=DiskInMemory())
        with store.read() as connection:
            self.registry = Registry(load(connection), of=3)
            self.tenant_id = self.registry.tenants["acme"].id
            assert self.opened[0].beginning.book == uid_of(connection)
        for it in self.opened:
            it.log.begin(it.beginning.behind, NOW_S, 0)
            it.taker.number_by(lambda named: [self.registry.renumbered(it) for it in named])

    def machine(self, part: int, place: int, unit: str) -> Machine:
        """Of the `part`-th process, which numbers by every third."""
        return Machine(
            number=part + 3 * place,
            tenant_id=self.tenant_id,
            tenant="acme",
            container_id=part + 3 * 7,
            container="c07",
            unit=unit,
            agent=None,
            new=True,
            new_container=True,
        )

    def mine(self, it: OpenJournal, machines: Sequence[Machine]) -> None:
        """A stale share of each, which has no price."""
        tallies = b"".join(tally(machine.number, 0, 0, Verdict.STALE) for machine in machines)
        batch = Batch(moment_s=NOW_S, accepted=0, tallies=tallies, upstream=b"", machines=tuple(machines))
        it.log.append(packed(batch), NOW_S, 0)


def test_a_machine_and_its_container_have_one_row_whoever_names_them_first(
    store: Store, tmp_path: Path
) -> None:
    house = TwoProcesses(store, tmp_path)
    one, two = house.opened
    of_one = [house.machine(1, place, unit) for place, unit in enumerate(UNITS, start=1)]
    of_two = [house.machine(2, place, unit) for place, unit in enumerate(reversed(UNITS), start=1)]
    house.mine(one, of_one)
    house.mine(two, of_two)
    for machine in of_two[:2]:  # the hub saw these there first, as it follows what is written
        house.registry.adopt(machine)
    for it in house.opened:
        while it.taker.step() is not None:
            pass
    with store.read() as connection:
        rows = connection.execute(
            select(workers.c.unit, workers.c.id, workers.c.container_id, func.sum(tally_minutes.c.shares))
            .join(tally_minutes, tally_minutes.c.worker_id == workers.c.id)
            .group_by(workers.c.unit, workers.c.id, workers.c.container_id)
        ).all()
        assert connection.scalar(select(func.count()).select_from(containers)) == 1
    known = {it.unit: (it.id, it.container_id) for it in house.registry.workers.values()}
    assert {row.unit: (row.id, row.container_id) for row in rows} == known
    assert {row.unit: int(row[3]) for row in rows} == dict.fromkeys(UNITS, 2)
    for it in house.opened:
        it.log.close()


def test_a_number_that_is_the_row_of_a_machine_of_that_name_in_another_container_is_no_such_machine(
    store: Store, tmp_path: Path
) -> None:
    house = TwoProcesses(store, tmp_path)
    one, two = house.opened
    first, beside = house.machine(1, 1, "u1"), house.machine(1, 2, "u2")
    beside = msgspec.structs.replace(beside, container="c08", container_id=first.container_id + 3)
    other = msgspec.structs.replace(first, container="c08", container_id=beside.container_id)
    house.mine(one, [first, beside])
    while one.taker.step() is not None:
        pass
    house.mine(two, [other])
    while two.taker.step() is not None:
        pass
    with store.read() as connection:
        rows = connection.execute(
            select(containers.c.name, workers.c.unit, func.sum(tally_minutes.c.shares))
            .select_from(tally_minutes)
            .join(workers, workers.c.id == tally_minutes.c.worker_id)
            .join(containers, containers.c.id == workers.c.container_id)
            .group_by(containers.c.name, workers.c.unit)
        )
        assert {(place, unit): int(shares) for place, unit, shares in rows} == {
            ("c07", "u1"): 1,
            ("c08", "u1"): 1,
            ("c08", "u2"): 1,
        }
    for it in house.opened:
        it.log.close()


@pytest.mark.sqlite_suffices
def test_a_process_is_told_of_rows_by_name_and_keeps_its_own_numbers(store: Store, tmp_path: Path) -> None:
    house = TwoProcesses(store, tmp_path)
    with store.read() as connection:
        edge = Registry(load(connection), part=1, of=3)
    machine = house.machine(1, 4, "u1")
    edge.adopt(machine)
    assert [it.id for it in edge.unlisted(0, None, None, 9)] == [machine.number]
    edge.learn(
        KnownMachine(tenant="acme", container="c07", unit="u1", number=8, container_id=23, difficulty_log2=16)
    )
    assert edge.unlisted(0, None, None, 9) == [], "it has its row, and is listed by that"
    (place,) = edge.containers.values()
    edge.learn_container(edge_record := house_record(place, 23))
    assert edge.containers[place.id].units == edge_record.units
    assert edge.number_of("acme", "c07", "u1") == machine.number
    for it in house.opened:
        it.log.close()


def house_record(place: ContainerRecord, number: int) -> ContainerRecord:
    """As the books have it, after somebody has said how many machines are in it."""
    return msgspec.structs.replace(place, id=number, units=400)
