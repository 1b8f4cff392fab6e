"""A whole pool with a solo tenant and a PPS tenant on one node: whose block is whose, on the chain and in the
books, whatever changes while they mine.

The node runs Bitcoin Core's consensus code, the miners are raw sockets. Every second hash is a block.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from bitcoin.core import CTransaction
from sqlalchemy import func, select

import pool.routing.placement
from payouts.audit.verify import audit
from payouts.rates import Scheme
from payouts.schemas.money import blocks, rates, solo_blocks, tally_minutes, tenants
from pool.admin.commands import execute
from pool.admin.desk import Desk as CommandDesk
from pool.admin.fleet.tenants import TenantAdd, TenantSetAddress, TenantSetStatus, TenantSetTerms
from pool.admin.operators import SOCKET
from pool.chain.addresses import script_for
from pool.chain.blocks import SubmitState
from pool.fleet.rows import ADDRESS_HOLD_S, TenantTerms, add_tenant
from pool.people.roles import host_account
from stratum.tallies import Verdict
from tests.stages.sockets import Message, Miner, accepted, connect
from tests.stages.two_pools import MANY_BLOCKS, NO_BLOCKS, PAYOUT_SCRIPT, Side, a_node, a_side, running
from tests.stages.waiting import PATIENCE_S, until

OLGA = host_account("olga", SOCKET)
SUBSIDY_SAT = 50 * 10**8
FEE_BPS = 150
FEE_SAT = SUBSIDY_SAT * FEE_BPS // 10_000
SOLO = TenantTerms(scheme=Scheme.SOLO, fee_bps=FEE_BPS, payout_minimum_sat=0)
ADDRESS = "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"
OTHER = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"
SCRIPT, OTHER_SCRIPT = script_for(ADDRESS, "regtest"), script_for(OTHER, "regtest")


class Hall:
    """A running pool with the tenants acme (PPS) and sol (solo), and its machines."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.miners: list[Miner] = []

    async def miner(self, name: str) -> Miner:
        miner = await (await connect(self.side.port, name)).start()
        self.miners.append(miner)
        return miner

    async def command(self, name: str, params: msgspec.Struct) -> Any:
        """As an operator gives it to the running pool."""
        desk = CommandDesk(self.side.store, "regtest", self.side.running.live)
        return await trio.to_thread.run_sync(execute, desk, name, msgspec.json.encode(params), OLGA)

    async def pays(self, miner: Miner, *outputs: tuple[bytes, int]) -> None:
        """Wait for a job that pays this and nothing else."""
        with trio.fail_after(PATIENCE_S):
            while paid_by(miner) != outputs:
                await miner.notified("mining.notify")

    async def block(self, miner: Miner, job: list[Any] | None = None) -> str:
        """Mine on a job, or the last one, until the node takes a block of it; its hash."""
        before, job = len(self.side.blocks), job or miner.job
        with trio.fail_after(PATIENCE_S):
            while True:
                await self.share(miner, job)
                await trio.sleep(0.05)
                for result in self.side.blocks[before:]:
                    if result.state is SubmitState.ACCEPTED:
                        return result.hash_hex

    async def next_block(self, miner: Miner, mined: list[Any]) -> None:
        """Wait for a job on another previous block than this one's."""
        with trio.fail_after(PATIENCE_S):
            while miner.job[1] == mined[1]:
                await miner.notified("mining.notify")

    async def share(self, miner: Miner, job: list[Any]) -> Message:
        worker, _, extranonce2, _, nonce = miner.share()
        return await miner.call("mining.submit", worker, job[0], extranonce2, job[7], nonce)


def paid_by(miner: Miner) -> tuple[tuple[bytes, int], ...]:
    """What the coinbase of the miner's job pays, in order, without the witness commitment."""
    raw = bytes.fromhex(miner.job[2]) + bytes(8) + bytes.fromhex(miner.job[3])
    outputs = CTransaction.deserialize(raw).vout
    return tuple((bytes(out.scriptPubKey), int(out.nValue)) for out in outputs if out.nValue)


@asynccontextmanager
async def hall(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    nbits: int = MANY_BLOCKS,
    *,
    wall_clock: Callable[[], float] = time.time,
    **terms: Any,
) -> AsyncIterator[Hall]:
    monkeypatch.setattr(pool.routing.placement, "ROUND_S", 0.05)
    async with a_node(directory, nbits) as node:
        side = a_side(directory / "pool", "acme")
        with side.store.write() as connection:
            changed = msgspec.structs.replace(SOLO, **terms)
            add_tenant(connection, "sol", changed, by="test", now_s=0, address=ADDRESS, network="regtest")
        async with running(side, node, wall_clock=wall_clock):
            it = Hall(side)
            try:
                yield it
            finally:
                for miner in it.miners:
                    miner.socket.close()
        with side.books() as connection:
            assert audit(connection).wrong is None


