"""A link between two processes: questions and answers in their types, and an end that is gone."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from pool.link import ANSWER_S, Link, LinkClosed
from pool.questions import AnsweredWithError, asking


class Weather(msgspec.Struct, frozen=True):
    place: str
    celsius: tuple[int, ...]


class NoSuchPlace(Exception):
    pass


class Station(Protocol):
    async def weather(self, place: str, days: int) -> Weather: ...

    async def sleeps(self) -> None: ...


class Measures:
    def __init__(self) -> None:
        self.asleep = trio.Event()

    async def weather(self, place: str, days: int) -> Weather:
        if place == "Atlantis":
            raise NoSuchPlace(place)
        if days < 0:
            raise ValueError("nobody knows that")
        return Weather(place, tuple(range(days)))

    async def sleeps(self) -> None:
        self.asleep.set()
        await trio.sleep_forever()


class Linked:
    """Who asks, and who answers."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        self.asks, self.answers = (Link(it, errors=(NoSuchPlace,)) for it in (here, there))
        self.station: Station = asking(self.asks, Station)
        self.measures = Measures()
        self.answers.answer(Station, self.measures)


@asynccontextmanager
async def linked() -> AsyncIterator[Linked]:
    it = Linked()
    async with trio.open_nursery() as nursery:
        await nursery.start(it.asks.run)
        await nursery.start(it.answers.run)
        yield it
        nursery.cancel_scope.cancel()


async def test_an_answer_comes_back_in_its_type_and_an_error_as_what_it_is() -> None:
    async with linked() as it:
        assert await it.station.weather("Oslo", 3) == Weather("Oslo", (0, 1, 2))
        with pytest.raises(NoSuchPlace, match="Atlantis"):
            await it.station.weather("Atlantis", 3)
        with pytest.raises(AnsweredWithError, match="nobody knows that"):
            await it.station.weather("Oslo", -1)
        assert len((await it.station.weather("Oslo", 100_000)).celsius) == 100_000, "longer than a read"


class Liar(Protocol):
    """What another release takes the station for."""

    async def weather(self, place: str, days: int) -> dict[str, bytes]: ...


async def test_who_answers_something_else_has_answered_with_an_error() -> None:
    async with linked() as it:
        liar: Liar = asking(it.asks, Liar)
        with pytest.raises(AnsweredWithError, match="what was answered to weather is no answer"):
            await liar.weather("Oslo", 3)
        with pytest.raises(AnsweredWithError, match="Expected `str`"):
            await it.station.weather(7, 3)  # type: ignore[arg-type]
        with pytest.raises(AnsweredWithError, match="nobody answers tides here"):
            await it.asks.ask("tides", b"")


class NewerStation(Protocol):
    """Of the next release."""

    async def weather(self, place: str, days: int, from_day: int = 2, unit: str = "C") -> Weather: ...


class NewerMeasures:
    async def weather(self, place: str, days: int, from_day: int = 2, unit: str = "C") -> Weather:
        return Weather(place, tuple(range(from_day, from_day + days)))


async def test_who_asks_may_be_of_a_version_that_has_fewer_arguments_and_of_none_that_has_more() -> None:
    async with linked() as it:
        newer: NewerStation = asking(it.asks, NewerStation)
        with pytest.raises(AnsweredWithError, match="weather is asked as by a newer version than this one"):
            await newer.weather("Oslo", 1, 3)
        it.answers.answer(NewerStation, NewerMeasures())
        assert await newer.weather("Oslo", 1, 3) == Weather("Oslo", (3,))
        assert await it.station.weather("Oslo", 1) == Weather("Oslo", (2,))
        with pytest.raises(AnsweredWithError, match="array"):
            await it.asks.ask("weather", msgspec.msgpack.encode(["Oslo"]))


async def test_questions_overtake_one_that_waits() -> None:
    async with linked() as it, trio.open_nursery() as nursery:
        nursery.start_soon(it.station.sleeps)
        await it.measures.asleep.wait()
        assert (await it.station.weather("Oslo", 1)).celsius == (0,)
        nursery.cancel_scope.cancel()


async def test_who_waits_for_an_end_that_is_gone_is_told() -> None:
    async with linked() as it:
        told: list[LinkClosed] = []

        async def ask() -> None:
            try:
                await it.station.sleeps()
            except LinkClosed as error:
                told.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await it.measures.asleep.wait()
            await it.answers.aclose()
        assert len(told) == 1
        with pytest.raises(LinkClosed):
            await it.station.weather("Oslo", 1)


async def test_an_end_that_does_not_answer_is_given_up(autojump_clock: MockClock) -> None:
    async with linked() as it:
        begun_s = trio.current_time()
        with pytest.raises(LinkClosed):
            await it.station.sleeps()
        assert trio.current_time() - begun_s == pytest.approx(ANSWER_S)
        assert it.asks.closed.is_set()


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


NOT_READ = {
    "no msgpack": (frame(b"\xc1"), "MessagePack data is malformed"),
    "another message": (frame(msgspec.msgpack.encode([9, 1, b""])), "Invalid value 9"),
    "a text that is none": (frame(b"\x94\x01\x01\xa1\xff\xc4\x00"), "can't decode byte"),
    "nested without end": (frame(b"\x95\x01\x01\xa1m\xc4\x00" + b"\x91" * 100_000), "recursion"),
    "an answer twice": (frame(msgspec.msgpack.encode([2, 1, b"\xc1"])) * 2, None),
    "a frame that no side sends": (b"\xff" * 4, "a frame of 4294967295 bytes"),
    "half a frame": (frame(b"\x93\x02\x01\xc4\x00")[:6], "it ended in a frame, behind 6 bytes of it"),
}


@pytest.mark.parametrize("sent", NOT_READ)
async def test_an_end_that_writes_garbage_ends_the_link_in_words_and_nobody_who_asks(
    sent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a process that goes wrong does, or dies: its parent ended, with all the others."""
    data, words = NOT_READ[sent]
    here, there = socket.socketpair()
    link = Link(here)
    station: Station = asking(link, Station)

    async def ask() -> None:
        with pytest.raises((LinkClosed, AnsweredWithError)):
            await station.weather("Oslo", 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        there.sendall(data)
        there.close()
    assert link.closed.is_set()
    assert words is None or words in capsys.readouterr().out
