"""Edges at other sites, in the books of one hub: each share once, whatever becomes of what carries it, and
one edge that is wrong holds up nobody else."""

import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import msgspec
import numpy as np
import psycopg
import pytest
import trio
import trio.testing
from sqlalchemy import Connection, Engine, event, func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from payouts.rates import Scheme
from payouts.schemas.money import tally_minutes, workers
from pool.books.audit.verify import verify
from pool.books.edges import limits
from pool.books.edges.leases import EdgeRefused
from pool.books.edges.prices import NotYet
from pool.books.edges.remote import RENEWED_S, RENEWING_AT_ONCE
from pool.books.edges.remote_edge import AWAY_S, TRIED_S, RemoteEdge
from pool.books.edges.rows import EdgePlace, release_edge, reset_edge, retire_edge, set_edge
from pool.books.journal import folding, taker
from pool.books.journal.book_clock import BookClock
from pool.books.journal.credit_rows import CreditRows, credits_page
from pool.books.journal.folding import Writer
from pool.books.journal.hour_rows import noted_hours
from pool.books.journal.journal import Journal
from pool.books.journal.positions import position_of, positions
from pool.books.journal.prices import Prices, known_prices
from pool.books.journal.start import open_journals
from pool.books.journal.under_way import OVER_S, count_unanswered
from pool.books.journal.upstream_verdicts import UpstreamTally, pack
from pool.books.lease import LeaseLost
from pool.books.store import Store
from pool.fleet import registry
from pool.fleet.rows import TenantTerms, set_terms
from pool.journal.beginning import Mark
from pool.journal.frames import Place
from pool.journal.inbox import Inbox, InboxUnusable, Want
from pool.journal.records import Batch, Noted, packed
from stratum.tallies import RECORD, Verdict
from stratum.upstream.shares import SubmitVerdict
from tests.fixtures.databases import Crash, crash_before
from tests.stages import site_journal
from tests.stages.hub import Hub
from tests.stages.journal import NOW_S, DiskInMemory, tally
from tests.stages.site_journal import SiteJournal
from tests.stages.waiting import until_a_thread_has

NORTH, SOUTH = "north", "south"


class DatabaseThatFails:
    """While it does, whatever is asked."""

    def __enter__(self) -> None:
        event.listen(Engine, "before_cursor_execute", self._fail)

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._fail)

    def _fail(self, *_: object) -> None:
        raise OperationalError("UPDATE", None, Exception("the connection is lost"))


class CommitWhoseAnswerIsLost:
    """It has happened, and whoever has asked for it hears of nothing but a broken connection."""

    def __enter__(self) -> None:
        event.listen(Engine, "commit", self._lose)

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "commit", self._lose)

    def _lose(self, connection: Connection) -> None:
        connection.connection.commit()
        raise OperationalError("COMMIT", None, Exception("the connection is lost"))


@pytest.fixture
async def hub(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    made = Hub(store, tmp_path, NORTH, SOUTH)
    await made.start()
    yield made
    proven(made)


def proven(hub: Hub) -> None:
    with hub.store.read() as connection:
        assert verify(connection).wrong is None


async def test_shares_of_two_edges_are_in_the_books_and_each_may_let_go_of_what_is_there(hub: Hub) -> None:
    north, south = hub.site(NORTH), hub.site(SOUTH)
    for name, site in ((NORTH, north), (SOUTH, south)):
        granted = await hub.begin(name, site)
        site.share("acme.c01.u1", 3)
        site.share(f"acme.{name}.u1", 5)
        received = await hub.send(name, granted, site)
        assert (received.have, received.want, received.held) == (site.log.at, None, None)
    assert hub.shares() == {}, "what is here is not in the books"
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 6, "acme.north.u1": 5, "acme.south.u1": 5}
    assert hub.line.told[-2:] == [(NORTH, 1, north.log.at), (SOUTH, 1, south.log.at)]
    with hub.store.read() as connection:
        (hour,) = noted_hours(connection, north.writer)
    assert (hour.hour, hour.last, hour.records) == (NOW_S // 3600, north.log.at, north.log.at.number)
    assert hour.shares == {(16, Verdict.ACCEPTED): 8}


async def test_a_kill_before_any_step_between_what_is_here_and_the_books_books_each_share_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taker, "ROWS_MAX", 2)
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    expected: dict[str, int] = {}
    for step in range(0, 40, 7):
        for unit in ("u1", f"u{step + 2}"):
            site.share(f"acme.c01.{unit}", 2)
            expected[f"acme.c01.{unit}"] = expected.get(f"acme.c01.{unit}", 0) + 2
        await hub.send(NORTH, granted, site)
        with suppress(Crash), crash_before(step):
            await hub.folding.fold()
        await hub.start()
        granted = await hub.begin(NORTH, site)
        await hub.folding.fold()
        assert hub.shares() == expected
        proven(hub)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("fails", ["the process", "the database"])