async def test_a_solo_tenants_block_pays_it_and_the_pool_its_fee_and_no_share_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hall(tmp_path, monkeypatch) as it:
        sol, acme = await it.miner("sol.c01.u1"), await it.miner("acme.c01.u1")
        assert paid_by(sol) == ((SCRIPT, SUBSIDY_SAT - FEE_SAT), (PAYOUT_SCRIPT, FEE_SAT))
        assert paid_by(acme) == ((PAYOUT_SCRIPT, SUBSIDY_SAT),)
        assert sol.job[1] == acme.job[1]  # on one template
        mined = acme.job
        own = await it.block(acme)
        await it.next_block(sol, mined)
        theirs = await it.block(sol)
        await until(lambda: income(it.side).keys() >= {own, theirs})
    with closing(it.side.store):
        assert income(it.side)[own] == (SUBSIDY_SAT, None)
        assert income(it.side)[theirs] == (FEE_SAT, ("sol", ADDRESS, SUBSIDY_SAT - FEE_SAT))
    it.side.settle()
    assert sum(row.credit_psat for row in it.side.settled("acme")) > 0
    assert [row.credit_psat + row.fee_psat for row in it.side.settled("sol")] == [0]


def income(side: Side) -> dict[str, tuple[int, tuple[str, str, int] | None]]:
    """Blocks in the books: what the pool has of each, and the solo tenant that it paid."""
    paid = (tenants.c.name, solo_blocks.c.address, solo_blocks.c.amount_sat)
    query = (
        select(blocks.c.hash, blocks.c.income_sat, *paid)
        .outerjoin(solo_blocks, solo_blocks.c.block_hash == blocks.c.hash)
        .outerjoin(tenants, tenants.c.id == solo_blocks.c.tenant_id)
    )
    with side.store.read() as connection:
        rows = connection.execute(query).all()
    return {row[0]: (row[1], None if row[2] is None else (row[2], row[3], row[4])) for row in rows}


def shares_by_scheme(side: Side, tenant: str) -> dict[str, int]:
    query = (
        select(rates.c.scheme, func.sum(tally_minutes.c.shares))
        .join(rates, rates.c.id == tally_minutes.c.rate_id)
        .join(tenants, tenants.c.id == rates.c.tenant_id)
        .where(tally_minutes.c.verdict == int(Verdict.ACCEPTED), tenants.c.name == tenant)
        .group_by(rates.c.scheme)
    )
    with side.books() as connection:
        return {scheme: int(shares) for scheme, shares in connection.execute(query)}


async def test_who_changes_the_scheme_gets_neither_credit_for_solo_work_nor_a_block_of_the_pools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There and back, submitting on the jobs of before: the shares of a job are booked by whom it pays."""
    async with hall(tmp_path, monkeypatch, NO_BLOCKS) as it:
        sol = await it.miner("sol.c01.u1")
        solo_job = sol.job
        await it.command("tenant.set-terms", TenantSetTerms("sol", scheme="pps"))
        await it.pays(sol, (PAYOUT_SCRIPT, SUBSIDY_SAT))
        own_job = sol.job
        for _ in range(5):
            assert accepted(await it.share(sol, solo_job))
        await it.command("tenant.set-terms", TenantSetTerms("sol", scheme="solo"))
        await it.pays(sol, (SCRIPT, SUBSIDY_SAT - FEE_SAT), (PAYOUT_SCRIPT, FEE_SAT))
        for _ in range(3):
            assert accepted(await it.share(sol, own_job))
    assert shares_by_scheme(it.side, "sol") == {"solo": 5, "pps": 3}


async def test_a_new_address_or_fee_is_in_the_next_job_and_a_changed_address_72_hours_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief at the operator's desk gets no block of a tenant whose address he changes."""
    ahead_s = 0.0

    def clock() -> float:
        return time.time() + ahead_s

    async with hall(tmp_path, monkeypatch, NO_BLOCKS, wall_clock=clock, fee_bps=0) as it:
        sol = await it.miner("sol.c01.u1")
        assert paid_by(sol) == ((SCRIPT, SUBSIDY_SAT),)  # no fee, no output for it
        shown = await it.command("tenant.set-address", TenantSetAddress("sol", OTHER))
        assert (shown["address"], shown["blocks_pay"]) == (OTHER, ADDRESS)
        await it.command("tenant.set-terms", TenantSetTerms("sol", fee_bps=FEE_BPS))
        await it.pays(sol, (SCRIPT, SUBSIDY_SAT - FEE_SAT), (PAYOUT_SCRIPT, FEE_SAT))
        ahead_s = ADDRESS_HOLD_S + 1.0
        await it.command("tenant.set-terms", TenantSetTerms("sol", fee_bps=FEE_BPS))
        await it.pays(sol, (OTHER_SCRIPT, SUBSIDY_SAT - FEE_SAT), (PAYOUT_SCRIPT, FEE_SAT))


