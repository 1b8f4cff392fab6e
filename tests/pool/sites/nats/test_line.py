"""Questions over NATS, on a real server: in their types, of any length, answered by the hub of now alone."""

from typing import Any, Protocol

import msgspec
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from pool.questions import AnsweredWithError, asking
from pool.sites.nats import client, subjects
from pool.sites.nats.connection import Connection, Subscribed
from pool.sites.nats.contents import CHUNK_BYTES, READING_MAX, Kept, Shelf
from pool.sites.nats.line import LINES
from tests.fakes.slow_lines import MEGABIT_BYTES_S, Servers, SlowConnection
from tests.fixtures.nats_servers import NatsServer
from tests.fixtures.no_threads import at_once
from tests.stages.nats_line import Away, EdgeEnd, HubEnd, NoSuchPlace, connected, running


class Weather(Protocol):
    async def celsius(self, place: str) -> int: ...

    async def history(self, first: bytes, days: int) -> bytes: ...


class Station:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def celsius(self, place: str) -> int:
        self.asked += 1
        if place == "Atlantis":
            raise NoSuchPlace(place)
        return len(place)

    async def history(self, first: bytes, days: int) -> bytes:
        return first * days


async def _answer_all(edge: Connection, asked: Subscribed, data: bytes) -> None:
    while True:
        await edge.publish((await asked.next()).reply, data)


async def until_nobody_answers(weather: Weather) -> None:
    """Who has ended is still asked for a moment: a server learns of it when it does."""
    while True:
        try:
            await weather.celsius("Oslo")
        except Away:
            return


async def test_either_end_asks_the_other(nats_server: NatsServer) -> None:
    async with connected(nats_server, "hub", "oslo") as (hub, edge):
        ends = HubEnd(hub, "oslo"), EdgeEnd(edge, "oslo")
        async with running(*ends):
            for asked, asks in (ends, ends[::-1]):
                asked.line.answer(Weather, Station())
                weather: Weather = asking(asks.line, Weather)
                assert await weather.celsius("Oslo") == 4
                # An edge may be captured: of what a hub has asked it, it chooses no exception.
                error = NoSuchPlace if isinstance(asks, EdgeEnd) else AnsweredWithError
                with pytest.raises(error, match="Atlantis"):
                    await weather.celsius("Atlantis")
                with pytest.raises(AnsweredWithError, match="nobody answers tides here"):
                    await asks.line.ask("tides", b"")


