"""What the best chain makes of our blocks: whose word counts, what is booked, and what is only an alarm."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
from sqlalchemy import Connection, insert, select

from payouts import income
from payouts.audit.verify import audit
from payouts.income import Block, Status, newest_events
from payouts.ledger import PoolAccount, balance_sat
from payouts.schemas.money import block_events, blocks
from pool.books import block_watch
from pool.books.block_watch import LOOK_S, MATURITY, BlockWatch
from pool.books.store import Store
from pool.chain.node_set import NodeSet
from pool.chain.rpc import NodeError, NodeUnreachable
from tests.fakes.bitcoinds import FakeBitcoind, refuses_connections
from tests.fixtures.databases import store_in

Clock = trio.testing.MockClock
SUBSIDY_SAT = 50 * 10**8
NOW_S = 1_700_000_000


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Store]:
    """On SQLite, for what does not differ between databases."""
    with closing(store_in(tmp_path)) as store:
        yield store


class WatchedBooks:
    """A watch on books and nodes."""

    def __init__(self, store: Store, nodes: NodeSet) -> None:
        self.store = store
        self.nodes = nodes
        self.watch = BlockWatch(store, nodes, wall_clock=lambda: NOW_S)

    def found(self, block_hash: str, height: int) -> None:
        block = Block(
            hash=block_hash, height=height, income_sat=SUBSIDY_SAT, worker_id=None, found_at_s=NOW_S
        )
        with self.store.write() as connection:
            income.record_block(connection, block, NOW_S)

    def books(self) -> tuple[dict[str, str], int, int]:
        """Status by hash, pending and matured income; the audit agrees."""
        with self.store.read() as connection:
            assert audit(connection).wrong is None
            newest = newest_events()
            rows = connection.execute(select(newest.c.block_hash, newest.c.status))
            statuses = {row.block_hash: row.status for row in rows}
            pending = balance_sat(connection, PoolAccount.BLOCK_INCOME_PENDING.value)
            return statuses, pending, balance_sat(connection, PoolAccount.BLOCK_INCOME_MATURED.value)

    def status(self, block_hash: str) -> str:
        return self.books()[0][block_hash]


@asynccontextmanager
async def watched(store: Store, *fakes: FakeBitcoind) -> AsyncIterator[WatchedBooks]:
    transports = {fake.name: fake for fake in fakes}
    nodes = NodeSet(
        [fake.config for fake in fakes], chain="regtest", transport=lambda config: transports[config.name]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(nodes.run)
        await nodes.chosen()
        await trio.sleep(0.5)  # all have answered
        yield WatchedBooks(store, nodes)
        nursery.cancel_scope.cancel()


def events(logs: list[Any]) -> list[str]:
    return [entry["event"] for entry in logs]


async def test_of_siblings_on_one_parent_the_one_in_the_chain_is_income_and_no_other(
    books: Store, autojump_clock: Clock
) -> None:
    fake = FakeBitcoind(height=100)
    async with watched(books, fake) as it:
        siblings = [fake.best, *(f"{number:064x}" for number in range(1, 40))]
        for sibling in siblings:  # whatever the node said when it got them
            it.found(sibling, 100)
        assert it.books()[1:] == (0, 0), "nothing before the chain has it"
        await it.watch.check(recent=True)
        statuses, pending, matured = it.books()
        assert (pending, matured) == (SUBSIDY_SAT, 0)
        assert [block for block, status in statuses.items() if status == "pending"] == [fake.best]
        assert list(statuses.values()).count("orphaned") == 39


async def test_a_block_above_the_tip_is_neither_income_nor_orphaned(
    books: Store, autojump_clock: Clock
) -> None:
    fake = FakeBitcoind(height=100)
    async with watched(books, fake) as it:
        ours = fake.best
        it.found(ours, 100)
        fake.move_to(99)
        await it.watch.check()
        assert it.status(ours) == "found"
        fake.move_to(100)
        await it.watch.check()
        assert it.status(ours) == "pending"


async def test_thousands_of_siblings_booked_as_pending_by_an_older_version_are_corrected_at_the_first_look(
    store: Store, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One height can hold more of them than a page, and the books of before began every block as pending."""
    monkeypatch.setattr(block_watch, "HEIGHTS_PAGE", 3)
    monkeypatch.setattr(block_watch, "MARKS_MAX", 7)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    fake, chance = FakeBitcoind(height=330), random.Random(seed)
    heights = [3, 4, *range(325, 331)]
    async with watched(store, fake) as it:
        with store.write() as connection:
            for height in heights:
                siblings = (chance.randbytes(32).hex() for _ in range(height % 5 * 3))
                for block_hash in (fake.chain[height], *siblings):
                    booked_before(connection, block_hash, height)
            many = balance_sat(connection, PoolAccount.BLOCK_INCOME_PENDING.value) // SUBSIDY_SAT
        assert many > 5 * len(heights)
        with structlog.testing.capture_logs() as logs:
            await it.watch.check()
        _, pending, matured = it.books()
        assert (pending, matured) == ((len(heights) - 2) * SUBSIDY_SAT, 2 * SUBSIDY_SAT)
        assert events(logs).count("block_status") <= block_watch.LINES_MAX
        assert sum(entry.get("blocks", 1) for entry in logs) == many - len(heights) + 2
        asked = [params[0] for method, params in fake.calls if method == "getblockhash" and params[0]]
        assert len(asked) <= 2 * len(heights), "a question a height, not a block"


