"""The way of a block through a whole submission: nodes, disk, books and log, with a miner that finds many."""

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import structlog
import trio
import trio.testing
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

import pool.block_submission
import pool.chain.block_files
import pool.chain.blocks
from payouts.audit.verify import audit
from payouts.rates import Scheme
from payouts.schemas.divisions import block_funds
from payouts.schemas.money import block_events, blocks, sibling_blocks, workers
from payouts.siblings import SiblingKey, siblings_between
from pool.block_submission import BLOCK_SUBMITTERS, BlockSubmission, owned_by
from pool.books.bookkeeper import Bookkeeper, BookTimes
from pool.books.journal.machine_rows import rows_of
from pool.books.store import Store
from pool.chain.block_queue import SUBMITTED_MAX
from pool.chain.blocks import BlockResult, BlockSubmitter
from pool.chain.node_set import NodeSet
from pool.chain.nodes import Node
from pool.chain.templates import parse_template
from pool.edge_process import patient
from pool.fleet.rows import TenantTerms, add_tenant, set_terms
from pool.hub import HubAway
from pool.journal.records import Machine
from pool.keeping import Keeping
from stratum.job import Solution
from tests.fakes.bitcoinds import FakeBitcoind, never_answers, refuses_connections, template_result
from tests.fixtures.databases import store_in
from tests.histories.solving import PAYOUT, hash_hex, solve, work_on
from tests.stages.journal import JournalOnStore, tally
from tests.stages.two_pools import settings
from tests.stages.waiting import PATIENCE_S, until

Clock = trio.testing.MockClock
FINDER = "acme.c01.u1"


