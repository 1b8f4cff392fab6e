"""Two hubs with copies of an edge's journal: what either has acknowledged is booked before the edge begins
another one, or given up in words; and whatever comes late of the one before is booked once, and by itself."""

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.audit.verify import verify
from pool.books.changes.changes import newest_changes
from pool.books.edges.hub_copies import name_of_hub
from pool.books.edges.leases import EdgeRefused, Granted
from pool.books.edges.remote import RENEWED_S
from pool.books.edges.rows import reset_edge
from pool.books.edges.schema import edge_copies
from pool.books.journal import folding
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.journal.beginning import Mark
from pool.people.roles import host_account
from tests.fixtures.databases import Crash, crash_before
from tests.stages.hub import Hub
from tests.stages.journal import NOW_S
from tests.stages.site_journal import SiteJournal

NORTH = "north"
WORKER = "acme.c01.u1"


class TwoHubs(Hub):
    """Hosts with a disk each, of which one keeps the books."""

    def __init__(self, store: Store, home: Path) -> None:
        super().__init__(store, home / "hub1", NORTH)
        self.homes = {"hub1": home / "hub1", "hub2": home / "hub2"}

    async def takes_over(self, name: str, *, in_order: bool = False) -> None:
        """After the one before was killed, or ended in order."""
        if in_order:
            await self.edges.leave()
        self.home = self.homes[name]
        await self.start()

    def name(self, host: str) -> str:
        """In the books."""
        return name_of_hub(self.homes[host] / "inbox")

    async def sends(self, granted: Granted, site: SiteJournal, until: int | None = None) -> None:
        """All that it has, or so many records of it."""
        await self.edges.receive(NORTH, granted.epoch, b"".join(site.frames()[:until]))

    async def says(self, granted: Granted, site: SiteJournal, *, heard_of_us: bool = True) -> None:
        """How far it is."""
        mark = Mark(number=site.log.at.number, moment_s=NOW_S)
        await self.edges.renew(NORTH, granted.epoch, mark, heard_of_us=heard_of_us)

    async def command(self, name: str, *, runs: bool = True, **params: Any) -> None:
        """As an operator gives it where the books are kept. Raises RegistryError."""
        live: Any = SimpleNamespace(edge_standing=self.edges.standing, edges_changed=lambda: None)
        desk, body = Desk(self.store, "main", live if runs else None), {"name": NORTH} | params
        execute(desk, name, msgspec.json.encode(body), host_account("ann", ALONE))
        await self.edges.changed()

    async def refusal(self, name: str = "edge.reset", **params: Any) -> str:
        """Why a command is refused, which changes nothing."""
        before = self.edge(NORTH)
        with pytest.raises(RegistryError) as refused:
            await self.command(name, **params)
        assert self.edge(NORTH) == before
        return str(refused.value)

    def copies(self) -> dict[str, int]:
        with self.store.read() as connection:
            return {it.hub: it.number for it in connection.execute(select(edge_copies))}


@pytest.fixture
async def hubs(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TwoHubs]:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    made = TwoHubs(store, tmp_path)
    await made.takes_over("hub1")
    yield made
    with store.read() as connection:
        assert verify(connection).wrong is None


async def site_at_hub1(hubs: TwoHubs, *shares: int) -> tuple[SiteJournal, Granted]:
    """It is lost now; what it had is acknowledged by the first hub, and in no books."""
    site = hubs.site(NORTH)
    granted = await hubs.begin(NORTH, site)
    for count in shares:
        site.share(WORKER, count)
    await hubs.sends(granted, site)
    return site, granted


async def another_journal(hubs: TwoHubs, count: int) -> None:
    site = hubs.site(NORTH)
    granted = await hubs.begin(NORTH, site)
    site.share(WORKER, count)
    await hubs.sends(granted, site)
    await hubs.folding.fold()


# Where an edge may begin another journal


async def test_what_is_at_another_hub_alone_is_booked_there_before_an_edge_is_reset(hubs: TwoHubs) -> None:
    """The first one was killed within the minute, and the other one has nothing of it: here = booked = 0."""
    await site_at_hub1(hubs, 3, 4)
    await hubs.takes_over("hub2")
    await hubs.folding.fold()
    words = await hubs.refusal()
    assert f"hub {hubs.name('hub1')} has record 0 of edge north on its disk, or more, and here is 0:" in words
    assert "start it, and stop this one (`systemctl stop angara-hub`), so that it takes over" in words
    assert f"`angara edge give-up north --hub {hubs.name('hub1')} --behind 0`" in words
    await hubs.takes_over("hub1", in_order=True)
    await hubs.folding.fold()
    await hubs.command("edge.reset")
    await another_journal(hubs, 5)
    assert hubs.shares() == {WORKER: 12}


