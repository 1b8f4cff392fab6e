"""A block that an edge told is booked, also where its hub was killed before and nobody tells it again."""

from pathlib import Path

import pytest
import trio
import trio.testing
from sqlalchemy import Connection

from payouts import income
from payouts.income import Block
from pool.books.found_blocks import BlockNote, packed_note, unbooked
from pool.books.store import Store, StoreError
from pool.chain.block_files import noted
from pool.hub import HubAway
from pool.journal.records import Machine
from pool.sites import left_blocks
from pool.sites.left_blocks import LEFT_S, LOOK_S, LeftBlocks
from tests.fixtures.no_threads import at_once
from tests.histories.power import NOW_S, add_container

pytestmark = [pytest.mark.sqlite_suffices]

OF_A_MACHINE, OF_NOBODY = "aa" * 32, "cc" * 32


def found_by(unit: str) -> BlockNote:
    finder = Machine(
        number=1, tenant_id=1, tenant="acme", container_id=1, container="c01", unit=unit, agent=None
    )
    return BlockNote(0, finder)


class LeftAtAHub:
    """Files of blocks; when which were to be booked."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store, self.directory = store, directory
        self.asked: list[tuple[float, frozenset[str]]] = []
        self.refuses: Exception | None = None
        directory.mkdir()
        self.left = LeftBlocks(store, directory, self.book)

    def write(self, block: str, note: BlockNote | None, suffix: str = "accepted") -> None:
        content = noted(bytes(100), b"" if note is None else packed_note(note))
        (self.directory / f"7-{block}.{suffix}").write_bytes(content)

    async def book(self, blocks: frozenset[str]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.asked.append((trio.current_time(), blocks))
        with self.store.write() as connection:
            for it in blocks:
                block = Block(hash=it, height=7, income_sat=1, worker_id=None, found_at_s=NOW_S)
                assert income.record_block(connection, block, NOW_S)


@pytest.fixture
def hub(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LeftAtAHub:
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    with store.write() as connection:
        add_container(connection, "acme.c01", 1, now_s=NOW_S)
    return LeftAtAHub(store, tmp_path / "blocks")


async def test_a_block_that_nobody_tells_again_is_booked_once(
    hub: LeftAtAHub, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub.write(OF_A_MACHINE, found_by("u1"))
    hub.write(OF_NOBODY, None)
    hub.write("dd" * 32, None, "refused")
    nursery.start_soon(hub.left.run)
    await trio.sleep(LEFT_S)
    assert hub.asked == [], "its edge tells it again"
    await trio.sleep(86_400)
    assert hub.asked == [(LOOK_S + LEFT_S, frozenset((OF_A_MACHINE, OF_NOBODY)))]


async def test_the_books_are_asked_once_whether_they_have_a_block(
    hub: LeftAtAHub,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files stay, and looks are every ten seconds."""
    asked: list[frozenset[str]] = []

    def noted_down(connection: Connection, hashes: frozenset[str]) -> frozenset[str]:
        asked.append(hashes)
        return unbooked(connection, hashes)

    monkeypatch.setattr(left_blocks, "unbooked", noted_down)
    hub.write(OF_NOBODY, None)
    await hub.book(frozenset((OF_NOBODY,)))
    nursery.start_soon(hub.left.run)
    await trio.sleep(5 * LOOK_S)
    assert asked == [frozenset((OF_NOBODY,))]
    hub.write(OF_A_MACHINE, found_by("u1"))
    await trio.sleep(2 * LEFT_S)
    assert set(asked[1:]) == {frozenset((OF_A_MACHINE,))}
    assert len(asked) == 1 + LEFT_S / LOOK_S + 2, "until it is booked, and known to be"


@pytest.mark.parametrize("why", [HubAway("the books do not answer"), StoreError("a number is another's")])
async def test_books_that_do_not_take_it_are_asked_again(
    hub: LeftAtAHub, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, why: Exception
) -> None:
    """Nothing of that ends the hub, and all sites with it."""
    hub.write(OF_NOBODY, None)
    hub.refuses = why
    nursery.start_soon(hub.left.run)
    await trio.sleep(3 * LEFT_S)
    hub.refuses = None
    await trio.sleep(2 * LOOK_S)
    assert [blocks for _, blocks in hub.asked] == [frozenset((OF_NOBODY,))]