def booked_before(connection: Connection, block_hash: str, height: int) -> None:
    """A block as the books of before have it: pending when a node had said anything but a refusal."""
    block = Block(hash=block_hash, height=height, income_sat=SUBSIDY_SAT, worker_id=None, found_at_s=NOW_S)
    connection.execute(insert(blocks).values(**msgspec.structs.asdict(block)))
    income._append(connection, block_hash, SUBSIDY_SAT, None, Status.PENDING, 0, NOW_S)


async def matured_at(it: WatchedBooks, fake: FakeBitcoind, height: int) -> str:
    """A block of ours at a height, matured in the books by a chain that is high enough."""
    block_hash = fake.chain[height]
    it.found(block_hash, height)
    for _ in range(2):
        await it.watch.check()
    assert it.status(block_hash) == "matured"
    return block_hash


@pytest.mark.parametrize("behind", [1, 100, 200])
async def test_failover_to_a_node_that_lags_books_nothing_wrong(
    behind: int, books: Store, autojump_clock: Clock
) -> None:
    first, second = FakeBitcoind("first", height=300), FakeBitcoind("second", height=300)
    async with watched(books, first, second) as it:
        old = await matured_at(it, first, 200)
        young = first.chain[300]
        it.found(young, 300)
        await it.watch.check()
        before = it.books()
        assert before == ({old: "matured", young: "pending"}, SUBSIDY_SAT, SUBSIDY_SAT)
        first.fault = refuses_connections
        with pytest.raises(NodeError, match="cannot connect"):
            await it.watch.check()
        it.nodes.mark_down(it.nodes.nodes[0], NodeUnreachable("cannot connect"))
        for height in (300 - behind, 300):
            second.move_to(height)
            for _ in range(3):
                await it.watch.check()
            assert it.books() == before
        second.move_to(400)
        await it.watch.check()
        assert it.books() == ({old: "matured", young: "matured"}, 0, 2 * SUBSIDY_SAT)


