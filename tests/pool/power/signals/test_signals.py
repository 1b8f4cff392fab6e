"""All signals of a pool: none by itself, each in its time, and none that ends another."""

from pathlib import Path

import pytest
import trio
from sqlalchemy.exc import OperationalError

from pool.books.store import Store
from pool.power.curtailment.durations import USUAL
from pool.power.signals.intake import Source
from pool.power.signals.settings import SignalSettings
from pool.power.signals.signals import FILE_LOOK_S, Signals
from tests.pool.power.signals.test_watched_file import ONE
from tests.stages.signals import NOW_S, SignalHouse


def signals(store: Store, **settings: object) -> Signals:
    found = SignalSettings(**settings)  # type: ignore[arg-type]
    return Signals(store, found, dry_run=False, durations=USUAL, wall_clock=lambda: NOW_S)


def source(of: Signals, name: str) -> Source:
    return next(it for it in of.sources if it.name == name)


def put(directory: Path) -> Path:
    directory.chmod(0o755)
    path = directory / "calls.toml"
    path.write_text(ONE)
    return path


async def test_where_nothing_is_said_nobody_is_listened_to(books: Store) -> None:
    it = signals(books)
    assert (it.sources, it.webhook) == ((), None)
    await it.run()


async def test_a_file_is_acted_on_within_seconds(
    books: Store, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    house = SignalHouse(books)
    path = put(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signals(books, file=path, prices=True).run)
        await trio.sleep(2.5 * FILE_LOOK_S)
        assert house.events.live("file") == ["grid-0412"]
        nursery.cancel_scope.cancel()


async def test_a_database_that_is_away_and_a_mistake_of_ours_end_no_signal(
    books: Store, tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = SignalHouse(books)
    path = put(tmp_path)
    it = signals(books, file=path, prices=True)

    def broken(*_: object, **__: object) -> None:
        raise OperationalError("", {}, Exception("the database is away"))

    def mistaken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pool.power.signals.event_books.asking.ask", broken)
    monkeypatch.setattr("pool.power.signals.price_watch.price_now", mistaken)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run)
        await trio.sleep(2.5 * FILE_LOOK_S)
        assert source(it, "file").refused == "the database does not do its work: the database is away"
        assert source(it, "price").refused.endswith("it is in the log: ZeroDivisionError")
        monkeypatch.undo()
        await trio.sleep(2 * FILE_LOOK_S)
        assert house.events.live("file") == ["grid-0412"]
        nursery.cancel_scope.cancel()
