"""Miners leave in equal steps, however many they are, and those who come in between go too."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from pool.routing.drain import DRAINING, Drain
from stratum.miners.turns.connection_limits import ConnectionBounds, ConnectionLimits


class BoardThatRemembers:
    """Of so many miners, who all stay until they are asked to go."""

    def __init__(self, miners: int) -> None:
        self.connections: set[Any] = set()
        self.asked: list[float] = []
        for _ in range(miners):
            self.add()

    def add(self) -> None:
        miner = SimpleNamespace(session=SimpleNamespace(assignment=SimpleNamespace(leaving=False)))
        self.connections.add(_Hashed(miner))

    def let_go(self, connection: Any, reason: str) -> None:
        assert reason == DRAINING
        connection.session.assignment.leaving = True
        self.asked.append(trio.current_time())


class _Hashed:
    def __init__(self, miner: SimpleNamespace) -> None:
        self.session = miner.session


async def draining(nursery: trio.Nursery, board: BoardThatRemembers) -> tuple[Drain, ConnectionLimits]:
    limits = ConnectionLimits(ConnectionBounds())
    drain = Drain(cast(Any, board), limits)
    nursery.start_soon(drain.run)
    return drain, limits


@pytest.mark.simulation
async def test_each_second_as_many_go_as_in_any_other(autojump_clock: trio.testing.MockClock) -> None:
    board = BoardThatRemembers(22_400)
    async with trio.open_nursery() as nursery:
        drain, _ = await draining(nursery, board)
        begun_s = trio.current_time()
        drain.begin(100)
        await trio.sleep(101)
        counts = [sum(it == second for it in board.asked) for second in sorted(set(board.asked))]
        assert sum(counts) == 22_400
        assert max(counts) - min(counts) <= 1
        assert 99 <= max(board.asked) - begun_s <= 100
        assert drain.status().left == 22_400  # they were asked; that they go is the board's
        nursery.cancel_scope.cancel()


async def test_who_was_on_the_way_in_goes_too(autojump_clock: trio.testing.MockClock) -> None:
    board = BoardThatRemembers(10)
    async with trio.open_nursery() as nursery:
        drain, _ = await draining(nursery, board)
        drain.begin(5)
        await trio.sleep(7.5)
        board.add()  # its handshake was long
        await trio.sleep(1)
        assert len(board.asked) == 11
        nursery.cancel_scope.cancel()


async def test_nobody_new_is_let_in_until_it_is_over(autojump_clock: trio.testing.MockClock) -> None:
    board = BoardThatRemembers(10)
    async with trio.open_nursery() as nursery:
        drain, limits = await draining(nursery, board)
        drain.begin(10)
        assert limits.enter("192.0.2.1") == DRAINING
        limits.closed = "no bitcoin node answers"  # and is there again: that opens no door that a drain shut
        limits.closed = None
        assert limits.enter("192.0.2.1") == DRAINING
        await trio.sleep(3.5)
        drain.resume()
        asked = len(board.asked)
        assert not isinstance(limits.enter("192.0.2.1"), str)
        await trio.sleep(10)
        assert len(board.asked) == asked < 10
        assert not drain.status().draining
        nursery.cancel_scope.cancel()
