"""Sessions are bounded, end in time, and are known by nothing but what they were given."""

import pytest

from pool.people.authentication import WrongToken
from pool.people.roles import Caller, Role
from pool.people.sessions import IDLE_S, LIFE_S, SESSIONS_MAX, SESSIONS_OF_USER_MAX, Sessions


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def of(user: int, token: int = 7) -> Caller:
    return Caller(name=f"user {user}", source="", role=Role.VIEWER, user_id=user, token=token)


def test_a_session_stands_for_its_token_until_it_is_ended(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    secret, other = sessions.begin(of(1, token=7)), sessions.begin(of(1, token=8))
    assert (sessions.token_of(secret), sessions.token_of(other)) == (7, 8)
    sessions.end(secret)
    for wrong in (secret, "", other[:-1], other + "a"):
        with pytest.raises(WrongToken):
            sessions.token_of(wrong)
    assert sessions.token_of(other) == 8


def test_it_ends_without_use_and_after_a_shift_with_it(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    idle, used = sessions.begin(of(1)), sessions.begin(of(1))
    while clock.now_s < LIFE_S - 1:
        assert sessions.left_s(used) == LIFE_S - clock.now_s
        clock.now_s = min(clock.now_s + IDLE_S - 1, LIFE_S - 1)
    with pytest.raises(WrongToken):
        sessions.token_of(idle)
    assert sessions.token_of(used) == 7
    clock.now_s = LIFE_S
    with pytest.raises(WrongToken):
        sessions.token_of(used)
    sessions.begin(of(1))
    assert len(sessions) == 1  # those that are over make room


def test_who_begins_many_ends_his_own_and_nobody_elses(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    other = sessions.begin(of(1))
    clock.now_s += 1
    quiet, busy = sessions.begin(of(2)), sessions.begin(of(2))
    for _ in range(SESSIONS_OF_USER_MAX - 1):
        clock.now_s += 1
        sessions.token_of(busy)
        sessions.begin(of(2))
    assert sessions.token_of(other) == sessions.token_of(busy) == 7
    with pytest.raises(WrongToken):
        sessions.token_of(quiet)
    assert len(sessions) == 1 + SESSIONS_OF_USER_MAX


def test_where_all_places_are_taken_who_has_most_makes_room(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    many = [sessions.begin(of(1)) for _ in range(2)]
    for user in range(2, SESSIONS_MAX):
        sessions.begin(of(user))
    assert len(sessions) == SESSIONS_MAX
    clock.now_s += 1
    sessions.token_of(many[0])
    newcomer = sessions.begin(of(SESSIONS_MAX))
    assert len(sessions) == SESSIONS_MAX
    assert sessions.token_of(newcomer) == sessions.token_of(many[0]) == 7
    with pytest.raises(WrongToken):
        sessions.token_of(many[1])
