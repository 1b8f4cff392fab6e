"""Two pools on one embedded node: one that mines for the other, as proxy, and the tenants of both.

Everything is production code over loopback sockets; the node runs Bitcoin Core's consensus code. Times are
real, so those of production that a test would have to wait for are shorter (`hurry`).
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
import trio
from sqlalchemy import ColumnElement, Connection, func, select

from payouts.accrual import settle
from payouts.audit.verify import audit
from payouts.rates import PSAT_PER_SAT, Scheme
from payouts.schemas.money import rates, settled_shares, settlements, tally_minutes, tenants, workers
from payouts.schemas.orders import channel_events, upstream_hours
from pool.books.bookkeeper import BookTimes
from pool.books.journal.schema import upstream_submits
from pool.chain.blocks import BlockResult
from pool.chain.nodes import NodeConfig
from pool.config import PoolConfig
from pool.data_dir import database_url
from pool.fleet.rows import TenantTerms, add_tenant, set_terms
from pool.main import Pool, RunningPool
from pool.orders.machine_speed import MachineSpeeds
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from pool.routing import placement as placement
from pool.routing import routes
from pool.routing.status import RouteStatus
from pool.upstreams import channel as upstream_channel
from pool.upstreams.rows import NewUpstream, add_upstream, find_upstream
from stratum.difficulty import DIFFICULTY_LOG2_MIN
from stratum.miners.listening.listeners import Endpoint
from stratum.miners.switchboard import BoardLimits, Switchboard
from stratum.miners.vardiff import VardiffPolicy
from stratum.tallies import Verdict
from stratum.upstream.connection import LinkLimits
from stratum.upstream.endpoint import UpstreamEndpoint
from stratum.upstream.endpoint_state import BackOff
from stratum.upstream.failover import UpstreamSettings
from tests.fakes.proxy_upstreams import Host, hosting
from tests.fakes.upstreams import PASSWORD, USER, HonestUpstream
from tests.fixtures.databases import store_in
from tests.stages.journal import waiting
from tests.stages.two_pools_machines import Fleet, a_fleet
from tests.stages.waiting import until

__all__ = ["Fleet", "a_fleet", "until"]

PAYOUT_SCRIPT = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=1_000_000)
NO_BLOCKS = 0x1D00FFFF  # of difficulty 1: nobody finds one by the way
MANY_BLOCKS = 0x207FFFFF  # regtest's own: every second hash is one
SUBSIDY_SAT = 50 * 10**8
# What the easiest share is worth where one hash in 2^32 is a block, before the fee.
PPS_PSAT = Fraction(SUBSIDY_SAT * PSAT_PER_SAT, 1 << 32)
FEE = Fraction(TERMS.fee_bps, 10_000)
GOOD = (Verdict.ACCEPTED, Verdict.UNDELIVERED, Verdict.UPSTREAM_REJECTED)  # what a miner is told is good


class Side:
    """One of the two pools, with its store and the blocks that it submitted itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = store_in(directory)
        self.blocks: list[BlockResult] = []
        self.pool: Pool
        self.running: RunningPool

    @property
    def port(self) -> int:
        return self.running.addresses[0][1]

    @property
    def board(self) -> Switchboard:
        return self.pool.edge.miners.board

    @property
    def status(self) -> RouteStatus:
        proxy = self.pool.edge.routing.proxy
        orders = self.pool.allocator.status(proxy.misplaced())
        return RouteStatus(upstreams=proxy.routes.status(), orders=orders)

    @property
    def unanswered(self) -> int:
        """Shares that upstreams have not answered."""
        return sum(it.unanswered for it in self.status.upstreams)

    def changed(self) -> None:
        """Orders or upstreams are others than before."""
        self.pool.edge.routing.proxy.changed()

    # In the books of a pool that has stopped

    @contextmanager
    def books(self) -> Iterator[Connection]:
        """To read them."""
        with self.store.read() as connection:
            yield connection
        self.store.close()

    def shares(
        self, verdict: Verdict, tenant: str | None = None, source: ColumnElement[bool] | None = None
    ) -> int:
        """Of a tenant, or of all; `source` is a condition on the rates that they are booked under."""
        query = select(func.coalesce(func.sum(tally_minutes.c.shares), 0)).where(
            tally_minutes.c.verdict == int(verdict)
        )
        if tenant is not None:
            query = (
                query.join(workers, workers.c.id == tally_minutes.c.worker_id)
                .join(tenants, tenants.c.id == workers.c.tenant_id)
                .where(tenants.c.name == tenant)
            )
        if source is not None:
            query = query.join(rates, rates.c.id == tally_minutes.c.rate_id).where(source)
        with self.books() as connection:
            return int(connection.scalar(query) or 0)

    def good(self, tenant: str | None = None) -> dict[Verdict, int]:
        """Shares that their miners were told are good, by what became of them."""
        counts = {verdict: self.shares(verdict, tenant) for verdict in GOOD}
        return {verdict: count for verdict, count in counts.items() if count}

    def upstream_says(self, tenant: str | None = None) -> dict[str, int]:
        """Verdicts of upstreams on shares that were sent to them, by word."""
        query = select(upstream_hours.c.verdict, func.sum(upstream_hours.c.shares))
        if tenant is not None:
            query = query.join(tenants, tenants.c.id == upstream_hours.c.tenant_id)
            query = query.where(tenants.c.name == tenant)
        with self.books() as connection:
            rows = connection.execute(query.group_by(upstream_hours.c.verdict))
            return {verdict: int(shares) for verdict, shares in rows}

    def events(self, upstream: str | None = None) -> list[str]:
        """Of channels, in their order."""
        query = select(channel_events.c.event).order_by(channel_events.c.id)
        with self.books() as connection:
            if upstream is not None:
                query = query.where(channel_events.c.upstream_id == find_upstream(connection, upstream).id)
            return list(connection.scalars(query))

    def event_words(self, event: str) -> list[str]:
        """Of all events of this kind."""
        query = select(channel_events.c.words).where(channel_events.c.event == event)
        with self.books() as connection:
            return list(connection.scalars(query.order_by(channel_events.c.id)))

    def rows_left(self) -> int:
        """Forwarded shares that are on disk without a settlement."""
        with self.books() as connection:
            keys = set(connection.scalars(select(upstream_submits.c.key)))
            for batch in waiting(self.directory, connection):
                keys -= {key.hex() for key in batch.resolved}
                keys |= {it.key.hex() for it in batch.noted}
            return len(keys)

    def settle(self) -> None:
        """As if the hour were over; then the books must be in order."""
        done: object = True
        while done:
            with self.store.write() as connection:
                done = settle(connection, int(time.time()) + 2 * 3600)
        with self.books() as connection:
            assert audit(connection).wrong is None

    def settled(self, tenant: str) -> list["Settled"]:
        """What was settled for a tenant, in order."""
        shares = select(func.sum(settled_shares.c.shares)).where(
            settled_shares.c.settlement_seq == settlements.c.seq,
            settled_shares.c.difficulty_log2 == DIFFICULTY_LOG2_MIN,
        )
        psat = settlements.c.credit_sat * PSAT_PER_SAT + settlements.c.credit_psat
        fee_psat = settlements.c.fee_sat * PSAT_PER_SAT + settlements.c.fee_psat
        query = (
            select(rates.c.upstream_id, rates.c.order_id, shares.scalar_subquery(), psat, fee_psat)
            .join(rates, rates.c.id == settlements.c.rate_id)
            .join(tenants, tenants.c.id == settlements.c.tenant_id)
            .where(tenants.c.name == tenant)
            .order_by(settlements.c.seq)
        )
        with self.books() as connection:
            return [Settled(*row) for row in connection.execute(query)]


