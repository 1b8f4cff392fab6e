"""FPPS is paid as FPPS: from the first job of every start, whatever a node answers, and never on no basis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from sqlalchemy import Connection, insert, select

import pool.chain.fee_watch
from payouts.audit.verify import audit
from payouts.ratebook import record_fee_basis
from payouts.rates import BlockFees, Scheme
from payouts.schemas.money import rates
from pool.books.journal.rate_epochs import NoFeeBasis, WorkPrice, rate_of
from pool.books.store import Store
from pool.chain.fee_watch import FIRST_BASIS_S, NO_BASIS, FeeWatch, recent_fees
from pool.chain.networks import NETWORKS
from pool.chain.node_set import NodeSet
from pool.chain.nodes import Node
from pool.fleet.rows import TenantTerms, add_tenant, record_of, set_terms
from tests.fakes.bitcoinds import FakeBitcoind
from tests.stages.plant import FEES_SAT, Plant, plant
from tests.stages.prices import open_epoch
from tests.stages.sockets import connect
from tests.stages.waiting import PATIENCE_S

TERMS = TenantTerms(scheme=Scheme.FPPS, fee_bps=200, payout_minimum_sat=0)
PRICE = WorkPrice(nbits=0x17034219, subsidy_sat=312_500_000)


def priced(store: Store) -> list[tuple[str, int | None, int]]:
    """Every rate: scheme, basis, and the fees that it was priced with."""
    with store.read() as connection:
        assert audit(connection).wrong is None
        columns = rates.c.scheme, rates.c.fee_basis_id, rates.c.block_fees_sat
        return [tuple(row) for row in connection.execute(select(*columns).order_by(rates.c.id))]


# A whole pool


async def refusal(site: Plant) -> str | None:
    """Why a machine of the FPPS tenant may not mine; None when it may."""
    miner = await site.connect()
    await miner.call("mining.subscribe", "x")
    answer = await miner.call("mining.authorize", miner.worker, "x")
    await miner.close()
    return None if answer["error"] is None else str(answer["error"])


async def test_the_first_job_ever_has_a_basis(tmp_path: Path) -> None:
    async with plant(tmp_path, scheme=Scheme.FPPS) as site:
        await site.mine(await site.mining())
    with closing(site.store) as store:  # what the pool's stop has folded
        assert priced(store) == [("fpps", 1, FEES_SAT)]


async def test_every_later_start_begins_with_the_basis_of_the_book(tmp_path: Path) -> None:
    """Also where no node says a word about fees, for as long as that lasts."""
    async with plant(tmp_path, scheme=Scheme.FPPS) as site:
        await site.mine(await site.mining())
    async with plant(tmp_path, scheme=Scheme.FPPS, forgets_fees=True) as site:
        await site.mine(await site.mining())
    with closing(site.store) as store:
        assert priced(store) == [("fpps", 1, FEES_SAT)]


async def test_before_there_ever_was_a_basis_fpps_waits_and_others_mine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.chain.fee_watch, "FIRST_BASIS_S", 0.1)
    monkeypatch.setattr(pool.chain.fee_watch, "FEE_BASIS_RETRY_S", 0.05)
    async with plant(tmp_path, scheme=Scheme.FPPS, forgets_fees=True) as site:
        with site.store.write() as connection:
            other = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)
            view = add_tenant(connection, "borealis", other, by="test", now_s=0)
        site.running.registry.put_tenant(record_of(view))
        other_miner = await connect(site.running.addresses[0][1], "borealis.c01.u0")
        site.miners.append(other_miner)
        await site.mine(await other_miner.start())
        assert NO_BASIS in str(await refusal(site))
        assert {scheme for scheme, _, _ in priced(site.store)} <= {"pps"}, "there is no price for FPPS"
        for node in site.nodes:
            node.forgets_fees = False
        with trio.fail_after(PATIENCE_S):
            while await refusal(site):  # noqa: ASYNC110 - from outside there is no event
                await trio.sleep(0.02)
        await site.mine(await site.mining())  # on the job of before there was a basis
    with closing(site.store) as store:  # what was folded meanwhile or by the pool's stop: in either order
        assert sorted(priced(store)) == [("fpps", 1, FEES_SAT), ("pps", None, 0)]


# The question


@asynccontextmanager
async def watched(
    nodes: list[FakeBitcoind], basis: int | None = None
) -> AsyncIterator[tuple[FeeWatch, list[float]]]:
    """A watch on these nodes and, for every list that it kept, when that was."""
    kept: list[float] = []

    async def keep(fees: tuple[BlockFees, ...]) -> int:
        assert {block.fees_sat for block in fees} == {0}
        kept.append(trio.current_time())
        return len(kept)

    by_name = {node.name: node for node in nodes}
    chosen = NodeSet(
        [node.config for node in nodes], chain="regtest", transport=lambda config: by_name[config.name]
    )
    watch = FeeWatch(chosen, basis=basis, keep=keep, wanted=lambda: True)
    async with trio.open_nursery() as nursery:
        await nursery.start(chosen.run)
        async with trio.open_nursery() as asking:  # which ends first: nodes that are closed cannot be asked
            asking.start_soon(watch.run)
            yield watch, kept
            asking.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def test_a_question_that_failed_is_asked_again_within_a_minute_of_the_next_node(
    autojump_clock: trio.abc.Clock,
) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    first.forgets_fees = True
    async with watched([first, second]) as (watch, kept):
        started_s = trio.current_time()
        while not kept:  # noqa: ASYNC110 - of a virtual clock
            await trio.sleep(1)
        assert kept[0] - started_s < 60
        assert "getblockstats" in second.methods()
        assert watch.basis == 1


async def test_a_node_that_answers_too_slowly_is_one_that_failed(autojump_clock: trio.abc.Clock) -> None:
    class NodeThatAnswersSlowly(FakeBitcoind):
        async def _getblockstats(self, height: int, stats: list[str]) -> dict[str, Any]:
            await trio.sleep(5)  # each of them in time, all of them in twelve minutes
            return await super()._getblockstats(height, stats)

    nodes = [NodeThatAnswersSlowly("first"), FakeBitcoind("second")]
    async with watched(list(nodes)) as (_, kept):
        started_s = trio.current_time()
        while not kept:  # noqa: ASYNC110 - of a virtual clock
            await trio.sleep(1)
        assert kept[0] - started_s < 60


async def test_a_renewal_that_fails_keeps_the_basis_of_before(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew_s = 60.0  # in an hour a node is checked 1,200 times
    monkeypatch.setattr(pool.chain.fee_watch, "FEE_BASIS_RENEW_S", renew_s)
    node = FakeBitcoind()
    async with watched([node]) as (watch, kept):
        while not kept:  # noqa: ASYNC110 - of a virtual clock
            await trio.sleep(1)
        node.forgets_fees = True
        await trio.sleep(1.5 * renew_s)
        assert (watch.basis, len(kept)) == (1, 1)
        node.forgets_fees = False
        await trio.sleep(60)
        assert (watch.basis, len(kept)) == (2, 2)


async def test_the_first_job_waits_for_a_basis_once_and_not_for_ever(autojump_clock: trio.abc.Clock) -> None:
    node = FakeBitcoind()
    node.forgets_fees = True
    async with watched([node]) as (watch, _):
        for waited_s in (FIRST_BASIS_S, 0):
            started_s = trio.current_time()
            await watch.first()
            assert trio.current_time() - started_s == pytest.approx(waited_s)


async def test_a_chain_without_blocks_has_paid_no_fees() -> None:
    """Or nobody could ever mine the first one."""
    node = FakeBitcoind(height=0)
    fees = await recent_fees(Node(node.config, transport=node))
    assert [(block.height, block.hash, block.fees_sat) for block in fees] == [
        (0, NETWORKS["regtest"].genesis, 0)
    ]


# The price


def basis_of(connection: Connection) -> int:
    return record_fee_basis(connection, [BlockFees(height=1, hash="00", fees_sat=FEES_SAT)], 0)


def test_an_epoch_without_a_basis_has_no_price_for_fpps_until_there_is_one(store: Store) -> None:
    with store.write() as connection:
        tenant = add_tenant(connection, "acme", TERMS, by="ann", now_s=0)
        epoch = open_epoch(connection, PRICE, 840_000, 0)
    assert priced(store) == []
    with pytest.raises(NoFeeBasis, match="acme"), store.write() as connection:
        rate_of(connection, epoch, tenant.id)
    with store.write() as connection:
        basis = basis_of(connection)
        assert rate_of(connection, epoch, tenant.id) == rate_of(connection, epoch, tenant.id)
    assert priced(store) == [("fpps", basis, FEES_SAT)]


def test_shares_of_the_minute_in_which_a_tenant_became_fpps_are_paid_as_before(store: Store) -> None:
    with store.write() as connection:
        epoch = open_epoch(connection, PRICE, 840_000, 0)
        before = msgspec.structs.replace(TERMS, scheme=Scheme.PPS, fee_bps=77)
        tenant = add_tenant(connection, "acme", before, by="ann", now_s=0)
        set_terms(connection, "acme", TERMS, by="ann", now_s=1)
        rate_of(connection, epoch, tenant.id)
        found = connection.execute(select(rates.c.scheme, rates.c.fee_bps)).one()
    assert tuple(found) == ("pps", 77)


def test_an_fpps_rate_without_a_basis_is_found(store: Store) -> None:
    with store.write() as connection:
        add_tenant(connection, "acme", TERMS, by="ann", now_s=0)
        basis_of(connection)
        forged = {"scheme": "fpps", "fee_bps": 200, "nbits": PRICE.nbits, "height": 1, "created_at_s": 0}
        forged |= {"tenant_id": 1, "subsidy_sat": PRICE.subsidy_sat, "block_fees_sat": 0}
        connection.execute(insert(rates).values(forged))
    with store.read() as connection:
        wrong = audit(connection).wrong
    assert wrong is not None
    assert (wrong.table, wrong.row, wrong.reason) == ("rates", "1", "it is FPPS and has no basis")
