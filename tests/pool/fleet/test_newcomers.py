"""Names without an accepted share: bounded in every direction, forgotten, and never in a machine's way."""

import struct
import tracemalloc

import numpy as np
import pytest
from sqlalchemy import func, select

from payouts.schemas.money import containers, tally_minutes, workers
from pool.books.store import Store
from pool.fleet import newcomers
from pool.fleet.newcomers import NEW_PER_CONNECTION_MAX, Newcomers, Numbers
from stratum.miners.contracts import Admitted, Refusal
from stratum.miners.owner import Owner
from stratum.tallies import Verdict
from tests.fakes.owners import ConnectionFrom
from tests.stages.journal import JournalOnStore, tally

TENANT = 1
STRANGERS = 200


class Door:
    """Newcomers from number 101 on, and connections that are closed when they are shown out."""

    def __init__(self) -> None:
        self.shown_out: list[Owner] = []
        numbers = Numbers()
        numbers.above(100)
        self.newcomers = Newcomers(numbers)

    def close(self, owner: Owner) -> None:
        self.shown_out.append(owner)
        self.newcomers.leave(owner)

    def say(self, unit: str, owner: ConnectionFrom, tenant: int = TENANT) -> int | Refusal:
        owner.leave = self.close
        return self.newcomers.admit((tenant, "c01", unit), "", owner, 0)

    def commit(self) -> None:
        """As the journal does: what was sent by those who are gone is counted."""
        self.newcomers.forget(self.newcomers.gone)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Door:
    for name, most in (("CONNECTION", 3), ("SOURCE", 6), ("TENANT", 9)):
        monkeypatch.setattr(newcomers, f"NEW_PER_{name}_MAX", most)
    monkeypatch.setattr(newcomers, "NEW_MAX", 12)
    return Door()


def test_a_name_is_forgotten_with_its_last_connection_and_its_number_is_used_again(small: Door) -> None:
    one, two = ConnectionFrom(), ConnectionFrom()
    number = small.say("u1", one)
    assert small.say("u1", two) == number
    small.newcomers.leave(one)
    small.commit()
    assert small.say("u1", two) == number
    small.newcomers.leave(two)
    assert small.say("u2", one) != number  # shares that name it may be on their way
    small.commit()
    assert small.newcomers.find((TENANT, "c01", "u1")) is None
    assert small.say("u3", one) == number


def test_a_name_that_comes_back_before_the_commit_is_kept(small: Door) -> None:
    one, two = ConnectionFrom(), ConnectionFrom()
    number = small.say("u1", one)
    small.newcomers.leave(one)
    gone = small.newcomers.gone
    assert small.say("u1", two) == number
    small.newcomers.forget(gone)
    assert small.newcomers.by_number[number].owners == (two,)  # type: ignore[index]


def test_one_connection_holds_a_handful_of_names(small: Door) -> None:
    one = ConnectionFrom()
    answers = [small.say(f"u{i}", one) for i in range(5)]
    assert [isinstance(answer, Refusal) for answer in answers] == [False, False, False, True, True]
    assert not isinstance(small.say("u0", one), Refusal)
    small.newcomers.prove(101)  # one of its workers has had a share
    assert not isinstance(small.say("u9", one), Refusal)


@pytest.mark.parametrize("scope", ["address", "tenant", "all"])
def test_who_holds_the_most_names_makes_room_for_a_machine(small: Door, scope: str) -> None:
    """At one address, of one tenant, over all: a stranger fills every place, and each machine gets one."""
    own_address, own_tenant = scope == "address", scope != "all"
    strangers = []
    for number in range(20):
        stranger = ConnectionFrom("10.0.0.1" if own_address else f"10.0.1.{number}")
        strangers.append(stranger)
        for unit in range(3):
            small.say(f"x{number}.{unit}", stranger, tenant=TENANT if own_tenant else TENANT + number)
    shown_out = len(small.shown_out)
    machines = [ConnectionFrom("10.0.0.1" if own_address else f"10.0.2.{i}") for i in range(4)]
    for i, machine in enumerate(machines):
        assert not isinstance(small.say(f"u{i}", machine), Refusal)
    assert shown_out < len(small.shown_out)
    assert set(small.shown_out) <= set(strangers)
    bound = {"address": 6, "tenant": 9, "all": 12}[scope]
    assert small.newcomers.held <= bound


