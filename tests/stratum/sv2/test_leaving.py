"""How machines of Stratum V2 are let go, and that proxies without a machine stay: what SRI's translator and
ESP-Miner were seen to do."""

from random import Random

import pytest
import trio
from trio.testing import MockClock

from stratum.miners.channel import Member
from stratum.miners.contracts import Refusal
from stratum.miners.turns.connection_limits import ConnectionBounds, Standing
from stratum.sv2.messages import REQUIRES_STANDARD_JOBS
from tests.stages.sockets import make_work, pass_in_silence, virtual_clock
from tests.stages.sv2_machine import Sv2Machine
from tests.stages.sv2_pool import Pool, playing
from tests.stages.waiting import until

LEAVE_S = 10.0


@pytest.fixture
def autojump_clock() -> MockClock:
    return virtual_clock()


def session_of(pool: Pool, name: str) -> Member:
    number = pool.server.admission.numbers[name]
    (session,) = (it for it in pool.server.channel.sessions if it.workers == (number,))
    return session


async def hear_the_end(machine: Sv2Machine) -> list[str]:
    """What it is told until the connection ends."""
    before = len(machine.heard)
    with trio.fail_after(60):
        while True:
            try:
                await machine.hear()
            except EOFError:
                break
    return [name for name, _ in machine.heard[before:]]


async def test_who_is_alone_and_cannot_be_moved_finds_its_connection_ended_and_comes_again(
    autojump_clock: MockClock,
) -> None:
    """A Reconnect would end SRI's translator for good, and a Bitaxe does not know it."""
    async with playing() as pool:
        other = pool.server.add_channel(2, extranonce2_bytes=4)
        pool.server.publish(make_work(7), other)
        machine = await pool.machine()
        channel = await machine.open("acme.c01.u1", least=8)
        began_s = trio.current_time()
        pool.server.board.distribution.move(session_of(pool, "acme.c01.u1"), other)
        assert (await machine.mine(channel))["count"] == 1, "until it has to go"
        assert set(await hear_the_end(machine)) <= {"NewExtendedMiningJob", "CloseChannel"}
        assert trio.current_time() - began_s == pytest.approx(LEAVE_S, abs=6)
        pool.server.admission.channels["acme.c01.u1"] = other
        again = await pool.machine(random=Random(2))
        assert (await again.mine(await again.open("acme.c01.u1", least=4)))["count"] == 1


@pytest.mark.parametrize("follows", [True, False])
async def test_who_is_told_to_open_another_channel_and_does_not_comes_again_with_all_of_its_channels(
    follows: bool, autojump_clock: MockClock
) -> None:
    """SRI's translator does nothing about the machine whose channel is closed, which mined on for nothing."""
    async with playing() as pool:
        server, other = pool.server, pool.server.add_channel(2, extranonce2_bytes=4)
        server.publish(make_work(7), other)
        proxy = await pool.machine()
        stays = await proxy.open("acme.c01.u1", least=8)
        await proxy.open("acme.c01.u2", least=8)
        server.board.distribution.move(session_of(pool, "acme.c01.u2"), other)
        server.admission.channels["acme.c01.u2"] = other
        assert (await proxy.until("CloseChannel"))["code"] == "moved"
        if follows:
            instead = await proxy.open("acme.c01.u2", least=4)
            await until(lambda: server.board.dropped["moved"] == 1, look_s=1)
            for channel in (stays, instead):
                assert (await proxy.mine(channel))["count"] == 1
            return
        assert (await proxy.mine(stays))["count"] == 1
        await hear_the_end(proxy)
        again = await pool.machine(random=Random(2))
        for unit, least in (("u1", 8), ("u2", 4)):
            assert (await again.mine(await again.open(f"acme.c01.{unit}", least=least)))["count"] == 1


async def test_before_a_restart_all_on_a_connection_come_again_together(autojump_clock: MockClock) -> None:
    """One that was told to open another channel would be refused it."""
    async with playing() as pool:
        proxy = await pool.machine()
        first, second = await proxy.open("acme.c01.u1", least=4), await proxy.open("acme.c01.u2", least=4)
        pool.server.connection_limits.draining = "the pool is about to restart"
        leaves = session_of(pool, "acme.c01.u1")
        (its,) = (it for it in pool.server.board.connections if it.session.assignment is leaves)
        pool.server.board.let_go(its, "the pool is about to restart")
        for channel in (first, second):
            assert (await proxy.mine(channel))["count"] == 1, "until it has to go"
        assert "CloseChannel" not in [name for name, said in proxy.heard if said.get("channel") == 2]
        await hear_the_end(proxy)
        assert pool.server.connection_limits.sessions == 0


