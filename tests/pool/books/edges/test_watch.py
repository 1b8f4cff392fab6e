"""What a hub tells of its edges: how each stands, whose machines they are, and who is not missed while
nobody knows. Of a site that is cut off no machine is called offline, and what comes of it afterwards is no
hashrate."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import trio
import trio.testing

from pool.books.edges.remote_edge import RemoteEdge
from pool.books.edges.rows import release_edge
from pool.books.edges.watch import BEYOND_S, EdgesWatch, LinkFigures, RemoteFigures
from pool.books.journal import folding
from pool.books.journal.tail import Tail
from pool.books.store import Store
from pool.fleet.hashrate import HashrateBook
from pool.journal.beginning import Mark
from pool.journal.records import Machine
from pool.journal.segments import Walk
from stratum.tallies import Verdict
from tests.stages.hub import Hub
from tests.stages.journal import NOW_S, tally
from tests.stages.site_journal import SiteJournal

Clock = trio.testing.MockClock
NORTH, SOUTH = "north", "south"
UNITS = ("u1", "u2")


class LinkNow(msgspec.Struct):
    """As whatever carries messages says that it is."""

    connected: bool = True
    since_s: int = NOW_S
    url: str = "tls://nats.example:4222"
    dropped: int = 0
    error: str = ""


class Watched:
    """A hub whose edges serve, a minute at a time; machines are acme.EDGE.u1 and u2."""

    def __init__(self, store: Store, tmp_path: Path, ths: int | None = None) -> None:
        self.hub = Hub(store, tmp_path, NORTH, SOUTH, ths=ths)
        self.link: LinkNow | None = LinkNow()
        self.sites: dict[str, SiteJournal] = {}
        self.epochs: dict[str, int] = {}
        self.clocks_s = {NORTH: 0, SOUTH: 0}  # ahead of ours

    async def start(self) -> None:
        """A process of the hub."""
        hub = self.hub
        await hub.start()
        self.hashrates = HashrateBook(hub.registry, trio.current_time())
        self.watch = EdgesWatch(hub.edges, hub.registry, lambda: self.link, wall_clock=hub.clock)
        self.tails: dict[RemoteEdge, Tail] = {}
        hub.folding.on_booked = self.watch.booked
        self._number()

    def _number(self) -> None:
        def numbered(machines: Collection[Machine]) -> list[Machine]:
            return [self.hub.registry.renumbered(it) for it in machines]

        for remote in self.hub.edges.open:
            remote.taker.number_by(numbered)
            if remote not in self.tails:
                self.tails[remote] = self._tail(remote)

    def _tail(self, remote: RemoteEdge) -> Tail:
        """Of what it sends, for eyes."""
        at = remote.taker.position.at
        return Tail(
            lambda: (Walk(remote.inbox.directory, remote.inbox.writer, at), at),
            lambda it: self.hub.registry.adopt(it) if remote.edge.may_count_for(it) else None,
            lambda tallies, age_s: self.hashrates.add(tallies, trio.current_time(), age_s),
            age_s=remote.age_s,
        )

    async def begin(self, name: str) -> None:
        site = self.sites.setdefault(name, self.hub.site(name))
        self.epochs[name] = (await self.hub.begin(name, site)).epoch
        self._number()

    async def minutes(self, count: int, *heard: str, units: Collection[str] = UNITS, cut: str = "") -> None:
        """So many of them, in which these are heard of; who is cut off mines on."""
        for _ in range(count):
            await trio.sleep(60)
            self.hub.clock.now_s += 60
            for name in {*heard, cut} - {""}:
                site = self.sites[name]
                site.moment_s = int(self.hub.clock.now_s) + self.clocks_s[name]
                for unit in UNITS if name == cut else units:
                    site.share(f"acme.{name}.{unit}", 10)
            for name in heard:
                await self.hear(name)
            await self.hub.folding.fold()

    async def hear(self, name: str) -> None:
        """All that it has, and how far it is."""
        site, epoch = self.sites[name], self.epochs[name]
        remote = next(it for it in self.hub.edges.open if it.edge.name == name)
        self._number()  # one that was held is another since
        want = remote.inbox.want
        frames = site.frames(want.behind, whole_file=want.whole_file)
        await self.hub.edges.receive(name, epoch, b"".join(frames))
        await self.hub.edges.renew(name, epoch, Mark(number=site.log.at.number, moment_s=site.moment_s))
        for said, new in await trio.to_thread.run_sync(self.tails[remote]._read):
            await self.tails[remote]._look(said, new)

    def edge(self, name: str) -> RemoteFigures:
        return next(it for it in self.watch.figures().edges if it.name == name)

    def unheard(self) -> set[str]:
        """Names of machines of which nobody knows."""
        workers = np.array(list(self.hub.registry.workers), dtype=np.int64)
        containers = np.array([self.hub.registry.workers[it].container_id for it in workers.tolist()])
        _, _, ages_s = self.hashrates.machines(trio.current_time())
        found = self.watch.unheard(workers, containers, ages_s[workers])
        return {self.hub.registry.name_of(it) for it in workers[found].tolist()}

    def rate_hps(self, name: str) -> float:
        """Of five minutes, of an edge's container."""
        table = self.hashrates.by_container(trio.current_time())
        (number,) = (it.id for it in self.hub.registry.containers.values() if it.name == name)
        return table[number].rates_hps[1]


