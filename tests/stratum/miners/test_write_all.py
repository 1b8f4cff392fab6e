"""Bytes for many miners at once: what each is told, in which order, and what becomes of who does not read."""

import errno
import socket

from stratum._engine import send_all
from stratum.miners.connection import Connection, SocketConnection, write_all
from stratum.miners.traces.traces import Traces
from tests.stages.sockets import LoopbackServer, Miner, serving
from tests.stages.waiting import until

SMALL_BUFFER = 4_096  # of a miner's socket, so that little is needed to fill it
MANY_SENDS = 8_192  # enough for as many threads as there may be


# In native code


def test_who_takes_everything_is_not_told_of_and_the_others_with_what_they_took() -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    fine, full, gone = [ours for ours, _ in pairs]
    try:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        pairs[2][1].close()
        descriptors = [it.fileno() for it in (fine, full, gone)]
        big = bytes(1 << 20)
        (at, taken), lost = send_all(descriptors, [b"job", big, b"job"])
        assert at == 1
        assert 0 < taken < len(big)
        assert lost == (2, -errno.EPIPE)
        assert pairs[0][1].recv(16) == b"job"
        assert send_all(descriptors[1:2], [b"more"]) == [(0, 0)], "it would have to wait"
        fine.close()
        assert send_all(descriptors[:1], [b"job"]) == [(0, -errno.EBADF)]
    finally:
        for pair in pairs:
            for it in pair:
                it.close()


def test_what_is_shared_out_among_threads_is_sent_once() -> None:
    pairs = [socket.socketpair(type=socket.SOCK_DGRAM) for _ in range(8)]
    try:
        here = [pairs[n % len(pairs)][0].fileno() for n in range(MANY_SENDS)]
        told = [b"%d" % n for n in range(MANY_SENDS)]
        waits = dict(send_all(here, told))
        heard: list[bytes] = []
        while True:
            for _, theirs in pairs:
                theirs.setblocking(False)
                try:
                    while True:
                        heard.append(theirs.recv(16))
                except BlockingIOError:
                    pass
            if not waits:
                break
            assert set(waits.values()) == {0}, "a full socket takes nothing"
            again = list(waits)
            still = dict(send_all([here[n] for n in again], [told[n] for n in again]))
            waits = {again[at]: taken for at, taken in still.items()}
        assert sorted(heard) == sorted(told)
    finally:
        for pair in pairs:
            for it in pair:
                it.close()


# On a switchboard


def connection_of(server: LoopbackServer, miner: Miner) -> Connection:
    def is_its(connection: Connection) -> bool:
        return connection.session.assignment.extranonce1 == miner.extranonce1

    return next(filter(is_its, server.board.connections))


async def test_everybody_is_told_what_is_theirs_and_who_is_told_twice_in_order() -> None:
    async with serving() as server:
        miners = [await server.mining(f"acme.c01.u{n}") for n in range(3)]
        connections = [connection_of(server, miner) for miner in miners]
        write_all((connections[n % 3], b"%d\n" % n) for n in range(7))
        assert [[await miner.line() for _ in range(2)] for miner in miners] == [
            [b"0", b"3"],
            [b"1", b"4"],
            [b"2", b"5"],
        ]
        assert await miners[0].line() == b"6"


async def test_who_left_is_told_nothing_and_who_is_gone_is_dropped() -> None:
    async with serving() as server:
        left, gone, good = [await server.mining(f"acme.c01.u{n}") for n in range(3)]
        connections = [connection_of(server, miner) for miner in (left, gone, good)]
        server.board.drop(connections[0], "left")
        gone.reset()
        write_all((it, b"job\n") for it in connections)
        assert await good.line() == b"job"
        await until(lambda: not connections[1].open)
        assert len(server.board.connections) == 1


async def test_the_number_of_a_socket_that_is_closed_is_somebody_elses_and_is_not_used_again() -> None:
    async with serving() as server:
        connection = connection_of(server, await server.mining())
        assert isinstance(connection, SocketConnection)
        number = connection.descriptor
        server.board.drop(connection, "left")
        mine, others = socket.socketpair()
        with mine, others:
            others.send(b"what another miner says")
            assert mine.fileno() == number
            assert connection.read(100) == b"", "it has left"
            assert mine.recv(100) == b"what another miner says"


async def test_what_is_not_read_waits_up_to_the_bound_and_comes_whole() -> None:
    async with serving() as server:
        slow = await server.mining(receive_buffer=SMALL_BUFFER)
        good = await server.mining("acme.c01.good")
        pair = [connection_of(server, miner) for miner in (slow, good)]
        told, line = 0, b"x" * 8_191
        while not server.board.dropped["does not read"]:
            write_all((it, b"%d %b\n" % (told, line)) for it in pair)
            told += 1
            assert (await good.line()).startswith(b"%d " % (told - 1))
        heard = 0
        while (await slow.line()).startswith(b"%d " % heard):
            heard += 1
        assert 0 < heard < told, "what the kernel had by then, and no line twice or out of order"
        assert server.board.dropped == {"does not read": 1}


async def test_what_waited_is_sent_when_the_miner_reads_on() -> None:
    async with serving() as server:
        server.board.out_bytes_max = 1 << 26
        slow = await server.mining()
        connection = connection_of(server, slow)
        lines = [b"%d %b" % (n, b"x" * 65_536) for n in range(200)]  # 13 MB: no kernel keeps that
        for n in range(0, len(lines), 2):
            write_all((connection, line + b"\n") for line in lines[n : n + 2])
        assert [await slow.line() for _ in lines] == lines
        write_all([(connection, b"the end\n")])
        assert await slow.line() == b"the end"


async def test_one_that_is_told_more_than_the_bound_in_one_go_is_dropped_where_it_would_be() -> None:
    """Two big lines, of which one alone would wait: as with two calls of `write`."""
    async with serving() as server:
        slow = await server.mining(receive_buffer=SMALL_BUFFER)
        connection = connection_of(server, slow)
        big = b"x" * (1 << 23) + b"\n"
        write_all([(connection, big)])
        assert connection.open, "a job may be longer than what may wait behind it"
        write_all([(connection, b"1\n"), (connection, b"2\n")])
        assert server.board.dropped["does not read"] == 1


async def test_who_looks_at_a_machine_sees_all_that_it_is_told() -> None:
    async with serving() as server:
        miner = await server.mining()
        connection = connection_of(server, miner)
        traces: Traces = server.board.traces
        number = traces.start(None, connection.address, [connection], seconds=60, now_s=0.0)
        write_all([(connection, b"one\n"), (connection, b"two\n")])
        view = traces.view(number, 0, 0.0)
        assert view is not None
        assert [it.text for it in view.lines if it.way == "out"] == ["one", "two"]