async def test_what_is_taken_in_two_attempts_is_of_machines_that_are_known(
    hub: Hub, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of a large site is several transactions: who ends it has not looked for all its machines."""
    monkeypatch.setattr(taker, "ROWS_MAX", 1)
    monkeypatch.setattr(site_journal, "SEGMENT_BYTES", 1 << 20)  # all in one file
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    for unit in range(4):
        site.share(f"acme.c01.u{unit}", unit + 1)
    await hub.send(NORTH, granted, site)
    (remote,) = hub.edges.open
    for _ in range(1 + 4 + 2):  # a price, machines, and shares of two of them
        assert remote.taker.step(site.log.at.number) is not None
    if fails == "the process":
        await hub.start()
    else:
        with DatabaseThatFails(), pytest.raises(OperationalError):
            remote.taker.step(site.log.at.number)
    booked: dict[int, int] = {}

    def note(writer: Writer, tallies: Sequence[tuple[int, bytes]]) -> None:
        for _, of_minute in tallies:
            for it in np.frombuffer(of_minute, dtype=RECORD):
                booked[int(it["worker"])] = booked.get(int(it["worker"]), 0) + int(it["count"])

    hub.folding.on_booked = note
    await hub.folding.fold()
    assert sum(hub.shares().values()) == 10
    with hub.store.read() as connection:
        rows = dict(connection.execute(select(workers.c.unit, workers.c.id)).all())
    assert booked == {rows[f"u{unit}"]: unit + 1 for unit in range(4)}


@pytest.mark.parametrize("rows_max", [1, 1_000])
async def test_what_was_booked_and_nobody_heard_so_is_taken_once_and_of_machines_that_are_known(
    hub: Hub, rows_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a server dies that has committed, and its standby takes over."""
    monkeypatch.setattr(taker, "ROWS_MAX", rows_max)
    monkeypatch.setattr(site_journal, "SEGMENT_BYTES", 1 << 20)  # all in one file
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    for unit in range(4):
        site.share(f"acme.c01.u{unit}", unit + 1)
    await hub.send(NORTH, granted, site)
    (remote,) = hub.edges.open
    until, taken = site.log.at.number, None
    while remote.taker.position.at.number < until:
        with CommitWhoseAnswerIsLost(), pytest.raises(OperationalError):
            remote.taker.step(until)
        taken = remote.taker.step(until)
    assert hub.edge(NORTH).held is None
    assert hub.shares() == {f"acme.c01.u{unit}": unit + 1 for unit in range(4)}
    assert taken is not None
    assert taken.done is not None
    with hub.store.read() as connection:
        rows = dict(connection.execute(select(workers.c.unit, workers.c.id)).all())
    ((_, of_minute),) = remote.taker.tallies(taken.done)
    booked = {int(it["worker"]): int(it["count"]) for it in np.frombuffer(of_minute, dtype=RECORD)}
    assert booked == {rows[f"u{unit}"]: unit + 1 for unit in range(4)}


async def test_a_copy_that_is_lost_is_made_again_from_where_the_books_are(hub: Hub) -> None:
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    for number in range(9):
        site.share(f"acme.c01.u{number}")
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    site.share("acme.c01.u0", 7)
    rmtree(hub.home / "inbox")
    await hub.start()
    granted = await hub.begin(NORTH, site)
    assert granted.want == Want(behind=granted.booked.number, whole_file=True)
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    assert hub.shares()["acme.c01.u0"] == 8
    assert sum(hub.shares().values()) == 16


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("comes", [0, 1, 3])
async def test_a_copy_that_is_lost_while_a_part_of_it_is_booked_is_waited_for(
    hub: Hub, comes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another hub has taken over, whose disk has no copies: it comes again, and nobody is held for that."""
    monkeypatch.setattr(taker, "ROWS_MAX", 1)
    monkeypatch.setattr(site_journal, "SEGMENT_BYTES", 1 << 20)  # all in one file
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    for unit in range(4):
        site.share(f"acme.c01.u{unit}", unit + 1)
    await hub.send(NORTH, granted, site)
    (remote,) = hub.edges.open
    for _ in range(3):
        assert remote.taker.step(site.log.at.number) is not None
    assert remote.taker.under_way
    rmtree(hub.home / "inbox")
    await hub.start()
    await hub.folding.fold()
    assert hub.edge(NORTH).held is None
    granted = await hub.begin(NORTH, site)
    for frame in site.frames()[:comes]:
        await hub.edges.receive(NORTH, granted.epoch, frame)
    await hub.folding.fold()
    assert hub.edge(NORTH).held is None
    assert hub.edges.standing()[0].waits is not None
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    assert hub.shares() == {f"acme.c01.u{unit}": unit + 1 for unit in range(4)}
    assert hub.edges.standing()[0].waits is None


@pytest.mark.sqlite_suffices
async def test_a_machine_is_booked_by_its_name_though_the_books_have_its_number_no_more(hub: Hub) -> None:
    """The hub had numbered it, and told its edge so, before the books were put back from a copy."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("acme.c01.u1", 5, number=256 * 3, new=False)
    site.share("acme.c01.u2", 2)
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    assert hub.edge(NORTH).held is None
    assert hub.shares() == {"acme.c01.u1": 5, "acme.c01.u2": 2}


@pytest.mark.sqlite_suffices
async def test_books_that_are_not_where_they_were_left_end_the_hub_and_hold_nobody(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They failed over to a copy that was behind: who begins again goes on from there."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, site)
    with hub.store.read() as connection:
        behind = position_of(connection, site.writer)
    await hub.folding.fold()
    site.share("acme.c01.u1", 4)
    await hub.send(NORTH, granted, site)
    with monkeypatch.context() as patched:
        patched.setattr(taker, "position_of", lambda connection, writer: behind)
        with pytest.raises(LeaseLost, match="failed over to an older copy"):
            await hub.folding.fold()
    await hub.start()
    await hub.folding.fold()
    assert hub.edge(NORTH).held is None
    assert hub.shares() == {"acme.c01.u1": 7}


async def test_books_that_lack_a_table_for_a_while_hold_nobody(hub: Hub) -> None:
    """Put back without it, or by another account: no edge has chosen that."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, site)
    await hub.change(lambda connection: connection.execute(text("ALTER TABLE tally_minutes RENAME TO away")))
    with pytest.raises(DBAPIError):
        await hub.folding.fold()
    await hub.change(lambda connection: connection.execute(text("ALTER TABLE away RENAME TO tally_minutes")))
    assert hub.edge(NORTH).held is None
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3}


@pytest.mark.sqlite_suffices
async def test_an_edge_whose_copy_cannot_be_kept_waits_and_the_others_are_taken(hub: Hub) -> None:
    north, south = hub.site(NORTH), hub.site(SOUTH)
    south_granted = await hub.begin(SOUTH, south)
    place = hub.home / "inbox" / NORTH
    place.write_bytes(b"no directory")
    with pytest.raises(InboxUnusable, match="cannot keep what edge north sends"):
        await hub.begin(NORTH, north)
    (waits,) = (it.waits for it in hub.edges.standing() if it.edge == NORTH)
    assert "inbox/north" in (waits or ""), "it is told"
    await hub.start()
    south_granted = await hub.begin(SOUTH, south)
    south.share("acme.c02.u1", 2)
    await hub.send(SOUTH, south_granted, south)
    place.unlink()
    granted = await hub.begin(NORTH, north)
    north.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, north)
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3, "acme.c02.u1": 2}
    assert {it.waits for it in hub.edges.standing()} == {None}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("what", ["the disk is full", "the copy cannot be opened"])
async def test_what_has_no_place_here_now_is_left_with_who_carries_it(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The edge may have lost its disk by when there is one."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("acme.c01.u1", 3)
    frames, place = b"".join(site.frames()), hub.home / "inbox" / NORTH
    with monkeypatch.context() as now:
        if what == "the disk is full":
            now.setattr(DiskInMemory, "free_bytes", lambda disk, path: 0)
        else:
            shutil.rmtree(place)
            place.write_bytes(b"no directory")
            await hub.start()
        for _ in range(2):
            with pytest.raises(InboxUnusable):
                await hub.edges.take(NORTH, granted.epoch, frames, None)
    if place.is_file():
        place.unlink()
        await hub.edges.changed()
    await hub.edges.take(NORTH, granted.epoch, frames, None)
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3}


@pytest.mark.sqlite_suffices
async def test_what_has_no_place_here_now_is_not_asked_for_while_it_is_tried_again(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """The edge sent all of it again, each ten seconds, and then past the stream, where it stays."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("acme.c01.u1", 3)
    mark = Mark(number=site.log.at.number, moment_s=NOW_S)
    assert (await hub.edges.renew(NORTH, granted.epoch, mark)).want is not None
    monkeypatch.setattr(DiskInMemory, "free_bytes", lambda disk, path: 0)
    for _ in range(3):
        with pytest.raises(InboxUnusable):
            await hub.edges.take(NORTH, granted.epoch, b"".join(site.frames()), None)
        assert (await hub.edges.renew(NORTH, granted.epoch, mark)).want is None
        await trio.sleep(10)
    await trio.sleep(TRIED_S)
    assert (await hub.edges.renew(NORTH, granted.epoch, mark)).want is not None, "it may be lost by now"


@pytest.mark.sqlite_suffices
async def test_what_was_lost_on_the_way_is_asked_for_when_the_edge_says_how_far_it_is(hub: Hub) -> None:
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    await hub.send(NORTH, granted, site)
    site.share()
    mark = Mark(number=site.log.at.number, moment_s=NOW_S + 5)
    told = await hub.edges.renew(NORTH, granted.epoch, mark)
    assert told.want == Want(behind=1)
    await hub.edges.receive(NORTH, granted.epoch, b"".join(site.frames(1)))
    assert (await hub.edges.renew(NORTH, granted.epoch, mark)).want is None
    (standing,) = hub.edges.standing()
    assert (standing.moment_s, standing.have, standing.booked) == (NOW_S + 5, site.log.at.number, 0)


@pytest.mark.sqlite_suffices
async def test_books_that_stand_still_for_an_hour_keep_no_journal_from_the_hubs_disk_and_no_edge_waiting(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Each time that an edge said how far it is another thread waited, until there was none to write with."""
    names = [f"site{number}" for number in range(5)]
    hub = Hub(store, tmp_path, *names)
    await hub.start()
    sites = [hub.site(name) for name in names]
    granted = [await hub.begin(name, site) for name, site in zip(names, sites, strict=True)]
    answered, waiting, most, goes_on = list[int](), list[int](), 0, threading.Event()

    @contextmanager
    def stands_still(store: Store) -> Iterator[Connection]:
        nonlocal most
        waiting.append(1)
        most = max(most, len(waiting))
        goes_on.wait()
        waiting.pop()
        if goes_on.is_set():
            raise OperationalError("BEGIN", None, psycopg.OperationalError("the connection is lost"))
        with store.read() as connection:
            yield connection

    async def renew(number: int) -> None:
        mark = Mark(number=sites[number].log.at.number, moment_s=NOW_S)
        await hub.edges.renew(names[number], granted[number].epoch, mark)
        answered.append(number)

    with monkeypatch.context() as away:
        away.setattr(Store, "write", stands_still)
        async with trio.open_nursery() as nursery:
            try:
                for asked in range(60):
                    autojump_clock.jump(RENEWED_S)
                    for number in range(len(names)):
                        nursery.start_soon(renew, number)
                    await trio.testing.wait_all_tasks_blocked()
                    assert len(answered) == asked * len(names), "but for the first of each"
                await until_a_thread_has(lambda: most == RENEWING_AT_ONCE)
                sites[0].share("acme.c01.u1", 3)
                assert (await hub.send(names[0], granted[0], sites[0])).have == sites[0].log.at
                assert most == RENEWING_AT_ONCE
            finally:
                away.undo()
                goes_on.set()
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3}
    proven(hub)


async def test_a_former_owner_is_refused_and_what_it_sends_is_not_taken(hub: Hub) -> None:
    site = hub.site(NORTH)
    former = await hub.begin(NORTH, site)
    site.share()
    granted = await hub.begin(NORTH, site)
    with pytest.raises(EdgeRefused, match="epoch 1 of edge north is over"):
        await hub.send(NORTH, former, site)
    with pytest.raises(EdgeRefused, match="epoch 1 of edge north is over"):
        await hub.edges.renew(NORTH, former.epoch, Mark(number=2, moment_s=NOW_S))
    assert (await hub.send(NORTH, granted, site)).have == site.log.at
    with pytest.raises(EdgeRefused, match="edge south has not begun"):
        await hub.edges.receive(SOUTH, 1, b"")


async def test_of_two_that_go_on_from_one_copy_one_is_credited(hub: Hub, tmp_path: Path) -> None:
    """A host was cloned: both have the edge's key, its journal and its part, and mine the same work. The
    thief sends first; both say the same epoch. What comes from the other breaks the chain, and holds the
    edge: no share is credited twice, and somebody is told."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("acme.c01.u1", 5)
    await hub.send(NORTH, granted, site)
    clone = SiteJournal.clone(site)
    site.share("acme.c01.u1", 7)
    clone.share("acme.c01.u1", 7)
    clone.share("acme.c01.u1", 7)
    behind = site.log.at.number - 1
    await hub.edges.receive(NORTH, granted.epoch, b"".join(clone.frames(behind)))
    received = await hub.edges.receive(NORTH, granted.epoch, b"".join(site.frames(behind)))
    assert received.held is None, "it has less than the other one: that tells nothing yet"
    site.share("acme.c01.u1", 7)
    site.share("acme.c01.u1", 7)
    received = await hub.edges.receive(NORTH, granted.epoch, b"".join(site.frames(behind)))
    assert received.held is not None
    assert "two processes write this journal" in received.held
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 5 + 14}
    assert hub.edge(NORTH).held == received.held


# What an edge may say


def another_tenant(hub: Hub, site: SiteJournal) -> None:
    site.share("borealis.c01.u1", 9)


def another_part(hub: Hub, site: SiteJournal) -> None:
    site.share("acme.c01.u9", 9, number=2 + 256)


def a_number_that_runs_away(hub: Hub, site: SiteJournal) -> None:
    site.share("acme.c01.u9", 9, number=1 + 256 * 16_000_000)


def nobody(hub: Hub, site: SiteJournal) -> None:
    site.say(tally(site.number("acme.c01.u9"), 1), accepted=1)


def another_price(hub: Hub, site: SiteJournal) -> None:
    site.say(tally(site.number("acme.c01.u1"), 99), accepted=1)


def more_than_it_counts(hub: Hub, site: SiteJournal) -> None:
    site.say(tally(site.number("acme.c01.u1"), 1, count=5), accepted=1)


def no_verdict(hub: Hub, site: SiteJournal) -> None:
    site.say(tally(site.number("acme.c01.u1"), 1)[:9] + b"\xee" + tally(0, 0)[10:])


def no_difficulty(hub: Hub, site: SiteJournal) -> None:
    site.share("acme.c01.u1", 1, log2=100)


def an_answer_that_no_upstream_gives(hub: Hub, site: SiteJournal) -> None:
    assert site.rate is not None
    said = UpstreamTally(site.number("acme.c01.u1"), site.rate.number, 1, SubmitVerdict.ACCEPTED)
    packed_answer = bytearray(pack({said: 1}))
    packed_answer[40] = 9
    say_batch(site, upstream=bytes(packed_answer))


def half_an_answer(hub: Hub, site: SiteJournal) -> None:
    say_batch(site, upstream=bytes(7))


def half_a_tally(hub: Hub, site: SiteJournal) -> None:
    say_batch(site, tallies=bytes(7))


def kept_shares_that_are_none(hub: Hub, site: SiteJournal) -> None:
    say_batch(site, kept=bytes(7))


def say_batch(site: SiteJournal, **changes: Any) -> None:
    batch = msgspec.structs.replace(Batch(moment_s=site.moment_s, accepted=site.accepted), **changes)
    site.log.append(packed(batch), site.moment_s, site.accepted)


def the_first_hour_of_all(hub: Hub, site: SiteJournal) -> None:
    """It has what no hour is known of: whoever adds to it could hide there what he changed."""
    site.moment_s = 5
    site.share("acme.c01.u1", 1)
    site.moment_s = NOW_S


NOT_OURS: Final = r"^what is behind record 2 of the journal is nothing that Angara has written: "
SAYS: dict[str, tuple[Callable[[Hub, SiteJournal], None], str]] = {
    "another's machine": (another_tenant, "edge north may not count for borealis.c01.u1: it may for acme"),
    "a number of another part": (another_part, "numbers the machine acme.c01.u9 as 258, which is of part 2"),
    "a number that runs away": (a_number_that_runs_away, "no count comes so far"),
    "a machine without a name": (nobody, "and does not name it"),
    "a price without a meaning": (another_price, "shares of rate 99, and does not define it"),
    "fewer than there are": (more_than_it_counts, "says that it has 8 accepted shares .* and 12 are in it"),
    "a verdict that there is none of": (no_verdict, "a verdict that there is none of"),
    "a difficulty that there is none of": (no_difficulty, "^the database does not take .*difficulty_log2"),
    "an answer of no upstream": (an_answer_that_no_upstream_gives, NOT_OURS),
    "half an answer": (half_an_answer, NOT_OURS),
    "half a tally": (half_a_tally, NOT_OURS),
    "kept shares that are none": (kept_shares_that_are_none, NOT_OURS),
    "a record of 1970": (the_first_hour_of_all, "at the hour that has what was booked before hours"),
}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("fault", SAYS)
async def test_what_an_edge_may_not_say_holds_it_in_words_and_nobody_else(hub: Hub, fault: str) -> None:
    says, words = SAYS[fault]
    north, south = hub.site(NORTH), hub.site(SOUTH)
    granted, other = await hub.begin(NORTH, north), await hub.begin(SOUTH, south)
    north.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, north)
    await hub.folding.fold()
    says(hub, north)
    north.share("acme.c01.u1", 4)
    south.share("acme.c02.u1", 2)
    await hub.send(NORTH, granted, north)
    await hub.send(SOUTH, other, south)
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3, "acme.c02.u1": 2}
    edge = hub.edge(NORTH)
    assert edge.held is not None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(edge.held)
    await hub.folding.fold()
    assert (await hub.begin(NORTH, north)).held == edge.held, "it serves all the same"


@asynccontextmanager
async def two_edges(hub: Hub) -> AsyncIterator[tuple[SiteJournal, SiteJournal]]:
    """What they say in the block is sent behind it, and taken."""
    north, south = hub.site(NORTH), hub.site(SOUTH)
    granted, other = await hub.begin(NORTH, north), await hub.begin(SOUTH, south)
    yield north, south
    await hub.send(NORTH, granted, north)
    await hub.send(SOUTH, other, south)
    await hub.folding.fold()


# That cannot be written any shorter, which PostgreSQL tries.
LONG: Final = "".join(
    sorted(map(chr, range(0x4E00, 0x4E00 + 6_000)), key=lambda it: sha256(it.encode()).digest())
)


@pytest.mark.parametrize(
    "name",
    ["bor\0ealis.c01.u1", "acme.c\x001.u1", "acme.c01.u\0", f"acme.{LONG}.u1", f"acme.c01.{LONG}"],
    ids=["tenant", "container", "unit", "long container", "long unit"],
)
async def test_a_name_that_no_database_takes_holds_the_edge_and_nobody_else(hub: Hub, name: str) -> None:
    """PostgreSQL takes no NUL, also of the words why, and none too long for an index: nobody's journal was
    booked any more."""
    async with two_edges(hub) as (north, south):
        north.share(name, 4)
        south.share("acme.c02.u1", 2)
    assert (hub.shares(), hub.edge(SOUTH).held) == ({"acme.c02.u1": 2}, None)
    assert hub.edge(NORTH).held is not None


async def test_a_share_under_way_of_a_key_that_no_index_takes_holds_the_edge_and_nobody_else(
    hub: Hub,
) -> None:
    async with two_edges(hub) as (north, south):
        north.share("acme.c01.u1", 4)
        assert north.rate is not None
        noted = Noted(
            key=b"".join(sha256(bytes([it])).digest() for it in range(256)),
            worker=north.number("acme.c01.u1"),
            epoch=north.rate.number,
            difficulty_log2=16,
            counted=False,
            target=b"\1" * 32,
        )
        north.say(b"", noted=(noted,))
        south.share("acme.c02.u1", 2)
    assert hub.shares()["acme.c02.u1"] == 2


@pytest.mark.parametrize(
    "credited",
    [("credited", 31, 0), ("credits", 32, 15), ("credits", 33, 16)],
    ids=["block", "shares", "before"],
)
async def test_credits_that_no_engine_takes_hold_the_edge_and_are_told_to_nobody(
    hub: Hub, credited: tuple[str, int, int]
) -> None:
    """Every process of a pool of upstreams is told of those that there are as it starts: it ended then."""
    field, of_block, of_shares = credited
    async with two_edges(hub) as (north, south):
        if field == "credited":
            north.share("acme.c01.u1", on_block=bytes(of_block))
        else:
            north.share("acme.c01.u1")
            wrong = (bytes(of_block), bytes(of_shares))
            batch = Batch(moment_s=north.moment_s, accepted=north.accepted, credits=(wrong,))
            north.log.append(packed(batch), north.moment_s, north.accepted)
        south.share("acme.c02.u1", 2, on_block=bytes(32))
    with hub.store.read() as connection:
        found = CreditRows(connection)
        shares = [hashes for it in found.kept for _, hashes in credits_page(connection, it, 0)]
    assert (found.kept, [len(it) for it in shares]) == ([bytes(32)], [2 * 16])
    assert (hub.shares()["acme.c02.u1"], hub.edge(SOUTH).held) == (2, None)
    assert hub.edge(NORTH).held is not None


@pytest.mark.parametrize("journal", ["the books", "its copy"])
async def test_a_price_of_an_upstream_that_no_database_takes_holds_the_edge_alone(
    hub: Hub, journal: str
) -> None:
    """Told in the words why, by whoever finds it."""
    async with two_edges(hub) as (north, south):
        assert north.rate is not None
        if journal == "the books":
            north.rate = msgspec.structs.replace(north.rate, number=77, upstream="up\0", order="\0")
            north.share("acme.c01.u1", 4)
        else:
            north.log.append(msgspec.msgpack.encode({"\0": 1, "type": "\0"}), north.moment_s, 0)
        south.share("acme.c02.u1", 2)
    assert (hub.shares(), hub.edge(SOUTH).held) == ({"acme.c02.u1": 2}, None)
    assert hub.edge(NORTH).held is not None


async def test_who_was_let_count_for_more_is_taken_on_when_somebody_has_looked(hub: Hub) -> None:
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("borealis.c07.u1", 9)
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    await hub.change(partial(release_edge, name=NORTH))
    await hub.folding.fold()
    assert hub.edge(NORTH).held is not None, "to look is not to allow"
    places = [EdgePlace("acme"), EdgePlace("borealis", "c07")]
    await hub.change(lambda it: set_edge(it, NORTH, places=places))
    await hub.change(partial(release_edge, name=NORTH))
    await hub.folding.fold()
    assert hub.shares() == {"borealis.c07.u1": 9}
    site.share("borealis.c08.u1", 1)
    await hub.edges.receive(NORTH, granted.epoch, b"".join(site.frames()))
    await hub.folding.fold()
    assert hub.edge(NORTH).held is not None, "another container"


@pytest.mark.sqlite_suffices
async def test_a_clock_that_is_ahead_waits_for_ours_and_dates_nothing(hub: Hub) -> None:
    """A captured edge that dates a share in the year 2100 would have all the book be of 2100."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.moment_s = NOW_S + 3600
    site.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    (standing,) = hub.edges.standing()
    assert (hub.shares(), standing.waits) == ({}, "the clock of edge north is 3600 s ahead of ours")
    hub.clock.now_s += 3600
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3}
    assert hub.edge(NORTH).held is None


@pytest.mark.sqlite_suffices
async def test_our_own_clock_that_was_ahead_for_a_moment_keeps_no_edge_waiting(hub: Hub) -> None:
    """The books have come to that moment: what follows is dated at it, and is in the books at once."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    hub.clock.now_s += 86_400
    site.share("acme.c01.u1", 1)
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    hub.clock.now_s -= 86_400
    site.share("acme.c01.u1", 2)
    await hub.edges.receive(NORTH, granted.epoch, b"".join(site.frames()))
    await hub.folding.fold()
    (standing,) = hub.edges.standing()
    assert (hub.shares(), standing.waits) == ({"acme.c01.u1": 3}, None)
    with hub.store.read() as connection:
        moment_s = position_of(connection, site.writer).moment_s
    site.moment_s = moment_s + 1
    site.share("acme.c01.u1", 4)
    await hub.edges.receive(NORTH, granted.epoch, b"".join(site.frames()))
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3}, "what an edge dates beyond it waits as ever"


