"""Listeners over real sockets: who is let in, who is refused and how, PROXY headers, descriptors."""

import errno
import gc
import os
import socket
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio
import trio.testing

import stratum.miners.listening.listeners
from stratum.miners.listening.listeners import BadEndpoint, Endpoint, open_listener
from stratum.miners.liveness import SessionLimits
from stratum.miners.turns.connection_limits import MADE_ROOM, ConnectionBounds
from stratum.tallies import Verdict
from tests.stages.sockets import (
    LOOPBACK,
    LoopbackServer,
    Miner,
    accepted,
    connect,
    encode,
    serving,
    virtual_clock,
)
from tests.stages.waiting import PATIENCE_S, until

BEHIND_PROXY = Endpoint(host="127.0.0.1", port=0, proxies=(ip_network("127.0.0.0/8"),))
BEHIND_ANOTHER = Endpoint(host="127.0.0.1", port=0, proxies=(ip_network("192.0.2.0/24"),))
V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return virtual_clock()


async def refusal(miner: Miner) -> str:
    """The words with which the connection was refused; then it must be closed."""
    message = await miner.message()
    assert message["method"] == "client.show_message"
    assert await miner.line() == b""
    return str(message["params"][0])


# Listening


async def test_every_endpoint_serves_the_same_work() -> None:
    async with serving(endpoints=(LOOPBACK, LOOPBACK)) as server:
        assert len(server.listeners.addresses) == 2
        for _, port in server.listeners.addresses:
            miner = await (await connect(port)).start()
            server.miners.append(miner)
            assert accepted(await miner.mine())


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_ipv6_is_served() -> None:
    async with serving(endpoints=(Endpoint(host="::1", port=0),)) as server:
        stream = await trio.open_tcp_stream("::1", server.port)
        miner = Miner(stream, "acme.c01.u1")
        server.miners.append(miner)
        assert accepted(await (await miner.start()).mine())
        assert [connection.address for connection in server.board.connections] == ["::1"]


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "x" * 70, "a b", "nul\0", "::zz"])
def test_address_that_cannot_be_had_is_refused_in_words(host: str) -> None:
    with pytest.raises(BadEndpoint, match="cannot listen on"):
        open_listener(Endpoint(host=host, port=0))


def test_port_in_use_is_refused_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BadEndpoint, match="in use"):
        open_listener(Endpoint(host="127.0.0.1", port=taken.getsockname()[1]))


