"""One bitcoind over real sockets: every way in which it can fail becomes one readable error."""

import base64
import logging
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import h11
import msgspec
import pytest
import trio
import trio.testing

import pool.chain.rpc
from pool.chain.rpc import (
    ANSWER_BYTES_MAX,
    CALLS_MAX,
    CONNECT_TIMEOUT_S,
    IDLE_CONNECTION_S,
    Credentials,
    Lane,
    NodeBusy,
    NodeError,
    NodeRefused,
    NodeSpokeNonsense,
    NodeTimedOut,
    NodeUnreachable,
    NodeWarmingUp,
    RpcClient,
    RpcError,
)
from tests.fakes.bitcoinds import FakeBitcoind, never_answers

USER, PASSWORD = "pool", "hunter2-secret"
BASIC = b"Basic cG9vbDpodW50ZXIyLXNlY3JldA=="  # pool:hunter2-secret


class NodeThatAnswers:
    """An HTTP server that answers every call; what it answers is what subclasses change."""

    status = 200
    content_type = "application/json"
    more_headers: tuple[tuple[str, str], ...] = ()

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.authorizations: list[bytes | None] = []
        self.cookies: list[bytes | None] = []
        self.connections = 0

    def answer(self, call: dict[str, Any]) -> bytes:
        return msgspec.json.encode({"result": call["params"], "error": None, "id": call["id"]})

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        http, body = h11.Connection(h11.SERVER), b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                self.authorizations.append(dict(event.headers).get(b"authorization"))
                self.cookies.append(dict(event.headers).get(b"cookie"))
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                call, body = msgspec.json.decode(body), b""
                self.calls.append(call)
                await self.reply(stream, http, call)
                if http.our_state is not h11.DONE:
                    return
                http.start_next_cycle()
            else:
                return

    async def reply(self, stream: trio.SocketStream, http: h11.Connection, call: dict[str, Any]) -> None:
        answer = self.answer(call)
        headers = [("Content-Type", self.content_type), ("Content-Length", str(len(answer)))]
        headers += self.more_headers
        response = h11.Response(status_code=self.status, headers=headers)
        parts = [http.send(event) for event in (response, h11.Data(answer), h11.EndOfMessage())]
        await stream.send_all(b"".join(part or b"" for part in parts))


class NodeThatAnswersSlowly(NodeThatAnswers):
    async def reply(self, stream: trio.SocketStream, http: h11.Connection, call: dict[str, Any]) -> None:
        await trio.sleep_forever()


class NodeThatDripsItsAnswer(NodeThatAnswers):
    async def reply(self, stream: trio.SocketStream, http: h11.Connection, call: dict[str, Any]) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            await stream.send_all(b" ")
            await trio.sleep(0.001)


class NodeThatAnswers401(NodeThatAnswers):
    status = 401

    def answer(self, call: dict[str, Any]) -> bytes:
        return b""


class NodeThatAnswers403(NodeThatAnswers401):
    status = 403


class NodeThatAnswers503(NodeThatAnswers):
    status = 503
    content_type = "text/html"

    def answer(self, call: dict[str, Any]) -> bytes:
        return b"Work queue depth exceeded"


class NodeThatSaysNo(NodeThatAnswers):
    """bitcoind answers errors with HTTP 500."""

    status = 500
    code, message = -8, "Block height out of range"

    def answer(self, call: dict[str, Any]) -> bytes:
        error = {"code": self.code, "message": self.message}
        return msgspec.json.encode({"result": None, "error": error, "id": call["id"]})


class NodeThatWarmsUp(NodeThatSaysNo):
    code, message = -28, "Loading block index…"


class NodeThatSaysNoAtLength(NodeThatSaysNo):
    code, message = -1, "no\n" * 10_000


class NodeThatDoesNotKnowTheMethod(NodeThatSaysNo):
    status = 404
    code, message = -32601, "Method not found"


class NodeWithTruncatedJson(NodeThatAnswers):
    def answer(self, call: dict[str, Any]) -> bytes:
        return super().answer(call)[:-10]


class NodeWithDeepJson(NodeThatAnswers):
    def answer(self, call: dict[str, Any]) -> bytes:
        return b'{"result":' + b"[" * 100_000