@pytest.mark.sqlite_suffices
async def test_terms_that_were_agreed_on_while_our_clock_was_ahead_keep_no_edge_waiting(hub: Hub) -> None:
    """They are of that moment, and so an edge that goes by them dates all that it does no earlier
    (pool.books.journal.prices)."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.moment_s = NOW_S + 86_400
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=201, payout_minimum_sat=0)
    with hub.store.write() as connection:
        set_terms(connection, "acme", terms, by="ann", now_s=site.moment_s)
    site.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    (standing,) = hub.edges.standing()
    assert (hub.shares(), standing.waits) == ({"acme.c01.u1": 3}, None)


@pytest.mark.sqlite_suffices
async def test_more_work_than_the_nameplate_is_told_and_booked(store: Store, tmp_path: Path) -> None:
    """Of 500 TH/s. A share of difficulty 2^16 is 281 TH: ten minutes, at half as much again, are 1,600."""
    hub = Hub(store, tmp_path, NORTH, ths=500)
    await hub.start()
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    told = []
    for shares in (1_000, 500, 300, 300):
        site.share("acme.c01.u1", shares)
        await hub.send(NORTH, granted, site)
        await hub.folding.fold()
        (standing,) = hub.edges.standing()
        told.append(standing.beyond_at_s)
        hub.clock.now_s += 60
    assert sum(hub.shares().values()) == 2_100
    assert told == [None, None, None, NOW_S + 180]


# Time


async def test_the_books_wait_for_an_edge_a_quarter_of_an_hour_and_then_go_on_without(
    hub: Hub, autojump_clock: trio.testing.MockClock
) -> None:
    """What it kept back is dated at the books' moment, at the price that its work had: it gains nothing, and
    no statement that was made changes."""
    north, south = hub.site(NORTH), hub.site(SOUTH)
    granted, other = await hub.begin(NORTH, north), await hub.begin(SOUTH, south)
    north.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, north)
    north.share("acme.c01.u1", 5)

    async def later(seconds: float) -> None:
        await trio.sleep(seconds)
        hub.clock.now_s += seconds
        south.moment_s = int(hub.clock.now_s)
        south.share("acme.c02.u1")
        await hub.edges.receive(SOUTH, other.epoch, b"".join(south.frames()))
        await hub.edges.renew(SOUTH, other.epoch, Mark(number=south.log.at.number, moment_s=south.moment_s))
        await hub.folding.fold()

    await later(AWAY_S - 60)
    assert moment_of(hub, south) == NOW_S, "all that is of before may still come"
    await later(AWAY_S)
    reached_s = int(hub.clock.now_s)
    assert moment_of(hub, south) == reached_s
    stated = minutes(hub)
    await hub.edges.receive(NORTH, granted.epoch, b"".join(north.frames()))
    await hub.folding.fold()
    assert minutes(hub) == stated | {reached_s // 60: stated[reached_s // 60] + 5}
    assert rates(hub) == {1}, "the price that it had"


@pytest.mark.sqlite_suffices
async def test_an_edge_that_says_that_it_lives_and_sends_nothing_is_waited_for_no_longer(hub: Hub) -> None:
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    await hub.send(NORTH, granted, site)
    hub.clock.now_s += 10 * AWAY_S
    await hub.edges.renew(NORTH, granted.epoch, Mark(number=5, moment_s=NOW_S))
    await hub.folding.fold()
    assert moment_of(hub, site) == hub.clock.now_s - AWAY_S


@pytest.mark.sqlite_suffices
async def test_a_kill_in_the_middle_of_what_is_dated_later_goes_on_with_the_same_rows(
    hub: Hub, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taker, "ROWS_MAX", 2)
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    await hub.send(NORTH, granted, site)
    await trio.sleep(AWAY_S)
    hub.clock.now_s += AWAY_S
    await hub.folding.fold()
    for number in range(6):
        site.share(f"acme.c01.u{number}", number + 1)
    await hub.send(NORTH, granted, site)
    (remote,) = hub.edges.open
    remote.taker.step(site.log.at.number)
    remote.taker.step(site.log.at.number)
    with hub.store.read() as connection:
        position = position_of(connection, site.writer)
    assert position.rows_done > 0
    assert position.floor_s == int(hub.clock.now_s)
    await hub.start()
    hub.clock.now_s += 3600
    await hub.folding.fold()
    assert minutes(hub) == {(NOW_S + AWAY_S) // 60: 21}


def moment_of(hub: Hub, site: SiteJournal) -> int:
    with hub.store.read() as connection:
        return position_of(connection, site.writer).moment_s


def minutes(hub: Hub) -> dict[int, int]:
    counted = select(tally_minutes.c.minute, func.sum(tally_minutes.c.shares)).group_by(
        tally_minutes.c.minute
    )
    with hub.store.read() as connection:
        return {minute: int(shares) for minute, shares in connection.execute(counted)}


def rates(hub: Hub) -> set[int]:
    with hub.store.read() as connection:
        return set(connection.scalars(select(tally_minutes.c.rate_id)))


# Edges that end


async def reset(hub: Hub) -> None:
    await hub.change(lambda it: reset_edge(it, NORTH, NOW_S))


async def retired(hub: Hub) -> None:
    await hub.change(lambda it: retire_edge(it, NORTH, NOW_S))


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("ends", [reset, retired])
async def test_what_is_here_of_a_journal_that_is_over_is_booked_and_no_more_of_it(
    hub: Hub, ends: Callable[[Hub], Awaitable[None]], restarted: bool
) -> None:
    """Most who reset an edge do so because its disk is lost: what had come of it is here."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, site)
    await ends(hub)
    if restarted:
        await hub.start()
    with pytest.raises(EdgeRefused):
        await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3}
    if ends is reset:
        again = hub.site(NORTH)
        granted = await hub.begin(NORTH, again)
        assert (granted.part, granted.booked) == (3, Place())
        again.share("acme.c01.u1", 4)
        await hub.send(NORTH, granted, again)
        await hub.folding.fold()
        assert hub.shares() == {"acme.c01.u1": 7}
    await hub.edges.changed()
    await hub.start()
    await hub.folding.fold()
    assert sum(hub.shares().values()) in (3, 7)


