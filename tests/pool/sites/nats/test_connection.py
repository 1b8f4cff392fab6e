"""A connection to NATS, whatever the server is: it is there or told to be away, and nothing of it raises."""

import gc
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from pool.settings_file import BadConfig
from pool.sites.nats import client
from pool.sites.nats.client import BUFFER_BYTES_MAX, Access, Message, NatsAway
from pool.sites.nats.connection import Connection, Subscribed
from pool.sites.nats.key import new_key
from pool.sites.nats.server_settings import Certificates
from tests.fixtures.nats_servers import Keys, NatsServer
from tests.stages.nats_line import connected, say

INFO = b'INFO {"version":"2.15.1","max_payload":8388608,"headers":true,"nonce":"x","auth_required":true}\r\n'
Behaves = Callable[[trio.SocketStream], Awaitable[None]]


async def talks_garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(bytes(range(256)) * 100)


async def breaks_its_word(stream: trio.SocketStream) -> None:
    await stream.send_all(b"INFO {not json\r\n")


async def talks_on_and_on(stream: trio.SocketStream) -> None:
    await stream.send_all(b"INFO " + b"x" * 1_000_000)
    await trio.sleep_forever()


async def hangs_up(stream: trio.SocketStream) -> None:
    await stream.send_all(INFO)


async def greets(stream: trio.SocketStream) -> None:
    await stream.send_all(INFO)
    await stream.receive_some(4096)
    await stream.send_all(b"PONG\r\n")


async def lets_nobody_in(stream: trio.SocketStream) -> None:
    await stream.send_all(INFO)
    await stream.receive_some(4096)
    await stream.send_all(b"-ERR 'Authorization Violation'\r\n")


async def sends_without_end(stream: trio.SocketStream) -> None:
    await greets(stream)
    await stream.send_all(b"PONG\r\nMSG x 1 999999999999\r\n")
    for _ in range(0, 2 * BUFFER_BYTES_MAX, 1 << 16):
        await stream.send_all(bytes(1 << 16))
    pytest.fail("all of it was read")


async def curses(stream: trio.SocketStream) -> None:
    await greets(stream)
    await stream.send_all(b"PONG\r\n-ERR '\xff\xfe'\r\nHMSG x 9 12 4\r\nMSG\r\nINFO {\r\n")
    await trio.sleep_forever()


async def points_elsewhere(stream: trio.SocketStream) -> None:
    await greets(stream)
    urls = ",".join(f'"127.0.0.1:{port}"' for port in range(1, 1000))
    await stream.send_all(b'PONG\r\nINFO {"connect_urls":[' + urls.encode() + b"]}\r\n")


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    new_key(tmp_path / "hub.nk")
    return tmp_path / "hub.nk"


@pytest.fixture
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds in a pool."""
    for name, seconds in (
        ("AGAIN_S", (0.0,)),
        ("PING_S", 0.05),
        ("PONG_S", 1.0),
        ("CONNECT_S", 1.0),
        ("DROP_S", 0.1),
    ):
        monkeypatch.setattr(client, name, seconds)


@pytest.fixture(autouse=True)
def _the_thread_has_ended() -> Iterator[None]:
    yield
    assert "nats" not in {it.name for it in threading.enumerate()}


@pytest.mark.usefixtures("_quickly")
@pytest.mark.parametrize(
    "behaves",
    [
        talks_garbage,
        breaks_its_word,
        talks_on_and_on,
        hangs_up,
        greets,
        lets_nobody_in,
        sends_without_end,
        curses,
        points_elsewhere,
    ],
)
async def test_a_server_that_behaves_badly_is_left_and_tried_again(behaves: Behaves, seed: Path) -> None:
    times = 0
    twice = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal times
        times += 1
        if times >= 2:
            twice.set()
        try:
            await behaves(stream)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        connection = Connection(Access(urls=(f"nats://127.0.0.1:{port}",), name="hub", seed=seed))
        await nursery.start(connection.run)
        await twice.wait()
        words = "does not know this key" if behaves is lets_nobody_in else ""
        while not connection.state.error or words not in connection.state.error:
            await connection.changed()
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("_quickly")
async def test_who_ends_without_time_to_close_in_order_leaves_no_socket(
    seed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine where the thread has not had the processor for a while, wherever it was."""
    monkeypatch.setattr(client, "DROP_S", 0.0)
    for turns in range(60):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, talks_garbage, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            connection = Connection(Access(urls=(f"nats://127.0.0.1:{port}",), name="hub", seed=seed))
            await nursery.start(connection.run)
            while not connection.state.error:
                await connection.changed()
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    gc.collect()  # what is still open is told of, as an error


