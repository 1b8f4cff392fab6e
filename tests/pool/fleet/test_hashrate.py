"""Live hashrate: decayed averages that are right from the first minute, and counts by what they mean."""

import struct

import msgspec
import numpy as np
import pytest

from payouts.rates import Scheme
from pool.fleet.hashrate import GROWTH, OFFLINE_S, WINDOWS_S, Bools, Floats, HashrateBook, Ints
from pool.fleet.registry import Registry, Snapshot, TenantRecord
from stratum.miners.contracts import Admitted
from stratum.tallies import Verdict
from tests.fakes.owners import ConnectionFrom

HASHES_A_SHARE = 65_536 * 2**32


def registry(machines: int) -> Registry:
    tenants = (
        TenantRecord(id=1, name="acme", active=True, scheme=Scheme.PPS, fee_bps=0),
        TenantRecord(id=2, name="borealis", active=True, scheme=Scheme.PPS, fee_bps=0),
    )
    found = Registry(Snapshot(tenants, (), ()))
    for number in range(machines):
        tenant = tenants[number % 2].name
        admission = found.admit(f"{tenant}.c{number % 4}.u{number}", "", ConnectionFrom())
        assert isinstance(admission, Admitted)
        found.prove(admission.worker)
    return found


def tally(worker: int, verdict: Verdict = Verdict.ACCEPTED, count: int = 1, log2: int = 16) -> bytes:
    return struct.pack("=IIbBHI", worker, 1, log2, verdict, 0, count)


def steady(book: HashrateBook, until_s: int, from_s: int = 0) -> None:
    """Every worker 1..4 finds a share of 65,536 every 6 s."""
    for now_s in range(from_s + 6, until_s + 1, 6):
        book.add(b"".join(tally(worker) for worker in range(1, 5)), float(now_s))


@pytest.mark.simulation
@pytest.mark.parametrize("minutes", [1, 5, 60, 240])
def test_every_window_shows_the_true_rate_from_the_first_minute_on(minutes: int) -> None:
    book = HashrateBook(registry(4), 0.0)
    steady(book, minutes * 60)
    rates = book.by_worker(minutes * 60.0)[1].rates_hps
    assert rates == pytest.approx([HASHES_A_SHARE / 6] * len(WINDOWS_S), rel=0.06)


@pytest.mark.simulation
@pytest.mark.parametrize("minutes", [1, 5, 60, 240])
@pytest.mark.parametrize("after_h", [0, 10])
def test_a_machine_that_comes_while_the_pool_runs_shows_its_rate_from_its_first_minute_on(
    minutes: int, after_h: int
) -> None:
    fleet = registry(4)
    book = HashrateBook(fleet, 0.0)
    begun_s = after_h * 3600
    book.update(begun_s + 1.0)
    admission = fleet.admit("acme.c9.new", "", ConnectionFrom())
    assert isinstance(admission, Admitted)
    fleet.prove(admission.worker)
    for share_s in range(begun_s + 6, begun_s + minutes * 60 + 1, 6):
        book.add(tally(admission.worker), float(share_s))
    now_s = begun_s + minutes * 60.0
    expected = pytest.approx([HASHES_A_SHARE / 6] * len(WINDOWS_S), rel=0.06)
    assert book.by_worker(now_s)[admission.worker].rates_hps == expected
    look = book.look(np.array([admission.worker]), now_s)
    assert look.rates_hps[0].tolist() == expected
    container = fleet.workers[admission.worker].container_id
    assert book.look_at_containers(now_s)[container].rate_hps == pytest.approx(HASHES_A_SHARE / 6, rel=0.06)


def test_a_machine_that_has_come_mines_from_its_first_share_on_and_what_is_late_is_of_when_it_was_made() -> (
    None
):
    """A line was cut when they came: five minutes of shares are no work of a moment."""
    fleet = registry(4)
    book = HashrateBook(fleet, 0.0)
    book.update(3_600.0)
    for unit in ("new", "late"):
        admission = fleet.admit(f"acme.c9.{unit}", "", ConnectionFrom())
        assert isinstance(admission, Admitted)
        fleet.prove(admission.worker)
    book.add(tally(5), 3_606.0)
    for age_s in range(300, 0, -6):
        book.add(tally(6), 3_606.0, float(age_s))
    new, late = (book.by_worker(3_612.0)[number] for number in (5, 6))
    assert 0 < new.rates_hps[0] <= HASHES_A_SHARE / 6
    assert late.rates_hps[WINDOWS_S.index(3600)] == pytest.approx(HASHES_A_SHARE / 6, rel=0.06)