def test_one_source_of_ipv6_has_the_places_of_one_however_many_addresses_it_has(small: Door) -> None:
    strangers = [ConnectionFrom(f"2001:db8:1:2::{number:x}") for number in range(20)]
    answers = [small.say(f"u{number}", stranger) for number, stranger in enumerate(strangers)]
    assert [isinstance(answer, Refusal) for answer in answers] == [False] * 6 + [True] * 14
    assert not isinstance(small.say("u99", ConnectionFrom("2001:db8:1:3::1")), Refusal)
    for stranger in strangers[:6]:
        small.newcomers.leave(stranger)
    assert not isinstance(small.say("u98", strangers[10]), Refusal)


def test_who_keeps_something_by_number_is_told_when_the_number_is_nobodys(small: Door) -> None:
    freed: list[int] = []
    small.newcomers.on_free.append(freed.append)
    one, two = ConnectionFrom(), ConnectionFrom()
    number = small.say("u1", one)
    small.say("u2", two)
    small.newcomers.prove(102)
    small.newcomers.leave(one)
    small.newcomers.leave(two)
    assert freed == [], "shares that name it may be on their way"
    small.commit()
    assert freed == [number], "a worker's number is its own for ever"


def test_where_everybody_holds_one_name_the_next_one_waits(small: Door) -> None:
    for number in range(6):
        assert not isinstance(small.say(f"u{number}", ConnectionFrom()), Refusal)
    refused = small.say("u6", ConnectionFrom())
    assert isinstance(refused, Refusal)
    assert "try again later" in refused.reason
    assert small.shown_out == []


def test_names_that_wait_for_a_commit_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "GONE_MAX", 10)
    door = Door()
    for number in range(20):
        owner = ConnectionFrom()
        door.say(f"u{number}", owner)
        door.newcomers.leave(owner)
    assert len(door.newcomers) == 10
    assert isinstance(door.say("u99", ConnectionFrom()), Refusal)
    door.commit()
    assert len(door.newcomers) == 0
    assert not isinstance(door.say("u99", ConnectionFrom()), Refusal)


def test_connections_that_invent_names_for_ever_take_no_more_than_their_share() -> None:
    """Three times over: numbers, memory and the machines' places stay as they are; 1 KiB a name at most."""
    door = Door()
    longest = "u" * 59
    tracemalloc.start()
    for generation in range(3):
        strangers = [ConnectionFrom(f"10.0.0.{i}") for i in range(STRANGERS)]
        for stranger in strangers:
            for name in range(NEW_PER_CONNECTION_MAX + 4):
                door.say(f"{longest}{generation}{name:02}{id(stranger)}", stranger)
        assert len(door.newcomers) <= 2 * STRANGERS * NEW_PER_CONNECTION_MAX
        assert not isinstance(door.say(f"machine{generation}", ConnectionFrom()), Refusal)
        for stranger in strangers:
            door.newcomers.leave(stranger)
        door.commit()
    names = STRANGERS * NEW_PER_CONNECTION_MAX
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(door.newcomers.by_number) <= 100 + 6 + names
    assert peak_bytes / names < 1024


def test_a_machine_with_its_one_name_costs_three_hundred_bytes_until_it_has_a_share() -> None:
    """The name and the number included: all machines of a site that comes for the first time have one."""
    door, machines = Door(), [ConnectionFrom(f"10.0.0.{i % 2}") for i in range(STRANGERS * 10)]
    tracemalloc.start()
    for at, machine in enumerate(machines):
        name, now_s = (TENANT, f"c{at // 100:02}", f"u{at % 100:02}"), 1_700_000_000 + at // 100
        door.newcomers.admit(name, "", machine, now_s)
    bytes_all, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(door.newcomers) == len(machines)
    assert bytes_all / len(machines) < 300


@pytest.mark.sqlite_suffices
async def test_a_stranger_without_work_leaves_no_row_and_uses_up_nothing(store: Store) -> None:
    """A thousand invented names and their bad shares: nothing in the database, not even a commit."""
    booked = JournalOnStore(store)
    names = [
        booked.registry.admit(f"acme.x{i}.u{i}", "", ConnectionFrom(f"10.1.0.{i % 250}"))
        for i in range(1_000)
    ]
    for admission in names:
        assert not isinstance(admission, Refusal)
        await booked.journal.commit(
            tally(admission.worker, booked.epoch, verdict=Verdict.LOW_DIFFICULTY, count=9)
        )
    await booked.folding.fold()
    with store.read() as connection:
        for table in (workers, containers, tally_minutes):
            assert connection.scalar(select(func.count()).select_from(table)) == 0
    assert booked.registry.collect_new().workers == ()


