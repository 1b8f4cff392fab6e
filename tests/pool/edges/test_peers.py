"""Where machines mine from, as those who serve them say it together."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from trio.testing import MockClock

from pool.edges.edge import Edge
from pool.edges.edges import Edges
from pool.power.control.contract import Firmware, MachineName
from pool.power.control.peers import Peer, Peers, peers_by_name
from pool.questions import AnsweredWithError
from pool.serving import Serving
from tests.fakes.edges import EdgeWithoutMiners


class Registry:
    """Machines by their numbers."""

    def __init__(self, **numbers: int) -> None:
        self._names = {number: ("acme", "c01", unit) for unit, number in numbers.items()}

    def knows(self, number: int) -> bool:
        return number in self._names

    def place_of(self, number: int) -> tuple[str, str, str]:
        return self._names[number]


def connection(address: str, *workers: int, accepted: int = 5, is_open: bool = True) -> SimpleNamespace:
    session = SimpleNamespace(agent="LUXminer 2024.9.1", slot=0)
    return SimpleNamespace(address=address, workers=workers, accepted=accepted, open=is_open, session=session)


def serving(registry: Registry, *connections: SimpleNamespace) -> Serving:
    nothing = cast(Any, None)
    board = SimpleNamespace(
        connections=connections, engine=SimpleNamespace(heard_at=lambda slot, now_s: now_s - 7.5)
    )
    known = cast(Any, SimpleNamespace(registry=registry))
    return Serving(known, nothing, cast(Any, SimpleNamespace(board=board)), nothing, nothing)


async def test_every_name_of_every_open_connection_is_told(autojump_clock: MockClock) -> None:
    told = await serving(
        Registry(u1=1, u2=2, u3=3, u4=4),
        connection("10.0.0.1", 1),
        connection("10.0.0.2", 2, accepted=0),
        connection("10.0.0.3", 3, 4),
        connection("10.0.0.4", 4, is_open=False),
        connection("10.0.0.5", 77),  # a machine that was removed a moment ago
    ).peers()
    (of_c01,) = told
    assert list(zip(of_c01.units, of_c01.addresses, of_c01.accepted, strict=True)) == [
        ("u1", "10.0.0.1", 1),
        ("u2", "10.0.0.2", 0),
        ("u3", "10.0.0.3", 1),
        ("u4", "10.0.0.3", 1),
    ]
    assert of_c01.ages_s == (7, 0, 7, 7)
    assert peers_by_name(told) == {MachineName("acme", "c01", "u1"): Peer("10.0.0.1", Firmware.LUXOS)}


class EdgeThatKnowsPeers(EdgeWithoutMiners):
    def __init__(self, *told: Peers) -> None:
        self._told = told

    async def peers(self) -> tuple[Peers, ...]:
        return self._told


class EdgeThatFails(EdgeThatKnowsPeers):
    async def peers(self) -> tuple[Peers, ...]:
        raise AnsweredWithError("no answer")


def at(unit: str, address: str) -> Peers:
    return Peers(
        tenant="acme",
        container="c01",
        units=(unit,),
        addresses=(address,),
        agents=("",),
        accepted=b"\1",
    )


def edges(*them: EdgeThatKnowsPeers) -> Edges:
    return Edges([cast(Edge, it) for it in them], orders=lambda _: ())


async def test_two_behind_one_address_are_seen_by_two_processes_together(autojump_clock: MockClock) -> None:
    one, two = EdgeThatKnowsPeers(at("u1", "10.0.0.1")), EdgeThatKnowsPeers(at("u2", "10.0.0.1"))
    assert peers_by_name(await edges(one, two).peers()) == {}


async def test_nobody_has_an_address_while_a_process_does_not_answer(autojump_clock: MockClock) -> None:
    with pytest.raises(AnsweredWithError):
        await edges(EdgeThatKnowsPeers(at("u1", "10.0.0.1")), EdgeThatFails()).peers()
