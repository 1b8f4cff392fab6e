"""A block that an edge told is booked, also where its hub was killed before and nobody tells it again."""

from pathlib import Path

import pytest
import trio
import trio.testing

from payouts import income
from payouts.income import Block
from pool.books.found_blocks import BlockNote, packed_note
from pool.books.store import Store
from pool.chain.blocks import noted
from pool.hub import HubAway
from pool.journal.records import Machine
from pool.sites.left_blocks import LEFT_S, LOOK_S, UNKNOWN_S, LeftBlocks
from tests.fixtures.no_threads import at_once
from tests.histories.power import NOW_S, add_container

pytestmark = [pytest.mark.sqlite_suffices]

OF_A_MACHINE, OF_A_STRANGER, OF_NOBODY = "aa" * 32, "bb" * 32, "cc" * 32


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
        self.away = False
        directory.mkdir()
        self.left = LeftBlocks(store, directory, self.book)

    def write(self, block: str, note: BlockNote | None, suffix: str = "accepted") -> None:
        content = noted(bytes(100), b"" if note is None else packed_note(note))
        (self.directory / f"7-{block}.{suffix}").write_bytes(content)

    async def book(self, blocks: frozenset[str]) -> None:
        if self.away:
            raise HubAway("the books do not answer")
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
    await trio.sleep(LOOK_S + 1 + UNKNOWN_S)
    assert hub.asked == [(LOOK_S + LEFT_S, frozenset((OF_A_MACHINE, OF_NOBODY)))]


async def test_one_whose_finder_is_in_a_journal_that_is_on_its_way_waits_for_that(
    hub: LeftAtAHub, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A block of a group is divided by who found it."""
    hub.write(OF_A_STRANGER, found_by("u2"))
    nursery.start_soon(hub.left.run)
    await trio.sleep(UNKNOWN_S / 2)
    assert hub.asked == []
    hub.write(OF_A_STRANGER, found_by("u1"))  # who is known
    await trio.sleep(2 * LOOK_S)
    assert [blocks for _, blocks in hub.asked] == [frozenset((OF_A_STRANGER,))]


async def test_one_whose_finder_nobody_ever_names_is_the_pools(
    hub: LeftAtAHub, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub.write(OF_A_STRANGER, found_by("u2"))
    nursery.start_soon(hub.left.run)
    await trio.sleep(UNKNOWN_S + 2 * LOOK_S)
    assert [blocks for _, blocks in hub.asked] == [frozenset((OF_A_STRANGER,))]


async def test_books_that_are_away_are_asked_again(
    hub: LeftAtAHub, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hub.write(OF_NOBODY, None)
    hub.away = True
    nursery.start_soon(hub.left.run)
    await trio.sleep(3 * LEFT_S)
    hub.away = False
    await trio.sleep(2 * LOOK_S)
    assert [blocks for _, blocks in hub.asked] == [frozenset((OF_NOBODY,))]
