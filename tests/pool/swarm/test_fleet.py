"""The fleet of simulated miners: its rate, its names, and that it comes back whatever the pool does to it."""

import itertools
import json
import random
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MemoryReceiveStream, MemorySendStream

from pool.swarm import fleet as swarm
from pool.swarm.fleet import MachineConnection, SwarmOptions, SwarmStats, run_swarm, worker_name
from pool.swarm.machine import MinerMachine

JOB: dict[str, Any] = {
    "id": None,
    "method": "mining.notify",
    "params": ["aa", "11" * 32, "01", "02", ["22" * 32], "20000000", "1d00ffff", "496ab951", True],
}

Wire = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


class ScriptedPool:
    """A pool in memory: answers the handshake, sends a job, accepts every share. Faults are attributes."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.connects: list[tuple[float, int]] = []  # when, and to which port
        self.wires: list[Wire] = []
        self.workers: Counter[str] = Counter()
        self.shares: Counter[str] = Counter()
        self.refuses_connections = False
        self.never_answers = False
        self.says_once: dict[str, Any] | None = None  # to the first machine, instead of a job

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        assert host == "pool.test"
        self.connects.append((trio.current_time(), port))
        if self.refuses_connections:
            raise ConnectionRefusedError("nobody listens")
        miner_end, pool_end = trio.testing.memory_stream_pair()
        self.wires.append(pool_end)
        self._nursery.start_soon(self._serve, pool_end)
        return miner_end

    async def _serve(self, wire: Wire) -> None:
        received = b""
        while chunk := await wire.receive_some():
            *lines, received = (received + chunk).split(b"\n")
            for line in lines:
                for reply in [] if self.never_answers else self._answers(json.loads(line)):
                    data = json.dumps(reply).encode() + b"\n"
                    await wire.send_all(data[:7])  # a line in two pieces
                    await wire.send_all(data[7:])

    def _answers(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        match request["method"]:
            case "mining.configure":
                return [{"id": request["id"], "result": {"version-rolling": False}, "error": None}]
            case "mining.subscribe":
                return [{"id": request["id"], "result": [[], "0a0b0c0d", 4], "error": None}]
            case "mining.authorize":
                self.workers[request["params"][0]] += 1
                authorised = {"id": request["id"], "result": True, "error": None}
                return [authorised, {"id": None, "method": "mining.set_difficulty", "params": [2.0**-32]}]
            case "mining.extranonce.subscribe":
                news, self.says_once = self.says_once or JOB, None
                return [{"id": request["id"], "result": True, "error": None}, news]
            case "mining.submit":
                self.shares[request["params"][0]] += 1
                return [{"id": request["id"], "result": True, "error": None}]
        raise AssertionError(request)


def options(**changes: Any) -> SwarmOptions:
    fields: dict[str, Any] = {
        "host": "pool.test",
        "port": 3333,
        "miners": 1,
        "tenants": ("acme",),
        "shares_per_minute": 6.0,
    }
    return SwarmOptions(**(fields | changes))


def test_every_machine_has_its_own_place_and_tenants_take_turns() -> None:
    fleet = options(miners=9, tenants=("acme", "borealis"), containers=2)
    names = [worker_name(fleet, index) for index in range(9)]
    assert names[:2] == ["acme.c01.r01s01", "borealis.c01.r01s02"]
    assert names[5] == "borealis.c02.r01s01"
    assert len({name.split(".", 1)[1] for name in names}) == 9
    assert worker_name(options(miners=800), 799) == "acme.c02.r20s20"


async def test_a_fleet_connects_and_finds_shares_at_its_rate(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, stats = ScriptedPool(nursery), SwarmStats()
    fleet = options(miners=4, tenants=("acme", "borealis"))
    with trio.move_on_after(600):
        await run_swarm(fleet, stats, pool.connect)
    assert pool.workers == Counter({worker_name(fleet, index): 1 for index in range(4)})
    assert 240 * 0.75 < stats.accepted < 240 * 1.25, "4 machines, 6 shares a minute, 10 minutes"
    assert stats.accepted == stats.submitted == pool.shares.total()
    assert min(pool.shares.values()) > 30
    assert stats.connected == 0, "none is left after the fleet was cancelled"
    assert not stats.rejected


async def test_a_rate_of_nothing_only_holds_the_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, stats = ScriptedPool(nursery), SwarmStats()
    nursery.start_soon(run_swarm, options(miners=3, shares_per_minute=0.0), stats, pool.connect)
    await trio.sleep(100)
    assert (stats.connected, stats.submitted) == (3, 0)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("answered", "left_after_s"), [(True, 0.0), (False, swarm.ANSWERED_S_MAX)])
async def test_who_leaves_sends_nothing_more_and_waits_for_what_was_sent(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, answered: bool, left_after_s: float
) -> None:
    pool, stats = ScriptedPool(nursery), SwarmStats()
    stream = await pool.connect("pool.test", 3333)
    machine = MinerMachine("acme.c01.u1", random.Random(1), stats)
    connection = MachineConnection(stream, machine, random.Random(1), options(shares_per_minute=60.0), stats)
    left_s: list[float] = []

    async def mine() -> None:
        await connection.mine()
        left_s.append(trio.current_time())

    nursery.start_soon(mine)
    await trio.sleep(60)
    assert stats.accepted == stats.submitted > 30
    pool.never_answers = not answered
    await trio.sleep(0 if answered else 20)
    leaves_s, submitted = trio.current_time(), stats.submitted
    connection.leave()
    await trio.sleep(60)
    assert stats.submitted == submitted
    assert left_s == [pytest.approx(leaves_s + left_after_s, abs=0.01)]
    nursery.cancel_scope.cancel()


async def test_a_lost_connection_comes_back(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, stats = ScriptedPool(nursery), SwarmStats()
    nursery.start_soon(run_swarm, options(), stats, pool.connect)
    await trio.sleep(60)
    assert stats.connected == 1
    await pool.wires[0].send_eof()
    await trio.sleep(0.2)
    assert stats.connected == 0
    await trio.sleep(1)
    assert (stats.connected, len(pool.connects)) == (1, 2)
    nursery.cancel_scope.cancel()


async def test_an_absent_pool_is_asked_ever_more_seldom(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, stats = ScriptedPool(nursery), SwarmStats()
    pool.refuses_connections = True
    nursery.start_soon(run_swarm, options(), stats, pool.connect)
    await trio.sleep(600)
    times = [at for at, _ in pool.connects]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] <= swarm.BACKOFF_S_MIN
    assert all(15 <= gap <= swarm.BACKOFF_S_MAX for gap in gaps[7:])
    assert len(set(gaps[7:])) == len(gaps[7:]), "jitter"
    pool.refuses_connections = False
    await trio.sleep(40)
    assert stats.connected == 1
    nursery.cancel_scope.cancel()


async def test_a_silent_pool_is_left(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    pool, stats = ScriptedPool(nursery), SwarmStats()
    pool.never_answers = True
    nursery.start_soon(run_swarm, options(), stats, pool.connect)
    await trio.sleep(swarm.SILENCE_S_MAX + 3)
    assert len(pool.connects) == 2
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("params", "ports"),
    [([], [3333, 3333]), (["pool.test", "3334", 7], [3333, 3334]), (["elsewhere.test", 3334], [3333, 3333])],
)
async def test_a_machine_follows_to_another_port_but_to_no_other_host(
    params: list[Any], ports: list[int], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, stats = ScriptedPool(nursery), SwarmStats()
    pool.says_once = {"id": None, "method": "client.reconnect", "params": params}
    nursery.start_soon(run_swarm, options(), stats, pool.connect)
    await trio.sleep(20)
    assert [port for _, port in pool.connects] == ports
    waited_s = pool.connects[1][0] - pool.connects[0][0]
    assert waited_s >= 7 if len(params) == 3 else waited_s <= 1
    assert stats.connected == 1
    nursery.cancel_scope.cancel()


async def test_a_line_without_an_end_is_not_kept(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, stats = ScriptedPool(nursery), SwarmStats()
    nursery.start_soon(run_swarm, options(), stats, pool.connect)
    await trio.sleep(2)
    await pool.wires[0].send_all(b"x" * (swarm.LINE_BYTES_MAX + 1))
    await trio.sleep(2)
    assert (stats.connected, len(pool.connects)) == (1, 2)
    nursery.cancel_scope.cancel()