class Settled(msgspec.Struct, frozen=True):
    """The settlement of an hour of a rate, or of a part of it; its shares are the easiest there are."""

    upstream_id: int | None
    order_id: int | None
    shares: int
    credit_psat: int
    fee_psat: int


def check_shares(
    side: Side, fleet: Fleet, tenant: str = "acme", *, blocks: bool = False
) -> dict[Verdict, int]:
    """Of a proxy that has stopped: every share that was acknowledged is in its books once.

    All of them were forwarded, so what is accepted there is what the upstreams said that they accepted. With
    `blocks` they said more: one that came too late to be a share is forwarded all the same.
    """
    good = side.good(tenant)
    assert not side.rows_left()
    assert max(fleet.acknowledged.values()) == 1
    assert fleet.acknowledged.total() <= sum(good.values()) <= fleet.acknowledged.total() + fleet.lost
    said = side.upstream_says(tenant)
    upstream = rates.c.upstream_id.is_not(None)
    for word, verdict in (("accepted", Verdict.ACCEPTED), ("rejected", Verdict.UPSTREAM_REJECTED)):
        more = said.get(word, 0) - side.shares(verdict, tenant, upstream)
        assert more >= 0 if blocks else more == 0
    assert said.get("unanswered", 0) <= good.get(Verdict.UNDELIVERED, 0)
    return good