@pytest.fixture
async def watched(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    made = Watched(store, tmp_path)
    await made.start()
    for name in (NORTH, SOUTH):
        await made.begin(name)
    return made


def names(edge: str, *units: str) -> set[str]:
    return {f"acme.{edge}.{unit}" for unit in units or UNITS}


pytestmark = pytest.mark.sqlite_suffices


async def test_edges_that_serve_are_told_with_their_machines(watched: Watched, autojump_clock: Clock) -> None:
    await watched.minutes(3, NORTH, SOUTH)
    for name in (NORTH, SOUTH):
        it = watched.edge(name)
        assert (it.state, it.why, it.heard) == ("serves", None, True)
        assert (it.machines, it.mining) == (2, 2)
        assert (it.unbooked, it.unbooked_s, it.unbooked_bytes) == (0, 0.0, 0)
        assert max(it.silent_s, it.missing_s, it.moment_age_s) == 0.0
    assert watched.unheard() == set()
    watched.sites[NORTH].share("acme.north.u1")
    await watched.hear(NORTH)
    await trio.sleep(30)
    it = watched.edge(NORTH)
    assert it.unbooked >= 1
    assert it.unbooked_bytes > 0
    assert 30 <= it.unbooked_s <= 90, "as long as since the books were there, at most"


async def test_a_site_that_is_cut_off_is_silent_and_its_machines_are_not_offline(
    watched: Watched, autojump_clock: Clock
) -> None:
    await watched.minutes(10, NORTH, SOUTH)
    await watched.minutes(20, SOUTH, cut=NORTH)
    it = watched.edge(NORTH)
    assert (it.state, it.silent_s, it.missing_s, it.machines, it.mining) == ("silent", 1200.0, 1200.0, 2, 0)
    assert watched.unheard() == names(NORTH)
    await watched.minutes(10, SOUTH, units=["u1"], cut=NORTH)
    assert watched.unheard() == names(NORTH), "who is at an edge that serves is offline"


async def test_what_comes_of_it_afterwards_is_booked_and_no_hashrate_of_now(
    watched: Watched, autojump_clock: Clock
) -> None:
    await watched.minutes(20, NORTH, SOUTH)
    usual_hps = watched.rate_hps(NORTH)
    await watched.minutes(45, SOUTH, cut=NORTH)
    booked = sum(watched.hub.shares().values())
    assert watched.rate_hps(NORTH) < 0.01 * usual_hps
    await watched.hear(NORTH)
    await watched.hub.folding.fold()
    assert sum(watched.hub.shares().values()) == booked + 45 * 20
    for _ in range(12):
        await watched.minutes(1, NORTH, SOUTH)
        assert 0.6 * usual_hps < watched.rate_hps(NORTH) <= 1.2 * usual_hps
        assert watched.unheard() == set()
    assert watched.edge(NORTH).state == "serves"
    assert watched.rate_hps(NORTH) == pytest.approx(watched.rate_hps(SOUTH), rel=0.05)


async def test_who_was_lost_while_his_site_was_cut_off_is_offline_when_it_is_back(
    watched: Watched, autojump_clock: Clock
) -> None:
    await watched.minutes(10, NORTH, SOUTH)
    await watched.minutes(20, SOUTH)
    await watched.minutes(4, NORTH, SOUTH, units=["u1"])
    assert watched.unheard() == names(NORTH, "u2"), "his first share may be on its way"
    await watched.minutes(3, NORTH, SOUTH, units=["u1"])
    assert watched.unheard() == set()


async def test_a_hub_that_begins_beside_a_silent_edge_misses_nobody_who_may_be_there(
    watched: Watched,
    autojump_clock: Clock,
) -> None:
    await watched.minutes(10, NORTH, SOUTH)
    await watched.start()
    await watched.begin(SOUTH)
    it = watched.edge(NORTH)
    assert (it.state, it.heard) == ("serves", False), "it begins too"
    await watched.minutes(10, SOUTH)
    assert watched.edge(NORTH).state == "silent"
    assert watched.unheard() == names(NORTH)
    await watched.begin(NORTH)
    await watched.minutes(6, NORTH, SOUTH)
    assert watched.unheard() == set()


async def test_an_edge_that_lives_and_sends_less_than_it_has_is_behind(
    watched: Watched, autojump_clock: Clock
) -> None:
    await watched.minutes(3, NORTH, SOUTH)
    said = Mark(number=1_000, moment_s=NOW_S + 240)
    for _ in range(8):
        await watched.minutes(1, SOUTH)
        await watched.hub.edges.renew(NORTH, watched.epochs[NORTH], said)
    it = watched.edge(NORTH)
    assert (it.state, it.silent_s, it.missing_s) == ("behind", 0.0, 480.0)
    assert watched.unheard() == names(NORTH)


async def test_an_edge_whose_clock_is_late_is_not_behind_and_its_machines_mine(
    watched: Watched, autojump_clock: Clock
) -> None:
    watched.clocks_s[NORTH] = -600
    await watched.minutes(20, NORTH, SOUTH)
    it = watched.edge(NORTH)
    assert (it.state, it.missing_s, it.moment_age_s, it.late_s, it.mining) == ("serves", 0.0, 600.0, 600.0, 2)


@pytest.mark.parametrize("ahead_s", [-600, 0, 600])
async def test_what_comes_minutes_late_is_as_old_as_it_is_whatever_the_clock_there_says(
    ahead_s: int, watched: Watched, autojump_clock: Clock
) -> None:
    watched.clocks_s[NORTH] = ahead_s
    await watched.minutes(10, NORTH, SOUTH)
    await watched.minutes(3, SOUTH, cut=NORTH)
    await trio.sleep(60)
    watched.hub.clock.now_s += 60
    watched.sites[NORTH].moment_s += 60
    await watched.hear(NORTH)
    await trio.sleep(1)
    ages_s = watched.hashrates.made_ages_s(trio.current_time())
    number = watched.hub.registry.number_of("acme", NORTH, "u1")
    assert ages_s[number] == 61.0


async def test_what_the_books_do_not_take_is_behind_too(watched: Watched, autojump_clock: Clock) -> None:
    """Their database is away: what came waits, and of what machines do nothing is known."""
    await watched.minutes(3, NORTH)
    for _ in range(7):
        watched.sites[NORTH].share("acme.north.u1")
        await watched.hear(NORTH)
        await trio.sleep(60)
        watched.hub.clock.now_s += 60
    await watched.hear(NORTH)
    it = watched.edge(NORTH)
    assert (it.state, it.silent_s) == ("behind", 0.0)
    assert it.unbooked >= 7
    assert it.unbooked_s >= 420.0
    await watched.hub.folding.fold()
    assert watched.edge(NORTH).unbooked_s == 0.0


# What a captured edge may say


def another_tenants_machine(site: SiteJournal) -> None:
    site.share("borealis.c01.u1", 9)


def a_number_that_runs_away(site: SiteJournal) -> None:
    site.share("acme.north.u9", 9, number=1 + 256 * 16_000_000)


def no_verdict(site: SiteJournal) -> None:
    site.say(tally(site.number("acme.north.u1"), 1)[:9] + b"\xee" + tally(0, 0)[10:])


def nobody(site: SiteJournal) -> None:
    site.say(tally(site.number("acme.north.u9"), 1), accepted=1)


@pytest.mark.parametrize("says", [another_tenants_machine, a_number_that_runs_away, no_verdict, nobody])
async def test_an_edge_that_says_what_it_may_not_is_held_with_its_machines_and_nobody_elses(
    watched: Watched, autojump_clock: Clock, says: Callable[[SiteJournal], None]
) -> None:
    await watched.minutes(2, NORTH, SOUTH)
    says(watched.sites[NORTH])
    await watched.minutes(9, NORTH, SOUTH)
    it = watched.edge(NORTH)
    assert it.state == "held"
    assert it.why
    assert it.machines == 2
    assert watched.unheard() == names(NORTH)
    await watched.hub.change(partial(release_edge, name=NORTH))
    await watched.minutes(1, NORTH, SOUTH)
    assert watched.edge(NORTH).state == "held", "what was wrong is held again"


async def test_bad_shares_under_the_name_of_anothers_machine_do_not_take_it_along(
    watched: Watched, autojump_clock: Clock
) -> None:
    """Else whoever has an edge, and goes silent, would have a robbed container be missed by nobody."""
    await watched.minutes(3, NORTH, SOUTH)
    for _ in range(10):
        watched.sites[NORTH].share("acme.south.u1", verdict=Verdict.LOW_DIFFICULTY)
        await watched.minutes(1, NORTH, SOUTH, units=["u2"])
    await watched.minutes(10, SOUTH, units=["u2"], cut=NORTH)
    assert watched.edge(NORTH).state == "silent"
    assert watched.unheard() == names(NORTH)


async def test_more_than_its_machines_can_do_is_told_for_an_hour(
    store: Store, tmp_path: Path, autojump_clock: Clock
) -> None:
    watched = Watched(store, tmp_path, ths=1)
    await watched.start()
    for name in (NORTH, SOUTH):
        await watched.begin(name)
    await watched.minutes(1, SOUTH)
    watched.sites[SOUTH].share("acme.south.u1", 1_000)
    await watched.minutes(1, SOUTH)
    it = watched.edge(SOUTH)
    assert (it.beyond, it.beyond_s) == (True, 0.0)
    assert watched.edge(NORTH).beyond_s is None
    watched.hub.clock.now_s += BEYOND_S
    assert not watched.edge(SOUTH).beyond


async def test_the_way_to_all_edges_is_told_as_it_is(watched: Watched, autojump_clock: Clock) -> None:
    assert watched.link is not None
    watched.link.connected, watched.link.error, watched.link.dropped = False, "refused", 3
    watched.hub.clock.now_s += 90
    expected = LinkFigures(
        connected=False, since_s=90.0, url="tls://nats.example:4222", dropped=3, error="refused"
    )
    assert watched.watch.figures().link == expected
    watched.link.since_s = 0
    assert watched.watch.figures().link == expected, "it was never connected"
    watched.link = None
    assert watched.watch.figures().link is None