async def test_a_question_that_comes_twice_is_answered_once(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As each does in the second that the hub subscribes to an edge's anew: one that was let begin twice by
    it had the first epoch, which was over, and ended with all of its miners."""
    monkeypatch.setattr(client, "PASSED_ON_MAX", 20)
    monkeypatch.setattr(client, "PASSED_ON_S", 0.0)
    async with connected(nats_server, "hub", "oslo") as (hub, edge):
        hub_end, edge_end, station = HubEnd(hub, "oslo"), EdgeEnd(edge, "oslo"), Station()
        async with running(hub_end, edge_end):
            hub_end.line.answer(Weather, station)
            weather: Weather = asking(edge_end.line, Weather)
            for _ in range(100):
                assert await weather.celsius("Oslo") == 4
    assert station.asked == 100


async def test_what_is_nested_without_end_is_refused_and_the_next_is_answered(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server, "hub", "oslo") as (hub, edge):
        hub_end, edge_end = HubEnd(hub, "oslo"), EdgeEnd(edge, "oslo")
        async with running(hub_end, edge_end):
            hub_end.line.answer(Weather, Station())
            weather: Weather = asking(edge_end.line, Weather)
            deep, reply = b"\x91" * 5_000, f"{subjects.inbox_of('oslo')}.{'ab' * 16}"
            for method, data in (("celsius", b"\x94\x01\xc0\xc0" + deep), ("chunk", b"\x93\xa0\x00" + deep)):
                await edge.publish(subjects.of_hub("oslo", method), data, reply=reply)
            with pytest.raises(AnsweredWithError):
                await edge_end.line.ask("celsius", b"\x92\xa4Oslo" + deep)
            assert await weather.celsius("Oslo") == 4


async def test_questions_that_nobody_can_answer_fill_no_log(nats_server: NatsServer) -> None:
    """Each was a line of the hub's log, 100 a second: 0.7 GB a day of one site that is taken over, and more
    where the hub stumbled itself, which is told with a traceback."""
    async with connected(nats_server, "hub", "oslo", "bergen") as (hub, edge, other):
        hub_end, edge_end = HubEnd(hub, "oslo"), EdgeEnd(edge, "oslo")
        next_hub, next_edge = HubEnd(hub, "bergen"), EdgeEnd(other, "bergen")
        async with running(hub_end, edge_end, next_hub, next_edge):
            hub_end.line.answer(Weather, Station())
            weather: Weather = asking(edge_end.line, Weather)
            with capture_logs() as logs:
                for at in range(120):
                    with pytest.raises(AnsweredWithError):
                        await edge_end.line.ask("celsius", b"\xc1")
                    with pytest.raises(AnsweredWithError):
                        await weather.history(b"", "no" * at)  # type: ignore[arg-type]
                assert await weather.celsius("Oslo") == 4
                with pytest.raises(AnsweredWithError):
                    await next_edge.line.ask("celsius", b"\xc1")
            told = [it["edge"] for it in logs if it["event"] == "question_failed"]
            assert (told.count("oslo"), told.count("bergen")) == (LINES, 1), "of each edge its own"


async def test_a_text_that_is_none_is_refused_and_the_next_is_answered(nats_server: NatsServer) -> None:
    """In a question, and in the answer to one: whoever has taken over a site would have the hub end by it."""
    async with connected(nats_server, "hub", "oslo") as (hub, edge):
        hub_end, edge_end = HubEnd(hub, "oslo"), EdgeEnd(edge, "oslo")
        no_text, reply = b"\xa2\xff\xfe", f"{subjects.inbox_of('oslo')}.{'ab' * 16}"
        async with running(hub_end), edge.subscribed(subjects.of_edge("oslo", "*")) as asked:
            for method, data in (
                ("celsius", b"\x93\x01\xc0\x93" + no_text + b"\x01\xc4\x00"),
                ("chunk", b"\x92" + no_text + b"\x00"),
            ):
                await edge.publish(subjects.of_hub("oslo", method), data, reply=reply)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_answer_all, edge, asked, b"\x94\x01\xc0\xc0\x92" + no_text + no_text)
                with pytest.raises(AnsweredWithError, match="is no answer"):
                    await hub_end.line.ask("celsius", b"")
                nursery.cancel_scope.cancel()
        hub_end.line.answer(Weather, Station())
        async with running(hub_end, edge_end):
            with pytest.raises(AnsweredWithError):
                await edge_end.line.ask("celsius", b"\x91" + no_text)
            assert await asking(edge_end.line, Weather).celsius("Oslo") == 4


async def test_twenty_megabytes_are_asked_and_answered_in_chunks(nats_server: NatsServer) -> None:
    async with connected(nats_server, "hub", "oslo") as (hub, edge):
        hub_end, edge_end = HubEnd(hub, "oslo"), EdgeEnd(edge, "oslo")
        async with running(hub_end, edge_end):
            hub_end.line.answer(Weather, Station())
            edge_end.line.answer(Weather, Station())
            whole = bytes(range(256)) * (20 << 12)
            weather: Weather = asking(edge_end.line, Weather)
            assert await weather.history(whole[:1024], 20 << 10) == whole
            of_edge: Weather = asking(hub_end.line, Weather)
            assert await of_edge.history(whole, 1) == whole
            assert await of_edge.history(b"x", CHUNK_BYTES + 1) == b"x" * (CHUNK_BYTES + 1)


async def test_a_block_of_four_megabytes_is_told_over_a_line_of_a_megabit_and_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """It takes half a minute. The edge was told that there is no answer, asked again and again, and had its
    line full of that one block, and of nothing behind it."""
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    servers, station, size = Servers(), Station(), 4_000_000
    hub, edge = SlowConnection(servers), SlowConnection(servers, MEGABIT_BYTES_S)
    ends: tuple[Any, Any] = hub, edge
    hub_end, edge_end = HubEnd(ends[0], "oslo"), EdgeEnd(ends[1], "oslo")
    async with running(hub_end, edge_end):
        hub_end.line.answer(Weather, station)
        assert await asking(edge_end.line, Weather).celsius("x" * size) == size
        await trio.sleep(600)
    assert station.asked == 1
    assert edge.sent_bytes < size * 1.01


async def test_who_does_not_give_what_it_offers_keeps_nobody_else_from_asking_at_length(
    nats_server: NatsServer,
) -> None:
    """One site that is taken over had all that the hub reads at once: no other block came into the books,
    for as long as he liked."""
    async with connected(nats_server, "hub", "oslo", "bergen") as (hub, captured, edge):
        shelf = Shelf()
        ends = HubEnd(hub, "oslo", shelf=shelf), HubEnd(hub, "bergen", shelf=shelf), EdgeEnd(edge, "bergen")
        ends[0].line.answer(Weather, Station())
        ends[1].line.answer(Weather, Station())
        offered = Kept("0" * 32, 8 * CHUNK_BYTES, b"")
        question, reply = msgspec.msgpack.encode([0, None, offered]), f"_INBOX.oslo.{'ab' * 16}"
        async with running(*ends), captured.subscribed(subjects.of_edge("oslo", "chunk")) as wanted:
            for _ in range(2 * READING_MAX):
                await captured.publish(subjects.of_hub("oslo", "history"), question, reply=reply)
            await captured.flushed()
            await wanted.next()
            whole = bytes(CHUNK_BYTES + 1)
            assert await asking(ends[2].line, Weather).history(whole, 1) == whole


async def test_where_nobody_answers_whoever_asks_is_told_at_once(nats_server: NatsServer) -> None:
    async with connected(nats_server, "oslo") as (edge,):
        end = EdgeEnd(edge, "oslo")
        async with running(end):
            weather: Weather = asking(end.line, Weather)
            with pytest.raises(Away, match=r"nobody listens at angara\.hub\.oslo\.celsius"):
                await weather.celsius("Oslo")


async def test_a_former_hub_is_not_believed_and_learns_that_it_is_one(nats_server: NatsServer) -> None:
    async with connected(nats_server, "hub", "hub", "oslo") as (first, second, edge):
        end = EdgeEnd(edge, "oslo")
        former, later = HubEnd(first, "oslo", epoch=3), HubEnd(second, "oslo", epoch=4)
        station = Station()
        former.line.answer(Weather, station)
        end.line.answer(Weather, Station())
        weather: Weather = asking(end.line, Weather)
        async with running(end):
            async with running(former):
                assert await weather.celsius("Oslo") == 4
            await until_nobody_answers(weather)
            async with running(later):
                later.line.answer(Weather, Station())
                assert await weather.celsius("Oslo") == 4
                assert end.epoch.number == 4
            await until_nobody_answers(weather)
            asked = station.asked
            async with running(former):
                with pytest.raises(Away, match="a hub of before has answered"):
                    await weather.celsius("Oslo")
                assert station.asked == asked
                of_edge: Weather = asking(former.line, Weather)
                with pytest.raises(Away, match="another hub has taken over"):
                    await of_edge.celsius("Oslo")


async def test_a_question_is_answered_nowhere_but_where_its_edge_is(nats_server: NatsServer) -> None:
    """A captured edge could have the hub speak to others, and to JetStream, with the hub's rights."""
    station = Station()
    places = (
        "angara.edge.bergen.tenant_changed",
        "angara.journal.bergen",
        "$JS.API.STREAM.DELETE.ANGARA_JOURNAL",
        "_INBOX.bergen." + "0" * 32,
        "_INBOX.hub." + "0" * 32,
        "_INBOX.oslo.*",
        "",
    )
    async with connected(nats_server, "hub", "oslo", "bergen") as (hub, edge, other):
        hub_end, end = HubEnd(hub, "oslo"), EdgeEnd(edge, "oslo")
        hub_end.line.answer(Weather, station)
        async with running(hub_end, end), other.subscribed("angara.edge.bergen.>") as heard:
            for place in places:
                await edge.publish("angara.hub.oslo.celsius", msgspec.msgpack.encode([0, None]), reply=place)
            assert await asking(end.line, Weather).celsius("Oslo") == 4
            assert station.asked == 1
            assert heard.inflow.take() is None


async def test_garbage_is_answered_in_words_or_not_at_all(nats_server: NatsServer) -> None:
    async with connected(nats_server, "hub", "oslo") as (hub, edge):
        hub_end, end = HubEnd(hub, "oslo"), EdgeEnd(edge, "oslo")
        hub_end.line.answer(Weather, Station())
        async with running(hub_end, end):
            inbox = "_INBOX.oslo." + "0" * 32
            for method in ("celsius", "chunk", "no_such", "answer", "__init__"):
                for data in (b"", b"\xc1", bytes(1000), msgspec.msgpack.encode([1 << 63, b"", None])):
                    await edge.publish(f"angara.hub.oslo.{method}", data, reply=inbox)
            with pytest.raises(AnsweredWithError, match="Expected `array`"):
                await end.line.ask("celsius", msgspec.msgpack.encode("Oslo"))
            assert await asking(end.line, Weather).celsius("Oslo") == 4
