"""The way of a block through a whole submission: nodes, disk, books and log, with a miner that finds many."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
from sqlalchemy import func, select

import pool.block_submission
from payouts.audit.verify import audit
from payouts.schemas.money import block_events, blocks, sibling_blocks
from payouts.siblings import siblings_between
from pool.block_submission import BLOCK_SUBMITTERS, BlockSubmission
from pool.books.bookkeeper import Bookkeeper, BookTimes
from pool.books.store import Store
from pool.chain.block_queue import SUBMITTED_MAX
from pool.chain.blocks import BlockResult, BlockSubmitter
from pool.chain.node_set import NodeSet
from pool.chain.nodes import Node
from pool.chain.templates import parse_template
from pool.keeping import Keeping
from stratum.job import Solution
from tests.fakes.bitcoinds import FakeBitcoind, refuses_connections, template_result
from tests.fixtures.databases import store_in
from tests.histories.solving import PAYOUT, hash_hex, solve, work_on
from tests.stages.two_pools import settings
from tests.stages.waiting import PATIENCE_S

Clock = trio.testing.MockClock
FINDER = "acme.c01.u1"


class Line:
    """A running submission."""

    def __init__(self, store: Store, directory: Path, fakes: tuple[FakeBitcoind, ...]) -> None:
        transports = {fake.name: fake for fake in fakes}
        nodes = NodeSet(
            [fake.config for fake in fakes], chain="regtest", transport=lambda it: transports[it.name]
        )
        books = Bookkeeper(store, nodes, times=BookTimes())
        self.store = store
        self.results: list[BlockResult] = []
        self._told = trio.Event()
        self.submission = BlockSubmission(
            BlockSubmitter(nodes.nodes, directory, tip_height=lambda: 100),
            Keeping(settings(directory, fakes[0].config, payout_script=PAYOUT), store, books, lambda it: it),
            finder=lambda number: FINDER,
            found_by=lambda number: None,
            on_block=self._note,
        )

    def _note(self, result: BlockResult) -> None:
        self.results.append(result)
        self._told.set()

    async def until_told(self, count: int) -> None:
        while len(self.results) < count:
            self._told = trio.Event()
            await self._told.wait()


@asynccontextmanager
async def line(directory: Path, *fakes: FakeBitcoind) -> AsyncIterator[Line]:
    with closing(store_in(directory)) as store:
        it = Line(store, directory, fakes)
        async with trio.open_nursery() as nursery:
            await nursery.start(it.submission.run)
            yield it
            nursery.cancel_scope.cancel()
        with store.read() as connection:
            assert audit(connection).wrong is None


def siblings(count: int, **template_changes: object) -> list[Solution]:
    """Different blocks on one parent, of a finder who is not known."""
    template = parse_template(template_result(**template_changes))
    solved = [solve(work_on(template, salt=f"{number:08}".encode())) for number in range(count)]
    return [msgspec.structs.replace(solution, worker=0) for solution in solved]


async def test_a_miner_that_finds_blocks_at_will_costs_one_submission_a_parent_and_a_few_lines(
    tmp_path: Path,
) -> None:
    fake = FakeBitcoind()
    first, *others = siblings(300)
    with structlog.testing.capture_logs() as logs:
        async with line(tmp_path, fake) as it:
            it.submission.on_solution(first)
            await it.until_told(1)
            for other in others:
                it.submission.on_solution(other)
            (newest,) = siblings(1, height=102, previousblockhash=hash_hex(first))
            it.submission.on_solution(newest)
            await it.until_told(2)
        with closing(store_in(tmp_path)) as store, store.read() as connection:
            assert set(connection.scalars(select(blocks.c.hash))) == {hash_hex(first), hash_hex(newest)}
            assert connection.scalar(select(func.sum(sibling_blocks.c.blocks))) == 299
            assert siblings_between(connection, 0, 1 << 40) == 299
    assert fake.methods().count("submitblock") == 2
    assert len(logs) < 20
    (told,) = [entry for entry in logs if entry["event"] == "siblings_not_submitted"]
    assert (told["blocks"], told["parents"], told["height"]) == (299, 1, 101)
    assert len(list((tmp_path / "blocks").iterdir())) == 2


async def test_blocks_that_no_node_calls_its_own_are_found_and_not_income(tmp_path: Path) -> None:
    fake = FakeBitcoind()
    fake.verdicts = ["inconclusive"] * 10
    async with line(tmp_path, fake) as it:
        for solution in siblings(10):
            it.submission.on_solution(solution)
        await it.until_told(SUBMITTED_MAX)
        with it.store.read() as connection:
            statuses = connection.scalars(select(block_events.c.status)).all()
            assert statuses == ["found"] * SUBMITTED_MAX
            assert audit(connection).head.seq == 0, "nothing was booked"
    assert fake.methods().count("submitblock") == SUBMITTED_MAX


async def test_a_node_is_never_asked_to_leave_one_block_of_ours_for_another(tmp_path: Path) -> None:
    """Bitcoind prefers the last that it is told: our second turned it off our first, which others had."""
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    first.verdicts, second.verdicts = [None, "inconclusive"], ["high-hash", "inconclusive"]
    one, other = siblings(2)
    async with line(tmp_path, first, second) as it:
        it.submission.on_solution(one)
        it.submission.on_solution(other)
        await it.until_told(2)
    for fake in (first, second):
        assert fake.methods().count("submitblock") == 2
        preferred = [params for method, params in fake.calls if method == "preciousblock"]
        assert preferred in ([], [[hash_hex(one)]])
    assert "preciousblock" in first.methods()


async def test_a_block_against_a_strangers_is_still_preferred(tmp_path: Path) -> None:
    fake = FakeBitcoind()
    fake.verdicts = ["inconclusive"]
    (solution,) = siblings(1)
    async with line(tmp_path, fake) as it:
        it.submission.on_solution(solution)
        await it.until_told(1)
    assert ("preciousblock", [hash_hex(solution)]) in fake.calls


async def test_no_block_waits_for_the_database_on_its_way_to_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many were found while it was away; they are booked when it is back."""
    fake, back, record = FakeBitcoind(), trio.Event(), Bookkeeper.record_block

    async def waits(*args: Any, **options: Any) -> None:
        await back.wait()
        await record(*args, **options)

    monkeypatch.setattr(Bookkeeper, "record_block", waits)
    count = 3 * BLOCK_SUBMITTERS
    found = [
        siblings(1, height=height, previousblockhash=f"{height:064x}")[0] for height in range(1, count + 1)
    ]
    async with line(tmp_path, fake) as it:
        for solution in found:
            it.submission.on_solution(solution)
        with trio.fail_after(PATIENCE_S):
            while fake.methods().count("preciousblock") < count:  # noqa: ASYNC110 - it follows a submission
                await trio.sleep(0.01)
        assert it.results == []
        back.set()
        await it.until_told(count)
        with it.store.read() as connection:
            assert connection.scalar(select(func.count()).select_from(blocks)) == count