async def test_a_block_on_a_job_of_before_pays_whom_that_job_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tenant is paid PPS by now, and has another fee: its block is the one that the coinbase says."""
    async with hall(tmp_path, monkeypatch) as it:
        sol = await it.miner("sol.c01.u1")
        solo_job = sol.job
        await it.command("tenant.set-terms", TenantSetTerms("sol", scheme="pps", fee_bps=10))
        await it.pays(sol, (PAYOUT_SCRIPT, SUBSIDY_SAT))
        hash_hex = await it.block(sol, solo_job)
        await until(lambda: hash_hex in income(it.side))
    with closing(it.side.store):
        assert income(it.side)[hash_hex] == (FEE_SAT, ("sol", ADDRESS, SUBSIDY_SAT - FEE_SAT))


async def test_solo_work_that_is_made_anew_for_a_difficulty_pays_the_same_tenant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hall(tmp_path, monkeypatch, NO_BLOCKS) as it:
        sol = await it.miner("sol.c01.u1")
        channel = next(it for it in it.side.board.distribution.channels if it.sessions)
        before, paid = channel.current, paid_by(sol)
        again = channel.anew()
        assert before is not None
        assert again is not None
        assert again.work.coinbase1 != before.work.coinbase1
        assert again.work.coinbase2 == before.work.coinbase2  # the outputs
        assert again.work.origin == before.work.origin
        assert paid == ((SCRIPT, SUBSIDY_SAT - FEE_SAT), (PAYOUT_SCRIPT, FEE_SAT))


async def test_a_job_is_known_to_those_only_whose_tenant_it_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither can a PPS tenant be credited for solo work, nor a solo tenant's machine search the pool's."""
    async with hall(tmp_path, monkeypatch, NO_BLOCKS) as it:
        sol, acme = await it.miner("sol.c01.u1"), await it.miner("acme.c01.u1")
        for miner, job in ((acme, sol.job), (sol, acme.job)):
            answer = await it.share(miner, job)
            assert answer["error"][0] == 21  # job not found
        refused = await sol.call("mining.authorize", "acme.c01.u2", "x")
        assert refused["error"][1] == "Workers of one connection belong to one tenant"
    assert shares_by_scheme(it.side, "acme") == shares_by_scheme(it.side, "sol") == {}


async def test_a_solo_tenant_that_blocks_cannot_pay_is_refused_in_words_and_let_in_when_they_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the books of a version before may have one: a solo tenant without an address."""
    monkeypatch.setattr(pool.fleet.rows, "_check_solo", lambda *_: None)
    async with hall(tmp_path, monkeypatch, NO_BLOCKS) as it:
        add = TenantAdd("luna", scheme="solo", fee_bps=0)
        await it.command("tenant.add", add)
        luna = await connect(it.side.port, "luna.c01.u1")
        it.miners.append(luna)
        await luna.call("mining.subscribe", "test/1")
        refused = await luna.call("mining.authorize", "luna.c01.u1", "x")
        assert refused["error"][1] == (
            "Tenant luna is paid by its blocks and has no address yet: ask the operator"
        )
        await it.command("tenant.set-address", TenantSetAddress("luna", OTHER))
        luna = await it.miner("luna.c01.u1")
        assert paid_by(luna) == ((OTHER_SCRIPT, SUBSIDY_SAT),)


async def test_machines_of_a_suspended_solo_tenant_are_dropped_and_its_channel_ends_a_minute_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.routing.solo, "LINGER_S", 0.0)
    async with hall(tmp_path, monkeypatch) as it:
        sol, acme = await it.miner("sol.c01.u1"), await it.miner("acme.c01.u1")
        assert len(it.side.board.distribution.channels) == 2
        await it.command("tenant.set-status", TenantSetStatus("sol", active=False))
        with pytest.raises(EOFError):
            await sol.notified("mining.notify")
        mined = acme.job
        await it.block(acme)
        await it.next_block(acme, mined)
        await until(lambda: len(it.side.board.distribution.channels) == 1)
        await it.command("tenant.set-status", TenantSetStatus("sol", active=True))
        sol = await it.miner("sol.c01.u1")
        assert paid_by(sol)[0][0] == SCRIPT


async def test_a_solo_block_that_a_kill_kept_out_of_the_books_is_booked_as_its_tenants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()

    async with hall(tmp_path, monkeypatch) as it:
        with monkeypatch.context() as fault:
            fault.setattr(it.side.pool.books.bookkeeper, "record_block", killed)
            sol = await it.miner("sol.c01.u1")
            theirs = await it.block(sol)
        earlier = await it.side.pool.edge.shares.blocks._submitter.stored()
        await it.side.pool.books.hub.book_found_blocks(earlier)
        assert income(it.side)[theirs] == (FEE_SAT, ("sol", ADDRESS, SUBSIDY_SAT - FEE_SAT))
