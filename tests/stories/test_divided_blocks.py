"""A whole pool with two tenants who carry their own luck in one group, and one that is paid by PPS, on one
node: a block is found, matures, and is divided over the work before it, into statements and a payout batch.

The node runs Bitcoin Core's consensus code, the miners are raw sockets. Every second hash is a block.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from sqlalchemy import Connection, select

from payouts.audit.verify import audit
from payouts.batches.plan import Plan, digest, plan
from payouts.batches.rows import Act
from payouts.batches.steps import approve, draft
from payouts.ledger import in_payout
from payouts.proof import angara_verify
from payouts.rates import PSAT_PER_SAT, Scheme
from payouts.reports.pool import pool_report
from payouts.schemas.divisions import block_funds, divisions
from payouts.schemas.money import rate_hours, rates, tenants
from payouts.statements.divided import DividedBlock
from payouts.statements.period import Period
from payouts.statements.statement import Statement, statement
from pool.chain.addresses import script_for
from pool.chain.nodes import Node
from pool.fleet.rows import TenantTerms, add_tenant
from tests.stages.sockets import Miner, accepted, connect
from tests.stages.two_pools import MANY_BLOCKS, SUBSIDY_SAT, Side, a_node, running
from tests.stages.waiting import until

MATURITY = 100
NOBODYS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
GROUP = {
    "acme": (200, "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"),
    "borealis": (50, "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"),
}
AGO_S = 5 * 3600  # when they worked for what the block pays


class Story:
    """A pool whose clock a test sets, and its machines."""

    def __init__(self, side: Side) -> None:
        self.side, self.behind_s = side, AGO_S
        self.miners: dict[str, Miner] = {}

    def clock(self) -> float:
        return time.time() - self.behind_s

    async def works(self, tenant: str, shares: int) -> None:
        """So many are accepted."""
        if tenant not in self.miners:
            self.miners[tenant] = await (await connect(self.side.port, f"{tenant}.c01.u1")).start()
        miner, good = self.miners[tenant], 0
        while good < shares:
            worker, job, extranonce2, _, nonce = miner.share()
            ntime = miner.job[7]  # a node takes no block that is older than those before it
            good += accepted(await miner.call("mining.submit", worker, job, extranonce2, ntime, nonce))

    async def finds(self, tenant: str) -> str:
        """A block of the group from now on; its hash."""
        since_s = int(self.clock())
        while True:
            await self.works(tenant, 1)
            await trio.sleep(0.05)
            for block, mined_at_s in self.groups_blocks():
                if mined_at_s >= since_s:
                    return block

    def groups_blocks(self) -> list[tuple[str, int]]:
        with self.side.store.read() as connection:
            of = block_funds.c
            return [tuple(row) for row in connection.execute(select(of.block_hash, of.mined_at_s))]


@asynccontextmanager
async def a_story(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Story, Node]]:
    monkeypatch.setattr("pool.books.block_watch.LOOK_S", 0.2)
    monkeypatch.setattr("pool.books.block_division.KEEP_S", 0.2)
    (directory / "pool").mkdir()
    story = Story(Side(directory / "pool"))
    added: dict[str, Any] = {"by": "ann", "now_s": int(time.time()) - 100 * 3600, "network": "regtest"}
    with story.side.store.write() as connection:
        for name, (fee_bps, address) in GROUP.items():
            terms = TenantTerms(scheme=Scheme.PPLNS1, fee_bps=fee_bps, payout_minimum_sat=0)
            add_tenant(connection, name, terms, address=address, **added)
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=100, payout_minimum_sat=10**12)
        add_tenant(connection, "citadel", terms, **added)
    async with a_node(directory, MANY_BLOCKS) as node, running(story.side, node, wall_clock=story.clock):
        yield story, Node(node)
        for miner in story.miners.values():
            miner.socket.close()


def is_divided(side: Side, block: str) -> bool:
    with side.store.read() as connection:
        query = select(divisions.c.seq).where(divisions.c.block_hash == block)
        return connection.scalar(query) is not None


def shares_before(connection: Connection, hour: int) -> dict[str, int]:
    """Of each tenant, of hours before that one: all of one difficulty and at one price."""
    query = (
        select(tenants.c.name, rate_hours.c.shares)
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .join(tenants, tenants.c.id == rates.c.tenant_id)
        .where(rate_hours.c.hour < hour)
    )
    found: dict[str, int] = {}
    for name, shares in connection.execute(query):
        found[name] = found.get(name, 0) + int(shares)
    return found


def these_days() -> tuple[date, date]:
    day = datetime.now(UTC).date()
    return day - timedelta(1), day + timedelta(1)


def of_tenant(connection: Connection, tenant: str) -> Statement:
    return statement(connection, tenant, *these_days())


def part_of(said: Statement, block: str) -> DividedBlock:
    assert said.divided is not None
    (part,) = (it for it in said.divided.blocks if it.hash == block)
    return part


def wrong_of(said: Statement) -> list[str]:
    """What `angara verify` says."""
    plain = msgspec.json.decode(msgspec.json.encode(said))
    report = angara_verify.Report()
    content = sha256(angara_verify.canonical(plain)).hexdigest()
    angara_verify.check_statement({"statement": plain, "content_sha256": content}, report)
    return report.wrong


@pytest.mark.soak
async def test_a_block_of_two_tenants_is_divided_over_their_work_and_paid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its window is one expected block, of which each share is nearly a half: it is all of it in the hour in
    which they worked, three parts of one and five of the other."""
    async with a_story(tmp_path, monkeypatch) as (it, node):
        await it.works("acme", 6)
        await it.works("borealis", 10)
        await it.works("citadel", 3)
        it.behind_s = 0
        block = await it.finds("borealis")
        await node.rpc.call("generatetoaddress", MATURITY, NOBODYS)
        await until(partial(is_divided, it.side, block))
        await node.aclose()
    with it.side.books() as connection:
        assert (wrong := audit(connection).wrong) is None, wrong
        fund = connection.execute(select(block_funds).where(block_funds.c.block_hash == block)).one()
        worked = shares_before(connection, fund.mined_at_s // 3600 - 1)
        found = {tenant: of_tenant(connection, tenant) for tenant in GROUP}
        report = pool_report(connection, Period(*these_days()))
    assert (fund.scheme, worked) == ("pplns1", {"acme": 6, "borealis": 10, "citadel": 3})
    posted = {}
    for tenant, said in found.items():
        fee_bps, _ = GROUP[tenant]
        part = part_of(said, block)
        mine = Fraction(worked[tenant], worked["acme"] + worked["borealis"])
        assert part.window_blocks == Fraction(part.full_blocks) == 1
        assert part.first_hour_utc == part.last_hour_utc
        assert part.credit_psat == mine * SUBSIDY_SAT * PSAT_PER_SAT * (10_000 - fee_bps) // 10_000
        assert part.pool_fee_psat == mine * SUBSIDY_SAT * PSAT_PER_SAT * fee_bps // 10_000
        assert said.divided is not None
        (luck,) = said.divided.luck
        assert (luck.scheme, luck.found >= 1, luck.luck is not None) == ("pplns1", True, True)
        assert wrong_of(said) == []
        assert report.groups == said.divided.luck
        posted[tenant] = said.money.divided_sat
        assert said.money.closing_sat == posted[tenant] > 0
    # The pool pays them, by a batch that two persons made.
    with it.side.store.write() as connection:
        now_s = int(time.time()) + 3600
        found_plan: Plan = plan(connection, now_s, _script, 1_000)
        assert {item.tenant: item.amount_sat for item in found_plan.items} == posted
        batch = draft(connection, found_plan, Act("olga", now_s))
        approve(connection, batch, digest(found_plan.items), 10_000, Act("dmitri", now_s))
        held = audit(connection).balances_sat
        assert [held[in_payout(number)] for number in (1, 2)] == [posted["acme"], posted["borealis"]]
    it.side.store.close()


def _script(address: str) -> bytes:
    return script_for(address, "regtest")
