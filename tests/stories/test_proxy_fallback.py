"""Whose loss it is when an upstream is gone, and where its machines mine meanwhile.

A tenant is credited for shares that an upstream did not take only where its terms say that the pool bears
that risk. An upstream that is gone for longer than its bound has its machines taken over by its fallback, and
gets them back.
"""

import math
from pathlib import Path

import pytest
from sqlalchemy import select

from payouts.rates import Scheme, UpstreamRisk
from payouts.schemas.money import rates
from payouts.schemas.orders import upstream_hours
from pool.upstreams import rows as upstream_store
from stratum.miners.channel import Moved
from stratum.tallies import Verdict
from tests.fakes.proxy_upstreams import UpstreamThatDies, hosting
from tests.fakes.upstreams import HonestUpstream, UpstreamThatRejectsMost
from tests.stages.two_pools import (
    FEE,
    PPS_PSAT,
    Settled,
    a_fleet,
    a_node,
    a_side,
    add_route,
    at_rest,
    check_shares,
    facing,
    hurry,
    mine_on,
    running,
)
from tests.stages.waiting import until

ACCEPTED, UNDELIVERED, REJECTED = Verdict.ACCEPTED, Verdict.UNDELIVERED, Verdict.UPSTREAM_REJECTED
SHARES = 40
MACHINES = 10
ABOVE_LOG2 = -28  # of the upstream; sixteen times as hard as what the machines are given
OWN_WORK = rates.c.upstream_id.is_(None)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


# Whose loss it is


@pytest.mark.parametrize("risk", list(UpstreamRisk))
async def test_shares_that_an_upstream_did_not_take_are_credited_where_the_pool_bears_the_risk(
    tmp_path: Path, risk: UpstreamRisk
) -> None:
    """Unanswered and rejected ones alike; the report figures tell of them in both cases."""
    first, second = UpstreamThatDies(SHARES, counts=True), UpstreamThatRejectsMost()
    terms = {"scheme": Scheme.PPS, "upstream_risk": risk}
    async with facing(tmp_path, first, second, terms=terms) as (proxy, fleet, _):
        await until(lambda: len(second.shares) >= 2 * SHARES)
    proxy.settle()
    acknowledged, said = fleet.acknowledged.total(), proxy.upstream_says()
    assert len(second.counted) <= said["accepted"] <= SHARES + len(second.counted)
    assert said["rejected"] == len(second.shares) - len(second.counted)
    assert said["unanswered"] >= 1
    good = proxy.good("acme")
    if risk is UpstreamRisk.POOL:
        assert good == {ACCEPTED: acknowledged}
    else:
        assert check_shares(proxy, fleet) == good
        assert good[ACCEPTED] == said["accepted"]
        assert good[REJECTED] == said["rejected"]
        assert good[UNDELIVERED] == acknowledged - said["accepted"] - said["rejected"]
    assert sum(it.shares for it in proxy.settled("acme")) == good[ACCEPTED]
    assert_paid_pps(proxy.settled("acme"))
    with proxy.books() as connection:
        reasons = select(upstream_hours.c.verdict, upstream_hours.c.reason).distinct()
        told = {tuple(row) for row in connection.execute(reasons)}
    assert told == {("accepted", ""), ("rejected", "stale"), ("unanswered", "")}
    assert proxy.events() == ["served", "lost", "served"]
    assert f"; {said['unanswered']} shares unanswered" in proxy.event_words("lost")[0]


async def test_while_no_upstream_serves_nothing_is_credited(tmp_path: Path) -> None:
    """Not even shares that it would never have been sent, being below its difficulty."""
    upstream = HonestUpstream()
    upstream.difficulty = 2.0**ABOVE_LOG2
    async with facing(tmp_path, upstream) as (proxy, fleet, (host,)):
        await fleet.mined(6 * SHARES)
        await at_rest(proxy, fleet)
        before = fleet.acknowledged.total()
        await host.down()
        await until(lambda: proxy.status.upstreams[0].serving is None)
        fleet.go_on()
        await fleet.mined(SHARES)
    assert 0 < len(upstream.counted) < before
    assert proxy.upstream_says() == {"accepted": len(upstream.counted)}
    assert proxy.good("acme") == {ACCEPTED: before, UNDELIVERED: fleet.acknowledged.total() - before}