async def test_what_is_here_and_not_booked_is_waited_for(hubs: TwoHubs) -> None:
    """A hub that was killed now would leave it on a disk that nobody asks for."""
    await site_at_hub1(hubs, 3)
    assert (await hubs.refusal()).startswith("not all that is here of edge north is booked: wait until")
    await hubs.folding.fold()
    await hubs.command("edge.reset")
    assert hubs.shares() == {WORKER: 3}


@pytest.mark.sqlite_suffices
async def test_a_copy_that_its_hub_cannot_read_is_waited_for(hubs: TwoHubs) -> None:
    """Its disk is away, and there may be more on it than was said with the lease."""
    await site_at_hub1(hubs, 3)
    copy, kept = hubs.home / "inbox" / NORTH, hubs.home / "kept"
    copy.rename(kept)
    copy.touch()
    await hubs.takes_over("hub1")
    assert (await hubs.refusal()).startswith("not all that is here of edge north is booked: wait until")
    copy.unlink()
    kept.rename(copy)
    await hubs.takes_over("hub1")
    await hubs.folding.fold()
    await hubs.command("edge.reset")
    assert hubs.shares() == {WORKER: 3}


@pytest.mark.sqlite_suffices
async def test_a_hub_to_which_all_has_come_again_asks_for_no_other(hubs: TwoHubs) -> None:
    site, granted = await site_at_hub1(hubs, 3, 4)
    await hubs.takes_over("hub2")
    await hubs.sends(granted, site, until=2)
    await hubs.says(granted, site)
    await hubs.folding.fold()
    assert hubs.name("hub1") in await hubs.refusal(), "something is missing of what it says that it has"
    await hubs.sends(granted, site)
    await hubs.says(granted, site)
    await hubs.folding.fold()
    await hubs.command("edge.reset")
    assert hubs.shares() == {WORKER: 7}


@pytest.mark.sqlite_suffices
async def test_what_an_edge_has_said_to_the_hub_before_says_nothing_of_what_that_has(hubs: TwoHubs) -> None:
    """It was on its way for long: the first hub has had more since."""
    site, granted = await site_at_hub1(hubs, 3)
    early, number = len(site.frames()), site.log.at.number
    site.share(WORKER, 4)
    await hubs.sends(granted, site)
    await hubs.takes_over("hub2")
    await hubs.sends(granted, site, until=early)
    await hubs.edges.renew(NORTH, granted.epoch, Mark(number=number, moment_s=NOW_S), heard_of_us=False)
    await hubs.folding.fold()
    assert hubs.name("hub1") in await hubs.refusal()


@pytest.mark.sqlite_suffices
async def test_a_hub_says_how_far_its_copy_is_with_the_lease_and_not_with_each_record(
    hubs: TwoHubs, autojump_clock: Any
) -> None:
    site, granted = await site_at_hub1(hubs, 3)
    await hubs.says(granted, site)
    assert hubs.copies() == {hubs.name("hub1"): site.log.at.number}
    before = site.log.at.number
    site.share(WORKER, 4)
    await hubs.sends(granted, site)
    await hubs.says(granted, site)
    assert hubs.copies() == {hubs.name("hub1"): before}
    hubs.edges.open[0].renewed_s -= RENEWED_S  # type: ignore[operator]
    await hubs.says(granted, site)
    assert hubs.copies() == {hubs.name("hub1"): site.log.at.number}


@pytest.mark.sqlite_suffices
async def test_a_hub_whose_copy_is_gone_is_no_better_than_another(hubs: TwoHubs) -> None:
    site, granted = await site_at_hub1(hubs, 3)
    await hubs.says(granted, site)
    rmtree(hubs.home / "inbox" / NORTH)
    await hubs.takes_over("hub1")
    number = site.log.at.number
    assert (
        f"record {number} of edge north was at this hub, and 0 is: look for its disk" in await hubs.refusal()
    )
    name = hubs.name("hub1")
    rmtree(hubs.home / "inbox")
    await hubs.takes_over("hub1")
    assert hubs.name("hub1") != name
    assert f"hub {name} has record {number} of edge north on its disk, or more" in await hubs.refusal()


@pytest.mark.sqlite_suffices
async def test_a_hub_that_ends_in_order_is_asked_for_what_the_books_do_not_have(hubs: TwoHubs) -> None:
    await site_at_hub1(hubs, 3)
    await hubs.takes_over("hub2", in_order=True)
    assert hubs.name("hub1") in await hubs.refusal()
    await hubs.takes_over("hub1", in_order=True)
    await hubs.folding.fold()
    await hubs.takes_over("hub2", in_order=True)
    await hubs.command("edge.reset")
    assert hubs.shares() == {WORKER: 3}


@pytest.mark.sqlite_suffices
async def test_where_no_hub_runs_nobody_knows_what_is_here(hubs: TwoHubs) -> None:
    await site_at_hub1(hubs, 3)
    await hubs.folding.fold()
    assert (
        await hubs.refusal(runs=False) == "give it where a hub runs, which knows what is here of edge north"
    )