async def test_a_restart_that_is_called_off_has_all_come_again_that_one_was_let_go_with(
    autojump_clock: MockClock,
) -> None:
    """It was told nothing, and would be a CloseChannel now, which SRI's translator passes over."""
    async with playing() as pool:
        proxy = await pool.machine()
        for unit in ("u1", "u2"):
            await proxy.open(f"acme.c01.{unit}", least=4)
        pool.server.connection_limits.draining = "the pool is about to restart"
        leaves = session_of(pool, "acme.c01.u1")
        (its,) = (it for it in pool.server.board.connections if it.session.assignment is leaves)
        pool.server.board.let_go(its, "the pool is about to restart")
        pool.server.connection_limits.draining = None
        await hear_the_end(proxy)
        assert pool.server.connection_limits.sessions == 0


@pytest.mark.parametrize("channels", [0, 1])
async def test_who_opens_a_channel_before_a_restart_comes_again_and_is_not_refused(channels: int) -> None:
    """A refusal would end SRI's translator for good."""
    async with playing() as pool:
        proxy = await pool.machine()
        for _ in range(channels):
            await proxy.open("acme.c01.u1", least=4)
        pool.server.connection_limits.draining = "the pool is about to restart"
        await proxy.ask_to_open("acme.c01.u2", least=4)
        assert await hear_the_end(proxy) == []
        assert pool.server.connection_limits.sessions == 0


async def test_who_waits_for_its_machines_while_no_node_answers_comes_again_and_is_not_refused() -> None:
    async with playing() as pool:
        proxy = await pool.machine()
        pool.server.board.close_door("no bitcoin node answers")
        await proxy.ask_to_open("acme.c01.u2", least=4)
        assert await hear_the_end(proxy) == []
        assert pool.server.connection_limits.sessions == 0


async def test_who_may_have_its_first_channel_later_comes_again_and_no_others_work_is_ended() -> None:
    """Own work has no node, and the pool an upstream for others: its door stays open."""
    async with playing() as pool:
        first, several = await pool.machine(), await pool.machine(random=Random(2))
        stays = await several.open("acme.c01.u1", least=4)
        pool.server.admission.refusal = Refusal("no bitcoin node answers", passes=True)
        await first.ask_to_open("acme.c01.u2", least=4)
        assert await hear_the_end(first) == []
        await several.ask_to_open("acme.c01.u3", least=4)
        said = await several.until("OpenMiningChannel.Error")
        assert said["code"] == "unknown-user: no bitcoin node answers"
        assert (await several.mine(stays))["count"] == 1
        pool.server.admission.refusal = None
        again = await pool.machine(random=Random(3))
        assert (await again.mine(await again.open("acme.c01.u2", least=4)))["count"] == 1


@pytest.mark.parametrize("before", [True, False])
async def test_who_has_other_work_mines_on_without_a_node_and_comes_again_when_there_is_one(
    before: bool, autojump_clock: MockClock
) -> None:
    """SRI's translator opens no channel again that is closed to it, and is ended by one that is refused, with
    all that mine on others."""
    no_node = "no bitcoin node answers"
    async with playing() as pool:
        server, sold = pool.server, pool.server.add_channel(2)
        server.publish(make_work(7), sold)
        server.admission.channels["acme.c01.u1"] = sold
        proxy = await pool.machine()
        mines = await proxy.open("acme.c01.u1", least=4)
        if before:
            await proxy.open("acme.c01.u2", least=4)
        server.channel.paused, server.admission.refusal = True, Refusal(no_node, passes=True)
        server.board.drop_channel(server.channel, no_node)
        if not before:
            await proxy.ask_to_open("acme.c01.u2", least=4)
        for number in range(8, 10):
            server.publish(make_work(number), sold)
            await proxy.until("SetNewPrevHash")
            assert (await proxy.mine(mines))["count"] == 1
        assert "OpenMiningChannel.Error" not in [name for name, _ in proxy.heard]
        server.channel.paused, server.admission.refusal = False, None
        server.publish(make_work(10), sold)
        assert "OpenMiningChannel.Error" not in await hear_the_end(proxy)
        again = await pool.machine(random=Random(2))
        for unit in ("u1", "u2"):
            assert (await again.mine(await again.open(f"acme.c01.{unit}", least=4)))["count"] == 1


