"""A grid that speaks OpenADR: its events are ours, by its own server over TLS; a hostile one is bounded."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from sqlalchemy.exc import OperationalError

from pool.books.store import Store
from pool.power.curtailment import asking
from pool.power.curtailment.events import end_event, load_event
from pool.power.signals.bounds import Bounds
from pool.power.signals.openadr import SILENT_S, SOURCE, Openadr
from pool.power.signals.openadr_ven import ANSWER_BYTES_MAX, ANSWER_S
from pool.power.signals.settings import OpenadrSettings
from tests.stages.signals import HOUR_S, SignalHouse
from tests.stages.vtn import Vtn


@pytest.fixture
def vtn(tmp_path: Path) -> Iterator[Vtn]:
    with Vtn(tmp_path).running() as running:
        yield running


class Pool(SignalHouse):
    """A pool that asks the grid, at the time that it is: openleadr has no other clock."""

    def __init__(self, store: Store, settings: OpenadrSettings, bounds: Bounds | None = None) -> None:
        self.settings = settings
        super().__init__(store, bounds)

    def start(self) -> None:
        self.events.now_s = int(time.time())
        super().start()
        self.intake.open(SOURCE, "", SILENT_S)
        self.openadr = Openadr(
            self.settings, self.intake, self.bounds.longest_s, lambda: self.events.shed_watts(SOURCE)
        )

    def ask(self) -> None:
        self.openadr._converse(1e9)

    def told(self) -> list[tuple[str, str, str, int]]:
        return [
            (it.reference, it.state.value, it.target, it.until_s - it.from_s)
            for it in asking.standing(self.events.store, SOURCE, 0)
        ]


def test_a_level_is_an_event_is_opted_in_to_is_changed_and_is_cancelled(books: Store, vtn: Vtn) -> None:
    pool = Pool(books, vtn.settings())
    begins_s = int(time.time()) + 600
    vtn.add("event-1", 2.0, begins_s, HOUR_S)
    pool.ask()
    assert pool.source(SOURCE).refused == ""
    assert pool.told() == [("event-1", "planned", "share", HOUR_S)]
    assert vtn.opted == [("event-1", "optIn")]
    pool.ask()
    pool.start()  # a pool that begins anew is told all of it again
    pool.ask()
    assert len(pool.told()) == 1
    vtn.change("event-1", 2 * HOUR_S)
    pool.ask()
    assert pool.told() == [("event-1", "planned", "share", 2 * HOUR_S)]
    vtn.cancel("event-1")
    pool.ask()
    assert pool.told() == [("event-1", "cancelled", "share", 2 * HOUR_S)]
    assert pool.source(SOURCE).refused == ""
    assert vtn.offered[0] == "north"
    assert vtn.offered[2] == "W"
    assert set(vtn.reported) == {0.0}  # nothing was taken off yet


def test_what_goes_beyond_the_bounds_is_opted_out_of_and_told(books: Store, vtn: Vtn) -> None:
    pool = Pool(books, vtn.settings(), Bounds(longest_s=HOUR_S))
    vtn.add("event-1", 3.0, int(time.time()) + 600, 2 * HOUR_S)
    pool.ask()
    assert vtn.opted == [("event-1", "optOut")]
    assert pool.told() == []
    assert "it is longer than 1 h" in pool.source(SOURCE).refused


def test_what_somebody_has_ended_before_its_time_is_opted_out_of(books: Store, vtn: Vtn) -> None:
    """The grid counts on whoever is opted in."""
    pool = Pool(books, vtn.settings())
    begins_s = int(time.time()) + 600
    vtn.add("event-1", 2.0, begins_s, HOUR_S)
    vtn.add("event-2", 2.0, begins_s, HOUR_S)
    pool.ask()
    assert vtn.opted == [("event-1", "optIn"), ("event-2", "optIn")]
    with pool.events.store.write() as connection:
        event = load_event(connection, 1)
        end_event(connection, event, by="olga", words="a pump is hot", now_s=pool.events.now_s)
    vtn.opted.clear()
    vtn.change("event-1", 2 * HOUR_S)
    vtn.change("event-2", 2 * HOUR_S)
    pool.ask()
    assert vtn.opted == [("event-1", "optOut"), ("event-2", "optIn")]
    assert [state for _, state, _, _ in pool.told()] == ["cancelled", "planned"]


def test_a_grid_that_is_gone_changes_nothing_and_what_it_asked_for_ends_at_its_own_time(
    books: Store, tmp_path: Path
) -> None:
    with Vtn(tmp_path).running() as vtn:
        pool = Pool(books, vtn.settings())
        vtn.add("event-1", 2.0, int(time.time()) + 600, HOUR_S)
        pool.ask()
    pool.events.now_s += SILENT_S + 1
    pool.ask()
    assert pool.told() == [("event-1", "planned", "share", HOUR_S)]
    assert pool.source(SOURCE).silent_s(pool.events.now_s) == SILENT_S + 1
    assert "connect" in pool.source(SOURCE).refused.lower()


@pytest.mark.parametrize(
    "lost", ["the books are away", "the grid hangs up", "the grid hangs up on the answer"]
)
def test_what_a_grid_said_in_a_conversation_that_broke_is_heard_in_the_next_one(
    books: Store, vtn: Vtn, lost: str
) -> None:
    """It said so once: to whoever asks again it has nothing new to say."""
    pool = Pool(books, vtn.settings())
    vtn.add("event-1", 2.0, int(time.time()) + 600, HOUR_S)
    pool.ask()
    vtn.cancel("event-1")
    vtn.add("event-2", 3.0, int(time.time()) + 900, HOUR_S)
    with pytest.MonkeyPatch.context() as patch:
        if lost == "the books are away":
            patch.setattr(asking, "standing", _away)
        else:
            _hang_up(patch, pool.openadr, answering=lost == "the grid hangs up on the answer")
        pool.ask()
    assert pool.source(SOURCE).refused
    pool.ask()
    assert pool.told() == [
        ("event-1", "cancelled", "share", HOUR_S),
        ("event-2", "planned", "everything", HOUR_S),
    ]
    assert vtn.opted[-1] == ("event-2", "optIn")


def _away(*_: object) -> NoReturn:
    raise OperationalError("SELECT", {}, Exception("disk I/O error"))


def _hang_up(patch: pytest.MonkeyPatch, openadr: Openadr, *, answering: bool) -> None:
    """On the question behind the one that is answered with the events, or on what becomes of those."""
    assert openadr._ven is not None
    client = openadr._ven._client
    asked = client._perform_request
    left = [2]

    async def perform(service: str, message: Any) -> Any:
        if service == "OadrPoll":
            left[0] -= 1
        if (service == "EiEvent") if answering else (service == "OadrPoll" and left[0] == 0):
            raise ConnectionResetError
        return await asked(service, message)

    patch.setattr(client, "_perform_request", perform)


@pytest.mark.parametrize("wrong", ["signed by another", "of another authority", "a client without one"])
def test_a_grid_that_is_another_is_not_listened_to(
    books: Store, vtn: Vtn, tmp_path: Path, wrong: str
) -> None:
    vtn.add("event-1", 2.0, int(time.time()) + 600, HOUR_S)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    wrongs: dict[str, dict[str, Any]] = {
        "signed by another": {"fingerprint": vtn.fingerprint("ven")},
        "of another authority": {"authorities": Vtn(elsewhere).directory / "grid.pem"},
        "a client without one": {"certificate": None, "key": None},
    }
    pool = Pool(books, vtn.settings(**wrongs[wrong]))
    pool.ask()
    assert pool.told() == []
    assert pool.source(SOURCE).refused
    assert pool.source(SOURCE).heard_at_s is None


class VtnThatAnswersAnything:
    """Over plain HTTP, which is for this host: `body` is what it writes to whoever asks, until he leaves."""

    def __init__(self, body: Callable[[], Iterator[bytes]], status: int = 200, **headers: str) -> None:
        self.asked: list[str] = []
        asked, most = self.asked, self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for piece in body():
                        most.written += len(piece)
                        self.wfile.write(piece)
                except OSError:
                    pass

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.written = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def plain(url: str) -> OpenadrSettings:
    return OpenadrSettings(
        url=url,
        ven_name="angara",
        certificate=None,
        key=None,
        authorities=None,
        fingerprint=None,
        site="north",
        percents=(0, 50, 100),
        poll_s=10,
    )


def endless() -> Iterator[bytes]:
    while True:
        yield b"<a>" * 10_000


def bomb() -> Iterator[bytes]:
    entities = "".join(f'<!ENTITY a{at} "{f"&a{at - 1};" * 10}">' for at in range(1, 10))
    yield f'<!DOCTYPE x [<!ENTITY a0 "lol">{entities}]><x>&a9;</x>'.encode()


def file_of_the_host() -> Iterator[bytes]:
    yield b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'


def in_another_encoding() -> Iterator[bytes]:
    yield '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'.encode("utf-16")


def deep() -> Iterator[bytes]:
    yield b"<a>" * 80_000


def nothing() -> Iterator[bytes]:
    yield b""


@pytest.mark.parametrize("body", [endless, bomb, file_of_the_host, in_another_encoding, deep, nothing])
def test_whatever_a_hostile_grid_says_is_read_so_far_and_is_nothing(
    books: Store, body: Callable[[], Iterator[bytes]]
) -> None:
    with closing(VtnThatAnswersAnything(body)) as vtn:
        pool = Pool(books, plain(vtn.url))
        pool.ask()
        assert pool.told() == []
        assert pool.source(SOURCE).heard_at_s is None
        assert "root:" not in pool.source(SOURCE).refused
        assert vtn.asked == ["/EiRegisterParty"]
        # What a socket takes that nobody reads is some megabytes, and no more is written for ever.
        assert vtn.written < ANSWER_BYTES_MAX + (16 << 20)


def test_nobody_is_led_elsewhere(books: Store) -> None:
    with closing(VtnThatAnswersAnything(nothing)) as other:
        pool = Pool(books, plain(other.url))
        for status in (301, 302, 307, 308):
            with closing(VtnThatAnswersAnything(nothing, status, Location=f"{other.url}/EiEvent")) as vtn:
                pool.settings = plain(vtn.url)
                pool.start()
                pool.ask()
                assert pool.source(SOURCE).heard_at_s is None
                assert vtn.asked
        assert other.asked == []


async def test_a_grid_that_never_answers_holds_no_stop_up(books: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # and takes nobody
        pool = Pool(books, plain(f"http://127.0.0.1:{listening.getsockname()[1]}"))
        begun_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.openadr.run)
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        assert trio.current_time() - begun_s < ANSWER_S / 2