async def test_without_a_server_whoever_publishes_is_told_at_once(seed: Path) -> None:
    connection = Connection(Access(urls=("nats://127.0.0.1:1",), name="hub", seed=seed))
    with pytest.raises(NatsAway, match="NATS is not used now"):
        await connection.publish("angara.x", b"")
    async with trio.open_nursery() as nursery:
        await nursery.start(connection.run)
        async with connection.subscribed("angara.>"):
            with pytest.raises(NatsAway):
                await connection.publish("angara.x", b"")
        nursery.cancel_scope.cancel()
    with pytest.raises(NatsAway, match="NATS is not used now"):
        await connection.publish("angara.x", b"")


async def test_a_block_has_a_thin_line_for_as_long_as_its_bytes_need(
    seed: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """One of 4 MB needs half a minute of a megabit. It was given up while it was on its way, and given to the
    line once more, each eleven seconds for ten minutes, until nothing else came through."""
    connection = Connection(Access(urls=("nats://127.0.0.1:1",), name="oslo", seed=seed))

    async def taken(_: object) -> None:
        await trio.sleep(32.0)

    monkeypatch.setattr(connection, "_in_loop", taken)
    with closing(connection._client.loop):
        await connection.publish("angara.blocks.oslo", bytes(4_000_000))
        with pytest.raises(NatsAway, match="does not take"):
            await connection.publish("angara.hub.oslo.renew", b"")


async def test_why_a_server_is_not_connected_is_said_and_not_that_none_is(seed: Path) -> None:
    connection = Connection(Access(urls=("nats://127.0.0.1:1",), name="hub", seed=seed))
    async with trio.open_nursery() as nursery:
        await nursery.start(connection.run)
        for _ in range(6):
            await connection.changed()
            assert connection.state.error == "Connect call failed ('127.0.0.1', 1)"
        nursery.cancel_scope.cancel()


async def test_who_reads_slowly_loses_messages_and_nothing_else(nats_server: NatsServer) -> None:
    async with (
        connected(nats_server, "hub", "hub") as (says, hears),
        hears.subscribed("angara.test", messages_max=3) as few,
        hears.subscribed("angara.end") as end,
    ):
        for number in range(10):
            await says.publish("angara.test", b"%d" % number)
        await says.publish("angara.end", b"")
        await end.next()
        assert [(await few.next()).data for _ in range(3)] == [b"0", b"1", b"2"]
        assert few.inflow.dropped == hears.state.dropped == 7
        await says.publish("angara.test", b"later")
        assert (await few.next()).data == b"later"


async def test_a_message_is_there_for_the_next_one_where_its_reader_was_cancelled() -> None:
    """Who pulls journals gives up for a moment: JetStream would send it again after a minute, five times."""
    messages = Subscribed("x", 2, 100, trio.lowlevel.current_trio_token())
    for data in (b"1", b"2"):
        assert messages.inflow.put(Message("x", data))
    with trio.CancelScope() as reader:
        reader.cancel()
        await messages.next()
    assert reader.cancelled_caught
    assert [messages.inflow.take(), messages.inflow.take()] == [Message("x", b"1"), Message("x", b"2")]


async def test_what_cannot_be_said_is_told_to_who_says_it(nats_server: NatsServer) -> None:
    async with connected(nats_server, "hub") as (hub,):
        for subject in ("", "two words", "angara.x\r\nPUB y 0"):
            with pytest.raises(NatsAway, match="invalid subject"):
                await hub.publish(subject, b"")
        with pytest.raises(NatsAway, match="a message has 8388608 at most"):
            await hub.publish("angara.x", bytes((8 << 20) + 1))
        await hub.publish("angara.x", bytes(8 << 20))
        await hub.flushed()
        assert hub.state.connections == 1


NO_TEXT = b"NATS/1.0 \xff\xfe\xfd\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"PUB angara.hub.oslo.\xff 2\r\nhi\r\n", 0),
        (b"PUB angara.hub.oslo.x _INBOX.\xff 2\r\nhi\r\n", 0),
        (b"PUB angara.hub.oslo.a\vb 2\r\nhi\r\n", 1),
        (b"PUB angara.hub.oslo.a\f2 2\r\nhi\r\n", 1),
        (b"HPUB angara.hub.oslo.x 4 6\r\nNATShi\r\n", 1),
        (b"HPUB angara.hub.oslo.x %d %d\r\n" % (len(NO_TEXT), len(NO_TEXT) + 2) + NO_TEXT + b"hi\r\n", 1),
    ],
    ids=["subject", "reply", "tab in a subject", "another's subscription", "short headers", "headers"],
)
async def test_what_somebody_publishes_ends_no_connection_of_those_who_hear_it(
    nats_server: NatsServer, said: bytes, heard: int
) -> None:
    """A captured edge may publish where the hub listens, and blocks where all edges do: in bytes that a
    server hands on, and nats-py does not read."""
    async with (
        connected(nats_server, "hub") as (hub,),
        hub.subscribed("angara.hub.oslo.*") as asked,
        hub.subscribed("angara.hub.lima.*") as others,
    ):
        await say(nats_server, "oslo", said + b"PUB angara.hub.oslo.next 4\r\nnext\r\n")
        await hub.flushed()
        assert others.inflow.take() is None
        assert [(await asked.next()).data for _ in range(heard + 1)] == [b"hi"] * heard + [b"next"]
        assert hub.state.connections == 1