SETTINGS: dict[str, Any] = {}  # of every pool here, for the test that runs


def hurry(
    monkeypatch: pytest.MonkeyPatch, *, return_after_s: float = 60.0, resubmit_s: float = 2.0, **link: Any
) -> None:
    """Let nothing wait for as long as in production; `link`: nor an upstream be waited for."""
    quick = UpstreamSettings(
        link=LinkLimits(**link),
        back_off=BackOff(min_s=0.05, max_s=0.1, steady_s=0.1),
        stagger_s=1.0,  # no second endpoint serves because the machine was slow for a moment
        return_after_s=return_after_s,
        drain_s=0.5,
        resubmit_s=resubmit_s,
    )
    monkeypatch.setitem(SETTINGS, "upstreams", quick)
    monkeypatch.setattr(upstream_channel, "REFRESH_GAP_S", 0.1)
    monkeypatch.setattr(placement, "ROUND_S", 0.1)
    monkeypatch.setattr(routes, "RETURN_S", 0.5)
    monkeypatch.setattr(routes, "DRAIN_S", 0.2)
    monkeypatch.setattr("stratum.miners.distribution.ANEW_INTERVAL_S", 0.1)


def settings(directory: Path, node: NodeConfig, **changes: Any) -> PoolConfig:
    """Nearly every hash is a share."""
    fields: dict[str, Any] = {
        **SETTINGS,
        "network": "regtest",
        "data_dir": directory,
        "payout_script": PAYOUT_SCRIPT,
        "tag": "/test/",
        "outage_s": 60.0,
        "nodes": (node,),
        "endpoints": (Endpoint(host="127.0.0.1", port=0),),
        "start_difficulty_log2": DIFFICULTY_LOG2_MIN,
        "vardiff": always(DIFFICULTY_LOG2_MIN),
        "extranonce2_bytes": 4,
        "line_bytes_max": 8192,
        "database_url": database_url(directory),
        "books": BookTimes(fold_s=1.0, settle_s=3600.0),
        "board_limits": BoardLimits(refresh_spread_s=0.1),
        "move_interval_s": 0.0,
    }
    return PoolConfig(**(fields | changes))


def always(difficulty_log2: int) -> VardiffPolicy:
    """One difficulty for everybody."""
    return VardiffPolicy(difficulty_log2_min=difficulty_log2, difficulty_log2_max=difficulty_log2)