def test_a_look_at_containers_has_what_their_table_has() -> None:
    book = HashrateBook(registry(9), 0.0)
    steady(book, 900)
    table, looks = book.by_container(900.0), book.look_at_containers(900.0)
    assert looks.keys() == table.keys()
    for number, look in looks.items():
        row = table[number]
        assert look.rate_hps == pytest.approx(row.rates_hps[WINDOWS_S.index(300)])
        assert (look.online, look.offline) == (row.workers - row.offline, row.offline)
    assert sum(it.online for it in looks.values()) == 4


def test_who_is_not_known_to_be_offline_is_counted_apart() -> None:
    book = HashrateBook(registry(9), 0.0)
    steady(book, 900)
    before = book.look_at_containers(900.0)

    def unheard(workers: Ints, containers: Ints, ages_s: Floats) -> Bools:
        assert np.isinf(ages_s).sum() == 5
        found: Bools = containers == book._registry.workers[9].container_id
        return found

    looks = book.look_at_containers(900.0, unheard)
    for number, look in looks.items():
        was = before[number]
        assert look.online == was.online
        theirs = number == book._registry.workers[9].container_id
        assert (look.offline, look.unheard) == ((0, was.offline) if theirs else (was.offline, 0))


def test_a_machine_that_stops_fades_from_the_short_window_first() -> None:
    book = HashrateBook(registry(4), 0.0)
    steady(book, 3600)
    rates = book.by_worker(3900.0)[1].rates_hps
    full = HASHES_A_SHARE / 6
    assert rates[0] < 0.01 * full
    assert 0.3 * full < rates[1] < 0.4 * full
    assert rates[3] > 0.9 * full


def test_shares_of_a_tenant_stay_counted_when_its_machine_is_removed() -> None:
    """A counter that went back would be taken for one that began anew, and all of it counted twice; and what
    commands and the page say is what metrics do."""
    fleet = registry(4)
    book = HashrateBook(fleet, 0.0)
    steady(book, 60)
    before = book.shares_of_tenants(61.0)
    assert {tenant: counts[0] for tenant, counts in before.items()} == {1: 20, 2: 20}
    fleet.remove_workers([1])
    assert book.shares_of_tenants(62.0) == before
    book.add(tally(3), 70.0)
    book.add(tally(2, Verdict.STALE), 70.0)
    after = book.shares_of_tenants(71.0)
    assert (after[1][:2], after[2][:2]) == ((21, 0), (20, 1))
    by_tenant, by_container = book.by_tenant(71.0), book.by_container(71.0)
    assert {it: (row.accepted, row.workers) for it, row in by_tenant.items()} == {1: (21, 1), 2: (20, 2)}
    assert sum(row.accepted for row in by_container.values()) == 31  # its container has none any more
    assert book.pool(71.0).accepted == 41


def test_counts_are_by_what_they_mean_to_an_operator() -> None:
    book = HashrateBook(registry(2), 0.0)
    for verdict in Verdict:
        book.add(tally(1, verdict, count=int(verdict) + 1), 1.0)
    row = book.by_worker(10.0)[1]
    assert row.accepted == Verdict.ACCEPTED + 1
    assert row.stale == Verdict.STALE + 1 + Verdict.JOB_UNKNOWN + 1
    assert row.duplicate == Verdict.DUPLICATE + 1
    assert row.low == Verdict.LOW_DIFFICULTY + 1
    others = (
        Verdict.MALFORMED,
        Verdict.NOT_SUBSCRIBED,
        Verdict.UNAUTHORISED,
        Verdict.NTIME_OUT_OF_RANGE,
        Verdict.VERSION_OUTSIDE_MASK,
        Verdict.FILTER_FULL,
    )
    assert row.invalid == sum(verdict + 1 for verdict in others)
    assert row.undelivered == Verdict.UNDELIVERED + 1 + Verdict.UPSTREAM_REJECTED + 1


def test_rejected_shares_are_no_hashrate() -> None:
    book = HashrateBook(registry(1), 0.0)
    book.add(tally(1, Verdict.LOW_DIFFICULTY, count=1000), 6.0)
    assert book.by_worker(6.0)[1].rates_hps == (0.0,) * len(WINDOWS_S)


@pytest.mark.parametrize("verdict", [Verdict.LOW_DIFFICULTY, Verdict.STALE, Verdict.JOB_UNKNOWN])
def test_rejected_shares_are_work_like_the_good_ones_whatever_difficulty_is_said(verdict: Verdict) -> None:
    book = HashrateBook(registry(2), 0.0)
    for now_s in range(6, 1801, 6):
        book.add(tally(1, count=9) + tally(1, verdict, log2=60) + tally(2, verdict, log2=60), float(now_s))
    rates = book.by_worker(1800.0)[1].rates_hps
    rejected = book.rejected_hps(1800.0)
    assert rejected[1] == pytest.approx(rates[WINDOWS_S.index(300)] / 9)
    assert rejected[2] == 0  # of whom nobody knows what a share is worth