# What they had under way to upstreams


async def an_edge_that_is_over(hub: Hub) -> SiteJournal:
    """North had one share under way when its disk was lost, and a record of five more came that the books
    have not taken. Its miner was told that the share is good."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("acme.c01.u1", 3)
    noted = Noted(
        key=bytes(range(32)),
        worker=site.number("acme.c01.u1"),
        epoch=site.rate.number if site.rate else 0,
        difficulty_log2=16,
        counted=False,
        target=b"\1" * 32,
    )
    site.say(b"", noted=(noted,))
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    site.share("acme.c01.u1", 5)
    await hub.send(NORTH, granted, site)
    await hub.change(partial(reset_edge, name=NORTH, now_s=NOW_S))
    return site


def unanswered(hub: Hub) -> int:
    with hub.store.read() as connection:
        of = tally_minutes.c
        query = select(func.sum(of.shares)).where(of.verdict == Verdict.UNDELIVERED)
        return int(connection.scalar(query) or 0)


@pytest.mark.sqlite_suffices
async def test_a_hub_that_runs_counts_what_a_journal_that_is_over_had_under_way(
    hub: Hub, autojump_clock: trio.testing.MockClock
) -> None:
    """Another hub may have more of that journal for a month, with the answer; then nobody takes that."""
    await an_edge_that_is_over(hub)
    began_s = trio.current_time()
    hub.clock.now_s = NOW_S + OVER_S - 3_600
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.edges.run)
        await trio.sleep(1)
        assert unanswered(hub) == 0
        hub.clock.now_s += 3_600
        await trio.sleep(3_600)
        assert unanswered(hub) == 1
        hub.clock.now_s += 86_400
        await trio.sleep(86_400)
        assert unanswered(hub) == 1, "once"
        nursery.cancel_scope.cancel()
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3}, "what is here of it is not taken any more"
    assert trio.current_time() - began_s < 100_000


@pytest.mark.sqlite_suffices
async def test_a_start_counts_it_too(hub: Hub, tmp_path: Path) -> None:
    await an_edge_that_is_over(hub)

    def starts() -> int:
        (own,) = open_journals(hub.store, tmp_path, disk=DiskInMemory(), wall_clock=hub.clock)
        own.log.close()
        return unanswered(hub)

    hub.clock.now_s = NOW_S + OVER_S - 1
    assert starts() == 0
    hub.clock.now_s = NOW_S + OVER_S
    assert starts() == starts() == 1
    await hub.start()
    await hub.edges.let_go()
    await hub.folding.fold()
    assert unanswered(hub) == 1
    assert hub.shares() == {"acme.c01.u1": 3}, "what another hub had of it is not taken any more"


@pytest.mark.sqlite_suffices
async def test_two_hubs_that_are_killed_in_turn_count_it_once(hub: Hub, tmp_path: Path) -> None:
    """Each has a journal of its own, and begins where the other one was killed, before a fold."""
    await an_edge_that_is_over(hub)
    hub.clock.now_s = NOW_S + OVER_S
    for name in ("one", "other", "one", "other"):
        (own,) = open_journals(hub.store, tmp_path / name, disk=DiskInMemory(), wall_clock=hub.clock)
        with hub.store.read() as connection:
            prices = Prices(known_prices(connection), hub.registry, clock=BookClock(hub.clock, NOW_S))
        Journal(hub.registry, own.log, own.beginning, prices).close()
    assert unanswered(hub) == 1


async def test_a_kill_before_any_step_counts_it_once(hub: Hub) -> None:
    site = await an_edge_that_is_over(hub)
    hub.clock.now_s = NOW_S + OVER_S
    steps = 0
    while True:
        steps += 1
        try:
            with crash_before(steps):
                count_unanswered(hub.store, NOW_S + OVER_S)
            break
        except Crash:
            assert unanswered(hub) == 0
            proven(hub)
    assert unanswered(hub) == 1
    assert steps > 5
    with CommitWhoseAnswerIsLost(), suppress(OperationalError):
        count_unanswered(hub.store, NOW_S + OVER_S)
    assert unanswered(hub) == 1
    with hub.store.read() as connection:
        assert position_of(connection, site.writer).transactions == 2


# How many machines it may bring


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("bound", "names", "words"),
    [
        ("CONTAINERS_PER_TENANT_MAX", "c{}.u1", "edge north brings 3 containers of tenant acme that nobody"),
        ("WORKERS_PER_TENANT_MAX", "c01.u{}", "edge north brings 3 workers of tenant acme that nobody knows"),
        (
            "CONTAINERS_AT_SITES_MAX",
            "c{}.u1",
            "tenant acme has too many containers: `angara container remove`",
        ),
        ("WORKERS_AT_SITES_MAX", "c01.u{}", "tenant acme has too many workers: `angara worker remove` makes"),
    ],
)
async def test_an_edge_brings_no_more_than_one_site_has_and_all_together_no_more_than_ten(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, bound: str, names: str, words: str
) -> None:
    monkeypatch.setattr(registry, bound, 2)
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    for number in range(4):
        site.share(f"acme.{names.format(number)}")
        await hub.send(NORTH, granted, site)
        await hub.folding.fold()
    assert hub.shares() == {f"acme.{names.format(number)}": 1 for number in range(2)}
    assert words in (hub.edge(NORTH).held or "")


@pytest.mark.sqlite_suffices
async def test_what_a_captured_edge_fills_up_with_is_in_no_others_way(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names as many machines as one site has of the tenant that it shares with another site: it is held,
    and the other one's next machine is counted."""
    monkeypatch.setattr(registry, "WORKERS_PER_TENANT_MAX", 20)
    monkeypatch.setattr(registry, "WORKERS_AT_SITES_MAX", 200)
    north, south = hub.site(NORTH), hub.site(SOUTH)
    granted, other = await hub.begin(NORTH, north), await hub.begin(SOUTH, south)
    for number in range(60):
        north.share(f"acme.c01.u{number}")
    await hub.send(NORTH, granted, north)
    south.share("acme.c02.u1", 7)
    await hub.send(SOUTH, other, south)
    await hub.folding.fold()
    assert hub.edge(NORTH).held is not None
    assert hub.edge(SOUTH).held is None
    shares = hub.shares()
    assert shares.pop("acme.c02.u1") == 7
    assert len(shares) <= 20