@asynccontextmanager
async def a_node(directory: Path, nbits: int = NO_BLOCKS) -> AsyncIterator[NodeConfig]:
    """The embedded node."""
    async with trio.open_nursery() as nursery:
        options = RegtestOptions(data_dir=directory / "node", network_bits=nbits)
        node: RegtestNode = await nursery.start(serve_regtest, options)
        yield NodeConfig(name="embedded", url=node.url, cookie_file=node.cookie_file)
        nursery.cancel_scope.cancel()


def a_side(directory: Path, *tenant_names: str) -> Side:
    """A pool's store with PPS tenants in it."""
    directory.mkdir()
    side = Side(directory)
    with side.store.write() as connection:
        for name in tenant_names:
            add_tenant(connection, name, TERMS, by="test", now_s=int(time.time()))
    return side


def add_route(side: Side, name: str, *ports: int, user: str = USER, **options: Any) -> None:
    """An upstream with an endpoint at each of these ports."""
    endpoints = tuple(
        UpstreamEndpoint(host="127.0.0.1", port=port, user=user, password=PASSWORD) for port in ports
    )
    with side.store.write() as connection:
        new = NewUpstream(name=name, endpoints=endpoints, **options)
        add_upstream(connection, new, by="test", now_s=int(time.time()))


def mine_on(side: Side, tenant: str, upstream: str | None, **changes: Any) -> None:
    """The tenant's machines mine there, and it is paid for it by its upstream unless `changes` say so."""
    with side.store.write() as connection:
        number = None if upstream is None else find_upstream(connection, upstream).id
        terms: dict[str, Any] = {"scheme": Scheme.PROXY, "upstream_id": number}
        changed = msgspec.structs.replace(TERMS, **(terms | changes))
        set_terms(connection, tenant, changed, by="test", now_s=int(time.time()))


@asynccontextmanager
async def running(
    side: Side,
    node: NodeConfig,
    *,
    speeds: MachineSpeeds | None = None,
    wall_clock: Callable[[], float] = time.time,
    **changes: Any,
) -> AsyncIterator[Side]:
    """The pool, until the end of the block: then it stops as it does when it is asked to."""
    async with trio.open_nursery() as nursery:
        config = settings(side.directory, node, **changes)
        side.pool = Pool(
            config, side.store, on_block=side.blocks.append, speeds=speeds, wall_clock=wall_clock
        )
        side.running = await nursery.start(side.pool.run)
        yield side
        nursery.cancel_scope.cancel()
    side.store.close()


@asynccontextmanager
async def a_proxy(
    directory: Path,
    node: NodeConfig,
    *ports: int,
    machines: int = 10,
    takes_extranonces: bool = True,
    terms: Mapping[str, Any] = MappingProxyType({}),
    route: Mapping[str, Any] = MappingProxyType({}),
    **changes: Any,
) -> AsyncIterator[tuple[Side, Fleet]]:
    """A pool whose tenant acme mines on an upstream at these ports, and its machines.

    At the end the machines rest, and the pool stops when the upstream has answered everything.
    """
    side = a_side(directory / "proxy", "acme")
    add_route(side, "north", *ports, **route)
    mine_on(side, "acme", "north", **terms)
    async with (
        running(side, node, **changes),
        a_fleet(side.port, {"acme": machines}, takes_extranonces=takes_extranonces) as fleet,
    ):
        yield side, fleet
        await at_rest(side, fleet)


async def at_rest(side: Side, fleet: Fleet) -> None:
    """Nothing more is found, and everything is answered: miners by the pool, the pool by its upstreams."""
    await fleet.rest()
    await until(lambda: not side.unanswered)


@asynccontextmanager
async def facing(
    directory: Path, *upstreams: HonestUpstream, **options: Any
) -> AsyncIterator[tuple[Side, Fleet, list[Host]]]:
    """A proxy before these fakes, the first of which serves while it can."""
    async with a_node(directory) as node, hosting(*upstreams) as hosts:
        ports = [host.port for host in hosts]
        async with a_proxy(directory, node, *ports, **options) as (side, fleet):
            yield side, fleet, hosts