class Line:
    """A running submission."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        fakes: tuple[FakeBitcoind, ...],
        *,
        finder: Machine | None = None,
        paid_by: Scheme | None = None,
        process: int = 1,
        of: int = 1,
    ) -> None:
        transports = {fake.name: fake for fake in fakes}
        nodes = NodeSet(
            [fake.config for fake in fakes], chain="regtest", transport=lambda it: transports[it.name]
        )
        books = Bookkeeper(store, nodes, times=BookTimes())
        self.store = store
        self.results: list[BlockResult] = []
        self._told = trio.Event()
        self.submission = BlockSubmission(
            BlockSubmitter(nodes.nodes, directory, tip_height=lambda: 100, mine=owned_by(process, of)),
            Keeping(settings(directory, fakes[0].config, payout_script=PAYOUT), store, books, lambda it: it),
            finder=lambda number: FINDER,
            found_by=lambda number: finder,
            paid_by=lambda rate, tenant: paid_by,
            on_block=self._note,
            process=process,
        )

    def _note(self, result: BlockResult) -> None:
        self.results.append(result)
        self._told.set()

    async def until_told(self, count: int) -> None:
        while len(self.results) < count:
            self._told = trio.Event()
            await self._told.wait()


@asynccontextmanager
async def line(directory: Path, *fakes: FakeBitcoind, **who: Any) -> AsyncIterator[Line]:
    with closing(store_in(directory)) as store:
        it = Line(store, directory, fakes, **who)
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


@pytest.mark.parametrize(
    "said",
    [
        sqlite3.OperationalError("database or disk is full"),
        psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"),
    ],
)
async def test_a_block_that_a_full_database_does_not_take_is_booked_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Exception
) -> None:
    """The block is the nodes' already, and miners notice nothing: the pool ended, and could not start. A
    PostgreSQL that somebody else keeps takes no writes before its disk is full, nor before it leads."""
    monkeypatch.setattr("pool.books.database_waits.AGAIN_S", 0.0)
    full = DBAPIError.instance("INSERT", None, said, Exception)
    tries: list[Exception | None] = [full, full, None]
    (solution,) = siblings(1)
    with structlog.testing.capture_logs() as logs:
        async with line(tmp_path, FakeBitcoind()) as it:
            write = it.store.write

            @contextmanager
            def writes() -> Iterator[Connection]:
                with write() as connection:
                    yield connection
                    if (error := tries.pop(0)) is not None:
                        raise error

            monkeypatch.setattr(it.store, "write", writes)
            it.submission.on_solution(solution)
            await it.until_told(1)
            with it.store.read() as connection:
                assert connection.scalars(select(blocks.c.hash)).all() == [hash_hex(solution)]
    waited = [entry["doing"] for entry in logs if entry["event"] == "books_not_kept"]
    assert waited == ["book a block"] * 2


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


async def test_a_node_that_does_not_answer_holds_up_no_block_on_another_parent(tmp_path: Path) -> None:
    fake = FakeBitcoind()
    fake.fault = never_answers
    async with line(tmp_path, fake) as it:
        for height in range(101, 105):
            it.submission.on_solution(*siblings(1, height=height, previousblockhash=f"{height:064x}"))
            await until(partial(lambda count: fake.methods().count("submitblock") == count, height - 100))
    assert len(files(tmp_path, ".blk")) == 4, "nobody has a word about any of them"


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


def files(directory: Path, suffix: str = "") -> list[Path]:
    return list((directory / "blocks").glob(f"*{suffix}"))


MACHINE = Machine(
    number=7, tenant_id=1, tenant="acme", container_id=1, container="c01", unit="u1", agent=None
)


async def test_a_share_that_is_a_block_is_not_acknowledged_before_the_block_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the share's commit and the block's file loses a block that nobody was told of."""
    begun, may, replied = trio.Event(), threading.Event(), trio.Event()
    write = pool.chain.block_files.write_durably

    def slowly(path: Path, content: Sequence[bytes], written: Callable[[], None]) -> None:
        trio.from_thread.run_sync(begun.set)
        may.wait()
        write(path, content, written)

    monkeypatch.setattr(pool.chain.blocks, "write_durably", slowly)
    monkeypatch.setattr(pool.chain.blocks, "DISK_TIMEOUT_S", float("inf"))
    monkeypatch.setattr(pool.block_submission, "STORED_S", float("inf"))
    async with line(tmp_path, FakeBitcoind()) as it:
        booked = JournalOnStore(it.store)
        booked.journal._blocks_stored = it.submission.stored
        it.submission.on_solution(siblings(1)[0])
        await begun.wait()

        async def commit() -> None:
            await booked.journal.commit(tally(booked.worker("acme.c01.u1"), booked.epoch))
            replied.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit)
            await until(lambda: len(booked.waiting()) == 1)
            assert not replied.is_set(), "it would be on no disk if we were killed now"
            assert not files(tmp_path)
            may.set()
        assert replied.is_set()
        assert len(files(tmp_path)) == 1
        await booked.journal.commit(tally(booked.worker("acme.c01.u1"), booked.epoch))
        await it.until_told(1)


async def test_siblings_hold_up_nobodys_answer(tmp_path: Path) -> None:
    """A miner that finds blocks at will has one that waits for others: nodes do not answer its first."""
    fake = FakeBitcoind()
    fake.fault = never_answers
    async with line(tmp_path, fake) as it:
        for solution in siblings(5):
            it.submission.on_solution(solution)
        await it.submission.stored()
        assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("met", [True, False])
