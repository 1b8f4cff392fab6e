"""Who may connect, and who leaves so that others may: by what each has shown, and by source."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum.miners.turns.connection_limits import (
    NEWCOMERS_SHARE,
    ConnectionBounds,
    ConnectionLimits,
    Place,
    Standing,
    real_address,
    source_of,
)

CONTAINER, OTHER = "10.7.0.1", "192.0.2.1"
HALF_OPEN, FRESH, IDLE, MINING = Standing.HALF_OPEN, Standing.FRESH, Standing.IDLE, Standing.MINING


class Guest:
    """A connection that closes when it is told to."""

    def __init__(self, door: ConnectionLimits, place: Place) -> None:
        self.door, self.place, self.made_room = door, place, False
        place.holder = self

    def make_room(self) -> None:
        self.made_room = True
        self.door.leave(self.place)


class GuestThatLingers(Guest):
    """It closes later: a TLS handshake."""

    def make_room(self) -> None:
        self.made_room = True


def come(door: ConnectionLimits, address: str = CONTAINER, standing: Standing = HALF_OPEN) -> Guest | str:
    place = door.enter(address)
    if isinstance(place, str):
        return place
    guest = Guest(door, place)
    door.begin(place)
    door.stands(place, standing)
    return guest


def crowd(
    door: ConnectionLimits, count: int, address: str = CONTAINER, standing: Standing = MINING
) -> list[Guest]:
    guests = [come(door, address, standing) for _ in range(count)]
    assert all(isinstance(guest, Guest) for guest in guests)
    return [guest for guest in guests if isinstance(guest, Guest)]


def gone(guests: list[Guest]) -> int:
    return sum(guest.made_room for guest in guests)


# Sources


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("10.7.0.1", "10.7.0.1"),
        ("::ffff:10.7.0.1", "10.7.0.1"),
        ("::FFFF:0a07:0001", "10.7.0.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_a_source_is_an_ipv4_address_or_a_64th_of_ipv6(address: str, source: str) -> None:
    assert source_of(address) == source
    assert source_of(real_address(address)) == source


def test_all_addresses_of_one_ipv6_site_count_as_one() -> None:
    door = ConnectionLimits(ConnectionBounds(sessions_per_address_max=10))
    rng = random.Random(12)
    for _ in range(10):
        assert isinstance(come(door, f"2001:db8:1:2::{rng.getrandbits(16):x}", MINING), Guest)
    assert come(door, "2001:db8:1:2::ffff") == "too many connections from this address"
    assert isinstance(come(door, "2001:db8:1:3::ffff"), Guest)


# Bounds


def test_the_limits_of_the_protocol_notes() -> None:
    limits = ConnectionBounds()
    assert (limits.sessions_per_address_max, limits.half_open_per_address_max) == (65_536, 1_024)


def test_a_closed_door_says_why() -> None:
    door = ConnectionLimits(ConnectionBounds())
    door.closed = "no bitcoin node answers"
    assert come(door) == "no bitcoin node answers"
    door.closed = None
    assert isinstance(come(door), Guest)


def test_half_open_connections_keep_no_machine_of_their_address_out() -> None:
    door = ConnectionLimits(ConnectionBounds())
    others = crowd(door, 100, OTHER, HALF_OPEN)
    flood = crowd(door, 1_100, standing=HALF_OPEN)
    machines = []
    for _ in range(76):
        machines += crowd(door, 1, standing=FRESH)
        flood += crowd(door, 1, standing=HALF_OPEN)
    assert (gone(machines), gone(others)) == (0, 0)
    assert [guest.made_room for guest in flood] == [True] * 152 + [False] * 1_024, "the oldest first"


def test_a_source_that_has_all_its_places_mining_gets_no_more() -> None:
    door = ConnectionLimits(ConnectionBounds(sessions_per_address_max=3))
    crowd(door, 2)
    idle = crowd(door, 1, standing=IDLE)
    assert isinstance(come(door, standing=MINING), Guest)
    assert gone(idle) == 1
    assert come(door) == "too many connections from this address"
    assert isinstance(come(door, OTHER), Guest)


def test_a_place_is_free_although_its_holder_takes_its_time() -> None:
    door = ConnectionLimits(ConnectionBounds(half_open_per_address_max=1))
    place = door.enter(CONTAINER)
    assert isinstance(place, Place)
    slow = GuestThatLingers(door, place)
    door.begin(place)
    for _ in range(5):
        crowd(door, 1, standing=HALF_OPEN)
        assert door.sessions == 1
    assert slow.made_room
    door.leave(place)
    assert door.sessions == 1


# A full pool: by need


def test_who_mines_keeps_its_place_whatever_comes() -> None:
    door = ConnectionLimits(ConnectionBounds(sessions_max=1_000))
    sites = [crowd(door, 250, f"10.0.0.{n}") for n in range(4)]
    for number in range(10_000):
        assert come(door, f"192.0.{number % 250}.{number // 250}", FRESH) == "pool is full"
    assert [gone(site) for site in sites] == [0] * 4


def test_who_has_authorised_and_not_mined_for_long_leaves_when_places_are_scarce() -> None:
    door = ConnectionLimits(ConnectionBounds(sessions_max=1_000))
    idle = crowd(door, 400, OTHER, IDLE)
    mining = crowd(door, 500)
    crowd(door, 100, standing=MINING)
    assert gone(idle) == 0, "there was room"
    crowd(door, 300, "192.0.2.2", MINING)
    assert (gone(idle), gone(mining)) == (300, 0)
    assert [guest.made_room for guest in idle] == [True] * 300 + [False] * 100, "the oldest first"


def test_invented_names_from_one_address_keep_no_other_out() -> None:
    door = ConnectionLimits(ConnectionBounds(sessions_max=1_000))
    strangers = crowd(door, 1_000, OTHER, FRESH)
    machines = crowd(door, 400, standing=FRESH)
    assert (gone(strangers), gone(machines)) == (400, 0)
    for machine in machines:
        door.stands(machine.place, MINING)
    for _ in range(2_000):
        come(door, OTHER, FRESH)
    assert gone(machines) == 0


def test_half_open_connections_of_whom_has_most_leave_first() -> None:
    door = ConnectionLimits(ConnectionBounds(sessions_max=1_000))
    flood = crowd(door, 600, OTHER, HALF_OPEN)
    quiet = crowd(door, 50, "192.0.2.2", HALF_OPEN)
    crowd(door, 350)
    crowd(door, 500, standing=MINING)
    assert (gone(flood), gone(quiet)) == (500, 0)


def test_an_address_with_every_place_gives_up_a_few_for_strangers_and_half_for_miners() -> None:
    places = 1_280
    kept = places // NEWCOMERS_SHARE
    door = ConnectionLimits(ConnectionBounds(sessions_max=places))
    park = crowd(door, places)
    for number in range(5_000):
        come(door, f"192.0.{number % 250}.{number // 250}")  # nobody of these ever mines
    assert gone(park) == kept
    for _ in range(2 * places):
        guest = come(door, OTHER)
        if isinstance(guest, Guest):
            door.stands(guest.place, MINING)
    assert places // 2 <= gone(park) <= places // 2 + kept


def test_strangers_who_authorise_take_no_more_places_of_miners_than_there_are_for_newcomers() -> None:
    door = ConnectionLimits(ConnectionBounds(sessions_max=1_280))
    park = crowd(door, 1_280)
    for number in range(5_000):
        come(door, f"192.0.{number % 250}.{number // 250}", FRESH)
    assert gone(park) <= 1_280 // NEWCOMERS_SHARE + 1


def test_a_place_that_is_given_back_is_free_again() -> None:
    door = ConnectionLimits(ConnectionBounds(sessions_max=2))
    first, _ = crowd(door, 1)[0], crowd(door, 1, OTHER)
    assert come(door) == "pool is full"
    door.leave(first.place)
    door.leave(first.place)
    assert door.sessions == 1
    assert isinstance(come(door), Guest)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([CONTAINER, OTHER, "2001:db8::1"]),
            st.sampled_from(["enter", "leave", FRESH, IDLE, MINING]),
            st.integers(0, 30),
        ),
        max_size=200,
    )
)
def test_the_books_of_the_door_are_those_of_who_is_here(
    steps: list[tuple[str, Standing | str, int]],
) -> None:
    door = ConnectionLimits(
        ConnectionBounds(sessions_max=12, sessions_per_address_max=8, half_open_per_address_max=4)
    )
    here: list[Guest] = []  # who came to his standing last is last
    for address, step, at in steps:
        if step == "enter":
            guest = come(door, address)
            if isinstance(guest, Guest):
                here.append(guest)
        elif here:
            chosen = here[at % len(here)]
            if isinstance(step, Standing):
                if chosen.place.standing is not step:
                    here.remove(chosen)
                    here.append(chosen)
                door.stands(chosen.place, step)
            else:
                door.leave(chosen.place)
        here = [guest for guest in here if guest.place.standing is not Standing.GONE]
        assert door.sessions == len(here) <= 12
        assert door.mining == sum(guest.place.standing is MINING for guest in here)
        for source in {source_of(it) for it in (CONTAINER, OTHER, "2001:db8::1")}:
            assert door.count(source) == sum(guest.place.source == source for guest in here) <= 8
            for standing, crowd in door._crowds.items():
                of_source = [it.place for it in here if it.place.source == source]
                there = [place for place in of_source if place.standing is standing]
                assert crowd.count(source) == len(there)
                assert not there or crowd.oldest(source) is there[0]
    for guest in here:
        door.leave(guest.place)
    assert door.sessions == 0
    assert not any(crowd._rows or crowd._sources or crowd.size for crowd in door._crowds.values())


@pytest.mark.parametrize("source", [CONTAINER, "2001:db8:1:2::/64"])
def test_all_of_a_source_have_one_string_for_it(source: str) -> None:
    """Each connection brings its own."""
    door = ConnectionLimits(ConnectionBounds())
    guests = crowd(door, 2, "".join(list(source.removesuffix("/64"))))
    assert guests[0].place.source == source
    assert guests[0].place.source is guests[1].place.source


def test_a_source_that_mines_is_known_from_then_on_and_the_known_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stratum.miners.turns.connection_limits.KNOWN_MAX", 100)
    door = ConnectionLimits(ConnectionBounds())
    guest = come(door, CONTAINER, MINING)
    come(door, OTHER, FRESH)
    assert isinstance(guest, Guest)
    door.leave(guest.place)
    assert door.knows(source_of(CONTAINER)), "a container that lost its power comes back"
    assert not door.knows(source_of(OTHER)), "a name is free"
    for number in range(100):
        come(door, f"198.51.100.{number}", MINING)
    assert not door.knows(source_of(CONTAINER))
    assert len(door._known) == 100
