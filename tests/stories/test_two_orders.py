"""Two orders from beginning to end: machines are moved to the buyers' accounts, counted on both sides, paid.

The buyers have their accounts at one pool, a second Angara. What a machine can do is not measured here, that
takes an hour: the allocator is told that each does 100 TH/s.
"""

import math
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from payouts.rates import OrderCredit, Scheme
from payouts.schemas.money import rate_hours, rates
from payouts.schemas.orders import upstream_hours
from pool.orders.machine_speed import Floats, MachineSpeeds
from pool.orders.rows import NewOrder, add_order, end_order
from stratum.miners.channel import Moved
from stratum.tallies import Verdict
from tests.stages.two_pools import (
    FEE,
    PPS_PSAT,
    Side,
    a_fleet,
    a_node,
    a_side,
    add_route,
    at_rest,
    hurry,
    mine_on,
    running,
)
from tests.stages.waiting import until

ACCEPTED = Verdict.ACCEPTED
MACHINE_THS = 100
SELLER_MACHINES = 20
SAT_PER_PH_DAY = 10**12
# 2^256 hashes find DIFF1 shares of difficulty 1; ours are 2^32 times as easy.
PRICE_PSAT = Fraction(1 << 256, (0xFFFF << 208) << 32) / (10**15 * 86_400) * SAT_PER_PH_DAY * 10**12
BLUE, GREEN = 1, 2  # the orders, by number


class NameplateSpeeds(MachineSpeeds):
    """Believes what is written on the machines."""

    def update(self, rates_hps: Floats, ages_s: Floats, now_s: float) -> Floats:
        return np.full(len(rates_hps), MACHINE_THS * 1e12)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def sell(side: Side, name: str, upstream: str, machines: int) -> None:
    """From now on, supplied by both sellers."""
    now_s = int(time.time())
    with side.store.write() as connection:
        new = NewOrder(
            name=name,
            buyer=f"{name} and sons",
            upstream=upstream,
            hashrate_ths=machines * MACHINE_THS,
            tolerance_bps=200,
            from_s=now_s,
            until_s=now_s + 86_400,
            priority=50,
            sat_per_ph_day=SAT_PER_PH_DAY,
            tenants=("acme", "bolt"),
            containers=(),
        )
        add_order(connection, new, by="test", now_s=now_s)


def end(side: Side, *names: str) -> None:
    with side.store.write() as connection:
        for name in names:
            end_order(connection, name, by="test", now_s=int(time.time()))
    side.changed()


async def test_two_orders_are_delivered_counted_and_paid(tmp_path: Path) -> None:
    buyers = a_side(tmp_path / "buyers", "blue", "green")
    sellers = a_side(tmp_path / "sellers", "acme", "bolt")
    mine_on(sellers, "acme", None, scheme=Scheme.PPS, order_credit=OrderCredit.ORDER)
    mine_on(sellers, "bolt", None, scheme=Scheme.PPS, order_credit=OrderCredit.PPS)
    machines = {"acme": SELLER_MACHINES, "bolt": SELLER_MACHINES}
    async with a_node(tmp_path) as node, running(buyers, node, extranonce2_bytes=8):
        add_route(sellers, "north", buyers.port, user="blue.c01.u1")
        add_route(sellers, "south", buyers.port, user="green.c01.u1")
        sell(sellers, "blue", "north", 24)
        sell(sellers, "green", "south", 16)
        async with (
            running(sellers, node, speeds=NameplateSpeeds(0.0)),
            a_fleet(sellers.port, machines) as fleet,
        ):
            own, blue, green = sellers.board.distribution.channels
            allocator = sellers.pool.allocator
            await until(lambda: all(it.serving for it in sellers.status.upstreams))
            await until(lambda: blue.current is not None and green.current is not None)  # priced, too
            await until(lambda: fleet.mining == 40)
            await fleet.mined(40)
            extranonces = fleet.extranonces
            await allocator.allocate()
            await until(lambda: len(blue.sessions) + len(green.sessions) == 40)
            assert (len(blue.sessions), len(green.sessions)) == (24, 16)
            await until(lambda: fleet.mine_on(blue, green))
            await fleet.mined(400)
            await allocator.allocate()  # nothing more to do
            assert [it.moving for it in sellers.status.orders] == [0, 0]
            end(sellers, "blue", "green")
            await until(lambda: fleet.mine_on(own))
            await until(lambda: sellers.status.upstreams == ())
            await fleet.mined(40)
            assert fleet.extranonces == extranonces
            await at_rest(sellers, fleet)
    assert sellers.board.distribution.moved == {Moved.JOB: 80}
    assert (fleet.connections, fleet.lost) == (40, 0)
    # A machine may hear of its move behind the last of all, when the buyer's connection is closed.
    assert set(good := sellers.good()) <= {ACCEPTED, Verdict.UNDELIVERED}
    assert sum(good.values()) == fleet.acknowledged.total()
    for order, buyer in ((BLUE, "blue"), (GREEN, "green")):
        delivered = shares_of_order(sellers, order)
        assert delivered == upstream_accepted(sellers, order) == buyers.shares(ACCEPTED, buyer) > 0
    sellers.settle()
    for seller, order_psat in (("acme", PRICE_PSAT), ("bolt", PPS_PSAT)):
        settled = sellers.settled(seller)
        assert {it.order_id for it in settled} == {None, BLUE, GREEN}
        for it in settled:
            share_psat = PPS_PSAT if it.order_id is None else order_psat
            assert it.credit_psat == math.floor(it.shares * share_psat * (1 - FEE))
            assert it.fee_psat == math.floor(it.shares * share_psat * FEE)
        assert sum(it.shares for it in settled) == sellers.shares(ACCEPTED, seller)


def shares_of_order(side: Side, order: int) -> int:
    """What was delivered."""
    query = select(func.sum(rate_hours.c.shares)).join(rates, rates.c.id == rate_hours.c.rate_id)
    with side.books() as connection:
        return int(connection.scalar(query.where(rates.c.order_id == order)) or 0)


def upstream_accepted(side: Side, order: int) -> int:
    """What the buyer's pool said that it accepted."""
    here = (upstream_hours.c.order_id == order) & (upstream_hours.c.verdict == "accepted")
    with side.books() as connection:
        return int(connection.scalar(select(func.sum(upstream_hours.c.shares)).where(here)) or 0)