async def test_one_bad_endpoint_leaves_nothing_open() -> None:
    gc.collect()  # what other tests have left open is closed here, and not in the middle
    before = set(os.listdir("/dev/fd"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = LoopbackServer(endpoints=(LOOPBACK, Endpoint(host="127.0.0.1", port=taken.getsockname()[1])))
        with pytest.raises(BadEndpoint):
            await server.listeners.run()
    server.board.poller.close()
    assert set(os.listdir("/dev/fd")) == before


# The door


async def test_full_pool_refuses_in_words_and_takes_in_again() -> None:
    async with serving(connection_bounds=ConnectionBounds(sessions_max=2)) as server:
        inside = [await server.mining(f"acme.c01.u{n}") for n in range(2)]
        assert await refusal(await server.connect()) == "Connection refused: pool is full"
        for miner in inside:
            assert accepted(await miner.mine())
        await inside[0].close()
        await until(lambda: server.connection_limits.sessions == 1)
        assert accepted(await (await server.mining()).mine())
        assert server.board.dropped["pool is full"] == 1


async def test_sessions_of_one_address_are_bounded() -> None:
    async with serving(connection_bounds=ConnectionBounds(sessions_per_address_max=1)) as server:
        await server.mining()
        assert "too many connections from this address" in await refusal(await server.connect())


async def test_the_oldest_unfinished_handshake_makes_room_and_miners_never_do() -> None:
    async with serving(connection_bounds=ConnectionBounds(half_open_per_address_max=3)) as server:
        miners = [await server.mining(f"acme.c01.u{n}") for n in range(5)]
        silent = [await server.connect() for _ in range(4)]
        assert await silent[0].line() == b""
        assert server.board.dropped == {MADE_ROOM: 1}
        miners.append(await server.mining("acme.c01.u5"))
        for miner in miners:
            assert accepted(await miner.mine())


async def test_more_half_open_connections_than_there_may_be_keep_no_machine_of_their_address_out() -> None:
    async with serving() as server:
        for _ in range(1_100):
            await server.connect()
        for number in range(76):
            assert accepted(await (await server.mining(f"acme.c01.u{number}")).mine())


async def test_an_address_is_never_shut_for_what_one_machine_does() -> None:
    async with serving() as server:
        for _ in range(120):
            abuser = await server.connect(head=b"x" * 10_000)
            assert await abuser.line() == b""
        assert server.board.dropped == {"line too long": 120}
        await server.mining("acme.c01.u2")


async def test_closed_door_lets_everybody_go_and_nobody_in_until_it_opens() -> None:
    async with serving() as server:
        miner = await server.mining()
        server.board.close_door("no bitcoin node answers")
        assert await miner.line() == b""
        assert await refusal(await server.connect()) == "Connection refused: no bitcoin node answers"
        server.connection_limits.closed = None
        assert accepted(await (await server.mining()).mine())


async def test_connections_that_are_reset_before_they_are_accepted_harm_nobody() -> None:
    async with serving() as server:
        good = await server.mining()
        for _ in range(50):
            (await server.connect()).reset()
        assert accepted(await good.mine())
        await until(lambda: server.connection_limits.sessions == 1)


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EHOSTUNREACH])
async def test_error_of_one_connection_in_accept_is_not_ours(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = socket.socket.accept
    errors = [OSError(number, "of the connection")]

    def fail_once(listener: socket.socket) -> tuple[socket.socket, object]:
        if errors:
            raise errors.pop()
        return accept(listener)

    async with serving() as server:
        monkeypatch.setattr(socket.socket, "accept", fail_once)
        assert accepted(await (await server.mining()).mine())
    assert not errors


async def test_socket_that_cannot_be_watched_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(poller: object, sock: socket.socket, data: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with serving() as server:
        monkeypatch.setattr(type(server.board.poller), "register", fail)
        assert await (await server.connect()).line() == b""
        monkeypatch.undo()
        assert server.connection_limits.sessions == 0
        assert server.board.dropped == {"connection lost": 1}
        assert accepted(await (await server.mining()).mine())


# Out of descriptors

STARVED_SERVER = """
import resource, trio
from tests.stages.sockets import serving

resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))

async def main():
    async with serving() as site:
        print(site.port, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_pool_out_of_descriptors_refuses_in_words_and_recovers() -> None:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", STARVED_SERVER],
        cwd=Path(__file__).parent.parent.parent.parent.parent,
        stdout=subprocess.PIPE,
    )
    try:
        await use_up_descriptors(await port_of(process))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


async def port_of(process: trio.Process) -> int:
    """What the server says first on its output, after a line of its log."""
    said = b""
    assert process.stdout is not None
    with trio.fail_after(PATIENCE_S):
        while not said.endswith(b"\n") or not said.splitlines()[-1].isdigit():
            said += await process.stdout.receive_some()
    return int(said.splitlines()[-1])


async def use_up_descriptors(port: int) -> None:
    good = await (await connect(port)).start()
    inside, refused = [], 0
    for number in range(40):
        miner = await connect(port, f"acme.c01.u{number}", head=encode(1, "mining.subscribe", "x"))
        message = await miner.message()
        if "method" in message:
            assert message["params"] == ["Connection refused: pool is full"]
            await miner.close()
            refused += 1
        else:
            inside.append(miner)
    assert len(inside) > 5
    assert refused > 10
    assert accepted(await good.mine())
    for miner in inside:
        await miner.close()
    with trio.fail_after(PATIENCE_S):
        while True:
            late = await connect(port, head=encode(1, "mining.subscribe", "x"))
            answered = "method" not in await late.message()
            await late.close()
            if answered:
                break
    assert accepted(await good.mine())
    await good.close()


async def test_spare_descriptor_that_somebody_else_took_is_no_disaster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accept, os_open = socket.socket.accept, os.open
    faults = [OSError(errno.EMFILE, "Too many open files")] * 5

    def starved_accept(listener: socket.socket) -> tuple[socket.socket, object]:
        if faults:
            raise faults.pop()
        return accept(listener)

    def starved_open(*arguments: object) -> int:
        if faults:
            raise OSError(errno.EMFILE, "Too many open files")
        return os_open(*arguments)  # type: ignore[arg-type]

    async with serving() as server:
        good = await server.mining()
        monkeypatch.setattr(socket.socket, "accept", starved_accept)
        monkeypatch.setattr(os, "open", starved_open)
        assert accepted(await (await server.mining("acme.c01.late")).mine())
        assert accepted(await good.mine())
    assert not faults


# Behind a load balancer


@pytest.mark.parametrize(
    ("head", "address"),
    [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 3333\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 56324 3333\r\n", "2001:db8::7"),
        (V2_SIGNATURE + bytes.fromhex("2111000c c0000207 0a000001 1234 0d05"), "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (V2_SIGNATURE + bytes.fromhex("20000000"), "127.0.0.1"),
    ],
)
async def test_miner_behind_a_trusted_balancer_has_its_own_address(head: bytes, address: str) -> None:
    async with serving(endpoints=(BEHIND_PROXY,)) as server:
        miner = await server.connect(head=head + encode(9, "mining.ping"))
        assert (await miner.answer(9))["result"] == "pong"
        await miner.start()
        assert accepted(await miner.mine())
        assert [connection.address for connection in server.board.connections] == [address]


async def test_header_may_come_a_byte_at_a_time() -> None:
    async with serving(endpoints=(BEHIND_PROXY,)) as server:
        miner = await server.connect()
        for byte in b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 3333\r\n":
            await miner.say(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert accepted(await (await miner.start()).mine())


async def test_limits_are_those_of_the_miner_and_not_of_the_balancer() -> None:
    limits = ConnectionBounds(sessions_per_address_max=1)
    async with serving(endpoints=(BEHIND_PROXY,), connection_bounds=limits) as server:
        heads = [b"PROXY TCP4 192.0.2.%d 10.0.0.1 1 2\r\n" % number for number in range(5)]
        for head in heads:
            await server.mining(head=head)
        assert "too many connections" in await refusal(await server.connect(head=heads[0]))
        assert server.connection_limits.sessions == 5


@pytest.mark.parametrize(
    "head",
    [
        encode(1, "mining.subscribe", "x"),
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY " + b"x" * 5_000,
        V2_SIGNATURE + bytes.fromhex("2111ffff"),
        V2_SIGNATURE + bytes.fromhex("31110000"),
        bytes(3_000),
    ],
)
async def test_trusted_balancer_that_sends_no_good_header_is_not_served(head: bytes) -> None:
    async with serving(endpoints=(BEHIND_PROXY,)) as server:
        good = await server.mining(head=b"PROXY UNKNOWN\r\n")
        assert await (await server.connect(head=head)).line() == b""
        assert server.board.dropped["bad PROXY header"] == 1
        assert server.connection_limits.sessions == 1
        assert accepted(await good.mine())


async def test_header_that_does_not_come_to_its_end_is_waited_for_a_while(
    clock: trio.testing.MockClock,
) -> None:
    async with serving(endpoints=(BEHIND_PROXY,)) as server:
        waiting = [await server.connect(head=head) for head in (b"", b"PROXY TC", V2_SIGNATURE)]
        leaving = await server.connect(head=b"PROXY TCP4 ")
        await leaving.close()
        await trio.sleep(stratum.miners.listening.listeners.PROXY_HEADER_S - 1)
        assert server.board.dropped["bad PROXY header"] == 1
        await trio.sleep(2)
        assert server.board.dropped["bad PROXY header"] == 4
        for miner in waiting:
            assert await miner.line() == b""


async def test_the_header_that_is_waited_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stratum.miners.listening.listeners, "PROXY_HEADERS_MAX", 2)
    async with serving(endpoints=(BEHIND_PROXY,)) as server:
        first, second = [await server.connect(head=b"PROXY") for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked()
        third = await server.connect(head=b"PROXY")
        assert await first.line() == b""
        for miner in (second, third):
            await miner.say(b" UNKNOWN\r\n")
            await miner.start()
        await server.mining(head=b"PROXY UNKNOWN\r\n")


async def test_ipv4_behind_a_balancer_is_ipv4_however_it_is_written() -> None:
    async with serving(endpoints=(BEHIND_PROXY,)) as server:
        await server.mining(head=b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n")
        assert {connection.address for connection in server.board.connections} == {"192.0.2.7"}


async def test_stranger_cannot_choose_its_address() -> None:
    async with serving(endpoints=(BEHIND_ANOTHER,)) as server:
        assert accepted(await (await server.mining()).mine())
        liar = await server.connect(head=b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 3333\r\n")
        assert (await liar.message())["error"][1] == "Malformed JSON"
        assert {connection.address for connection in server.board.connections} == {"127.0.0.1"}


async def test_stop_closes_connections_that_are_still_on_their_way_in() -> None:
    gc.collect()  # what other tests have left open is closed here, and not in the middle
    before = set(os.listdir("/dev/fd"))
    async with serving(endpoints=(BEHIND_PROXY,)) as server:
        for _ in range(3):
            await server.connect(head=b"PROXY")
        await trio.testing.wait_all_tasks_blocked()
    assert set(os.listdir("/dev/fd")) == before


async def test_server_goes_on_when_all_leave_at_once_and_come_back() -> None:
    async with serving(session_limits=SessionLimits()) as server:
        for _ in range(3):
            miners = [await server.mining(f"acme.c01.u{n}") for n in range(60)]
            for miner in miners:
                miner.reset()
            await until(lambda: server.connection_limits.sessions == 0)
        assert accepted(await (await server.mining()).mine())
        assert server.engine.totals()[Verdict.ACCEPTED] == 1
