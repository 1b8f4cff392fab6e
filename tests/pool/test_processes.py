"""Processes that serve miners, as their hub minds them: what they are told, and when they are ended."""

import errno
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from payouts.rates import Scheme
from pool import processes
from pool.books.journal.folding import WriterAway
from pool.books.journal.prices import KnownPrices
from pool.books.journal.start import OpenJournal
from pool.books.lease import LeaseLost
from pool.edge_process import CROSSING, EdgeProcess, Starting
from pool.edges.edge import Edge
from pool.edges.figures import ProcessFigures
from pool.fleet.registry import Snapshot, TenantRecord
from pool.hub import Begin, Part, Start
from pool.journal.beginning import Beginning
from pool.journal.frames import Place
from pool.link import Link
from pool.processes import CHANGES_MAX, LIVES_S, SILENCES_MAX, Processes
from pool.questions import asking
from pool.routing.drain import DrainStatus
from pool.store_error import StoreError
from stratum.miners.listening.listeners import BadEndpoint

ADDRESSES = (("127.0.0.1", 3333),)
NOW_S = 1_700_000_000
DRAINS = DrainStatus(draining=True, left=0, of=0, ends_in_s=0)


class ProcessInThisOne:
    """What `open_process` starts: it answers over the link as one in another process does."""

    def __init__(self, end: socket.socket, number: int) -> None:
        self.number = number
        self.link = Link(end, errors=CROSSING)
        self.begun: list[Begin] = []
        self.told: list[Any] = []
        self.hangs = self.begins_slowly = False
        self.cannot: Exception | None = None
        self.goes_on = trio.Event()
        self.returncode: int | None = None
        self.pid = 1000 + number
        self._ended = trio.Event()

    async def run(self) -> None:
        self.link.answer(EdgeProcess, self)
        self.link.answer(Edge, _Asked(self))
        async with trio.open_nursery() as nursery:
            await nursery.start(self.link.run)
            nursery.start_soon(self._end_with_link)
            await asking(self.link, Starting).there()
            await self._ended.wait()
            nursery.cancel_scope.cancel()

    async def _end_with_link(self) -> None:
        await self.link.closed.wait()
        if not self.hangs and self.returncode is None:
            self.dies(0)

    async def begin(self, it: Begin) -> tuple[tuple[str, int], ...]:
        self.begun.append(it)
        if self.cannot is not None:
            raise self.cannot
        if self.begins_slowly:
            await self.goes_on.wait()
        return ADDRESSES

    async def lives(self) -> None:
        if self.hangs:
            await trio.sleep_forever()

    async def tenant_changed(self, record: TenantRecord) -> None:
        if self.hangs:
            await trio.sleep_forever()
        self.told.append(record.name)

    def __getattr__(self, name: str) -> Any:
        async def told(*said: Any) -> None:
            self.told.append((name, *said))

        return told

    # As trio.Process

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        self.dies(-9)

    def dies(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


class _Asked:
    """pool.edges.edge.Edge: only drains are asked here."""

    def __init__(self, process: ProcessInThisOne) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        async def asked(*said: Any) -> DrainStatus:
            self._process.told.append((name, *said))
            return DRAINS

        return asked


class BooksThatHaveAll:
    """pool.books.journal.folding.Folding, of journals that are taken to their ends."""

    def __init__(self) -> None:
        self.turn = trio.Lock()
        self.wrong: Exception | None = None

    def take(self, writer: object, taker: object) -> None:
        pass

    async def take_to_the_end(self, taker: object) -> None:
        if self.wrong is not None:
            raise self.wrong


class House:
    """Two processes of a hub."""

    def __init__(self, nursery: trio.Nursery, prepared: Callable[[ProcessInThisOne], None]) -> None:
        self._nursery, self.prepared = nursery, prepared
        self.started: list[ProcessInThisOne] = []
        self.commands: list[list[str]] = []
        self.drains_s: int | None = None
        self.books = BooksThatHaveAll()
        opened = [OpenJournal(cast(Any, None), cast(Any, object()), _beginning()) for _ in range(2)]
        self.processes = Processes(
            opened,
            cast(Any, self.books),
            cast(Any, _Asked(cast(Any, None))),
            settings=Path("angara.toml"),
            begin=lambda taker, part: _begin(part),
            drains_s=lambda: self.drains_s,
            wall_clock=lambda: NOW_S,
        )

    async def open_process(self, command: list[str], **_: Any) -> ProcessInThisOne:
        self.commands.append(command)
        number, descriptor = int(command[3]), int(command[4])
        started = ProcessInThisOne(socket.socket(fileno=socket.dup(descriptor)), number)
        self.prepared(started)
        self.started.append(started)
        self._nursery.start_soon(started.run)
        return started

    def of(self, number: int) -> ProcessInThisOne:
        """The one that was started last."""
        return next(it for it in reversed(self.started) if it.number == number)

    def tell(self, name: str) -> None:
        self.processes.tenant_changed(
            TenantRecord(id=1, name=name, active=True, scheme=Scheme.PPS, fee_bps=200)
        )


def _beginning() -> Beginning:
    return Beginning(book="b", behind=Place(), moment_s=NOW_S, accepted=0)


def _begin(part: Part) -> Begin:
    prices = KnownPrices(next_number=1, upstreams={}, orders={}, bases=(), left=())
    start = Start(beginning=_beginning(), tips=(), fee_basis_id=None, prices=prices)
    return Begin(part=part, journal="j", snapshot=Snapshot((), (), ()), start=start)


@asynccontextmanager
async def house(
    monkeypatch: pytest.MonkeyPatch, prepared: Callable[[ProcessInThisOne], None] = lambda it: None
) -> AsyncIterator[House]:
    async with trio.open_nursery() as nursery:
        it = House(nursery, prepared)
        monkeypatch.setattr(trio.lowlevel, "open_process", it.open_process)
        yield it
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """A begin is read in a thread, and the clock stands: so wait for the threads."""
    while not condition():
        await trio.lowlevel.checkpoint()


async def test_all_begin_beside_each_other_and_one_that_dies_is_started_again(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    async with house(monkeypatch) as it, trio.open_nursery() as nursery:
        addresses = await nursery.start(it.processes.run)
        assert addresses == ADDRESSES
        assert sorted(command[1:4] for command in it.commands) == [
            ["-m", "pool.cli.edge", "1"],
            ["-m", "pool.cli.edge", "2"],
        ]
        assert it.processes.figures() == ProcessFigures(of=2, serving=2, died=0)
        it.of(1).dies(-11)
        await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=1, died=1))
        assert len(it.started) == 2
        mock_clock.jump(processes.AGAIN_S[1])
        await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=2, died=1))
        assert [of.number for of in it.started[2:]] == [1]
        nursery.cancel_scope.cancel()