# Where the machines mine meanwhile


async def test_without_another_fallback_machines_mine_for_the_pool_and_come_back(tmp_path: Path) -> None:
    """They are moved with jobs alone; a tenant whose upstream pays it is paid PPS for that work."""
    upstream = HonestUpstream()
    async with facing(tmp_path, upstream, route={"outage_s": 1}) as (proxy, fleet, (host,)):
        own, theirs = proxy.board.distribution.channels
        await more_counted(upstream)
        await host.down()
        await until(lambda: fleet.mine_on(own))
        assert [it.diverted for it in proxy.status.upstreams] == [True]
        await fleet.mined(SHARES)
        await host.up()
        await until(lambda: fleet.mine_on(theirs))
        await more_counted(upstream)
    proxy.settle()
    assert proxy.events() == ["served", "lost", "fell_back", "served", "returned"]
    assert proxy.event_words("fell_back") == proxy.event_words("returned") == ["fallback pool"]
    assert proxy.board.distribution.moved == {Moved.JOB: 2 * MACHINES}
    assert (fleet.connections, fleet.heard["mining.set_extranonce"]) == (MACHINES, 0)
    check_shares(proxy, fleet)
    said = proxy.upstream_says()
    assert said["accepted"] <= len(upstream.counted) <= said["accepted"] + said.get("unanswered", 0)
    own_shares = proxy.shares(ACCEPTED, "acme", OWN_WORK)
    assert own_shares >= SHARES
    paid = [it for it in proxy.settled("acme") if it.upstream_id is None]
    assert sum(it.shares for it in paid) == own_shares
    assert_paid_pps(paid)
    assert all(it.credit_psat == 0 for it in proxy.settled("acme") if it.upstream_id is not None)


async def test_another_upstream_is_the_fallback_and_the_pool_is_its_own(tmp_path: Path) -> None:
    """One after the other goes, and one after the other comes back."""
    north, south = HonestUpstream(), HonestUpstream(extranonce1="01020304")
    proxy = a_side(tmp_path / "proxy", "acme")
    async with a_node(tmp_path) as node, hosting(north, south) as (to_north, to_south):
        add_route(proxy, "south", to_south.port, outage_s=1)
        add_route(proxy, "north", to_north.port, outage_s=1, fallback="south")
        mine_on(proxy, "acme", "north")
        async with running(proxy, node), a_fleet(proxy.port, {"acme": MACHINES}) as fleet:
            await more_counted(north)
            await to_north.down()
            await more_counted(south)
            await to_south.down()
            own, *_ = proxy.board.distribution.channels
            await until(lambda: fleet.mine_on(own))
            await fleet.mined(SHARES)
            await to_south.up()
            await more_counted(south)
            await to_north.up()
            await more_counted(north)
            await at_rest(proxy, fleet)
    moves = ["served", "lost", "fell_back", "served", "returned"]
    assert (proxy.events("north"), proxy.events("south")) == (moves, moves)
    assert proxy.event_words("fell_back") == ["fallback south", "fallback pool"]
    assert proxy.board.distribution.moved == {Moved.JOB: 4 * MACHINES}
    check_shares(proxy, fleet)
    for name, upstream in (("north", north), ("south", south)):
        with proxy.books() as connection:
            number = upstream_store.find_upstream(connection, name).id
        theirs = rates.c.upstream_id == number
        taken, unheard = (proxy.shares(verdict, "acme", theirs) for verdict in (ACCEPTED, UNDELIVERED))
        # What it counted as its path broke may be unheard of here.
        assert taken <= len(upstream.counted) <= taken + unheard
        assert upstream.counted <= fleet.found
    assert proxy.shares(ACCEPTED, "acme", OWN_WORK) >= SHARES


async def more_counted(upstream: HonestUpstream) -> None:
    """Return when the upstream has counted a few shares more."""
    wanted = len(upstream.counted) + SHARES
    await until(lambda: len(upstream.counted) >= wanted)


def assert_paid_pps(settlements: list[Settled]) -> None:
    """To the picosatoshi."""
    for it in settlements:
        assert it.credit_psat == math.floor(it.shares * PPS_PSAT * (1 - FEE))
        assert it.fee_psat == math.floor(it.shares * PPS_PSAT * FEE)
