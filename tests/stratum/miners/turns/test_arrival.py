"""Connections that wait for their first turn: served once, closed once, not served when they have left."""

import socket

import pytest

from stratum.miners.turns.arrival import GONE_COST, Arrival
from stratum.miners.turns.connection_limits import MADE_ROOM, Place

SERVED = 7


class Door:
    """One who waits, and what became of him."""

    def __init__(self, error: OSError | None = None) -> None:
        self.served = 0
        self.ended: list[str] = []
        self.peer, sock = socket.socketpair()
        self._error = error
        self.place = Place("192.0.2.1")
        self.arrival = Arrival(
            sock,
            "192.0.2.1",
            self.place,
            begin=self._begin,
            on_end=lambda arrival, reason: self.ended.append(reason),
        )

    def _begin(self, arrival: Arrival) -> int:
        if self._error is not None:
            raise self._error
        self.served += 1
        return SERVED

    def __enter__(self) -> "Door":
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        self.arrival.sock.close()


def test_it_is_served_once() -> None:
    with Door() as door:
        assert (door.arrival.take_turn(), door.arrival.take_turn()) == (SERVED, 0)
        assert (door.served, door.ended) == (1, [])
        door.arrival.end("too late")
        assert door.arrival.sock.fileno() >= 0, "it is somebody else's by now"


def test_it_makes_room_without_ever_having_been_served() -> None:
    with Door() as door:
        assert door.place.holder is door.arrival
        door.arrival.make_room()
        door.arrival.make_room()
        assert door.ended == [MADE_ROOM]
        assert door.peer.recv(1) == b""
        assert (door.arrival.take_turn(), door.served) == (0, 0)


def test_what_cannot_be_served_is_closed() -> None:
    with Door(OSError("no space left on device")) as door:
        assert door.arrival.take_turn() == GONE_COST
        assert door.ended == ["connection lost"]
        assert door.peer.recv(1) == b""


@pytest.mark.parametrize("said", [b"", b'{"id":1,"method":"mining.subscribe","params":[]}\n'])
def test_whether_it_has_left_is_known_before_it_is_read(said: bytes) -> None:
    with Door() as door:
        door.peer.sendall(said)
        assert not door.arrival.has_left
        door.peer.close()
        assert door.arrival.has_left
