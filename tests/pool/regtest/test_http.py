"""The embedded node as a server: shapes of results, JSON-RPC, authentication, peers that misbehave."""

import base64
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio

import pool.regtest.http
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from stratum.json_depth import DEPTH_MAX
from tests.stages.regtest import MINER_ADDRESS, RULES, Rpc, RpcFailure, running
from tests.stages.waiting import PATIENCE_S

GENESIS = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
GENESIS_MERKLE_ROOT = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
REGTEST_TARGET = "7fffff" + "00" * 29
UNKNOWN_HASH = "ab" * 32


# Results, as a bitcoind would give them


async def test_chain_queries_have_the_shapes_of_bitcoind(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        [first] = await rpc("generatetoaddress", 1, MINER_ADDRESS)
        assert await rpc("getblockcount") == 1
        assert await rpc("getbestblockhash") == first
        assert await rpc("getblockhash", 0) == GENESIS
        assert await rpc("preciousblock", first) is None
        assert await rpc("getrawmempool") == []
        info = await rpc("getblockchaininfo")
        assert info.pop("time") > 1_600_000_000
        assert info.pop("mediantime") > 1_296_688_602
        assert info.pop("size_on_disk") > 0
        assert info == {
            "chain": "regtest",
            "blocks": 1,
            "headers": 1,
            "bestblockhash": first,
            "bits": "207fffff",
            "target": REGTEST_TARGET,
            "difficulty": pytest.approx(4.656542373906925e-10, rel=1e-15),
            "verificationprogress": 1,
            "initialblockdownload": False,
            "chainwork": "0" * 63 + "4",
            "pruned": False,
            "warnings": [],
        }
        network = await rpc("getnetworkinfo")
        assert (network["version"], network["connections"], network["warnings"]) == (300000, 0, [])
        mining = await rpc("getmininginfo")
        assert (mining["blocks"], mining["chain"], mining["pooledtx"]) == (1, "regtest", 0)
        assert mining["next"]["height"] == 2
        assert await rpc("getdifficulty") == mining["difficulty"]
        assert await rpc("getnetworkhashps") == mining["networkhashps"] > 0
        assert (await rpc("getconnectioncount"), await rpc("getpeerinfo")) == (0, [])


async def test_block_queries_have_the_shapes_of_bitcoind(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        [first] = await rpc("generatetoaddress", 1, MINER_ADDRESS)
        header = {
            "hash": GENESIS,
            "confirmations": 2,
            "height": 0,
            "version": 1,
            "versionHex": "00000001",
            "merkleroot": GENESIS_MERKLE_ROOT,
            "time": 1296688602,
            "mediantime": 1296688602,
            "nonce": 2,
            "bits": "207fffff",
            "target": REGTEST_TARGET,
            "difficulty": pytest.approx(4.656542373906925e-10, rel=1e-15),
            "chainwork": "0" * 63 + "2",
            "nTx": 1,
            "nextblockhash": first,
        }
        sizes = {"strippedsize": 285, "size": 285, "weight": 1140}
        assert await rpc("getblockheader", GENESIS) == header
        assert await rpc("getblock", GENESIS) == {**header, **sizes, "tx": [GENESIS_MERKLE_ROOT]}
        raw = await rpc("getblock", GENESIS, 0)
        assert len(raw) == 2 * 285
        assert await rpc("getblockheader", GENESIS, False) == raw[:160]
        block = await rpc("getblock", first, 1)
        assert block["previousblockhash"] == GENESIS
        assert "nextblockhash" not in block
        assert block["weight"] == 3 * block["strippedsize"] + block["size"]
        assert block["size"] > block["strippedsize"]  # the coinbase has a witness


async def test_template_has_the_shape_of_bitcoind(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        template = await rpc.template()
        assert template.pop("curtime") > 1_600_000_000
        assert template.pop("longpollid").startswith(GENESIS)
        assert template == {
            "capabilities": [],
            "version": 0x20000000,
            "rules": ["csv", "!segwit", "taproot"],
            "vbavailable": {},
            "vbrequired": 0,
            "previousblockhash": GENESIS,
            "transactions": [],
            "coinbaseaux": {},
            "coinbasevalue": 50_0000_0000,
            "target": REGTEST_TARGET,
            "mintime": 1296688603,
            "mutable": ["time", "transactions", "prevblock"],
            "noncerange": "00000000ffffffff",
            "sigoplimit": 80_000,
            "sizelimit": 4_000_000,
            "weightlimit": 4_000_000,
            "bits": "207fffff",
            "height": 1,
            # Of a block with nothing but its coinbase (BIP141: 32 zero bytes hashed with 32 zero bytes).
            "default_witness_commitment": "6a24aa21a9ed"
            "e2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9",
        }


REFUSALS: Final[list[tuple[str, list[Any], int, int]]] = [
    ("getblocktemplate", [], 500, -8),
    ("getblocktemplate", [{"rules": ["csv"]}], 500, -8),
    ("getblocktemplate", [{**RULES, "mode": "proposal", "data": "00"}], 500, -8),
    ("getblocktemplate", [{**RULES, "mode": "magic"}], 500, -8),
    ("getblocktemplate", [{**RULES, "longpollid": "soon"}], 500, -8),
    ("getblocktemplate", [{**RULES, "longpollid": "zz" * 32}], 500, -8),
    ("getblocktemplate", [7], 500, -3),
    ("submitblock", ["zz"], 500, -22),
    ("submitblock", ["00" * 80], 500, -22),
    ("submitblock", [1], 500, -3),
    ("submitblock", [], 500, -1),
    ("submitblock", ["00", "ignored", "too many"], 500, -1),
    ("getblockhash", [2], 500, -8),
    ("getblockhash", [-1], 500, -8),
    ("getblockhash", [2**70], 500, -8),
    ("getblockhash", ["0"], 500, -3),
    ("getblock", [UNKNOWN_HASH], 500, -5),
    ("getblock", ["ab"], 500, -8),
    ("getblock", ["  " * 32], 500, -8),
    ("getblock", [GENESIS, 2], 500, -8),
    ("getblockheader", [UNKNOWN_HASH], 500, -5),
    ("preciousblock", [UNKNOWN_HASH], 500, -5),
    ("generatetoaddress", [1, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"], 500, -5),
    ("generatetoaddress", [1_001, MINER_ADDRESS], 500, -8),
    ("getrawmempool", [True], 500, -8),
    ("sendrawtransaction", ["00", "much"], 500, -3),
    ("getnetworkhashps", [0], 500, -8),
    ("getnetworkhashps", [9, 5], 500, -8),
    ("validateaddress", [7], 500, -3),
    ("getwalletinfo", [], 404, -32601),
    ("_known", [GENESIS], 404, -32601),
]


async def test_refusals_carry_the_codes_of_bitcoind(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        for method, params, status, code in REFUSALS:
            with pytest.raises(RpcFailure) as refused:
                await rpc(method, *params)
            assert (refused.value.status, refused.value.code) == (status, code), (method, params)


# JSON-RPC


async def test_batch_named_parameters_and_version_2(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        batch: list[Any] = [
            {"id": "a", "method": "getblockhash", "params": {"height": 0}},
            {"id": "b", "method": "getblockhash", "params": [1]},
            {"id": [], "method": "getblockcount", "params": None},
            {"jsonrpc": "2.0", "id": 1, "method": "nothing"},
            {"jsonrpc": "2.0", "method": "getblockcount"},
            7,
        ]
        answered = await rpc.http.post("/", json=batch)
        assert answered.status_code == 200
        out_of_range = {"code": -8, "message": "Block height out of range"}
        not_found = {"code": -32601, "message": "Method not found"}
        assert answered.json() == [
            {"id": "a", "result": GENESIS, "error": None},
            {"id": "b", "result": None, "error": out_of_range},
            {"id": [], "result": 0, "error": None},
            {"jsonrpc": "2.0", "id": 1, "error": not_found},
            {"id": None, "result": None, "error": {"code": -32600, "message": "Invalid Request object"}},
        ]
        modern = {"jsonrpc": "2.0", "id": 5, "method": "getblockcount"}
        assert (await rpc.http.post("/", json=modern)).json() == {"jsonrpc": "2.0", "id": 5, "result": 0}
        refused = await rpc.http.post("/", json={**modern, "method": "nothing"})
        assert (refused.status_code, refused.json()["error"]) == (200, not_found)
        notification = await rpc.http.post("/", json={"jsonrpc": "2.0", "method": "getblockcount"})
        assert (notification.status_code, notification.content) == (204, b"")
        assert (await rpc.http.post("/", json=[modern] * 1_001)).status_code == 400
        nobody_waits = {"jsonrpc": "2.0", "method": "getblockcount"}
        unanswered = await rpc.http.post("/", json=[nobody_waits] * 2)
        assert (unanswered.status_code, unanswered.content) == (204, b"")
        assert (await rpc.http.post("/", json=[])).content == b"[]\n"
        old = await rpc.http.post("/", json={"method": "getblockcount"})
        assert old.content == b'{"result":0,"error":null}\n'
        none = await rpc.http.post("/", json={"jsonrpc": "2.0", "id": 1, "method": 5})
        assert (none.status_code, none.json()["error"]["code"]) == (400, -32600)


NO_REQUESTS: Final = [
    (b"", 500, -32700),
    (b"{", 500, -32700),
    (b"[" * 100_000, 500, -32700),
    (b'{"id":' * 100_000, 500, -32700),
    (b'{"id":1,"method":"getblockcount","params":[NaN]}', 500, -32700),
    (b'{"id":1e' + b"9" * 30 + b',"method":"getblockcount"}', 500, -32700),
    (b'{"id":' + b"9" * 5_000 + b',"method":"getblockcount"}', 500, -32700),
    (b'{"id":"\\ud800","method":"getblockcount"}', 500, -32700),
    (b'{"id":"\xff","method":"getblockcount"}', 500, -32700),
    (b"\x00" * 100, 500, -32700),
    (b'"getblockcount"', 500, -32700),
    (b"{}", 400, -32600),
    (b'{"method":["getblockcount"]}', 400, -32600),
    (b'{"method":"getblockcount","params":"0"}', 400, -32600),
    (b'{"jsonrpc":2,"method":"getblockcount"}', 400, -32600),
    (b'{"jsonrpc":"3.0","method":"getblockcount"}', 400, -32600),
]


async def test_body_that_is_no_request_gets_an_error(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        for body, status, code in NO_REQUESTS:
            refused = await rpc.http.post("/", content=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code), body[:60]
            assert refused.json()["result"] is None
            assert await rpc("getblockcount") == 0


async def test_id_is_echoed_as_deep_as_json_may_be(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        for depth, status in [(DEPTH_MAX - 1, 200), (DEPTH_MAX, 500)]:  # in an object
            deep = b"[" * depth + b"]" * depth
            answered = await rpc.http.post("/", content=b'{"method":"getblockcount","id":' + deep + b"}")
            assert answered.status_code == status
            assert (deep in answered.content) == (status == 200)
        assert await rpc("getblockcount") == 0


# Authentication


async def test_cookie_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        assert stat.S_IMODE(rpc.node.cookie_file.stat().st_mode) == 0o600
        assert rpc.node.cookie_file == tmp_path / ".cookie"
        user, _, secret = rpc.node.cookie_file.read_text().partition(":")
        assert (user, len(secret)) == ("__cookie__", 64)
        assert rpc.node.url.startswith("http://127.0.0.1:")


WRONG_CREDENTIALS: Final = [
    None,
    "",
    "Basic",
    "Basic !!!",
    "Basic X19jb29raWVfXzp3cm9uZw==",
    "Bearer X19jb29raWVfXzp3cm9uZw==",
]


async def test_wrong_credentials_are_401(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.regtest.http, "AUTH_DELAY_S", 0)
    async with (
        running(tmp_path) as rpc,
        httpx.AsyncClient(base_url=rpc.node.url, timeout=PATIENCE_S) as stranger,
    ):
        for header in WRONG_CREDENTIALS:
            headers = {} if header is None else {"Authorization": header}
            refused = await stranger.post("/", json={"method": "stop"}, headers=headers)
            assert refused.status_code == 401, header
            assert refused.headers["WWW-Authenticate"] == 'Basic realm="jsonrpc"'
            assert refused.content == b""
            assert await rpc("getblockcount") == 0


async def test_user_and_password_take_the_place_of_the_cookie(tmp_path: Path, nursery: trio.Nursery) -> None:
    options = RegtestOptions(data_dir=tmp_path, rpc_user="pool", rpc_password="a:b€")

    async def serve(task_status: trio.TaskStatus[RegtestNode]) -> None:
        await serve_regtest(options, task_status=task_status)

    node: RegtestNode = await nursery.start(serve)
    assert not node.cookie_file.exists()
    async with httpx.AsyncClient(base_url=node.url, auth=("pool", "a:b€"), timeout=PATIENCE_S) as http:
        assert (await http.post("/", json={"method": "getblockcount"})).json()["result"] == 0


# Peers that misbehave


@asynccontextmanager
async def raw_peer(rpc: Rpc) -> AsyncIterator[trio.SocketStream]:
    port = httpx.URL(rpc.node.url).port
    assert port is not None
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        yield stream


def request_of(rpc: Rpc, body: bytes, extra: bytes = b"") -> bytes:
    """A whole request, with credentials."""
    credentials = base64.b64encode(rpc.node.cookie_file.read_bytes())
    head = b"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic %b\r\nContent-Length: %d\r\n%b\r\n"
    return head % (credentials, len(body), extra) + body


async def first_line(stream: trio.SocketStream) -> bytes:
    """The status line, b"" where the node just hangs up."""
    received = b""
    with trio.fail_after(PATIENCE_S):
        while b"\r\n" not in received:
            data = await stream.receive_some()
            if not data:
                break
            received += data
    return received.partition(b"\r\n")[0]


STATUS_LINES: Final = [
    (b'{"method":"getblockcount"}', b"HTTP/1.1 200 OK"),
    (b'{"jsonrpc":"2.0","method":"getblockcount"}', b"HTTP/1.1 204 No Content"),
    (b"{}", b"HTTP/1.1 400 Bad Request"),
    (b'{"method":"getwalletinfo"}', b"HTTP/1.1 404 Not Found"),
    (b'{"method":"getblockhash","params":[9]}', b"HTTP/1.1 500 Internal Server Error"),
]


async def test_a_status_has_its_reason(tmp_path: Path) -> None:
    """Some clients compare the whole line; ckpool reads on to a line that begins with a brace."""
    async with running(tmp_path) as rpc:
        for body, status_line in STATUS_LINES:
            received = b""
            async with raw_peer(rpc) as stream:
                await stream.send_all(request_of(rpc, body, b"Connection: close\r\n"))
                with trio.fail_after(PATIENCE_S):
                    async for data in stream:
                        received += data
            head, _, answer = received.partition(b"\r\n\r\n")
            assert head.split(b"\r\n")[0] == status_line
            assert b"Angara" not in head
            assert b"hypercorn" not in head
            if status_line != b"HTTP/1.1 204 No Content":
                assert (answer[:1], answer[-1:], answer.count(b"\n")) == (b"{", b"\n", 1)


async def test_lines_may_end_as_ckpool_ends_them(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc, raw_peer(rpc) as stream:
        await stream.send_all(request_of(rpc, b'{"method":"getblockcount"}\n').replace(b"\r\n", b"\n"))
        assert await first_line(stream) == b"HTTP/1.1 200 OK"


NOT_OURS: Final = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400 Bad Request"),
    (b"mining.subscribe\r\n\r\n", b"400 Bad Request"),
    (b"POST / HTTP/1.1\r\n\r\n", b"400 Bad Request"),  # no Host
    (b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, b"431 Request Header Fields Too Large"),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"405 Method Not Allowed"),
    (b"POST /wallet HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", b"404 Not Found"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n{}", b"400 Bad Request"),
]


async def test_what_is_not_our_http_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        for request_head, status in NOT_OURS:
            async with raw_peer(rpc) as stream:
                await stream.send_all(request_head)
                assert await first_line(stream) == b"HTTP/1.1 " + status
            assert await rpc("getblockcount") == 0


async def test_an_oversized_body_is_413_and_one_that_does_not_say_its_length_411(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.regtest.http, "BODY_BYTES_MAX", 10_000)
    async with running(tmp_path) as rpc:
        announced = request_of(rpc, b" " * 10_001)
        monkeypatch.setattr(pool.regtest.http, "LINGER_S", 0)
        async with raw_peer(rpc) as stream:
            await stream.send_all(announced[:-10_001])  # it need not even come
            assert (await first_line(stream)).split()[1] == b"413"
        monkeypatch.setattr(pool.regtest.http, "LINGER_S", PATIENCE_S)
        assert (await rpc.http.post("/", content=b" " * 10_001)).status_code == 413
        async with raw_peer(rpc) as stream:
            chunked = request_of(rpc, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            await stream.send_all(chunked + b"3e8\r\n" + b" " * 1_000)
            assert (await first_line(stream)).split()[1] == b"411"
        fits = b'{"method":"getblockcount"}'.ljust(10_000)
        assert (await rpc.http.post("/", content=fits)).status_code == 200


@pytest.mark.parametrize("beginning", [b"", b"POST / HT"])
async def test_silent_peers_are_dropped(
    tmp_path: Path, beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.regtest.http, "IDLE_TIMEOUT_S", 0.05)
    async with running(tmp_path) as rpc, raw_peer(rpc) as stream:
        await stream.send_all(beginning)
        assert await first_line(stream) == b""


async def test_a_peer_that_sends_half_a_body_is_told_and_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.regtest.http, "BODY_TIMEOUT_S", 0.05)
    async with running(tmp_path) as rpc, raw_peer(rpc) as stream:
        await stream.send_all(request_of(rpc, b'{"id":1}')[:-1])
        assert await first_line(stream) == b"HTTP/1.1 408 Request Timeout"
        with trio.fail_after(PATIENCE_S):
            while await stream.receive_some():
                pass


async def test_connections_beyond_the_limit_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.regtest.http, "CONNECTIONS_MAX", 1)
    async with running(tmp_path) as rpc:
        assert await rpc("getblockcount") == 0  # and keeps its connection
        async with raw_peer(rpc) as stream:
            assert await first_line(stream) == b"HTTP/1.1 503 Service Unavailable"
        assert await rpc("getblockcount") == 0


async def test_pipelined_and_100_continue_requests_are_answered(tmp_path: Path) -> None:
    body = b'{"id":1,"method":"getblockcount"}'
    async with running(tmp_path) as rpc, raw_peer(rpc) as stream:
        await stream.send_all(2 * request_of(rpc, body))
        received = b""
        with trio.fail_after(PATIENCE_S):
            while received.count(b'"result":0') < 2:
                received += await stream.receive_some()
        hesitant = request_of(rpc, body, b"Expect: 100-continue\r\n")
        await stream.send_all(hesitant.removesuffix(body))
        assert await first_line(stream) == b"HTTP/1.1 100 Continue"
        await stream.send_all(body)
        assert await first_line(stream) == b"HTTP/1.1 200 OK"


OTHER_PROTOCOLS = {
    "HTTP/2 by an upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "HTTP/2 by its preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5),
    "a websocket": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
}
AN_ERROR_OF_HTTP1 = {b"404", b"405"}


@pytest.mark.parametrize("what", OTHER_PROTOCOLS)
async def test_a_connection_turns_into_no_other_protocol(tmp_path: Path, what: str) -> None:
    """On HTTP/2 a stranger would have a hundred requests at once on a connection, past the bound on those."""
    async with running(tmp_path) as rpc:
        async with raw_peer(rpc) as stream:
            await stream.send_all(OTHER_PROTOCOLS[what])
            version, status, *_ = (await first_line(stream)).split()
            assert version == b"HTTP/1.1"
            assert status in AN_ERROR_OF_HTTP1
        assert await rpc("getblockcount") == 0


async def test_who_asks_for_an_upgrade_and_for_a_call_gets_the_call(tmp_path: Path) -> None:
    """As curl does, with --http2."""
    body = b'{"method":"getblockcount"}'
    async with running(tmp_path) as rpc, raw_peer(rpc) as stream:
        await stream.send_all(request_of(rpc, body, b"Connection: Upgrade\r\nUpgrade: h2c\r\n"))
        assert await first_line(stream) == b"HTTP/1.1 200 OK"