# What is given up


async def given_up(hubs: TwoHubs) -> None:
    """At the second hub, and another journal begun."""
    behind = hubs.edges.standing()[0].have
    await hubs.command("edge.give-up", hub=hubs.name("hub1"), behind=behind)
    await hubs.command("edge.reset")


@pytest.mark.sqlite_suffices
async def test_what_is_given_up_is_said_with_the_hub_and_the_record_and_is_in_the_changes(
    hubs: TwoHubs,
) -> None:
    site, granted = await site_at_hub1(hubs, 3, 4)
    await hubs.says(granted, site)
    await hubs.takes_over("hub2")
    await hubs.sends(granted, site, until=2)
    await hubs.folding.fold()
    number, first, second = site.log.at.number, hubs.name("hub1"), hubs.name("hub2")
    assert f"gives up {number - 2} records or more" in await hubs.refusal()
    words = "of edge north record 2 is here, and 0 is said: look again"
    assert await hubs.refusal("edge.give-up", hub=first, behind=0) == words
    words = f"'{second}' is no hub that has more of edge north than is here: {first}"
    assert await hubs.refusal("edge.give-up", hub=second, behind=2) == words
    await given_up(hubs)
    with hubs.store.read() as connection:
        (change,) = (it for it in newest_changes(connection, None, None) if it.command == "edge.give-up")
    lost = {"writer": site.writer, "hub": first, "number": number, "behind": 2}
    assert change.became is not None
    assert change.became["given_up"] == lost
    assert await hubs.refusal("edge.give-up", hub=first, behind=2) != ""


@pytest.mark.sqlite_suffices
async def test_a_hub_that_is_back_after_all_is_asked_for_as_before(hubs: TwoHubs) -> None:
    """It was given up, and the edge is not reset yet."""
    await site_at_hub1(hubs, 3)
    await hubs.takes_over("hub2")
    await hubs.command("edge.give-up", hub=hubs.name("hub1"), behind=0)
    await hubs.takes_over("hub1")
    await hubs.takes_over("hub2")
    assert hubs.name("hub1") in await hubs.refusal()


# What comes of a journal that was before


async def without_asking(hubs: TwoHubs) -> None:
    """As before hubs said what they have."""
    await hubs.change(partial(reset_edge, name=NORTH, now_s=NOW_S))


@pytest.mark.parametrize("over", [given_up, without_asking])
async def test_a_hub_that_keeps_the_books_again_books_its_copy_of_what_was_before_once(
    hubs: TwoHubs, over: Any
) -> None:
    """The second hub has had a part of it, and has another journal of the edge since."""
    site, granted = await site_at_hub1(hubs, 3, 4, 5)
    await hubs.takes_over("hub2")
    await hubs.sends(granted, site, until=2)
    await hubs.folding.fold()
    assert hubs.shares() == {WORKER: 3}
    await over(hubs)
    await another_journal(hubs, 6)
    for host in ("hub1", "hub2", "hub1"):
        await hubs.takes_over(host)
        await hubs.folding.fold()
        assert hubs.shares() == {WORKER: 3 + 6 + 4 + 5}
    with pytest.raises(EdgeRefused):
        await hubs.sends(granted, site)
    writer = hubs.edge(NORTH).writer
    assert writer is not None
    assert writer != site.writer
    assert {it.name for it in (hubs.homes["hub1"] / "inbox" / NORTH).iterdir()} == {site.writer, writer}


@pytest.mark.sqlite_suffices
async def test_a_kill_at_any_step_of_that_books_it_once(hubs: TwoHubs) -> None:
    await site_at_hub1(hubs, 3, 4)
    await hubs.takes_over("hub2")
    await without_asking(hubs)
    await another_journal(hubs, 6)
    for step in range(0, 60, 4):
        with suppress(Crash), crash_before(step):
            await hubs.takes_over("hub1")
            await hubs.folding.fold()
        assert hubs.shares() in ({WORKER: 6}, {WORKER: 13})
    await hubs.takes_over("hub1")
    await hubs.folding.fold()
    assert hubs.shares() == {WORKER: 13}


async def test_who_goes_on_from_a_copy_of_it_is_not_booked_beside_what_was_booked(hubs: TwoHubs) -> None:
    """Two continuations of one journal, one at each hub: the first that was booked is the edge's."""
    site, granted = await site_at_hub1(hubs, 3)
    other = SiteJournal.clone(site)
    site.share(WORKER, 4)
    await hubs.sends(granted, site)
    await hubs.takes_over("hub2")
    other.share(WORKER, 100)
    await hubs.sends(granted, other)
    await hubs.folding.fold()
    assert hubs.shares() == {WORKER: 103}
    await without_asking(hubs)
    await another_journal(hubs, 6)
    await hubs.takes_over("hub1")
    await hubs.folding.fold()
    assert hubs.shares() == {WORKER: 109}
