"""Who is let in: counts by address, and bans that never hit a container for what one machine does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum import doorkeeper
from stratum.doorkeeper import Doorkeeper, DoorLimits

CONTAINER, OTHER = "10.7.0.1", "10.8.0.1"


def enter(door: Doorkeeper, times: int, address: str = CONTAINER, *, settled: bool = False) -> None:
    for _ in range(times):
        assert door.enter(address, 0.0) is None
        if settled:
            door.settled(address)


def abuse(door: Doorkeeper, times: int, now_s: float = 0.0) -> None:
    """Connections that break the protocol, one after the other."""
    for _ in range(times):
        assert door.enter(CONTAINER, now_s) is None
        door.abuse(CONTAINER, now_s)
        door.leave(CONTAINER, settled=False)


def test_the_limits_of_the_protocol_notes() -> None:
    limits = DoorLimits()
    assert (limits.sessions_per_address_max, limits.half_open_per_address_max) == (65_536, 1_024)


def test_a_full_pool_refuses_everybody_until_somebody_leaves() -> None:
    door = Doorkeeper(DoorLimits(sessions_max=2))
    enter(door, 1)
    enter(door, 1, OTHER)
    assert door.enter(CONTAINER, 0.0) == "pool is full"
    door.leave(OTHER, settled=False)
    assert door.enter(CONTAINER, 0.0) is None
    assert door.sessions == 2


def test_an_address_has_so_many_connections_and_the_others_are_not_concerned() -> None:
    door = Doorkeeper(DoorLimits(sessions_per_address_max=3))
    enter(door, 3, settled=True)
    assert door.enter(CONTAINER, 0.0) == "too many connections from this address"
    enter(door, 1, OTHER)
    door.leave(CONTAINER, settled=True)
    enter(door, 1)


def test_an_address_has_so_many_unfinished_handshakes() -> None:
    door = Doorkeeper(DoorLimits(half_open_per_address_max=2))
    enter(door, 2)
    assert door.enter(CONTAINER, 0.0) == "too many unfinished handshakes from this address"
    door.settled(CONTAINER)
    enter(door, 1)
    door.leave(CONTAINER, settled=False)
    enter(door, 1)
    assert door.enter(CONTAINER, 0.0) is not None


def test_a_closed_door_says_why() -> None:
    door = Doorkeeper(DoorLimits())
    door.closed = "no bitcoin node answers"
    assert door.enter(CONTAINER, 0.0) == "no bitcoin node answers"
    door.closed = None
    assert door.enter(CONTAINER, 0.0) is None


def test_many_abusive_connections_in_a_short_time_are_banned_for_a_while() -> None:
    door = Doorkeeper(DoorLimits(ban_after_abuses=100, abuse_window_s=60.0, ban_s=600.0))
    abuse(door, 99)
    assert door.enter(CONTAINER, 0.0) is None
    door.leave(CONTAINER, settled=False)
    abuse(door, 1, now_s=60.0)
    assert door.enter(CONTAINER, 60.0) == "banned for protocol abuse"
    assert door.enter(CONTAINER, 659.9) == "banned for protocol abuse"
    assert door.enter(OTHER, 60.0) is None
    assert door.enter(CONTAINER, 660.0) is None


def test_abuses_far_apart_are_no_reason() -> None:
    door = Doorkeeper(DoorLimits(ban_after_abuses=3, abuse_window_s=60.0))
    for now_s in range(0, 6100, 61):
        abuse(door, 2, float(now_s))
    assert door.enter(CONTAINER, 6100.0) is None


def test_no_ban_while_anybody_from_the_address_is_authorised() -> None:
    door = Doorkeeper(DoorLimits(ban_after_abuses=3))
    enter(door, 1, settled=True)
    abuse(door, 50)
    assert door.enter(CONTAINER, 0.0) is None
    door.leave(CONTAINER, settled=False)
    door.leave(CONTAINER, settled=True)
    abuse(door, 1)
    assert door.enter(CONTAINER, 0.0) == "banned for protocol abuse"


def test_after_a_ban_the_count_starts_anew() -> None:
    door = Doorkeeper(DoorLimits(ban_after_abuses=3, abuse_window_s=1e9, ban_s=10.0))
    abuse(door, 3)
    assert door.enter(CONTAINER, 9.0) is not None
    abuse(door, 2, 11.0)
    assert door.enter(CONTAINER, 11.0) is None


def test_only_so_many_abusers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorkeeper, "ABUSERS_MAX", 10)
    door = Doorkeeper(DoorLimits(ban_after_abuses=2))
    for number in range(100):
        address = f"10.0.0.{number}"
        for _ in range(2 if number % 2 else 1):
            assert door.enter(address, 0.0) is None
            door.abuse(address, 0.0)
            door.leave(address, settled=False)
    assert len(door._abuses) <= 10
    assert len(door._banned_until_s) <= 10
    assert door.enter("10.0.0.99", 0.0) is not None, "the newest are the ones remembered"
    assert door.enter("10.0.0.1", 0.0) is None


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from([CONTAINER, OTHER]), st.sampled_from(["enter", "settle", "leave"])))
)
def test_whoever_leaves_is_forgotten(steps: list[tuple[str, str]]) -> None:
    door = Doorkeeper(DoorLimits(sessions_max=20))
    here: list[tuple[str, bool]] = []
    for address, step in steps:
        if step == "enter":
            if door.enter(address, 0.0) is None:
                here.append((address, False))
        elif step == "settle" and (address, False) in here:
            here.remove((address, False))
            here.append((address, True))
            door.settled(address)
        elif step == "leave" and here:
            left, settled = here.pop(0)
            door.leave(left, settled=settled)
        assert door.sessions == len(here)
    for address, settled in here:
        door.leave(address, settled=settled)
    assert door.sessions == 0
    assert not door._sessions
    assert not door._half_open
