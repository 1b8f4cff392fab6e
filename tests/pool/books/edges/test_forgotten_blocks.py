"""Blocks of an upstream's work that all edges have forgotten: their hashes go when the books have every share
that was credited on them, and not before, however late a journal comes. Otherwise what miners were told is
accepted would be refused."""

import errno
from pathlib import Path

import pytest
from sqlalchemy import select

from pool.books.edges.leases import Granted
from pool.books.edges.rows import reset_edge
from pool.books.journal import folding
from pool.books.journal.schema import upstream_tips
from pool.books.store import Store
from pool.journal.beginning import Forgotten
from pool.journal.inbox import InboxUnusable
from tests.stages.hub import Hub
from tests.stages.journal import NOW_S
from tests.stages.site_journal import SiteJournal

NORTH, SOUTH = "north", "south"
BLOCK = bytes(range(32))
MANY_FOLDS = 5


class TwoEdges:
    """Both mine for the same upstream, and say how far they are as soon as they are asked."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.sites: dict[str, SiteJournal] = {}
        self._granted: dict[str, Granted] = {}

    async def begin(self) -> None:
        for name in (NORTH, SOUTH):
            self.sites[name] = self.hub.site(name)
            await self.begin_one(name)

    async def begin_one(self, name: str) -> None:
        self._granted[name] = await self.hub.begin(name, self.sites[name])

    def share(self, name: str, block: bytes = BLOCK) -> None:
        self.sites[name].share(f"acme.{name}.u1", on_block=block)

    def forget(self, *names: str, blocks: tuple[bytes, ...] = (BLOCK,)) -> None:
        for name in names:
            ends = Forgotten(number=self.sites[name].log.at.number, prevhashes=blocks)
            self.hub.line.forgotten_by[name] = ends

    async def publish(self, name: str) -> None:
        await self.hub.send(name, self._granted[name], self.sites[name])

    async def fold(self, times: int = MANY_FOLDS) -> None:
        for _ in range(times):
            await self.hub.folding.fold()
            await self.hub.folding.forget_credits()

    def known(self) -> list[int]:
        """Of each block that there was, whether its hashes are known."""
        with self.hub.store.read() as connection:
            return [not it for it in connection.scalars(select(upstream_tips.c.forgotten))]


@pytest.fixture
async def edges(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoEdges:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    hub = Hub(store, tmp_path, NORTH, SOUTH)
    await hub.start()
    made = TwoEdges(hub)
    await made.begin()
    return made


async def test_shares_of_a_journal_that_comes_late_are_booked_on_a_block_that_its_edge_has_left(
    edges: TwoEdges,
) -> None:
    """What it publishes is lost for minutes, and its answers are not."""
    edges.share(NORTH)
    await edges.publish(NORTH)
    edges.share(SOUTH)
    edges.forget(NORTH, SOUTH)
    await edges.fold()
    await edges.publish(SOUTH)
    await edges.fold()
    assert edges.hub.shares() == {"acme.north.u1": 1, "acme.south.u1": 1}


async def test_what_was_under_way_to_the_disk_as_an_edge_answered_is_booked_too(edges: TwoEdges) -> None:
    edges.share(NORTH)
    await edges.publish(NORTH)
    await edges.publish(SOUTH)
    edges.forget(NORTH, SOUTH)
    await edges.fold(times=1)
    edges.share(SOUTH)
    edges.forget(SOUTH)
    await edges.fold()
    await edges.publish(SOUTH)
    await edges.fold()
    assert edges.hub.shares() == {"acme.north.u1": 1, "acme.south.u1": 1}


async def test_a_block_is_forgotten_when_the_books_have_all_that_was_credited_on_it(edges: TwoEdges) -> None:
    for name in (NORTH, SOUTH):
        edges.share(name)
        await edges.publish(name)
    edges.forget(NORTH)
    await edges.fold()
    assert edges.known() == [True]
    for _ in range(MANY_FOLDS):  # it goes on meanwhile, always a share ahead of the books
        await edges.publish(SOUTH)
        edges.sites[SOUTH].share("acme.south.u1")
        edges.forget(SOUTH)
        await edges.fold(times=1)
    assert edges.known() == [False]


async def test_shares_are_booked_of_an_edge_whose_copy_could_not_be_opened_meanwhile(edges: TwoEdges) -> None:
    hub = edges.hub
    edges.share(SOUTH)
    await edges.publish(SOUTH)
    edges.share(NORTH)
    copy, away = hub.home / "inbox" / NORTH, hub.home / "away"
    copy.rename(away)
    copy.write_bytes(b"no directory")
    await hub.start()
    with pytest.raises(InboxUnusable):
        await edges.begin_one(NORTH)
    await edges.begin_one(SOUTH)
    edges.forget(NORTH, SOUTH)
    await edges.fold()
    copy.unlink()
    away.rename(copy)
    await edges.begin_one(NORTH)
    await edges.publish(NORTH)
    await edges.fold()
    assert hub.shares() == {"acme.north.u1": 1, "acme.south.u1": 1}
    assert edges.known() == [False]


async def test_shares_are_booked_of_a_journal_that_is_over_and_could_not_be_opened_meanwhile(
    edges: TwoEdges,
) -> None:
    """The block was forgotten at two folds, and the share was refused as too late when the disk was there
    again. It is tried again at the next command."""
    hub = edges.hub
    edges.share(SOUTH)
    await edges.publish(SOUTH)
    edges.share(NORTH)
    await edges.publish(NORTH)
    with hub.store.write() as connection:
        reset_edge(connection, NORTH, NOW_S)
    copy, away = hub.home / "inbox" / NORTH / edges.sites[NORTH].writer, hub.home / "away"
    copy.rename(away)
    copy.mkdir()
    (copy / f"{1:020}.log").mkdir()
    await hub.start()
    await edges.begin_one(SOUTH)
    edges.forget(NORTH, SOUTH)
    await edges.fold()
    assert edges.known() == [True]
    (copy / f"{1:020}.log").rmdir()
    copy.rmdir()
    away.rename(copy)
    await hub.edges.changed()
    await edges.fold()
    assert hub.shares() == {"acme.north.u1": 1, "acme.south.u1": 1}
    assert edges.known() == [False]


async def test_a_journal_that_is_over_on_a_disk_that_fails_ends_no_hub(
    edges: TwoEdges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start ended by it, and no edge was served: an error of the disk, or a directory that is root's."""
    hub = edges.hub
    edges.share(NORTH)
    await edges.publish(NORTH)
    with hub.store.write() as connection:
        reset_edge(connection, NORTH, NOW_S)
    copy, is_dir = hub.home / "inbox" / NORTH / edges.sites[NORTH].writer, Path.is_dir

    def fails(path: Path) -> bool:
        if path == copy:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_dir(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_dir", fails)
        await hub.start()
        await hub.edges.changed()
    await hub.edges.changed()
    await edges.fold()
    assert hub.shares() == {"acme.north.u1": 1}


async def test_blocks_of_a_day_in_which_an_edge_was_dark_go_some_at_a_time(
    edges: TwoEdges, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upstream gives ten a second, and all of them are kept for an edge that says nothing. No question,
    and no transaction, is of all of them."""
    monkeypatch.setattr(folding, "BLOCKS_ASKED_MAX", 3)
    monkeypatch.setattr(folding, "BLOCKS_FORGOTTEN_MAX", 2)
    blocks = tuple(bytes([number]) * 32 for number in range(1, 9))
    for block in blocks:
        edges.share(NORTH, block)
    await edges.publish(NORTH)
    await edges.publish(SOUTH)
    edges.forget(NORTH, blocks=blocks)
    await edges.fold()
    assert edges.known() == [True] * len(blocks)
    assert edges.hub.folding.kept_blocks == len(blocks)
    edges.forget(SOUTH, blocks=blocks)
    await edges.fold(times=1 + 2 * len(blocks) // 3 + MANY_FOLDS)
    assert edges.known() == [False] * len(blocks)
    assert edges.hub.folding.kept_blocks == 0
    assert edges.hub.line.asked[0] == blocks[:3]  # the oldest
    assert max(map(len, edges.hub.line.asked)) == 3


async def test_what_an_edge_says_of_blocks_that_it_is_not_asked_for_is_not_kept(edges: TwoEdges) -> None:
    """Or it would fill our memory, with 96 MiB of them an answer."""
    edges.forget(NORTH)
    (remote,) = (it for it in edges.hub.edges.open if it.edge.name == NORTH)
    assert await remote.forgotten([]) == []
    await edges.publish(NORTH)
    await edges.hub.folding.fold()
    assert await remote.forgotten([BLOCK]) == []  # its first word of it
    assert await remote.forgotten([BLOCK]) == [BLOCK]


async def test_a_journal_that_is_over_keeps_no_block(edges: TwoEdges) -> None:
    for name in (NORTH, SOUTH):
        edges.share(name)
        await edges.publish(name)
    edges.forget(NORTH)
    await edges.hub.change(lambda it: reset_edge(it, SOUTH, NOW_S))
    await edges.fold()
    assert edges.known() == [False]