async def test_one_that_writes_garbage_is_started_again_and_the_others_serve_on(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hub of them ended by it, with all the others: one in two does now, for a second."""
    async with house(monkeypatch) as it, trio.open_nursery() as nursery:
        await nursery.start(it.processes.run)
        await it.of(1).link._stream.send_all(b"\xff" * 4)
        await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=1, died=1))
        assert "a frame of 4294967295 bytes" in capsys.readouterr().out
        mock_clock.jump(processes.AGAIN_S[1])
        await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=2, died=1))
        assert [of.number for of in it.started[2:]] == [1]
        nursery.cancel_scope.cancel()


async def test_one_that_cannot_say_how_far_it_is_is_started_again(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """The books take nothing behind what it says meanwhile: its answer ended them."""
    async with house(monkeypatch) as it, trio.open_nursery() as nursery:
        await nursery.start(it.processes.run)
        with pytest.raises(WriterAway):
            await it.processes._all[0].mark()
        await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=1, died=1))
        nursery.cancel_scope.cancel()


async def test_who_stops_while_one_is_started_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no thread is left to start it in."""

    async def waits(command: list[str], **_: Any) -> None:
        await trio.sleep_forever()

    async with house(monkeypatch) as it, trio.open_nursery() as nursery:
        monkeypatch.setattr(trio.lowlevel, "open_process", waits)
        nursery.start_soon(it.processes.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    gc.collect()  # what is still open is told of, as an error


async def test_one_that_hangs_is_killed_when_it_has_not_answered_three_times(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    async with house(monkeypatch) as it, trio.open_nursery() as nursery:
        await nursery.start(it.processes.run)
        await wait_all_tasks_blocked()
        it.of(2).hangs = True
        mock_clock.jump(LIVES_S)
        for _ in range(SILENCES_MAX):
            await wait_all_tasks_blocked()
            assert it.of(2).returncode is None
            mock_clock.jump(LIVES_S)
        await until(lambda: it.processes.figures().died == 1)
        assert (it.of(2).returncode, it.of(1).returncode) == (-9, None)
        nursery.cancel_scope.cancel()


async def test_what_changes_while_one_begins_is_told_to_it_in_that_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def prepared(started: ProcessInThisOne) -> None:
        started.begins_slowly = started.number == 2

    async with house(monkeypatch, prepared) as it, trio.open_nursery() as nursery:
        nursery.start_soon(it.processes.run)
        await until(lambda: len(it.started) == 2 and len(it.of(2).begun) == 1)
        it.tell("acme, suspended")
        it.tell("acme")
        await wait_all_tasks_blocked()
        assert it.of(2).told == [], "it does not know the tenants yet"
        it.of(2).goes_on.set()
        await until(lambda: len(it.of(2).told) == 2)
        assert it.of(2).told == ["acme, suspended", "acme"]
        nursery.cancel_scope.cancel()


async def test_one_that_takes_no_changes_is_ended_and_the_other_is_told_all(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    async with house(monkeypatch) as it, trio.open_nursery() as nursery:
        await nursery.start(it.processes.run)
        it.of(2).hangs = True
        for number in range(CHANGES_MAX + 2):
            it.tell(str(number))
            await until(lambda number=number: it.of(1).told[-1:] == [str(number)])  # type: ignore[misc]
        await wait_all_tasks_blocked()
        assert it.of(2).link.closed.is_set()
        mock_clock.jump(processes.ENDS_S)
        await until(lambda: it.processes.figures().died == 1)
        nursery.cancel_scope.cancel()


async def test_one_that_begins_while_miners_leave_lets_nobody_in(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    def prepared(started: ProcessInThisOne) -> None:
        started.begins_slowly = len(started.begun) == 0

    async with house(monkeypatch, prepared) as it, trio.open_nursery() as nursery:
        it.drains_s = 90
        nursery.start_soon(it.processes.run)
        await until(lambda: len(it.started) == 2 and any(of.begun for of in it.started))
        first = next(of for of in it.started if of.begun)
        assert first.begun[0].drains_s == 90
        it.drains_s = None  # it was said meanwhile that they may stay
        first.goes_on.set()
        await until(lambda: first.told == [("end_drain",)])
        second = next(of for of in it.started if of is not first)
        await until(lambda: len(second.begun) == 1)
        it.drains_s = 30
        second.goes_on.set()
        await until(lambda: second.told == [("drain", 30)])
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_taken_ends_a_start_in_words_and_no_pool_that_serves(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    taken = BadEndpoint("cannot listen on 127.0.0.1:3333: Address already in use")

    def prepared(started: ProcessInThisOne) -> None:
        started.cannot = taken if started.number == 2 else None

    async with house(monkeypatch, prepared) as it:
        with pytest.RaisesGroup(pytest.RaisesExc(BadEndpoint, match="in use"), flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                await nursery.start(it.processes.run)
    async with house(monkeypatch) as it, trio.open_nursery() as nursery:
        await nursery.start(it.processes.run)
        it.prepared = prepared
        it.of(2).dies(1)
        await until(lambda: it.processes.figures().died == 1)
        mock_clock.jump(processes.AGAIN_S[1])
        await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=1, died=2))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "wrong",
    [
        StoreError("the disk is full"),
        OSError(errno.EMFILE, "no descriptor left"),
        LeaseLost("another one writes"),
    ],
)
async def test_one_that_dies_while_the_books_take_nothing_is_tried_again_and_no_other_ends(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock, wrong: Exception
) -> None:
    """But where another process has the books: whatever is told from here would be of before."""
    ends = pytest.RaisesGroup(LeaseLost, flatten_subgroups=True) if isinstance(wrong, LeaseLost) else None
    async with house(monkeypatch) as it:
        with ends or nullcontext():
            async with trio.open_nursery() as nursery:
                await nursery.start(it.processes.run)
                it.books.wrong = wrong
                it.of(2).dies(-9)
                await until(lambda: it.processes.figures().died == 1)
                mock_clock.jump(processes.AGAIN_S[1])
                await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=1, died=2))
                it.books.wrong = None
                mock_clock.jump(processes.AGAIN_S[2])
                await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=2, died=2))
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["socketpair", "open_process"])
async def test_one_that_cannot_be_started_for_a_moment_is_tried_again_and_no_other_ends(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock, what: str
) -> None:
    """As where it died because there was no memory, and there is none yet to fork."""

    def no_descriptor(*_: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    async def no_memory(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    async with house(monkeypatch) as it, trio.open_nursery() as nursery:
        await nursery.start(it.processes.run)
        with monkeypatch.context() as short:
            if what == "socketpair":
                short.setattr(socket, "socketpair", no_descriptor)
            else:
                short.setattr(trio.lowlevel, "open_process", no_memory)
            it.of(2).dies(-9)
            await until(lambda: it.processes.figures().died == 1)
            mock_clock.jump(processes.AGAIN_S[1])
            await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=1, died=2))
        mock_clock.jump(processes.AGAIN_S[2])
        await until(lambda: it.processes.figures() == ProcessFigures(of=2, serving=2, died=2))
        assert it.of(1).returncode is None
        nursery.cancel_scope.cancel()