async def test_a_pool_that_starts_on_a_node_that_lags_says_so_once_and_lives(
    books: Store, autojump_clock: Clock
) -> None:
    fake = FakeBitcoind(height=300)
    async with watched(books, fake) as it:
        block = await matured_at(it, fake, 200)
    lagging = FakeBitcoind(height=280)
    with structlog.testing.capture_logs() as logs:
        async with watched(books, lagging) as it, trio.open_nursery() as nursery:
            nursery.start_soon(it.watch.run)
            await trio.sleep(100)
            assert it.status(block) == "matured"
            lagging.move_to(300)
            await trio.sleep(100)
            nursery.cancel_scope.cancel()
    told = [entry for entry in logs if entry["event"].startswith("node_behind_books")]
    assert [(it["event"], it["log_level"]) for it in told] == [
        ("node_behind_books", "error"),
        ("node_behind_books_over", "info"),
    ]
    assert (told[0]["height"], told[0]["books"]) == (280, 300)


async def test_what_is_hard_to_take_back_needs_every_node_that_is_up(
    books: Store, autojump_clock: Clock
) -> None:
    """A node under somebody's control neither matures a block of ours nor takes a matured one away."""
    first, second = FakeBitcoind("first", height=300), FakeBitcoind("second", height=300)
    async with watched(books, first, second) as it:
        old = await matured_at(it, first, 200)
        lie = FakeBitcoind(height=300)
        lie.move_to(300, "lie", since=150)
        second.chain = lie.chain
        new = first.chain[199]
        it.found(new, 199)
        with structlog.testing.capture_logs() as logs:
            for _ in range(5):
                await it.watch.check()
        assert it.status(new) == "pending", "in the chain of the node that we mine on, and no more than that"
        assert events(logs) == ["block_status", "nodes_dispute_blocks"]
        honest, first.chain, second.chain = first.chain, lie.chain, first.chain
        for _ in range(5):
            await it.watch.check()
        assert it.status(old) == "matured"
        assert it.status(new) == "orphaned"  # which costs a report's line, and comes back
        first.chain = honest
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                await it.watch.check()
        assert it.books() == ({old: "matured", new: "matured"}, 0, 2 * SUBSIDY_SAT)
        assert "nodes_dispute_blocks_over" in events(logs)


async def test_a_node_that_invents_a_height_matures_nothing_while_another_answers(
    books: Store, autojump_clock: Clock
) -> None:
    first, second = FakeBitcoind("first", height=300), FakeBitcoind("second", height=300)
    async with watched(books, first, second) as it:
        block = first.chain[290]
        it.found(block, 290)
        first.move_to(300 + MATURITY)
        for _ in range(5):
            await it.watch.check()
        assert it.status(block) == "pending"
        second.move_to(300 + MATURITY)
        await it.watch.check()
        assert it.status(block) == "matured"


@pytest.mark.parametrize("depth", [1, 6])
async def test_a_reorganisation_reverses_our_block_once_and_brings_it_back_once(
    depth: int, books: Store, autojump_clock: Clock
) -> None:
    fake = FakeBitcoind(height=300)
    async with watched(books, fake) as it:
        ours = fake.chain[301 - depth]
        it.found(ours, 301 - depth)
        await it.watch.check()
        assert it.books()[1:] == (SUBSIDY_SAT, 0)
        for _ in range(2):
            fake.move_to(301, "theirs", since=301 - depth)
            for _ in range(2):
                await it.watch.check()
            assert it.books() == ({ours: "orphaned"}, 0, 0)
            fake.move_to(302)
            for _ in range(2):
                await it.watch.check()
            assert it.books() == ({ours: "pending"}, SUBSIDY_SAT, 0)
        with books.read() as connection:
            assert len(connection.scalars(select(block_events.c.position)).all()) == 6


async def test_a_found_block_is_looked_at_at_once(books: Store, autojump_clock: Clock) -> None:
    fake = FakeBitcoind(height=100)
    async with watched(books, fake) as it, trio.open_nursery() as nursery:
        nursery.start_soon(it.watch.run)
        await trio.sleep(1)
        it.found(fake.best, 100)
        it.watch.check_soon()
        while it.status(fake.best) != "pending":  # noqa: ASYNC110 - the books have no event
            await trio.sleep(0.1)
        assert trio.current_time() < LOOK_S
        nursery.cancel_scope.cancel()