class NodeWithInvalidUtf8(NodeThatAnswers):
    def answer(self, call: dict[str, Any]) -> bytes:
        return b'{"result":"\xff\xfe","error":null,"id":1}'


class NodeThatIsAWebServer(NodeThatAnswers):
    content_type = "text/html"

    def answer(self, call: dict[str, Any]) -> bytes:
        return b"<html><body>It works!</body></html>"


class NodeThatAnswersAnotherCall(NodeThatAnswers):
    def answer(self, call: dict[str, Any]) -> bytes:
        return msgspec.json.encode({"result": 1, "error": None, "id": call["id"] + 1})


class NodeThatRedirects(NodeThatAnswers):
    status = 302

    def answer(self, call: dict[str, Any]) -> bytes:
        return b""


class NodeThatRedirectsElsewhere(NodeThatRedirects):
    more_headers = (("Location", "http://169.254.169.254/"),)


class NodeThatRedirectsNowhere(NodeThatRedirects):
    """httpx reads where it leads to, whether somebody follows or not."""

    more_headers = (("Location", "http:nowhere"),)


class NodeThatRedirectsToNoName(NodeThatRedirects):
    more_headers = (("Location", "//xn--"),)


class NodeThatSetsCookies(NodeThatAnswers):
    more_headers = (("Set-Cookie", "session=1; Max-Age=86400"),)


class NodeWithAHugeAnswer(NodeThatAnswers):
    def answer(self, call: dict[str, Any]) -> bytes:
        return b'{"result":"' + b"x" * 200_000


class NodeThatHangsUp(NodeThatAnswers):
    async def reply(self, stream: trio.SocketStream, http: h11.Connection, call: dict[str, Any]) -> None:
        await stream.aclose()
        raise trio.BrokenResourceError


