"""Whose token it is, as the books said lately: what they say last counts."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import trio.testing
from sqlalchemy.exc import OperationalError

from pool.people.authentication import WrongToken
from pool.people.roles import Caller, Role
from pool.web import callers
from pool.web.callers import AWAY_S, HOLDS_S, Callers

VERA = Caller(name="vera", source="token 1", role=Role.VIEWER)


class BooksThatSayWhatTheTestWants:
    """In the place of Authentication."""

    def __init__(self) -> None:
        self.asked = 0
        self.say: Callable[[], Caller] = lambda: VERA

    def caller(self, number: int, address: str) -> Caller:
        self.asked += 1
        return self.say()


def silent() -> Caller:
    raise OperationalError("select", {}, Exception("away"))


def ended() -> Caller:
    raise WrongToken


@pytest.fixture
def books() -> BooksThatSayWhatTheTestWants:
    return BooksThatSayWhatTheTestWants()


def of(books: BooksThatSayWhatTheTestWants) -> Callers:
    return Callers(cast(Any, books))


async def test_the_books_are_asked_now_and_then_and_what_they_say_last_counts(
    books: BooksThatSayWhatTheTestWants, mock_clock: trio.testing.MockClock
) -> None:
    known = of(books)
    for _ in range(3):
        assert await known.who(1, "127.0.0.1") is VERA
    assert books.asked == 1
    assert await known.who(1, "127.0.0.1", holds_s=0.0) is VERA
    assert books.asked == 2
    books.say = ended
    assert await known.who(1, "127.0.0.1") is VERA
    mock_clock.jump(HOLDS_S)
    for _ in range(2):
        with pytest.raises(WrongToken):
            await known.who(1, "127.0.0.1")
    books.say = silent  # who was told no stays out
    with pytest.raises(OperationalError):
        await known.who(1, "127.0.0.1")


async def test_who_was_known_sees_on_while_the_books_are_away_for_a_while(
    books: BooksThatSayWhatTheTestWants, mock_clock: trio.testing.MockClock
) -> None:
    known = of(books)
    await known.who(1, "127.0.0.1")
    books.say = silent
    mock_clock.jump(AWAY_S - 1)
    assert await known.who(1, "127.0.0.1") is VERA
    with pytest.raises(OperationalError):
        await known.who(2, "127.0.0.1")
    mock_clock.jump(1)
    with pytest.raises(OperationalError):
        await known.who(1, "127.0.0.1")


async def test_as_many_are_remembered_as_may_be(
    books: BooksThatSayWhatTheTestWants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "TOKENS_MAX", 2)
    known = of(books)
    for number in (1, 2, 3, 3, 2):
        await known.who(number, "127.0.0.1")
    assert books.asked == 3
    await known.who(1, "127.0.0.1")
    assert books.asked == 4
