"""The wall clock steps by a day, both ways, in mid-hour, under a whole pool: no period is settled twice or
skipped, no statement of days that are over changes, and nothing that waits waits longer.
"""

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from payouts.schemas.money import settled_shares, settlements
from payouts.statements.statement import Statement, statement
from pool.books.bookkeeper import BookTimes
from pool.books.store import Store
from pool.chain.template_watch import REFRESH_S
from tests.stages.plant import Clock, pass_time, plant, steps

__all__ = ["steps"]

DAY_S = 86_400
NOON_S = 1_700_000_000 // DAY_S * DAY_S + DAY_S // 2
START_S = NOON_S + 1_800
DAY = datetime.fromtimestamp(NOON_S, UTC).date()
BOOKS = BookTimes(fold_s=1.0, settle_s=1.0)
SETTLED_S = 5


class Wall:
    """Goes as the monotonic clock does, from one moment to the next."""

    def __init__(self, clock: Clock) -> None:
        self.ahead_s = 0
        self._clock = clock

    def __call__(self) -> float:
        return START_S + self._clock.current_time() + self.ahead_s


def by_hour(store: Store) -> dict[int, int]:
    """Shares that were settled, by the hour since noon."""
    shares = func.sum(settled_shares.c.shares)
    query = select(settlements.c.hour, shares).join(
        settled_shares, settled_shares.c.settlement_seq == settlements.c.seq
    )
    with store.read() as connection:
        rows = connection.execute(query.group_by(settlements.c.hour)).all()
    return {hour - NOON_S // 3600: int(count) for hour, count in rows}


def issued(store: Store, day: date) -> Statement:
    with store.read() as connection:
        return statement(connection, "acme", day, day + timedelta(days=1))


async def test_a_day_both_ways_in_mid_hour_settles_every_share_once_and_changes_no_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: Clock
) -> None:
    wall = Wall(steps)
    monkeypatch.setattr(time, "time", wall)
    async with plant(tmp_path, books=BOOKS, wall_clock=wall) as site:
        miner = await site.mining()

        async def work(shares: int) -> None:
            for _ in range(shares):
                await site.mine(miner)
            await pass_time(steps, SETTLED_S)

        await work(5)
        assert by_hour(site.store) == {}, "the hour is not over"
        wall.ahead_s += DAY_S
        await work(7)
        assert by_hour(site.store) == {0: 5}
        first = issued(site.store, DAY)
        assert sum(moment.accepted for moment in first.timeline) == 5
        wall.ahead_s -= DAY_S
        await work(11)
        wall.ahead_s -= DAY_S
        await work(13)
        assert by_hour(site.store) == {0: 5}, "all after it is of the latest moment that there was"
        assert [issued(site.store, DAY), issued(site.store, DAY).content_hash] == [first, first.content_hash]
        wall.ahead_s += 3 * DAY_S
        await work(17)
        assert by_hour(site.store) == {0: 5, 24: 7 + 11 + 13}
        second = issued(site.store, DAY + timedelta(days=1))
        before = len(miner.heard("mining.notify"))
        wall.ahead_s -= DAY_S
        await pass_time(steps, 2 * REFRESH_S + 1)
        await miner.hear()
        assert len(miner.heard("mining.notify")) >= before + 2, "deadlines are not the wall clock's"
        assert not site.board.dropped
        wall.ahead_s += DAY_S + 3_600
        await work(1)
        assert by_hour(site.store) == {0: 5, 24: 31, 48: 17}
        assert issued(site.store, DAY) == first
        assert issued(site.store, DAY + timedelta(days=1)) == second