def left(logs: list[Any]) -> int:
    return [entry["event"] for entry in logs].count("block_booked_at_next_start")


async def test_blocks_that_wait_to_be_booked_are_bounded_and_the_next_start_books_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.block_submission, "BOOKINGS_MAX", 2)
    fake, record = FakeBitcoind(), Bookkeeper.record_block

    async def waits(*args: Any, **options: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Bookkeeper, "record_block", waits)
    found = [siblings(1, height=height, previousblockhash=f"{height:064x}")[0] for height in range(101, 106)]
    with structlog.testing.capture_logs() as logs, trio.fail_after(PATIENCE_S):
        async with line(tmp_path, fake) as it:
            for solution in found:
                it.submission.on_solution(solution)
            while left(logs) < len(found) - 3:  # noqa: ASYNC110 - one is being booked, two wait
                await trio.sleep(0.01)
    assert left(logs) == len(found) - 3
    monkeypatch.setattr(Bookkeeper, "record_block", record)
    async with line(tmp_path, fake) as it:
        while True:
            with it.store.read() as connection:
                if set(connection.scalars(select(blocks.c.hash))) == {hash_hex(it) for it in found}:
                    break
            await trio.sleep(0.01)


async def test_siblings_that_an_earlier_run_left_are_not_submitted_beside_the_accepted_one(
    tmp_path: Path,
) -> None:
    one, *others = siblings(20)
    fake = FakeBitcoind()
    fake.fault = refuses_connections
    submitter = BlockSubmitter([Node(fake.config, transport=fake)], tmp_path, tip_height=lambda: 100)
    for solution in (one, *others):
        with trio.CancelScope() as stop:
            stop.cancel()
            await submitter.submit(solution)
    assert len(list((tmp_path / "blocks").glob("*.blk"))) == 20
    fake.fault = None
    with structlog.testing.capture_logs() as logs:
        async with line(tmp_path, fake):
            while list((tmp_path / "blocks").glob("*.blk")):  # noqa: ASYNC110 - files have no event
                await trio.sleep(0.01)
    assert fake.methods().count("submitblock") == 1
    assert len(list((tmp_path / "blocks").glob("*.sibling"))) == 19
    assert len(logs) < 10


async def test_a_stop_leaves_what_waits_on_disk_and_the_counts_in_the_books(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.block_submission, "BLOCK_SUBMITTERS", 1)
    fake = FakeBitcoind()
    fake.fault = refuses_connections
    async with line(tmp_path, fake) as it:
        for height in (101, 102):
            for solution in siblings(5, height=height, previousblockhash=f"{height:064x}"):
                it.submission.on_solution(solution)
    kept = [path.name.partition("-")[0] for path in (tmp_path / "blocks").glob("*.blk")]
    assert sorted(kept) == ["101"] * SUBMITTED_MAX + ["102"] * SUBMITTED_MAX
    with closing(store_in(tmp_path)) as store, store.read() as connection:
        assert connection.scalar(select(func.sum(sibling_blocks.c.blocks))) == 10 - 2 * SUBMITTED_MAX