async def test_a_block_whose_process_died_before_the_books_heard_of_it_has_its_finder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, met: bool
) -> None:
    """Also one that is in its first minute: the record that names it may not even be in the journal."""
    with closing(store_in(tmp_path)) as store, store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)
        add_tenant(connection, "acme", terms, by="test", now_s=0)
        if met:
            rows_of(connection, [MACHINE], 0)
    with monkeypatch.context() as away:

        async def never(*_: object) -> None:
            await trio.sleep_forever()

        away.setattr(Keeping, "record_block", never)
        async with line(tmp_path, FakeBitcoind(), finder=MACHINE) as it:
            it.submission.on_solution(siblings(1)[0])
            await until(lambda: bool(files(tmp_path, ".accepted")))

    def finders() -> list[str]:
        with it.store.read() as connection:
            query = select(workers.c.unit).join(blocks, blocks.c.worker_id == workers.c.id)
            return list(connection.scalars(query))

    async with line(tmp_path, FakeBitcoind()) as it:
        await until(lambda: finders() == ["u1"])


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(("said", "divided_by"), [(None, "pplns1"), (Scheme.PPS, None)])
async def test_a_block_is_of_the_scheme_that_the_shares_of_its_job_are_paid_by(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed: bool,
    said: Scheme | None,
    divided_by: str | None,
) -> None:
    """Its tenant carries its own luck since a day, and its job is of before. Also where the process died
    before the books heard of it, and of who found it; where nobody knew, its terms say."""
    (solution,) = siblings(1, curtime=int(time.time()))
    with closing(store_in(tmp_path)) as store, store.write() as connection:
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)
        add_tenant(connection, "acme", terms, by="test", now_s=0)
        terms = msgspec.structs.replace(terms, scheme=Scheme.PPLNS1)
        set_terms(connection, "acme", terms, by="test", now_s=solution.ntime - 86_400)
    with monkeypatch.context() as away:

        async def never(*_: object) -> None:
            await trio.sleep_forever()

        if killed:
            away.setattr(Keeping, "record_block", never)
        async with line(tmp_path, FakeBitcoind(), finder=MACHINE, paid_by=said) as it:
            it.submission.on_solution(solution)
            await until(lambda: bool(files(tmp_path, ".accepted")))
            if not killed:
                await it.until_told(1)

    def found() -> list[tuple[str | None]]:
        with it.store.read() as connection:
            query = select(block_funds.c.scheme).select_from(blocks)
            query = query.outerjoin(block_funds, block_funds.c.block_hash == blocks.c.hash)
            return [tuple(row) for row in connection.execute(query)]

    async with line(tmp_path, FakeBitcoind()) as it:
        await until(lambda: found() == [(divided_by,)])


async def test_a_block_under_way_is_its_processs_alone(tmp_path: Path) -> None:
    """Two processes write into one directory. What one of them submits the other one does not, when it
    starts; when there is one process alone it has all of them, and those of before."""
    away = FakeBitcoind()
    away.fault = refuses_connections
    one, other = siblings(2)
    for process, solution in ((1, one), (2, other)):
        async with line(tmp_path, away, process=process, of=2) as it:
            it.submission.on_solution(solution)
            await it.submission.stored()
    before = trio.Path(tmp_path) / "blocks" / f"101-{'ab' * 32}.blk"
    await before.write_bytes(b"of a version of before")
    for part, hashes in (
        ((1, 2), {hash_hex(one), "ab" * 32}),
        ((2, 2), {hash_hex(other)}),
        ((1, 1), {hash_hex(one), hash_hex(other), "ab" * 32}),
    ):
        submitter = BlockSubmitter([], tmp_path, tip_height=lambda: 0, mine=owned_by(*part))
        assert await submitter.stored() == hashes


async def test_siblings_are_counted_once_where_the_answer_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub has booked a report, and does not say so: it is asked again."""
    monkeypatch.setattr("pool.edge_process.AGAIN_S", 0.0)
    fake = FakeBitcoind()
    key = SiblingKey(parent_hash="ab" * 32, height=5, worker_id=0, pays_pool=True)
    with closing(store_in(tmp_path)) as store:
        nodes = NodeSet([fake.config], chain="regtest", transport=lambda it: fake)
        books = Bookkeeper(store, nodes, times=BookTimes())
        hub = Keeping(settings(tmp_path, fake.config, payout_script=PAYOUT), store, books, lambda it: it)
        count, asked = hub.count_siblings, 0

        async def lost(*given: Any) -> None:
            nonlocal asked
            asked += 1
            await count(*given)
            if asked == 1:
                raise HubAway("the answer is lost")

        monkeypatch.setattr(hub, "count_siblings", lost)
        for report in ("first", "second"):
            await patient(hub).count_siblings(report, [(key, None, 3)])
        with store.read() as connection:
            assert siblings_between(connection, 0, 1 << 40) == 6
    assert asked == 3
