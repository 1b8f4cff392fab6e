"""The bookkeeper: found blocks booked once, and what the chain makes of them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing
from sqlalchemy import select

from payouts.audit.verify import audit
from payouts.book_time import book_time
from payouts.divisions import Header
from payouts.ledger import PoolAccount, balance_sat
from payouts.ratebook import record_rate
from payouts.rates import Price, Scheme
from payouts.schemas.money import block_events, blocks
from payouts.statements.statement import Statement, statement
from payouts.tallies import Tally, record
from pool.books.block_division import BlockDivision
from pool.books.block_watch import MATURITY, BlockWatch
from pool.books.bookkeeper import Bookkeeper, BookTimes
from pool.books.found_blocks import BlockNote, book_found_blocks, header_of, packed_note
from pool.books.journal.machine_rows import rows_of
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.store import Store
from pool.chain.addresses import script_for
from pool.chain.block_files import noted
from pool.chain.blocks import BlockResult, SubmitState
from pool.chain.node_set import NodeSet
from pool.chain.nodes import NodeConfig
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, insert_new, load, remove_worker
from pool.journal.records import Machine
from pool.regtest.server import RegtestOptions, serve_regtest
from stratum.miners.contracts import Admitted
from tests.fakes.owners import ConnectionFrom
from tests.fixtures.databases import store_in

ADDRESS = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
SUBSIDY_SAT = 50 * 10**8
HEADER = Header(0x207FFFFF, 0)
PRICE = WorkPrice(nbits=0x207FFFFF, subsidy_sat=SUBSIDY_SAT)


class Books:
    """A bookkeeper on an empty SQLite database and an embedded node."""

    def __init__(self, store: Store, nodes: NodeSet, registry: Registry) -> None:
        self.store = store
        self.nodes = nodes
        self.registry = registry
        self.keeper = Bookkeeper(store, nodes, times=BookTimes())
        self.watch = BlockWatch(store, nodes)

    async def mine(self, count: int) -> list[str]:
        node = await self.nodes.chosen()
        found = await node.rpc.call("generatetoaddress", count, ADDRESS)
        assert isinstance(found, list)
        return found

    async def bytes_of(self, block: str) -> bytes:
        node = await self.nodes.chosen()
        return bytes.fromhex(str(await node.rpc.call("getblock", block, 0)))

    def statuses(self) -> list[str]:
        with self.store.read() as connection:
            rows = connection.scalars(select(block_events.c.status).order_by(block_events.c.position))
            return list(rows)

    def balance_sat(self, account: PoolAccount) -> int:
        with self.store.read() as connection:
            assert audit(connection).wrong is None
            return balance_sat(connection, account.value)


@asynccontextmanager
async def books(tmp_path: Path, scheme: Scheme = Scheme.PPS) -> AsyncIterator[Books]:
    store = store_in(tmp_path)
    terms = TenantTerms(scheme=scheme, fee_bps=200, payout_minimum_sat=0)
    with store.write() as connection:
        add_tenant(connection, "acme", terms, by="test", now_s=0)
    with store.read() as connection:
        registry = Registry(load(connection))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_regtest, RegtestOptions(data_dir=tmp_path / "node"))
        config = NodeConfig(name="embedded", url=server.url, cookie_file=server.cookie_file)
        nodes = NodeSet([config], chain="regtest")
        await nursery.start(nodes.run)
        await nodes.chosen()
        yield Books(store, nodes, registry)
        nursery.cancel_scope.cancel()
    store.close()


def same(machine: Machine) -> Machine:
    """Nobody else numbers machines."""
    return machine


def found(hash_hex: str, state: SubmitState = SubmitState.ACCEPTED) -> BlockResult:
    return BlockResult(height=1, hash_hex=hash_hex, state=state, stored=True, nodes=())


async def test_a_block_whose_finder_was_removed_meanwhile_is_booked_all_the_same(
    tmp_path: Path,
) -> None:
    """Nodes that are away keep a block waiting for up to an hour, a database that is away for longer."""
    async with books(tmp_path) as it:
        admission = it.registry.admit("acme.c01.u1", "", ConnectionFrom())
        assert isinstance(admission, Admitted)
        it.registry.prove(admission.worker)
        with it.store.write() as connection:
            insert_new(connection, it.registry.collect_new(), 0)
            remove_worker(connection, "acme", "c01", "u1", 0)
        it.registry.remove_workers([admission.worker])
        it.registry.newcomers.forget(it.registry.newcomers.gone)  # behind a commit
        await it.keeper.record_block(
            found("ab" * 32),
            income_sat=SUBSIDY_SAT,
            finder=it.registry.found_by(admission.worker),
            header=HEADER,
        )
        assert it.statuses() == ["found"]


async def test_a_found_block_is_booked_once_and_matures_at_a_hundred_confirmations(tmp_path: Path) -> None:
    async with books(tmp_path) as it:
        (block,) = await it.mine(1)
        admission = it.registry.admit("acme.c01.u1", "", ConnectionFrom())
        assert isinstance(admission, Admitted)
        for _ in range(2):  # its finder is new: no commit of the journal has had it yet
            await it.keeper.record_block(
                found(block),
                income_sat=SUBSIDY_SAT,
                finder=it.registry.found_by(admission.worker),
                header=HEADER,
            )
        new = it.registry.collect_new()  # which has it all the same, and is not in its way
        assert [worker.id for worker in new.workers] == [admission.worker]
        with it.store.write() as connection:
            insert_new(connection, new, 0)
        await it.watch.check()
        assert it.statuses() == ["found", "pending"]
        assert it.balance_sat(PoolAccount.BLOCK_INCOME_PENDING) == SUBSIDY_SAT
        await it.mine(MATURITY - 1)
        await it.watch.check()
        assert it.statuses() == ["found", "pending"]
        await it.mine(1)
        for _ in range(2):
            await it.watch.check()
        assert it.statuses() == ["found", "pending", "matured"]
        assert it.balance_sat(PoolAccount.BLOCK_INCOME_MATURED) == SUBSIDY_SAT
        assert it.balance_sat(PoolAccount.BLOCK_INCOME_PENDING) == 0


async def test_a_machine_that_comes_with_its_block_is_in_no_statement_of_days_that_are_over(
    tmp_path: Path,
) -> None:
    """The clock was two days ahead, and is right again: yesterday is over in the books."""
    async with books(tmp_path) as it:
        today, day = date.today(), timedelta(days=1)

        def said() -> Statement:
            with it.store.read() as connection:
                return statement(connection, "acme", today - day, today + day)

        with it.store.write() as connection:
            book_time(connection, int(time.time()) + 2 * 86_400)
        before = said()
        admission = it.registry.admit("acme.c01.u1", "", ConnectionFrom())
        assert isinstance(admission, Admitted)
        await it.keeper.record_block(
            found("ab" * 32),
            income_sat=SUBSIDY_SAT,
            finder=it.registry.found_by(admission.worker),
            header=HEADER,
        )
        assert said() == before


async def test_a_block_that_is_not_in_the_chain_is_no_income(tmp_path: Path) -> None:
    async with books(tmp_path) as it:
        await it.mine(1)
        await it.keeper.record_block(found("ab" * 32), income_sat=SUBSIDY_SAT, finder=None, header=HEADER)
        for _ in range(2):
            await it.watch.check()
        assert it.statuses() == ["found", "orphaned"]
        assert it.balance_sat(PoolAccount.BLOCK_INCOME_PENDING) == 0


async def test_a_block_that_every_node_refused_is_not_booked(tmp_path: Path) -> None:
    async with books(tmp_path) as it:
        await it.keeper.record_block(
            found("ab" * 32, SubmitState.REFUSED), income_sat=1, finder=None, header=HEADER
        )
        assert it.statuses() == []


@pytest.mark.parametrize("noted_down", [False, True])
async def test_a_block_that_a_kill_kept_out_of_the_books_is_booked_at_the_start(
    tmp_path: Path, noted_down: bool
) -> None:
    """Also in books of before its finder's tenant."""
    stranger = Machine(
        number=1, tenant_id=9, tenant="cygnus", container_id=1, container="c01", unit="u1", agent=None
    )
    async with books(tmp_path) as it:
        (block,) = await it.mine(1)
        raw = await it.bytes_of(block)
        directory = tmp_path / "blocks"
        directory.mkdir()
        note = packed_note(BlockNote(1, stranger)) if noted_down else b""
        (directory / f"1-{block}.accepted").write_bytes(noted(raw, note))
        (directory / f"1-{'cd' * 32}.refused").write_bytes(raw)
        for _ in range(2):
            script = script_for(ADDRESS, "regtest")
            await it.keeper.book_found_blocks(directory, script, "regtest", frozenset({block}), same)
        with it.store.read() as connection:
            row = connection.execute(select(blocks)).one()
        assert (row.hash, row.height, row.income_sat, row.worker_id) == (block, 1, SUBSIDY_SAT, None)