async def test_who_publishes_without_end_is_passed_on_as_far_as_he_is_read(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site that is taken over said 40,000 nothings a second, 1.3 MB: the hub heard nobody else, until it
    was dropped by its server, and no share of any site was booked meanwhile."""
    monkeypatch.setattr(client, "PASSED_ON_MAX", 20)
    monkeypatch.setattr(client, "PASSED_ON_S", 3_600.0)
    async with (
        connected(nats_server, "hub") as (hub,),
        hub.subscribed("angara.hub.oslo.*", bounded=True) as flooded,
        hub.subscribed("angara.hub.bergen.*", bounded=True) as others,
    ):
        await say(nats_server, "oslo", b"PUB angara.hub.oslo.nothing 0\r\n\r\n" * 1_000)
        for _ in range(20):
            await flooded.next()
        await say(nats_server, "bergen", b"PUB angara.hub.bergen.plan 0\r\n\r\n")
        await others.next()
        assert flooded.inflow.take() is None


async def test_who_publishes_megabytes_is_passed_on_no_further(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PASSED_ON_BYTES", 1_000)
    monkeypatch.setattr(client, "PASSED_ON_S", 3_600.0)
    async with (
        connected(nats_server, "hub", "oslo", "bergen") as (hub, oslo, bergen),
        hub.subscribed("angara.hub.oslo.*", bounded=True) as flooded,
        hub.subscribed("angara.hub.bergen.*", bounded=True) as others,
    ):
        for _ in range(10):
            await oslo.publish("angara.hub.oslo.nothing", bytes(100))
            await flooded.next()
        await hub.flushed()
        await oslo.publish("angara.hub.oslo.nothing", bytes(100))
        await oslo.flushed()
        await bergen.publish("angara.hub.bergen.plan", b"")
        await others.next()
        assert flooded.inflow.take() is None


async def test_who_says_less_than_he_may_is_heard_always(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PASSED_ON_MAX", 20)
    monkeypatch.setattr(client, "PASSED_ON_S", 0.0)
    async with (
        connected(nats_server, "hub", "oslo") as (hub, oslo),
        hub.subscribed("angara.hub.oslo.*", bounded=True) as heard,
    ):
        for number in range(100):
            await oslo.publish("angara.hub.oslo.plan", b"%d" % number)
            message = await heard.next()
            while int(message.data) < number:  # which came twice, by the subscription before
                message = await heard.next()


async def test_who_is_cancelled_waits_for_nothing(nats_server: NatsServer) -> None:
    async with connected(nats_server, "hub") as (hub,):
        for _ in range(50):
            with trio.CancelScope() as scope:
                scope.cancel()
                await hub.publish("angara.x", bytes(1 << 20))
        await hub.publish("angara.x", b"")
        await hub.flushed()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificates, Path]:
    """A server's certificate, and the authorities of somebody else."""
    home, ours, other = tmp_path_factory.mktemp("tls"), trustme.CA(), trustme.CA()
    issued = ours.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(home / "key.pem")
    issued.cert_chain_pems[0].write_to_path(home / "cert.pem")
    ours.cert_pem.write_to_path(home / "ca.pem")
    other.cert_pem.write_to_path(home / "other.pem")
    return (
        Certificates(certificate=home / "cert.pem", key=home / "key.pem", authorities=home / "ca.pem"),
        home / "other.pem",
    )


async def test_with_tls_a_server_is_one_of_ours_or_nobody(
    tmp_path: Path, authority: tuple[Certificates, Path]
) -> None:
    certificates, other = authority
    keys = Keys(tmp_path, ("oslo",))
    server = NatsServer(tmp_path, keys, certificates=certificates)
    server.start()
    try:
        async with trio.open_nursery() as nursery:
            good = Connection(keys.access("oslo", server, authorities=certificates.authorities))
            bad = Connection(keys.access("oslo", server, authorities=other))
            plain = Connection(keys.access("oslo", server))
            for it in (good, bad, plain):
                await nursery.start(it.run)
            await good.connected()
            for it in (bad, plain):
                while not it.state.error:
                    await it.changed()
                assert it.state.connections == 0
            assert "certificate verify failed" in bad.state.error
            nursery.cancel_scope.cancel()
    finally:
        server.remove()


async def test_nobody_on_the_way_talks_us_out_of_tls(
    seed: Path, authority: tuple[Certificates, Path]
) -> None:
    """A line of the protocol that says that none is needed is read as no greeting of TLS."""
    heard: list[bytes] = []
    done = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(INFO)
        heard.append(bytes(await stream.receive_some(4096)))
        done.set()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"tls://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        access = Access(urls=(url,), name="hub", seed=seed, authorities=authority[0].authorities)
        connection = Connection(access)
        await nursery.start(connection.run)
        await done.wait()
        assert b"CONNECT" not in heard[0]
        assert heard[0][0] == 22, "a handshake of TLS"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ((), "one to 16"),
        (("nats://127.0.0.1:4222",) * 17, "one to 16"),
        (("nats://nats.example.com:4222",), "without TLS"),
        (("tls://nats.example.com:4222",), "which authorities"),
        (("tls://nats.example.com",), "no tls://host:port"),
        (("tls://ann:secret@nats.example.com:4222",), "no tls://host:port"),
        (("tls://nats.example.com:4222/x",), "no tls://host:port"),
        (("ws://127.0.0.1:4222",), "no tls://host:port"),
        (("tls://[::1:4222",), "no tls://host:port"),
        (("tls://host:99999",), "no tls://host:port"),
    ],
)
def test_addresses_are_looked_at_before_anybody_connects(
    seed: Path, urls: tuple[str, ...], words: str
) -> None:
    with pytest.raises(BadConfig, match=words):
        Connection(Access(urls=urls, name="hub", seed=seed))


def test_authorities_that_are_none_are_told(seed: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for path in (tmp_path / "ca.pem", tmp_path / "gone.pem"):
        with pytest.raises(BadConfig, match="cannot read certificates"):
            Connection(Access(urls=("tls://host:4222",), name="hub", seed=seed, authorities=path))
    assert issubclass(ssl.SSLError, OSError)
