"""Strangers without work on the switchboard: what each thing they say costs those who mine.

The connections are in memory, and time is virtual; engine, sessions, turns and commits are the real ones.
"""

import socket

import msgspec
import pytest
import trio
import trio.testing

from stratum.miners import switchboard
from stratum.miners.connection import (
    HALF_OPEN_LINES,
    LINES_AT_ONCE,
    LINES_PER_CHECK,
    OVERDRAWN_CHECKS_MAX,
    write_all,
)
from stratum.miners.liveness import SessionLimits
from stratum.miners.switchboard import LINES_PER_TURN, SHARELESS_S, UNEARNED_PER_CHECK_MAX, WELCOME_COST
from stratum.miners.turns.connection_limits import Place, Standing
from stratum.miners.turns.lanes import (
    HANDSHAKE_COST_PER_ROUND,
    STRANGER_COST_BESIDE_MINERS,
    STRANGER_REST_S,
    TALK_COST_PER_ROUND,
)
from stratum.tallies import Verdict
from tests.stages.memory_connections import CHECK_S, PING, MemoryConnection, mining, running, standing_of
from tests.stages.sockets import LoopbackServer, MemoryJournal, encode
from tests.stages.waiting import until


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)  # there is nothing to wait for but time


# Lines that Python answers


async def test_a_share_waits_for_a_few_lines_of_strangers_and_not_for_all(
    clock: trio.testing.MockClock,
) -> None:
    order: list[str] = []
    async with running() as server:
        good = await mining(server, "192.0.2.1", order)
        flood = [MemoryConnection(server, f"192.0.2.{n % 8 + 2}", order) for n in range(300)]
        for stranger in flood:
            stranger.join()
        await trio.sleep(3)
        for stranger in flood:
            stranger.say(50 * PING)
        order.clear()
        good.say(good.share(2))
        await trio.sleep(60)
        assert sum(stranger.pongs for stranger in flood) == 300 * 50
        rounds = 2 * (0.02 / 0.002)  # in the time of a commit, twice
        assert order.index("192.0.2.1") <= rounds * (TALK_COST_PER_ROUND + LINES_PER_TURN)