async def test_who_passes_another_prefix_over_comes_again_with_all_of_its_channels(
    autojump_clock: MockClock,
) -> None:
    """Else a proxy would have a machine of its mine on for nothing: such ones pass CloseChannel over too."""
    async with playing() as pool:
        other = pool.server.add_channel(2)
        pool.server.publish(make_work(7), other)
        proxy = await pool.machine()
        moved, stays = await proxy.open("acme.c01.u1", least=4), await proxy.open("acme.c01.u2", least=4)
        pool.server.board.distribution.move(session_of(pool, "acme.c01.u1"), other)
        await proxy.until("SetExtranoncePrefix")
        assert (await proxy.mine(stays))["count"] == 1
        with trio.fail_after(60):
            while "other extranonces not taken" not in pool.server.board.dropped:
                share, _ = moved.share()
                await proxy.submit(moved, share | {"job": 1})
                await trio.sleep(2)
        await hear_the_end(proxy)
        assert pool.server.connection_limits.sessions == 0


async def test_a_channel_that_finds_nothing_valid_is_closed_when_that_is_said_and_not_before(
    autojump_clock: MockClock,
) -> None:
    """Who heard of it a minute before, and opened another one, left the first to us for as long as its
    connection was there, with its place and its extranonces."""
    async with playing() as pool:
        proxy = await pool.machine()
        stays, wrong = await proxy.open("acme.c01.u1", least=4), await proxy.open("acme.c01.u2", least=4)
        with trio.fail_after(300):
            while wrong.closed is None:
                share, _ = wrong.share()
                await proxy.submit(wrong, share | {"job": 1})
                await proxy.until("SubmitShares.Error", "CloseChannel")
                await trio.sleep(2)
        instead = await proxy.open("acme.c01.u2", least=4)
        await pass_in_silence(autojump_clock, 60)
        assert len(pool.server.board.connections) == 2
        assert wrong.closed == "only invalid shares"
        for channel in (stays, instead):
            assert (await proxy.mine(channel))["count"] == 1


async def test_a_proxy_whose_machines_are_switched_off_stays(autojump_clock: MockClock) -> None:
    """SRI's takes the end of its connection for a pool's failure, and goes to its next pool for good."""
    async with playing() as pool:
        proxy = await pool.machine()
        await pass_in_silence(autojump_clock, 1_000)
        channel = await proxy.open("acme.c01.u1", least=4)
        assert (await proxy.mine(channel))["count"] == 1
        await proxy.say(0x18, channel.number.to_bytes(4, "little") + b"\0", 0x8000)
        await until(lambda: not pool.server.board.connections)
        await pass_in_silence(autojump_clock, 1_000)
        assert (await proxy.mine(await proxy.open("acme.c01.u1", least=4)))["count"] == 1
        assert not pool.server.board.dropped.keys() - {"left"}


async def test_who_takes_standard_jobs_alone_is_no_proxy_and_opens_in_time(autojump_clock: MockClock) -> None:
    async with playing() as pool:
        machine = await pool.machine(setup=False)
        await machine.setup(REQUIRES_STANDARD_JOBS)
        assert await hear_the_end(machine) == []
        assert pool.server.board.dropped == {"no channel opened": 1}


async def test_a_proxy_that_waits_makes_room_for_who_mines() -> None:
    async with playing(connection_bounds=ConnectionBounds(sessions_max=2)) as pool:
        proxies = [await pool.machine(random=Random(seed)) for seed in (1, 2)]
        assert pool.server.connection_limits.standing()[Standing.HALF_OPEN] == 2
        machine = await pool.machine(random=Random(3))
        assert (await machine.mine(await machine.open()))["count"] == 1
        assert await hear_the_end(proxies[0]) == []
