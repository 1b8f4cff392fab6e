"""A hub that is killed in the middle of what it does for money, and another one that takes over: each hour is
settled once, each tenant is paid once.

Hubs are processes, and so is whoever gives a command; where a hub stands is known by a lock that it waits
for, and where a command stands by a node that does not answer yet.
"""

import base64
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import psycopg
import pytest
import trio

from payouts.batches.batch import AttemptState, State
from pool.books.book import bind
from pool.books.store import open_store
from pool.regtest.http import HttpServer, Reply
from tests.faults.test_30_sites import more, new_miners
from tests.faults.test_31_sites_cluster import Fleet, connections, fleet
from tests.fixtures.databases import PostgresDatabases
from tests.fixtures.nats_servers import Keys, NatsServer
from tests.stages.payouts import (
    APPROVER,
    COIN_SAT,
    COINS,
    CREATOR,
    PAID_SAT,
    Regtest,
    World,
    world_of,
)
from tests.stages.people import log_in
from tests.stages.sites import ANGARA, HUB, Program, Sites, on_this_host, once
from tests.stages.waiting import until

__all__ = ["fleet"]

CAP_SAT = 20_000
# Of one settlement, in order.
STEPS = ("ledger_transactions", "ledger_transfers", "settlements", "settled_shares")
# Some process of ours waits for what this test has locked.
WAITS = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity AS it USING (pid)
    WHERE NOT granted AND relation = %s::regclass AND it.datname = current_database()
"""


class Locked:
    """A table in which nobody can write."""

    def __init__(self, connection: psycopg.Connection, table: str) -> None:
        self._connection, self._table = connection, table

    async def reached(self) -> None:
        """Wait until somebody is to write there, and has written what comes before it."""

        def waits() -> bool:
            (count,) = self._connection.execute(WAITS, [self._table]).fetchone() or (0,)
            return bool(count)

        await until(waits)


@contextmanager
def locked(database: str, table: str) -> Iterator[Locked]:
    with psycopg.connect(database, autocommit=True) as holder, holder.transaction():
        holder.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        yield Locked(holder, table)


# Of hours


@pytest.fixture
async def sites(tmp_path: Path, postgres_databases: PostgresDatabases) -> AsyncIterator[Sites]:
    with postgres_databases.fresh_url() as database:
        async with on_this_host(tmp_path, database, edges=("north",), hubs=2) as made:
            await made.begin()
            yield made


async def failed_over(hubs: Sequence[Program]) -> Sequence[Program]:
    """The first is killed, and waits when the second has the books: who has them, and who waits."""
    first, second = hubs
    first.kill()
    await second.says("hub_serves")
    first.start()
    await first.says("standby")
    return second, first


@pytest.mark.soak
async def test_a_hub_killed_between_any_two_steps_of_a_settlement_is_followed_by_one_that_settles_it_once(
    sites: Sites, fleet: Fleet
) -> None:
    miners = new_miners(sites, fleet)
    hubs: Sequence[Program] = sites.hubs
    for table in STEPS:
        with locked(sites.database, table) as settlement:
            await more(miners)
            await settlement.reached()
            hubs[0].kill()
        hubs = await failed_over(hubs)
    await more(miners)
    assert connections(miners) == 0
    fleet.stop()
    await sites.all_is_booked()
    booked = sites.shares()
    once(miners, booked)

    await until(lambda: sites.settled() >= booked.total())
    assert sites.settled() == booked.total()
    assert sites.shares() == booked  # and the ledger is what follows from it


# Of a batch


class NodeThatWaits:
    """The embedded node over HTTP, which can keep one call's answer: before it is carried out, or after."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: tuple[str, bool] | None = None
        self.reached, self.answers = trio.Event(), trio.Event()

    def keep(self, method: str, *, carried_out: bool) -> None:
        self._kept = method, carried_out
        self.reached, self.answers = trio.Event(), trio.Event()

    async def answer(self, body: bytes) -> Reply:
        method = msgspec.json.decode(body)["method"]
        kept, carried_out = self._kept or ("", False)
        if method != kept:
            return await self._world.rpc_server.answer(body)
        self._kept = None
        reply = await self._world.rpc_server.answer(body) if carried_out else None
        self.reached.set()
        await self.answers.wait()
        return reply or await self._world.rpc_server.answer(body)