@pytest.mark.sqlite_suffices
async def test_too_many_are_refused_before_any_of_them_is_booked(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is half booked keeps its hours until somebody has looked, and statements are made meanwhile."""
    monkeypatch.setattr(taker, "ROWS_MAX", 1)
    monkeypatch.setattr(site_journal, "SEGMENT_BYTES", 1 << 20)
    monkeypatch.setattr(registry, "WORKERS_PER_TENANT_MAX", 3)
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    for number in range(6):
        site.share(f"acme.c01.u{number}")
    await hub.send(NORTH, granted, site)
    await hub.folding.fold()
    assert hub.edge(NORTH).held is not None
    with hub.store.read() as connection:
        assert position_of(connection, site.writer).rows_done == 0
    assert hub.shares() == {}


@pytest.mark.sqlite_suffices
async def test_a_commit_that_is_tried_again_is_no_more_work(store: Store, tmp_path: Path) -> None:
    made = Hub(store, tmp_path, NORTH, ths=100)
    await made.start()
    site = made.site(NORTH)
    granted = await made.begin(NORTH, site)
    site.share("acme.c01.u1", 100 * 600 * 10**12 // 2**48)  # ten minutes of it at once
    await made.send(NORTH, granted, site)
    (remote,) = made.edges.open
    for _ in range(5):
        with DatabaseThatFails(), suppress(OperationalError):
            remote.taker.step(site.log.at.number)
    await made.folding.fold()
    assert remote.beyond_at_s is None


# What the hub's own disk does


async def test_a_copy_that_cannot_be_trimmed_and_one_that_is_over_and_damaged_end_no_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = hub.site(NORTH), hub.site(SOUTH)
    granted, other = await hub.begin(NORTH, north), await hub.begin(SOUTH, south)
    north.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, north)

    def read_only(inbox: Inbox, booked: Place) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "taken", read_only)
        await hub.folding.fold()
    await hub.change(partial(retire_edge, name=NORTH, now_s=NOW_S))
    (inbox,) = (hub.home / "inbox" / NORTH).iterdir()
    rmtree(inbox)
    inbox.write_bytes(b"")
    inbox.unlink()
    inbox.mkdir()
    (inbox / f"{1:020}.log").mkdir()
    await hub.start()
    other = await hub.begin(SOUTH, south)
    south.share("acme.c02.u1", 7)
    await hub.send(SOUTH, other, south)
    await hub.folding.fold()
    assert hub.shares() == {"acme.c01.u1": 3, "acme.c02.u1": 7}


# Who has more waiting than a round takes


async def backlog(hub: Hub, records: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """North has so many records here, each of which is a window, and south one: whose are booked, as they
    come."""
    monkeypatch.setattr(taker, "BATCHES_MAX", 1)
    north, south = hub.site(NORTH), hub.site(SOUTH)
    for name, site, count in ((NORTH, north, records), (SOUTH, south, 1)):
        granted = await hub.begin(name, site)
        for _ in range(count):
            site.share(f"acme.{name}.u1")
        await hub.send(name, granted, site)
    booked: list[str] = []

    def note(writer: Writer, tallies: Sequence[tuple[int, bytes]]) -> None:
        assert isinstance(writer, RemoteEdge)
        booked.extend(writer.edge.name for _ in tallies)

    hub.folding.on_booked = note
    return booked


@pytest.mark.sqlite_suffices
async def test_who_has_much_waiting_has_a_step_in_his_turn(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """One edge's 4 GiB would take hours; the other's minute was booked behind all of it."""
    booked = await backlog(hub, 30, monkeypatch)
    assert await hub.folding.fold()
    assert (booked.index(SOUTH), len(booked)) == (1, 31)


@pytest.mark.sqlite_suffices
async def test_a_round_ends_and_what_is_left_is_waited_for_so_long_and_no_longer(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backlog(hub, 4, monkeypatch)
    hub.clock.now_s += 3 * 3600
    assert not await hub.folding.fold(within_s=0)
    assert not await hub.folding.fold(within_s=0)
    assert hub.shares() == {"acme.north.u1": 1, "acme.south.u1": 1}, "an opening, and a share of each"
    with hub.store.read() as connection:
        assert {it.moment_s for it in positions(connection)} == {0}
    monkeypatch.setattr(folding, "WAITS_S", 0.0)
    assert not await hub.folding.fold(within_s=0)
    with hub.store.read() as connection:
        (moment_s,) = {it.moment_s for it in positions(connection)}
    assert moment_s == hub.clock.now_s - AWAY_S
    assert await hub.folding.fold()
    with hub.store.read() as connection:
        minutes = connection.execute(select(tally_minutes.c.minute, tally_minutes.c.shares)).all()
    late = sum(shares for minute, shares in minutes if minute * 60 + 60 > moment_s)
    assert (late, sum(it.shares for it in minutes)) == (2, 5), "nothing is dated before what was said"


@pytest.mark.sqlite_suffices
async def test_what_waits_is_dated_no_earlier_than_what_the_books_have_said_meanwhile(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read, and not taken, when they said that nothing comes of before that moment."""
    site = hub.site(NORTH)
    granted = await hub.begin(NORTH, site)
    site.share("acme.c01.u1", 3)
    await hub.send(NORTH, granted, site)

    def waits(*given: object) -> None:
        raise NotYet("our nodes have not said so")

    with monkeypatch.context() as patch:
        patch.setattr(limits.EdgeLimits, "look", waits)
        for _ in range(2):
            await hub.folding.fold()
            hub.clock.now_s += 7_200
    with hub.store.read() as connection:
        moment_s = position_of(connection, site.writer).moment_s
    await hub.folding.fold()
    with hub.store.read() as connection:
        assert connection.scalar(select(tally_minutes.c.minute)) == moment_s // 60 > NOW_S // 60
    assert hub.shares() == {"acme.c01.u1": 3}


@pytest.mark.sqlite_suffices
async def test_whoever_stops_takes_what_he_can_in_some_seconds_and_the_next_start_the_rest(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "STOP_ROUND_S", 0.0)
    monkeypatch.setattr(taker, "ROWS_MAX", 1)
    booked = await backlog(hub, 30, monkeypatch)
    await hub.folding.fold(within_s=0)  # the openings of the files
    await hub.folding.stop()
    assert booked == [], "not even what was begun"
    await hub.start()
    assert await hub.folding.fold()
    assert hub.shares() == {"acme.north.u1": 30, "acme.south.u1": 1}
