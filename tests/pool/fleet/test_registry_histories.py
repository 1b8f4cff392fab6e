"""In whatever order machines come, mine, leave, are removed, and are named by others: a number is one name's,
and who is counted is who was let in."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from payouts.rates import Scheme
from pool.fleet import newcomers
from pool.fleet.registry import (
    ContainerRecord,
    KnownMachine,
    Registry,
    Snapshot,
    TenantRecord,
)
from pool.journal.records import Machine
from stratum.miners.contracts import Admitted
from tests.fakes.owners import ConnectionFrom

ACME = TenantRecord(id=1, name="acme", active=True, scheme=Scheme.PPS, fee_bps=200)
NAMES = st.sampled_from([("c01", "u1"), ("c01", "u2"), ("", "u1")])
NUMBERS = st.integers(1, 6)
Name = tuple[str, str]


class Histories(RuleBasedStateMachine):
    """Of one registry: of a process that numbers alone, of the first of four, where commands are given, or of
    one that is told what there is."""

    @initialize(of=st.sampled_from([(0, 1), (0, 4), (3, 4)]))
    def begin(self, of: tuple[int, int]) -> None:
        self.registry = Registry(Snapshot((ACME,), (), ()), part=of[0], of=of[1])
        self.is_told = of[0] > 0
        self.reserved: dict[str, int] = {}  # for containers that are about to be set
        self.connections: list[tuple[ConnectionFrom, Name, int]] = []
        self.sent: list[tuple[Name, int]] = []  # and in no commit
        self.gone: tuple[tuple[int, int], ...] | None = None  # of the commit that is under way
        self.counted: dict[int, Name] = {}

    @rule(name=NAMES)
    def come(self, name: Name) -> None:
        owner = ConnectionFrom()
        admitted = self.registry.admit(f"acme.{'.'.join(name)}", "", owner)
        assert isinstance(admitted, Admitted)
        self.connections.append((owner, name, admitted.worker))

    @rule(name=NAMES)
    def send(self, name: Name) -> None:
        self.sent += [(named, number) for _, named, number in self.connections if named == name]

    @rule(name=NAMES)
    def leave(self, name: Name) -> None:
        for owner, named, _ in self.connections:
            if named == name:
                self.registry.leave(owner)
        self.connections = [it for it in self.connections if it[1] != name]

    @rule()
    def begin_commit(self) -> None:
        """As pool.books.journal.journal.Journal has it."""
        if self.gone is None:
            self.gone = self.registry.newcomers.gone
            numbers = np.array([number for _, number in self.sent], dtype=np.uint32)
            for number in np.unique(numbers[self.registry.newcomers.among(numbers)]).tolist():
                self.registry.prove(number)
            for name, number in self.sent:
                self.counts(number, name)
            for worker in self.registry.collect_new().workers:
                self.counts(worker.id, (self.registry.containers[worker.container_id].name, worker.unit))
            self.sent = []

    @rule()
    def end_commit(self) -> None:
        if self.gone is not None:
            self.registry.newcomers.forget(self.gone)
            self.gone = None

    @rule(name=NAMES)
    def remove(self, name: Name) -> None:
        """With what it has under way."""
        number = self.registry.number_of("acme", *name)
        if number is not None:
            self.leave(name)
            self.registry.remove_workers([number])

    @precondition(lambda self: self.is_told)
    @rule(name=NAMES, number=NUMBERS, container=NUMBERS)
    def be_told(self, name: Name, number: int, container: int) -> None:
        known = KnownMachine(
            tenant="acme",
            container=name[0],
            unit=name[1],
            number=number,
            container_id=container,
            difficulty_log2=None,
        )
        self.registry.learn(known)

    @rule(name=NAMES, number=NUMBERS, container=NUMBERS, new=st.booleans())
    def adopt(self, name: Name, number: int, container: int, new: bool) -> None:
        machine = Machine(
            number=number,
            tenant_id=1,
            tenant="acme",
            container_id=container,
            container=name[0],
            unit=name[1],
            agent=None,
            new=new,
        )
        self.counts(self.registry.renumbered(machine).number, name)

    @precondition(lambda self: self.is_told)
    @rule(name=NAMES, number=NUMBERS, removed=st.booleans())
    def be_told_of_a_container(self, name: Name, number: int, removed: bool) -> None:
        for unit in ("u1", "u2") if removed else ():
            self.remove((name[0], unit))
        self.registry.learn_container(ContainerRecord(id=number, tenant_id=1, name=name[0], removed=removed))

    @precondition(lambda self: not self.is_told)
    @rule(name=NAMES)
    def begin_to_set_a_container(self, name: Name) -> None:
        self.reserved[name[0]] = self.registry.reserve_container("acme", name[0])

    @precondition(lambda self: self.reserved)
    @rule()
    def set_a_container(self) -> None:
        name, number = self.reserved.popitem()
        self.registry.put_container(ContainerRecord(id=number, tenant_id=1, name=name))

    @precondition(lambda self: not self.is_told)
    @rule(name=NAMES)
    def remove_a_container(self, name: Name) -> None:
        known = self.registry.container_of("acme", name[0])
        if known is not None:
            for unit in ("u1", "u2"):
                self.remove((name[0], unit))
            self.registry.put_container(msgspec.structs.replace(known, removed=True))

    def counts(self, number: int, name: Name) -> None:
        """Shares of that name are booked by that number, for ever."""
        worker = self.registry.machine(number, new=False, new_container=False)
        assert (worker.container, worker.unit) == name
        assert self.counted.setdefault(number, name) == name

    @invariant()
    def who_is_here_is_who_was_let_in(self) -> None:
        for _, name, number in self.connections:
            assert self.registry.place_of(number) == ("acme", *name)

    @invariant()
    def who_has_worked_is_no_newcomer(self) -> None:
        registry = self.registry
        there = registry.newcomers.by_number
        assert not there.keys() & registry.workers.keys()
        numbers = np.arange(256, dtype=np.uint32)
        assert set(numbers[registry.newcomers.among(numbers)].tolist()) == there.keys()

    @invariant()
    def a_container_has_one_number(self) -> None:
        names = [it.name for it in self.registry.containers.values()]
        assert len(set(names)) == len(names)

    @invariant()
    def each_tenant_has_as_many_as_are_counted(self) -> None:
        registry = self.registry
        counted = Counter(it.tenant_id for it in registry.workers.values())
        assert registry.workers_of("acme") == counted[1]
        assert registry.containers_of("acme") == sum(not it.removed for it in registry.containers.values())


def test_a_number_is_one_names_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "_NUMBERS_AT_A_TIME", 1)
    run_state_machine_as_test(
        Histories, settings=settings(max_examples=300, stateful_step_count=30, deadline=None)
    )