async def test_who_come_at_once_are_answered_at_once_and_who_is_dropped_is_told_why(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[int] = []

    def saying(answers: list[tuple[MemoryConnection, bytes]]) -> None:
        said.append(len(answers))
        write_all(answers)

    monkeypatch.setattr(switchboard, "write_all", saying)
    async with running(session_limits=SessionLimits(refusals_max=1)) as server:
        site = [MemoryConnection(server, "192.0.2.1", [], f"acme.c01.u{n}") for n in range(20)]
        for machine in site:
            machine.join()
        await trio.sleep(1)
        assert [size for size in said if size] == [20]
        assert all(machine.heard.count(b"mining.notify") == 2 for machine in site), "once as a topic"
        stranger = MemoryConnection(server, "192.0.2.2", [], "nobody.c01.u1")
        stranger.join()
        await trio.sleep(1)
        assert not stranger.open
        assert b"Unknown tenant" in stranger.heard


async def test_who_leaves_while_it_waits_is_not_kept_until_its_turn(clock: trio.testing.MockClock) -> None:
    async with running() as server:
        lanes, connection = server.board.lanes, MemoryConnection(server, "192.0.2.1", [])
        connection.say(PING)
        assert [len(lane) for lane in lanes.all if len(lane)] == [1]
        server.board.drop(connection, "left")
        assert not any(len(lane) for lane in lanes.all)


async def test_a_newcomer_waits_for_one_line_of_each_address_and_not_of_each_connection(
    clock: trio.testing.MockClock,
) -> None:
    order: list[str] = []
    async with running() as server:
        for _ in range(500):
            MemoryConnection(server, "192.0.2.1", order).say(15 * PING)
        newcomer = MemoryConnection(server, "192.0.2.2", order)
        newcomer.join()
        await trio.sleep(1)
        assert newcomer.session.authorised
        first = order.index("192.0.2.2")
        assert first <= 2 * HANDSHAKE_COST_PER_ROUND, "of 7,500 lines"


async def test_one_source_of_ipv6_has_one_turn_however_many_addresses_it_has(
    clock: trio.testing.MockClock,
) -> None:
    order: list[str] = []
    async with running() as server:
        for number in range(500):
            MemoryConnection(server, f"2001:db8:1:2::{number:x}", order).say(15 * PING)
        MemoryConnection(server, "2001:db8:1:3::1", order).join()
        await trio.sleep(1)
        assert order.index("2001:db8:1:3::1") <= 2 * HANDSHAKE_COST_PER_ROUND


async def test_who_talks_without_end_waits_and_is_dropped_after_a_minute(
    clock: trio.testing.MockClock,
) -> None:
    order: list[str] = []
    async with running() as server:
        talker = MemoryConnection(server, "192.0.2.1", order)
        talker.join()
        talker.say(10_000 * PING)
        await trio.sleep(4)
        assert LINES_AT_ONCE <= talker.pongs <= LINES_AT_ONCE + LINES_PER_CHECK
        assert len(talker.sent) > 9_000 * len(PING), "what waits is not read"
        await trio.sleep(CHECK_S * OVERDRAWN_CHECKS_MAX + 10)
        assert not talker.open
        assert server.board.dropped == {"too many lines": 1}
        assert talker.pongs <= LINES_AT_ONCE + LINES_PER_CHECK * (OVERDRAWN_CHECKS_MAX + 1)


async def test_who_is_not_authorised_has_few_lines(clock: trio.testing.MockClock) -> None:
    async with running() as server:
        talker = MemoryConnection(server, "192.0.2.1", [])
        talker.say(1_000 * PING)
        await trio.sleep(3)
        assert talker.pongs == HALF_OPEN_LINES


async def test_talk_that_a_miner_may_need_is_answered_for_ever(clock: trio.testing.MockClock) -> None:
    async with running() as server:
        talker = MemoryConnection(server, "192.0.2.1", [])
        talker.join()
        await trio.sleep(1)
        for burst in range(60):
            talker.say((LINES_PER_CHECK - 1) * PING)
            await trio.sleep(CHECK_S)
            assert talker.pongs == (burst + 1) * (LINES_PER_CHECK - 1)


async def test_a_rental_proxy_brings_all_its_workers_at_once(clock: trio.testing.MockClock) -> None:
    async with running() as server:
        proxy = MemoryConnection(server, "192.0.2.1", [])
        proxy.join()
        names = [f"acme.c01.u{n}" for n in range(2, 65)]
        proxy.say(b"".join(encode(9, "mining.authorize", name, "x") for name in names))
        await trio.sleep(2)
        assert len(proxy.session.assignment.workers) == 64


@pytest.mark.simulation
async def test_a_site_that_comes_back_waits_for_no_stranger_who_takes_a_bounded_part_of_the_time(
    clock: trio.testing.MockClock,
) -> None:
    """Strangers from a thousand addresses shake hands, and the machines of an address that has mined."""
    async with running() as server:
        good = await mining(server, "192.0.2.1", [])
        addresses = [f"198.51.{n // 250}.{n % 250}" for n in range(1_000)]
        strangers = [MemoryConnection(server, address, []) for address in addresses * 4]
        machines = [MemoryConnection(server, "192.0.2.1", []) for _ in range(1_000)]
        for connection in strangers + machines:
            connection.join()
        await trio.sleep(0.5)
        assert all(machine.session.authorised for machine in machines)
        served = sum(stranger.session.authorised for stranger in strangers)
        lines = STRANGER_COST_BESIDE_MINERS + LINES_PER_TURN + WELCOME_COST
        assert 0 < served <= 0.5 / STRANGER_REST_S * lines / (2 + WELCOME_COST)
        await trio.sleep(20)
        assert all(stranger.session.authorised for stranger in strangers), "everybody has a turn"
        assert good.trusted


async def test_the_first_share_of_a_known_machine_waits_for_no_stranger_of_a_thousand_addresses(
    clock: trio.testing.MockClock,
) -> None:
    """With a turn for each address a container, whose machines have one, would have one in a thousand."""
    async with running() as server:
        await mining(server, "192.0.2.1", [])
        strangers = [MemoryConnection(server, f"198.51.{n // 250}.{n % 250}", []) for n in range(1_000)]
        for stranger in strangers:
            stranger.join()
        machines = [MemoryConnection(server, "192.0.2.1", [], f"acme.c01.u{n}") for n in range(100)]
        for machine in machines:
            machine.join()
        await trio.sleep(10)
        for stranger in strangers:
            stranger.say(LINES_AT_ONCE * PING)
        for number, machine in enumerate(machines):
            machine.say(machine.share(number))
        await trio.sleep(0.1)
        assert all(server.engine.counters(machine.session.slot)[0] == 1 for machine in machines)


async def test_while_nobody_mines_nobody_waits_for_time_to_pass(clock: trio.testing.MockClock) -> None:
    """A pool that has started knows nobody: the first site must be in before it has a share."""
    async with running() as server:
        machines = [MemoryConnection(server, f"192.0.2.{n % 4}", []) for n in range(3_000)]
        since_s = trio.current_time()
        for machine in machines:
            machine.join()
        await until(lambda: all(machine.session.authorised for machine in machines))
        assert trio.current_time() - since_s <= 0.02


# Shares without work


async def test_rejected_shares_cost_nobody_a_line_in_the_books_and_their_connection_its_place(
    clock: trio.testing.MockClock,
) -> None:
    journal = MemoryJournal()
    async with running(journal) as server:
        victim = await mining(server, "192.0.2.1", [], "acme.c09.victim")
        thief = MemoryConnection(server, "192.0.2.2", [], "acme.c09.victim")
        thief.join()
        await trio.sleep(1)
        thief.say(b"".join(thief.share(number, job="1") for number in range(4_000)))
        await trio.sleep(2 * CHECK_S)
        assert not thief.open
        assert server.board.dropped == {"rejected shares without work": 1}
        assert server.engine.totals()[Verdict.JOB_UNKNOWN] > UNEARNED_PER_CHECK_MAX
        tallied = [tally.verdict for commit in journal.commits for tally in commit]
        assert tallied == [Verdict.ACCEPTED]
        assert victim.open
        (named,) = victim.session.assignment.workers
        uncharged = server.services.uncharged.of([named], 0)
        assert uncharged[Verdict.JOB_UNKNOWN] == server.engine.totals()[Verdict.JOB_UNKNOWN], "and counted"


async def test_shares_of_a_stranger_are_read_a_few_at_a_time(clock: trio.testing.MockClock) -> None:
    order: list[str] = []
    async with running() as server:
        good = await mining(server, "192.0.2.1", order)
        flood = [MemoryConnection(server, "192.0.2.2", order, f"acme.c01.u{n}") for n in range(200)]
        for stranger in flood:
            stranger.join()
        await trio.sleep(3)
        before = server.engine.totals()[Verdict.JOB_UNKNOWN]
        for stranger in flood:
            stranger.say(100 * stranger.share(1, job="1"))
        order.clear()
        good.say(good.share(2))
        await until(lambda: "192.0.2.1" in order)
        assert server.engine.totals()[Verdict.JOB_UNKNOWN] - before < 0.2 * 200 * 100


async def test_who_mines_is_no_stranger_from_its_second_share_on(clock: trio.testing.MockClock) -> None:
    """A pool whose miners have all just come has somebody to protect from strangers at once."""
    async with running() as server:
        miner = MemoryConnection(server, "192.0.2.1", [])
        miner.join()
        await trio.sleep(0.1)
        miner.say(miner.share(1))
        await trio.sleep(0.1)
        assert server.connection_limits.mining == 0
        miner.say(miner.share(2))
        await trio.sleep(0.1)
        assert miner.trusted
        assert server.connection_limits.mining == 1
        assert server.connection_limits.knows(miner.place.source)
        bad = MemoryConnection(server, "192.0.2.2", [], "acme.c01.u2")
        bad.join()
        for number in range(5):
            await trio.sleep(0.1)
            bad.say(bad.share(number, job="1"))
        assert not bad.trusted


async def test_who_mined_once_and_no_more_is_a_stranger_again(clock: trio.testing.MockClock) -> None:
    async with running() as server:
        miner = await mining(server, "192.0.2.1", [])
        assert standing_of(miner) is Standing.MINING
        for _ in range(int(SHARELESS_S / 60) + 1):
            await trio.sleep(60)
            miner.say(PING)
        assert standing_of(miner) is Standing.IDLE
        assert not miner.trusted
        miner.say(miner.share(2))
        await trio.sleep(CHECK_S + 1)
        assert miner.trusted
        assert server.connection_limits.mining == 1


async def test_a_machine_that_only_has_bad_luck_is_read_as_before(clock: trio.testing.MockClock) -> None:
    async with running() as server:
        miner = await mining(server, "192.0.2.1", [])
        share = miner.share(50)
        for number in range(20):
            miner.say(share)  # again and again
            miner.say(miner.share(100 + number))
            await trio.sleep(CHECK_S)
            assert miner.trusted
        assert server.engine.totals()[Verdict.DUPLICATE] == 19


async def test_who_has_had_no_share_for_long_leaves_when_somebody_wants_its_extranonces(
    clock: trio.testing.MockClock,
) -> None:
    """Names are free, and an upstream's space may be small."""
    async with running() as server:
        server.channel.extranonces.capacity = 3
        miner = await mining(server, "192.0.2.1", [])
        strangers = [MemoryConnection(server, "192.0.2.2", [], f"acme.c01.u{n}") for n in range(2)]
        for stranger in strangers:
            stranger.join()
        for _ in range(int(SHARELESS_S / 60) + 1):
            await trio.sleep(60)
            miner.say(miner.share(int(trio.current_time())))
            for stranger in strangers:
                stranger.say(PING)
        assert [stranger.open for stranger in strangers].count(False) == 1, "one place is free again"
        machine = await mining(server, "192.0.2.3", [], "acme.c01.u9")
        assert miner.open
        assert machine.open


async def test_of_a_source_that_comes_for_ever_nothing_is_kept_that_has_made_room(
    clock: trio.testing.MockClock,
) -> None:
    """Its newest evicts its oldest, while strangers of many sources have turns before the next of it."""
    async with running() as server:
        waiting = [socket.socketpair() for _ in range(20)]
        ends = [end for pair in waiting for end in pair]
        for number, (mine, _) in enumerate(waiting):
            server.board.arrive(mine, f"192.0.2.{number}", entered(server, f"192.0.2.{number}"))
        limits = server.connection_limits.limits
        server.connection_limits.limits = msgspec.structs.replace(limits, sessions_per_address_max=3)
        for _ in range(500):
            mine, peer = socket.socketpair()
            ends += mine, peer
            server.board.arrive(mine, "203.0.113.9", entered(server, "203.0.113.9"))
        kept = len(server.board.lanes.strangers)
        print(f"{kept} wait for turns, {server.connection_limits.sessions} have places")
        assert kept == server.connection_limits.sessions == 23
        for end in ends:
            end.close()


async def test_a_door_that_closes_lets_those_go_who_have_had_no_turn_yet() -> None:
    async with running() as server:
        pairs = [socket.socketpair() for _ in range(3)]
        for number, (mine, _) in enumerate(pairs):
            mine.setblocking(False)
            server.board.arrive(mine, f"192.0.2.{number}", entered(server, f"192.0.2.{number}"))
        server.board.close_door("no bitcoin node answers")
        assert server.connection_limits.sessions == 0
        assert server.board.dropped == {"no bitcoin node answers": 3}
        for _, peer in pairs:
            with peer:
                assert peer.recv(1) == b""


def entered(server: LoopbackServer, address: str) -> Place:
    place = server.connection_limits.enter(address)
    assert isinstance(place, Place)
    return place
