"""What is known of power in a running pool: read from its books, and kept while they are away."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from trio.testing import MockClock, wait_all_tasks_blocked

from payouts.energy.terms import Charge, HostingTerms, set_terms
from pool.books.store import Store
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry
from pool.fleet.rows import load, set_container
from pool.power.energy import watch
from pool.power.energy.energies import energies_of_hour
from pool.power.energy.live import Known
from pool.power.energy.meters import NewMeter, add_meter, take_readings
from pool.power.energy.nameplates import NewNameplate, set_nameplates
from pool.power.energy.readings import Reading
from pool.power.energy.watch import READ_S, PowerWatch, read_known
from pool.power.figures import Basis
from stratum.tallies import Verdict, pack_tallies
from tests.histories.power import HOUR, NOW_S, add_container, mined_in_hour


class BooksThatGoAway:
    """A store that answers until it is told not to."""

    def __init__(self, store: Store) -> None:
        self._store, self.away = store, False

    @contextmanager
    def read(self) -> Iterator[object]:
        if self.away:
            raise OperationalError("SELECT", {}, Exception("the server is gone"))
        with self._store.read() as connection:
            yield connection


@pytest.fixture
def hall(store: Store) -> Store:
    with store.write() as connection:
        add_container(connection, "acme.c01", 2)
        named = [NewNameplate(container="acme.c01", model="Antminer S19 Pro")]
        set_nameplates(connection, named, by="olga", now_s=NOW_S)
    return store


@pytest.mark.sqlite_suffices
async def test_what_machines_sent_is_watts_within_a_minute_and_stays_when_the_books_are_away(
    hall: Store, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    with hall.read() as connection:
        registry = Registry(load(connection))
    hashrates, books = HashrateBook(registry, trio.current_time()), BooksThatGoAway(hall)
    began_s = trio.current_time()
    watch = PowerWatch(
        books,  # type: ignore[arg-type]
        hashrates,
        wall_clock=lambda: NOW_S + autojump_clock.current_time() - began_s,
    )
    nursery.start_soon(watch.run)
    for _ in range(120):  # 20 minutes of 110 TH/s: 2^48 hashes in 2.56 s, roughly four in ten seconds
        await trio.sleep(10)
        hashrates.add(pack_tallies({(1, 1, 16, Verdict.ACCEPTED): 4}), trio.current_time())
    now = await watch.now()
    box = now.containers["acme", "c01"]
    assert box.watts == pytest.approx(4 * 2**48 / 10 * 29_545 / 1e15, rel=0.03)
    assert (box.basis, box.machines) == (Basis.WORK, 1)
    assert now.sites["Bratsk"].watts == now.tenants["acme"].watts == box.watts
    assert await watch.suspects() == ()
    books.away = True
    await trio.sleep(2 * READ_S)
    hashrates.add(pack_tallies({(1, 1, 16, Verdict.ACCEPTED): 48}), trio.current_time())
    assert (await watch.now()).containers["acme", "c01"].watts > 3_000
    books.away = False
    with hall.write() as connection:
        new = NewMeter(name="c01", kind="push", containers=("acme.c01",), error_bps=50, max_kw=1_500)
        it = add_meter(connection, new, by="olga", now_s=NOW_S)
        at_s = int(NOW_S + trio.current_time() - began_s)
        take_readings(connection, it, [Reading(at_s=at_s, watts=3_456)], by="omar", now_s=at_s)
    await watch.refresh()
    assert (await watch.now()).containers["acme", "c01"].watts == 3_456


@pytest.mark.sqlite_suffices
async def test_what_somebody_changes_while_another_one_asks_is_told_the_next(
    hall: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape came beside the command: for two seconds the pool drew what it drew before."""
    with hall.read() as connection:
        registry = Registry(load(connection))
    power = PowerWatch(hall, HashrateBook(registry, trio.current_time()), wall_clock=lambda: NOW_S)
    await power.refresh()
    goes_on = threading.Event()

    def slowly(connection: Connection, now_s: int) -> Known:
        goes_on.wait()
        return read_known(connection, now_s)

    with hall.write() as connection:
        add_container(connection, "acme.c02", 1)
    monkeypatch.setattr(watch, "read_known", slowly)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(power.refresh)
        await wait_all_tasks_blocked()
        nursery.start_soon(power.now)
        await wait_all_tasks_blocked()
        goes_on.set()
    assert ("acme", "c02") in (await power.now()).containers