@pytest.mark.parametrize("verdict", [Verdict.UNDELIVERED, Verdict.UPSTREAM_REJECTED])
def test_a_machine_hashes_whether_or_not_an_upstream_takes_its_shares(verdict: Verdict) -> None:
    book, other = HashrateBook(registry(1), 0.0), HashrateBook(registry(1), 0.0)
    book.add(tally(1, verdict, count=10), 60.0)
    other.add(tally(1, count=10), 60.0)
    row = book.by_worker(60.0)[1]
    assert row.rates_hps == other.by_worker(60.0)[1].rates_hps
    assert (row.accepted, row.undelivered, row.offline) == (0, 10, 0)


def test_a_router_gets_every_machine_by_its_number() -> None:
    known = registry(4)
    book = HashrateBook(known, 0.0)
    steady(book, 3600)
    book.add(tally(2, Verdict.STALE) + tally(3, Verdict.UNDELIVERED), 3610.0)
    rates_5m, rates_1h, ages_s = book.machines(3610.0)
    assert len(rates_5m) == len(rates_1h) == len(ages_s)
    assert 5 <= len(ages_s) <= 4 + 1 + GROWTH
    by_worker = book.by_worker(3610.0)
    for worker in known.workers:
        assert (rates_5m[worker], rates_1h[worker]) == by_worker[worker].rates_hps[1:3]
    assert ages_s[1:5].tolist() == [10.0, 10.0, 0.0, 10.0]  # stale is no good share
    assert (rates_5m[0], rates_1h[0], ages_s[0]) == (0.0, 0.0, np.inf)  # nobody


def test_a_router_gets_machines_that_have_never_mined_too() -> None:
    known = registry(3)
    book = HashrateBook(known, 0.0)
    rates_5m, _, ages_s = book.machines(10.0)
    assert (rates_5m[3], ages_s[3]) == (0.0, np.inf)
    admission = known.admit("acme.c9.new", "", ConnectionFrom())
    assert isinstance(admission, Admitted)
    known.prove(admission.worker)
    assert len(book.machines(20.0)[0]) > 4
    rates_5m[:] = 1.0  # the caller's own
    assert book.machines(30.0)[0].max() == 0.0


def test_containers_tenants_and_pool_are_the_sums_of_their_workers() -> None:
    book = HashrateBook(registry(4), 0.0)
    steady(book, 600)
    one = book.by_worker(600.0)[1]
    by_tenant, by_container = book.by_tenant(600.0), book.by_container(600.0)
    assert by_tenant[1].workers == 2
    assert by_tenant[1].accepted == 2 * one.accepted
    assert by_tenant[1].rates_hps == pytest.approx([2 * rate for rate in one.rates_hps])
    assert len(by_container) == 4
    assert book.pool(600.0).accepted == 4 * one.accepted


def test_sites_are_the_sums_of_their_containers() -> None:
    known = registry(4)
    for number, container in list(known.containers.items()):
        known.put_container(msgspec.structs.replace(container, site_id=number % 2))
    book = HashrateBook(known, 0.0)
    steady(book, 600)
    by_site = book.by_site(600.0)
    assert sorted(by_site) == [0, 1]
    assert sum(row.accepted for row in by_site.values()) == book.pool(600.0).accepted


def test_a_machine_is_offline_after_five_minutes_without_an_accepted_share() -> None:
    book = HashrateBook(registry(4), 0.0)
    steady(book, 600)
    assert book.pool(600.0).offline == 0
    book.add(tally(1) + tally(2, Verdict.STALE), 600.0 + OFFLINE_S)
    assert book.pool(600.0 + OFFLINE_S + 6).offline == 3
    assert book.by_worker(600.0 + OFFLINE_S + 6)[1].offline == 0


def test_a_known_machine_that_has_never_mined_is_offline_and_zero() -> None:
    book = HashrateBook(registry(3), 0.0)
    row = book.by_worker(10.0)[3]
    assert (row.offline, row.accepted, row.rates_hps[0]) == (1, 0, 0.0)


def test_an_empty_pool_has_figures_too() -> None:
    book = HashrateBook(registry(0), 0.0)
    assert book.pool(5.0).workers == 0
    assert len(book.by_worker(5.0)) == 0