class Office:
    """Two hubs of one book, and people who pay out at the one that has it: the first."""

    def __init__(self, home: Path, database: str, world: World, node: NodeThatWaits) -> None:
        self.home, self.database, self.world, self.node = home, database, world, node
        self.hubs: Sequence[Program] = ()
        self.ann, self.bob = (log_in(world.store, home, name) for name in (CREATOR, APPROVER))

    async def give(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        home = self.hubs[0].directory
        return await trio.run_process(
            [ANGARA, "payout", *words, "-c", str(home / "angara.toml")],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=home,
        )

    async def good(self, *words: str) -> None:
        said = await self.give(*words)
        assert said.returncode == 0, said.stderr + said.stdout

    async def killed_where_it_writes(self, table: str, *words: str) -> None:
        """A command, which is refused, or was never given, as its hub is killed where this is written."""
        async with trio.open_nursery() as nursery:
            with locked(self.database, table) as write:
                nursery.start_soon(self.give, *words)
                await write.reached()
                self.hubs[0].kill()
        self.hubs = await failed_over(self.hubs)

    async def killed_while_the_node_has(self, method: str, *words: str, carried_out: bool) -> None:
        """The same, in this call; the node's answer comes when the other hub has the books."""
        self.node.keep(method, carried_out=carried_out)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.give, *words)
            await self.node.reached.wait()
            self.hubs = await failed_over(self.hubs)
            self.node.answers.set()

    async def signed(self) -> Path:
        """What the signer makes of what is exported."""
        given, back = self.home / "given.psbt", self.home / "signed.psbt"
        await self.good("export", "1", "--out", str(given), *self.ann)
        back.write_bytes(self.world.signer.sign(base64.b64decode(given.read_text())))
        return back


@asynccontextmanager
async def office(home: Path, database: str, regtest: Regtest) -> AsyncIterator[Office]:
    store = open_store(database)
    bind(store, "regtest")
    nats = NatsServer(home, Keys(home, ()))
    nats.start()
    async with world_of(regtest, store) as world, trio.open_nursery() as nursery:
        node = NodeThatWaits(world)
        server = HttpServer(node.answer, b"u:p", nursery.cancel_scope.cancel)
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, server.serve, [listener])
        it = Office(home, database, world, node)
        settings = world.settings_at(listener.socket.getsockname()[1]) + HUB.format(
            database=database, nats=f'["nats://127.0.0.1:{nats.port}"]', key=nats.keys.home / "hub.nk"
        )
        it.hubs = [Program("hub", home / f"hub{number}", settings) for number in range(2)]
        try:
            it.hubs[0].start()
            await it.hubs[0].says("hub_serves")
            it.hubs[1].start()
            await it.hubs[1].says("standby")
            yield it
        finally:
            for hub in it.hubs:
                hub.kill()
        nursery.cancel_scope.cancel()
    nats.remove()
    store.close()


@pytest.mark.soak
async def test_a_hub_killed_between_any_two_steps_of_a_payout_is_followed_by_one_that_pays_it_once(
    tmp_path: Path, postgres_databases: PostgresDatabases, regtest: Regtest
) -> None:
    with postgres_databases.fresh_url() as database:
        async with office(tmp_path, database, regtest) as it:
            await it.killed_where_it_writes("payout_items", "create", *it.ann)
            assert it.world.batches() == (), "all of it, or nothing"
            await it.good("create", *it.ann)
            approval = ("--digest", it.world.batch().digest, "--fee-cap-sat", str(CAP_SAT), *it.bob)
            await it.killed_where_it_writes("payout_events", "approve", "1", *approval)
            assert it.world.batch().state is State.DRAFT
            await it.good("approve", "1", *approval)
            back = await it.signed()
            receive = ("import", "1", str(back), *it.ann)
            await it.killed_while_the_node_has("testmempoolaccept", *receive, carried_out=True)
            assert it.world.batch().attempts[0].state is AttemptState.GIVEN, "a former hub's guest"
            await it.good(*receive)
            send = ("broadcast", "1", *it.ann)
            await it.killed_while_the_node_has("sendrawtransaction", *send, carried_out=False)
            await it.killed_while_the_node_has("sendrawtransaction", *send, carried_out=True)
            assert it.world.pending() == [it.world.batch().attempts[0].txid]
            with locked(database, "payout_events") as write:  # the hub's own, to which it has grown
                await it.world.mine(6)
                await write.reached()
                it.hubs[0].kill()
            it.hubs = await failed_over(it.hubs)
            await until(lambda: it.world.batch().state is State.FINAL)
            assert it.world.paid_sat() == PAID_SAT
            fee_sat, total_sat = it.world.batch().attempts[0].fee_sat, sum(PAID_SAT.values())
            assert it.world.wallet_sat() == COINS * COIN_SAT - total_sat - fee_sat
            assert it.world.balances() == {
                "pool.coins": total_sat + fee_sat,
                "pool.node_fees": -fee_sat,
                "pool.pps_expense": -total_sat,
            }