@pytest.mark.sqlite_suffices
async def test_who_escapes_his_bill_by_another_name_for_his_container_is_named(
    hall: Store, autojump_clock: MockClock
) -> None:
    """A tenant that pays for energy calls a machine of c01 one of a container that nobody knows: of the 3.25
    kWh that it draws in an hour nothing is charged. It mines where somebody sees it, and is in the list."""
    with hall.write() as connection:
        (renamed,) = add_container(connection, "acme.elsewhere", 1, site=None)
        terms = HostingTerms(charge=Charge.FEE, fee_micro=60_000, currency="USD")
        set_terms(connection, 1, terms, by="olga", now_s=NOW_S, from_s=NOW_S)
        mined_in_hour(connection, HOUR, {renamed: 1_406})  # 110 TH/s
        registry = Registry(load(connection))
    with hall.read() as connection:
        assert [it.joules for it in energies_of_hour(connection, HOUR).rows] == [0]
    hashrates = HashrateBook(registry, trio.current_time())
    watch = PowerWatch(hall, hashrates, wall_clock=lambda: NOW_S)
    await watch.refresh()
    await trio.sleep(60)
    hashrates.add(pack_tallies({(renamed, 1, 16, Verdict.ACCEPTED): 24}), trio.current_time())
    assert [(it.kind, it.worker) for it in await watch.suspects()] == [("uncharged", renamed)]


@pytest.mark.sqlite_suffices
async def test_who_pays_less_by_the_name_of_a_container_with_better_machines_is_named(
    hall: Store, autojump_clock: MockClock
) -> None:
    """An S19 Pro of c01 says that it is one more unit of c02, where an S21 stands: it is charged 59 % of what
    it draws, and does no more than an S21 can. But then more machines mine in c02 than there are."""
    with hall.write() as connection:
        better, renamed = add_container(connection, "acme.c02", 2)
        set_container(connection, "acme", "c02", units=1, next_id=0, now_s=NOW_S)
        named = [NewNameplate(container="acme.c02", model="Antminer S21")]
        set_nameplates(connection, named, by="olga", now_s=NOW_S)
        terms = HostingTerms(charge=Charge.FEE, fee_micro=60_000, currency="USD")
        set_terms(connection, 1, terms, by="olga", now_s=NOW_S, from_s=NOW_S)
        mined_in_hour(connection, HOUR, {1: 1_406, renamed: 1_406})  # both of 110 TH/s
        registry = Registry(load(connection))
    with hall.read() as connection:
        own, other = (it.joules for it in energies_of_hour(connection, HOUR).rows)
        assert other == pytest.approx(own * 17.5 / 29.545, rel=1e-3)
    hashrates = HashrateBook(registry, trio.current_time())
    watch = PowerWatch(hall, hashrates, wall_clock=lambda: NOW_S)
    await watch.refresh()
    await trio.sleep(60)
    hashrates.add(pack_tallies({(better, 1, 16, Verdict.ACCEPTED): 40}), trio.current_time())
    assert await watch.suspects() == ()
    await trio.sleep(60)
    hashrates.add(pack_tallies({(renamed, 1, 16, Verdict.ACCEPTED): 24}), trio.current_time())
    (found,) = await watch.suspects()
    assert (found.kind, registry.containers[found.container or 0].name) == ("crowded", "c02")
