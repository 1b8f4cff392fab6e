"""`angara upstream`: what is added, shown and tested, and no password anywhere."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from payouts.schemas.orders import channel_events
from pool.admin import commands
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.cli.operator import operator
from pool.cli.routing.upstream_urls import parse_endpoint
from pool.data_dir import held
from pool.people.roles import host_account
from pool.upstreams.trial import try_endpoints
from stratum.upstream.endpoint import BadUpstream, UpstreamEndpoint
from stratum.upstream.extranonce_split import ExtranonceSplit
from tests.fakes.upstreams import HonestUpstream, Network, UpstreamThatRefusesTheAccount
from tests.fixtures.databases import store_in
from tests.stages.command_line import PASSWORD, add_upstream, angara, new_upstream
from tests.stages.sockets import serving
from tests.stages.upstream_clients import SETTINGS, endpoint


def test_an_upstream_is_added_shown_switched_and_removed(data_dir: Path) -> None:
    added = add_upstream(data_dir, "north", "--outage-s", 45, "--suggest-difficulty", 65_536)
    assert added.exit_code == 0
    for words in (
        "a.pool.example:3333",
        "b.example:443",
        "acme.farm7",
        "Worker2",
        "pool, after 45 s",
        "suggested difficulty  64k",
    ):
        assert words in added.output
    assert add_upstream(data_dir, "east", "--fallback", "north").exit_code == 0
    listed = angara(data_dir, "upstream", "list").output
    assert ("east" in listed, "north" in listed) == (True, True)
    switched = angara(data_dir, "upstream", "switch", "north", "b.example:443").output
    assert switched.index("b.example:443") < switched.index("a.pool.example:3333")
    refused = angara(data_dir, "upstream", "remove", "north")
    assert (refused.exit_code, "in use: upstream east" in refused.output) == (2, True)
    assert angara(data_dir, "upstream", "remove", "east").exit_code == 0
    assert angara(data_dir, "upstream", "remove", "north").exit_code == 0
    assert "removed" in angara(data_dir, "upstream", "show", "north").output


def test_json_of_an_upstream_has_everything_but_the_password(data_dir: Path) -> None:
    add_upstream(data_dir)
    shown = json.loads(angara(data_dir, "upstream", "show", "north", "--json").output)
    assert shown["endpoints"][1] == {
        "number": 2,
        "address": "b.example:443",
        "user": "Worker2",
        "tls": True,
        "ca_file": None,
    }
    assert shown["today"] == {"accepted": 0, "rejected": {}, "unanswered": 0}
    assert (shown["orders"], shown["tenants"]) == ([], [])
    assert "channels" not in shown, "no pool runs"


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "tls"),
    [
        ("stratum+tcp://pool.example:3333", "pool.example", 3333, "acme", False),
        ("stratum+tcp://pool.example:3333/", "pool.example", 3333, "acme", False),
        ("stratum+ssl://w@POOL.example:443", "pool.example", 443, "w", True),
        ("stratum+tcp://a%3Ab%40c@[2001:db8::1]:25", "2001:db8::1", 25, "a:b@c", False),
        ("stratum+tcp://me@mail.example@pool.example:1", "pool.example", 1, "me@mail.example", False),
    ],
)
def test_urls_of_endpoints(url: str, host: str, port: int, user: str, tls: bool) -> None:
    found = parse_endpoint(url, "acme", None, None)
    assert found == UpstreamEndpoint(host=host, port=port, user=user, tls=tls)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pool.example:3333",
        "http://pool.example:3333",
        "stratum+tcp://",
        "stratum+tcp://pool.example",
        "stratum+tcp://pool.example:",
        "stratum+tcp://pool.example:0",
        "stratum+tcp://pool.example:65536",
        "stratum+tcp://pool.example:x",
        "stratum+tcp://:3333",
        "stratum+tcp://pool.example:3333/path",
        "stratum+tcp://pool.example:3333?x=1",
        "stratum+tcp://[::1:3333",
        "stratum+tcp://po ol:3333",
        "stratum+tcp://w:hunter2-s3cret@pool.example:3333",
        "stratum+tcp://w:hunter2-s3cret",
        "w:hunter2-s3cret@pool.example:3333",
    ],
)
def test_what_is_no_endpoint_is_refused_without_repeating_it(data_dir: Path, url: str) -> None:
    with pytest.raises(BadUpstream):
        parse_endpoint(url, "acme", None, None)
    refused = angara(data_dir, "upstream", "add", "north", "--endpoint", url, "--user", "acme")
    assert (refused.exit_code, "--endpoint: " in refused.output) == (2, True)


def test_somebody_must_have_the_account() -> None:
    with pytest.raises(BadUpstream, match="whose account"):
        parse_endpoint("stratum+tcp://pool.example:3333", None, None, None)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 256, b"bell\x07"])
def test_a_file_without_a_password_is_refused(data_dir: Path, content: bytes) -> None:
    (data_dir / "password").write_bytes(content)
    refused = add_upstream(data_dir)
    assert (refused.exit_code, "one line of 1 to 255 printable characters" in refused.output) == (2, True)


def test_mistakes_about_upstreams_are_answered_in_words(data_dir: Path) -> None:
    for arguments, words in (
        (("--fallback", "south"), "there is no upstream 'south'"),
        (("--connections", 17), "1 to 16 connections"),
        (("--outage-s", 0), "seconds"),
        (("--ca-file", data_dir / "missing.pem"), "cannot use the CA file"),
        (("--password-file", data_dir / "missing"), "No such file"),
    ):
        refused = add_upstream(data_dir, "north", *arguments)
        assert (refused.exit_code, words in refused.output) == (2, True), refused.output
    refused = angara(data_dir, "upstream", "switch", "north", "2")
    assert refused == (2, "angara: there is no upstream 'north'\n")


def test_who_switched_is_an_event_and_no_switch_is_none(data_dir: Path) -> None:
    add_upstream(data_dir)
    for to in ("1", "2", "1"):
        assert angara(data_dir, "upstream", "switch", "north", to).exit_code == 0
    store = store_in(data_dir)
    with store.read() as connection:
        (event,) = connection.execute(channel_events.select()).all()
    store.close()
    assert (event.event, event.order_id, event.sessions) == ("switched", None, 0)
    assert event.words == f"b.example:443 is the first endpoint from now on, by {operator()}"


# A look at endpoints


async def test_every_endpoint_is_looked_at_and_tells_what_it_gives(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        pools = {
            "good": HonestUpstream(),
            "wrong": UpstreamThatRefusesTheAccount(),
            "small": HonestUpstream(),
        }
        pools["small"].extranonce2_bytes = 3
        network = Network(nursery, pools)
        places = list(
            enumerate((endpoint("good"), endpoint("wrong"), endpoint("small"), endpoint("gone")), 1)
        )
        good, wrong, small, gone = await try_endpoints(SETTINGS, places, connect=network.connect)
        nursery.cancel_scope.cancel()
    assert good.facts is not None
    assert good.facts.split == ExtranonceSplit(filler_bytes=0, prefix_bytes=4, miner_bytes=4)
    assert (good.facts.mask, good.facts.work.height) == (0x1FFFE000, 1_000_000)
    assert "refuses mining.authorize" in wrong.reason
    assert "***" in wrong.reason
    assert "leaves 3 bytes of extranonce2, and 4 are needed" in small.reason
    assert "all attempts to connect" in gone.reason


async def test_a_ca_file_that_is_gone_is_said_of_its_endpoint(tmp_path: Path) -> None:
    place = UpstreamEndpoint(host="x", port=1, user="u", tls=True, ca_file=str(tmp_path / "gone.pem"))
    (trial,) = await try_endpoints(SETTINGS, [(1, place)])
    assert "cannot use the CA file" in trial.reason


@contextmanager
def pool_in_a_thread() -> Iterator[int]:
    """A real server; its port."""
    started, ports = threading.Event(), list[int]()
    stop: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def serve() -> None:
        async with serving() as pool:
            with trio.CancelScope() as scope:
                stop.append((trio.lowlevel.current_trio_token(), scope))
                ports.append(pool.port)
                started.set()
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert started.wait(20)
        yield ports[0]
    finally:
        token, scope = stop[0]
        token.run_sync_soon(scope.cancel)
        thread.join(20)


def test_the_command_tests_a_real_server_beside_a_running_pool(data_dir: Path) -> None:
    with pool_in_a_thread() as port, held(data_dir):
        store = store_in(data_dir)
        desk = Desk(store, "regtest")
        alive = UpstreamEndpoint(host="127.0.0.1", port=port, user="acme.proxy", password=PASSWORD)
        dead = UpstreamEndpoint(host="127.0.0.1", port=1, user="acme.proxy", password=PASSWORD)
        body = new_upstream(endpoints=(dead, alive))
        commands.execute(desk, "upstream.add", msgspec.json.encode(body), host_account("ann", ALONE))
        store.close()
        tested = angara(data_dir, "upstream", "test", "north")
        assert tested.exit_code == 0, tested.output
        assert "1  127.0.0.1:1: NOT USABLE" in tested.output
        assert f"2  127.0.0.1:{port}: usable" in tested.output
        assert "version mask 1fffe000" in tested.output
        (row,) = json.loads(angara(data_dir, "upstream", "test", "north", "--endpoint", "2", "--json").output)
        assert (row["usable"], row["number"], row["miner_bytes"]) == (True, 2, 4)
        none = angara(data_dir, "upstream", "test", "north", "--endpoint", "127.0.0.1:1")
    assert (none.exit_code, "NOT USABLE" in none.output) == (1, True)
    unknown = angara(data_dir, "upstream", "test", "north", "--endpoint", "9")
    assert (unknown.exit_code, "no endpoint '9'" in unknown.output) == (2, True)