@pytest.mark.sqlite_suffices
async def test_the_first_accepted_share_brings_name_container_and_share_into_the_books(store: Store) -> None:
    booked = JournalOnStore(store)
    worker = booked.worker("acme.c07.u1")
    late = tally(worker, booked.epoch, verdict=Verdict.STALE)
    await booked.journal.commit(late)
    await booked.journal.commit(tally(worker, booked.epoch) + late)
    await booked.folding.fold()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 1, (worker, Verdict.STALE): 1}
    assert booked.registry.name_of(worker) == "acme.c07.u1"
    booked.registry.leave(booked.miner)
    await booked.journal.commit(b"")
    assert worker in booked.registry.workers


@pytest.mark.sqlite_suffices
async def test_after_a_kill_no_number_of_a_worker_that_only_the_journal_knows_is_given_out(
    store: Store,
) -> None:
    """Whose first share came last has the lowest number: found by a pool that was killed under load."""
    booked = JournalOnStore(store)
    numbers = [booked.worker(f"acme.c07.u{i}") for i in range(5)]
    for worker in reversed(numbers[1:]):
        await booked.journal.commit(tally(worker, booked.epoch))
    booked.restart()
    fresh = [booked.worker(f"acme.c08.u{i}") for i in range(5)]
    assert not set(fresh) & set(numbers[1:])
    assert [booked.worker(f"acme.c07.u{i}") for i in range(1, 5)] == numbers[1:]


@pytest.mark.sqlite_suffices
async def test_a_share_whose_miner_left_before_its_commit_is_the_miners(store: Store) -> None:
    booked = JournalOnStore(store)
    worker = booked.worker("acme.c07.u1")
    booked.registry.leave(booked.miner)
    await booked.journal.commit(tally(worker, booked.epoch))
    await booked.folding.fold()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 1}
    assert booked.worker("acme.c07.u1") == worker


@pytest.mark.sqlite_suffices
async def test_a_share_of_who_came_and_left_during_a_commit_is_nobody_elses(store: Store) -> None:
    """The commit that is under way has its earlier connection, and not this one: its number is not free."""
    booked = JournalOnStore(store)
    ghost, machine = booked.worker("acme.c07.u1"), booked.registry.admit("acme.c07.u2", "", ConnectionFrom())
    assert isinstance(machine, Admitted)
    booked.registry.leave(booked.miner)

    def come_and_go(tallies: bytes) -> None:
        assert booked.worker("acme.c07.u1") == ghost
        booked.registry.leave(booked.miner)

    booked.journal._on_commit = come_and_go
    await booked.journal.commit(tally(machine.worker, booked.epoch))
    booked.journal._on_commit = lambda tallies: None
    stranger = booked.worker("borealis.c01.u1")
    await booked.journal.commit(tally(ghost, booked.epoch))
    await booked.folding.fold()
    assert stranger != ghost
    assert booked.registry.name_of(ghost) == "acme.c07.u1"
    assert booked.shares() == {(ghost, Verdict.ACCEPTED): 1, (machine.worker, Verdict.ACCEPTED): 1}


async def test_the_rejected_shares_of_a_worker_are_a_row_by_verdict_whatever_their_difficulty(
    store: Store,
) -> None:
    booked = JournalOnStore(store)
    worker = booked.worker("acme.c07.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    for log2 in range(-32, 64):
        await booked.journal.commit(
            struct.pack("=IIbBHI", worker, booked.epoch, log2, Verdict.LOW_DIFFICULTY, 0, 1)
        )
    await booked.folding.fold()
    with store.read() as connection:
        rows = connection.execute(
            select(tally_minutes.c.rate_id, tally_minutes.c.verdict, tally_minutes.c.shares)
        ).all()
    assert sorted(tuple(row) for row in rows) == [(0, Verdict.LOW_DIFFICULTY, 96), (1, Verdict.ACCEPTED, 1)]


def test_whoever_has_a_number_above_all_newcomers_is_none_of_them() -> None:
    """Others give numbers too: those of machines that another site has named. Who is taken for a newcomer and
    is none has shares that are acknowledged, and in no batch."""
    door = Door()
    for at in range(6_000):
        number = door.say("u1", ConnectionFrom(f"10.{at // 60_000}.{at // 250}.{at % 250}"), tenant=at)
        assert isinstance(number, int)
        found = door.newcomers.among(np.array([number, number + 1, 2 * number, 1 << 20]))
        assert found.tolist() == [True, False, False, False]