class NodeThatHangsUpInItsAnswer(NodeThatAnswers):
    async def reply(self, stream: trio.SocketStream, http: h11.Connection, call: dict[str, Any]) -> None:
        await stream.send_all(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"result":')
        await stream.aclose()
        raise trio.BrokenResourceError


class NodeThatIsNotHttp(NodeThatAnswers):
    async def reply(self, stream: trio.SocketStream, http: h11.Connection, call: dict[str, Any]) -> None:
        await stream.send_all(b"220 mail.example.com ESMTP\r\n\r\n")
        await stream.aclose()
        raise trio.BrokenResourceError


@asynccontextmanager
async def connected(
    node: NodeThatAnswers, credentials: Credentials | None = None
) -> AsyncIterator[RpcClient]:
    """A client of `node`, which listens on loopback."""

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await node.serve(stream)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        port = listeners[0].socket.getsockname()[1]
        client = RpcClient(
            f"http://127.0.0.1:{port}", credentials or Credentials(user=USER, password=PASSWORD)
        )
        yield client
        await client.aclose()
        nursery.cancel_scope.cancel()


async def test_a_call_carries_method_parameters_and_credentials_and_brings_the_result() -> None:
    node = NodeThatAnswers()
    async with connected(node) as client:
        assert await client.call("getblock", "00ff", 1) == ["00ff", 1]
        assert await client.call("getbestblockhash") == []
    assert [(call["method"], call["params"]) for call in node.calls] == [
        ("getblock", ["00ff", 1]),
        ("getbestblockhash", []),
    ]
    assert node.authorizations == [BASIC, BASIC]
    assert node.connections == 1  # kept open: a block must not wait for a handshake


async def test_a_string_that_is_sent_in_pieces_is_one(tmp_path: Path) -> None:
    node = NodeWithACookie(tmp_path / ".cookie")
    node.start("first")
    pieces = b"00" * 300, b"", b"ff" * 2_000_000
    async with connected(node, Credentials(cookie_file=node.cookie_file)) as client:
        assert await client.call_with_hex("submitblock", pieces, lane=Lane.BLOCKS) == [
            b"".join(pieces).decode()
        ]
        node.start("second")  # refused once, and sent again, whole
        assert await client.call_with_hex("submitblock", pieces, lane=Lane.BLOCKS) == [
            b"".join(pieces).decode()
        ]
    assert [call["method"] for call in node.calls] == ["submitblock"] * 3
    assert node.connections == 1


FAULTS: list[tuple[Callable[[], NodeThatAnswers], type[NodeError], str]] = [
    (NodeThatAnswersSlowly, NodeTimedOut, "no complete answer to getblockcount within 0.05 s"),
    (NodeThatDripsItsAnswer, NodeTimedOut, "no complete answer to getblockcount within 0.05 s"),
    (NodeThatAnswers401, NodeRefused, "HTTP 401: the node does not accept this user and password"),
    (NodeThatAnswers403, NodeRefused, "HTTP 403: the node's rpcallowip does not name this host"),
    (NodeThatAnswers503, NodeBusy, "HTTP 503: Work queue depth exceeded"),
    (NodeThatSaysNo, RpcError, "Block height out of range (-8)"),
    (NodeThatSaysNoAtLength, RpcError, "no no no"),
    (NodeThatDoesNotKnowTheMethod, RpcError, "Method not found (-32601)"),
    (NodeThatWarmsUp, NodeWarmingUp, "the node is starting: Loading block index…"),
    (NodeWithTruncatedJson, NodeSpokeNonsense, "bytes that are no answer: Input data was truncated"),
    (NodeWithDeepJson, NodeSpokeNonsense, "bytes that are no answer"),
    (NodeWithInvalidUtf8, NodeSpokeNonsense, "bytes that are no answer"),
    (NodeThatIsAWebServer, NodeSpokeNonsense, "HTTP 200 with 35 bytes that are no answer"),
    (NodeThatAnswersAnotherCall, NodeSpokeNonsense, "an answer to call 2, which was not asked"),
    (NodeThatRedirects, NodeSpokeNonsense, "HTTP 302 with 0 bytes that are no answer"),
    (NodeThatRedirectsElsewhere, NodeSpokeNonsense, "HTTP 302 with 0 bytes that are no answer"),
    (NodeThatRedirectsNowhere, NodeSpokeNonsense, "HTTP 302 with 0 bytes that are no answer"),
    (NodeThatRedirectsToNoName, NodeSpokeNonsense, "HTTP 302 with 0 bytes that are no answer"),
    (NodeThatHangsUp, NodeUnreachable, "the connection broke: Server disconnected"),
    (NodeThatHangsUpInItsAnswer, NodeUnreachable, "the connection broke: peer closed connection"),
    (NodeThatIsNotHttp, NodeUnreachable, "the connection broke: illegal status line"),
]


@pytest.mark.parametrize(
    ("fault", "kind", "reason"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
async def test_every_fault_is_one_readable_error_without_secrets(
    fault: Callable[[], NodeThatAnswers], kind: type[NodeError], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    timeout_s = 0.05 if kind is NodeTimedOut else 10
    async with connected(fault()) as client:
        with pytest.raises(NodeError) as failed:
            await client.call("getblockcount", timeout_s=timeout_s)
    assert type(failed.value) is kind
    assert reason in str(failed.value)
    assert len(str(failed.value)) < 300
    told = "".join(traceback.format_exception(failed.value)) + repr(failed.value) + repr(client) + caplog.text
    assert PASSWORD not in told
    assert BASIC.decode().removeprefix("Basic ") not in told


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    assert ANSWER_BYTES_MAX == 32 * 1024 * 1024
    async with connected(NodeWithAHugeAnswer()) as client:
        with pytest.raises(NodeSpokeNonsense, match="the answer has more than 100000 bytes"):
            await client.call("getblock", answer_bytes_max=100_000)


async def test_what_a_node_would_have_us_keep_is_not_kept() -> None:
    """However many cookies it sets: bitcoind sets none, and they would be kept until the pool ends."""
    node = NodeThatSetsCookies()
    async with connected(node) as client:
        for _ in range(2):
            await client.call("getblockcount")
    assert node.cookies == [None, None]


async def test_a_node_that_is_not_there_is_unreachable() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port
        client = RpcClient(f"http://127.0.0.1:{unused.getsockname()[1]}", Credentials())
        with pytest.raises(NodeUnreachable, match="cannot connect"):
            await client.call("getblockcount")
        await client.aclose()


@pytest.mark.parametrize("host", ["bitcoind..lan", ".lan", "b" * 64])
async def test_a_host_that_is_no_name_is_a_node_that_is_unreachable(host: str) -> None:
    """A dot is quickly typed twice, and the other node is well."""
    client = RpcClient(f"http://{host}:8332", Credentials())
    with pytest.raises(NodeUnreachable, match=r"cannot connect: .*'idna' codec .*label"):
        await client.call("getblockcount")
    await client.aclose()


async def test_a_node_that_speaks_no_tls_is_unreachable_and_said_to_be_that(nursery: trio.Nursery) -> None:
    """bitcoind speaks none, and an https:// is quickly typed."""

    async def speaks_plainly(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    (listener,) = await nursery.start(partial(trio.serve_tcp, speaks_plainly, 0, host="127.0.0.1"))
    client = RpcClient(f"https://127.0.0.1:{listener.socket.getsockname()[1]}", Credentials())
    with pytest.raises(NodeUnreachable, match=r"cannot connect: \[SSL"):
        await client.call("getblockcount")
    await client.aclose()


async def test_a_node_that_hangs_up_while_a_block_is_sent_is_unreachable() -> None:
    class NodeThatHangsUpInTheRequest(NodeThatAnswers):
        async def serve(self, stream: trio.SocketStream) -> None:
            await stream.receive_some(1000)
            await stream.aclose()

    async with connected(NodeThatHangsUpInTheRequest()) as client:
        with pytest.raises(NodeUnreachable, match="the connection broke"):
            await client.call_with_hex("submitblock", [b"00" * 4_000_000], lane=Lane.BLOCKS)


async def test_a_block_is_under_way_before_it_is_on_disk_and_whole_only_behind_that() -> None:
    block, got = b"00" * 1_000_000, bytearray()
    on_disk, all_but_the_end = trio.Event(), trio.Event()

    class NodeThatShowsWhatItHas(NodeThatAnswers):
        async def serve(self, stream: trio.SocketStream) -> None:
            async for data in stream:
                got.extend(data)
                if len(got) > len(block) and block in got:
                    all_but_the_end.set()

    async with connected(NodeThatShowsWhatItHas()) as client, trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(client.call_with_hex, lane=Lane.BLOCKS, ends_after=on_disk), "submitblock", [block]
        )
        await all_but_the_end.wait()
        await trio.sleep(0.02)  # it would come now
        assert got.endswith(block), "it has the end of it too"
        on_disk.set()
        while not got.endswith(b'"]}'):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_a_node_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.chain.rpc, "ANSWER_TIMEOUT_S", 0.2)

    class NodeThatDoesNotRead(NodeThatAnswers):
        async def serve(self, stream: trio.SocketStream) -> None:
            await trio.sleep_forever()

    async with connected(NodeThatDoesNotRead()) as client:
        with pytest.raises(NodeTimedOut):
            await client.call_with_hex("submitblock", [b"00" * 4_000_000], lane=Lane.BLOCKS)


async def test_an_error_leaves_the_client_usable() -> None:
    class NodeThatFailsOnce(NodeThatAnswers):
        def answer(self, call: dict[str, Any]) -> bytes:
            return b"<html>" if len(self.calls) == 1 else super().answer(call)

    async with connected(NodeThatFailsOnce()) as client:
        with pytest.raises(NodeSpokeNonsense):
            await client.call("first")
        assert await client.call("second", 2) == [2]


class NodeWithACookie(NodeThatAnswers):
    """bitcoind with a cookie file, which it writes anew at each start."""

    def __init__(self, cookie_file: Path) -> None:
        super().__init__()
        self.cookie_file = cookie_file

    def start(self, secret: str) -> None:
        self.cookie_file.write_text(f"__cookie__:{secret}")

    async def reply(self, stream: trio.SocketStream, http: h11.Connection, call: dict[str, Any]) -> None:
        expected = b"Basic " + base64.b64encode(self.cookie_file.read_bytes())
        self.status = 200 if self.authorizations[-1] == expected else 401
        await super().reply(stream, http, call)


async def test_the_cookie_is_read_again_when_the_node_was_restarted(tmp_path: Path) -> None:
    node = NodeWithACookie(tmp_path / ".cookie")
    node.start("first")
    async with connected(node, Credentials(cookie_file=node.cookie_file)) as client:
        assert await client.call("getblockcount") == []
        node.start("second")
        assert await client.call("getblockcount") == []
        assert len(node.calls) == 3  # the second call was refused once
        assert await client.call("getblockcount") == []
        assert len(node.calls) == 4


async def test_a_cookie_that_stays_wrong_is_tried_once(tmp_path: Path) -> None:
    cookie_file = tmp_path / ".cookie"
    cookie_file.write_text("__cookie__:c00kie-secret")
    node = NodeThatAnswers401()
    async with connected(node, Credentials(cookie_file=cookie_file)) as client:
        with pytest.raises(NodeRefused) as failed:
            await client.call("getblockcount")
        assert len(node.calls) == 1
    assert "c00kie-secret" not in "".join(traceback.format_exception(failed.value))


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (None, NodeUnreachable, "there is no cookie file .*: is the node running?"),
        (b"", NodeRefused, "holds no user and password"),
        (b"c00kie-secret", NodeRefused, "holds no user and password"),
    ],
)
async def test_a_cookie_file_without_a_cookie_is_an_error_of_its_own(
    tmp_path: Path, content: bytes | None, kind: type[NodeError], reason: str
) -> None:
    if content is not None:
        (tmp_path / ".cookie").write_bytes(content)
    async with connected(NodeThatAnswers(), Credentials(cookie_file=tmp_path / ".cookie")) as client:
        with pytest.raises(kind, match=reason) as failed:
            await client.call("getblockcount")
    assert "c00kie-secret" not in str(failed.value)


async def test_who_stops_while_a_cookie_is_read_asks_nobody_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread is waited for whatever was cancelled; a pool that stops has closed its nodes by then."""
    may_end, ends = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def slow(path: Path) -> bytes:
        token.run_sync_soon(ends.set)
        may_end.wait()
        return b"a:b"

    monkeypatch.setattr(pool.chain.rpc, "_read_cookie", slow)
    node = NodeThatAnswers()
    async with connected(node, Credentials(cookie_file=tmp_path / ".cookie")) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call, "uptime")
            await ends.wait()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await client.aclose()
            may_end.set()
        assert node.calls == []
        with pytest.raises(NodeUnreachable, match="the pool stops"):
            await client.call("uptime")


async def test_a_cookie_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    async with connected(NodeThatAnswers(), Credentials(cookie_file=tmp_path)) as client:
        with pytest.raises(NodeRefused, match=r"cannot read the cookie file .*: Is a directory"):
            await client.call("getblockcount")


async def test_ordinary_calls_wait_for_each_other_and_blocks_do_not_wait_for_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = FakeBitcoind()
    node.fault = never_answers
    client = RpcClient(node.config.url, Credentials(user=USER, password=PASSWORD), transport=node)
    async with trio.open_nursery() as nursery:
        for _ in range(CALLS_MAX[Lane.ORDINARY] + 3):
            nursery.start_soon(client.call, "getblockcount")
        await trio.testing.wait_all_tasks_blocked()
        assert len(node.calls) == CALLS_MAX[Lane.ORDINARY]
        node.fault = None
        assert await client.call("submitblock", "00", lane=Lane.BLOCKS) is None
        nursery.cancel_scope.cancel()


async def test_the_time_out_counts_the_waiting_for_a_turn(autojump_clock: trio.testing.MockClock) -> None:
    node = FakeBitcoind()
    node.fault = never_answers
    client = RpcClient(node.config.url, Credentials(user=USER, password=PASSWORD), transport=node)
    async with trio.open_nursery() as nursery:
        for _ in range(CALLS_MAX[Lane.ORDINARY]):
            nursery.start_soon(partial(client.call, "getblockcount", lane=Lane.ORDINARY, timeout_s=1e6))
        await trio.testing.wait_all_tasks_blocked()
        started_s = trio.current_time()
        with pytest.raises(NodeTimedOut, match="within 30 s"):
            await client.call("getblockcount")
        assert trio.current_time() - started_s == pytest.approx(30)
        nursery.cancel_scope.cancel()


def test_the_limits_fit_those_of_bitcoind() -> None:
    assert CONNECT_TIMEOUT_S == 5
    assert IDLE_CONNECTION_S < 30  # -rpcservertimeout
    assert CALLS_MAX[Lane.ORDINARY] + CALLS_MAX[Lane.LONGPOLL] < 4  # -rpcthreads