async def test_a_file_that_is_not_whole_keeps_no_other_block_out_of_the_books(tmp_path: Path) -> None:
    """A disk has damaged it, or somebody still copies it there; nor does a note that is none."""
    async with books(tmp_path) as it:
        (block,) = await it.mine(1)
        raw = await it.bytes_of(block)
        directory = tmp_path / "blocks"
        directory.mkdir()
        damaged = {"ab" * 32: b"", "cd" * 32: raw[:80], "ef" * 32: raw[:-1]}
        for hash_hex, content in damaged.items():
            (directory / f"0-{hash_hex}.accepted").write_bytes(content)
        note = b'{"process":1,"finder":null,"scheme":"\xff\xfe"}'
        (directory / f"1-{block}.accepted").write_bytes(noted(raw, note))
        script, there = script_for(ADDRESS, "regtest"), frozenset({block, *damaged})
        await it.keeper.book_found_blocks(directory, script, "regtest", there, same)
        with it.store.read() as connection:
            assert list(connection.scalars(select(blocks.c.hash))) == [block]


async def test_a_tenant_that_carries_its_own_luck_is_paid_of_the_blocks_that_its_machines_found(
    tmp_path: Path,
) -> None:
    """One block is booked when it is found, one from its file, which a kill left behind."""
    async with books(tmp_path, Scheme.PPLNS1) as it:
        now, late = await it.mine(2)
        raw = {hash_: await it.bytes_of(hash_) for hash_ in (now, late)}
        admission = it.registry.admit("acme.c01.u1", "", ConnectionFrom())
        assert isinstance(admission, Admitted)
        finder = it.registry.found_by(admission.worker)
        assert finder is not None
        with it.store.write() as connection:
            machine = rows_of(connection, [finder], 0)[admission.worker]
            price = Price(
                nbits=PRICE.nbits,
                subsidy_sat=SUBSIDY_SAT,
                block_fees_sat=0,
                fee_bps=200,
                scheme=Scheme.PPLNS1,
            )
            rate = record_rate(connection, 1, price, 1, None, 0)
            for batch, hours_ago in enumerate((5, 0), 1):
                minute = (int(time.time()) // 3600 - hours_ago) * 60
                tally = Tally(
                    worker_id=machine, rate_id=rate, minute=minute, difficulty_log2=-32, verdict=0, shares=10
                )
                assert record(connection, "pool", batch, [tally])
        header = header_of(raw[now])
        await it.keeper.record_block(found(now), income_sat=SUBSIDY_SAT, finder=finder, header=header)
        directory = tmp_path / "blocks"
        directory.mkdir()
        note = packed_note(BlockNote(1, finder))
        (directory / f"2-{late}.accepted").write_bytes(noted(raw[late], note))
        script = script_for(ADDRESS, "regtest")
        await it.keeper.book_found_blocks(directory, script, "regtest", frozenset({late}), same)
        with it.store.write() as connection:  # as who has looked at the same time does
            book_found_blocks(connection, [directory / f"2-{late}.accepted"], script, "regtest", 1, same)
        division = BlockDivision(it.store)
        await it.watch.check()
        await division.keep()
        assert it.balance_sat(PoolAccount.BLOCKS_DIVIDED) == 0, "not before they are mature"
        await it.mine(MATURITY)
        for _ in range(2):
            await it.watch.check()
            await division.keep()
        assert it.balance_sat(PoolAccount.BLOCKS_DIVIDED) == -2 * SUBSIDY_SAT
        assert it.balance_sat(PoolAccount.FEE_INCOME) == 2 * SUBSIDY_SAT * 200 // 10_000
