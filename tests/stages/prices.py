"""Prices without a pool: rows of a rate number as the books make them, and what a journal has to know."""

from sqlalchemy import Connection, select

from payouts.book_time import latest_s
from pool.books.journal.book_clock import BookClock
from pool.books.journal.prices import Prices, known_prices
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.journal.rate_rows import RateRows, described
from pool.books.journal.schema import rate_epochs
from pool.fleet.registry import Registry, Snapshot
from pool.fleet.rows import load_tenants
from pool.journal.records import VERSION


def open_epoch(connection: Connection, price: WorkPrice, height: int, now_s: int) -> int:
    """The number of a price that is opened now, with its rows."""
    registry = Registry(Snapshot(load_tenants(connection), (), ()))
    clock = BookClock(lambda: now_s, latest_s(connection))
    prices, rows = Prices(known_prices(connection), registry, clock=clock), RateRows()
    number = prices.epoch(price, height)
    rows.begin(VERSION)
    rows.define(prices.opened())
    return rows.row(connection, number)


def prices_of(connection: Connection, registry: Registry, wall_clock: object = lambda: 0.0) -> Prices:
    """As a pool has them that opened all of these books' prices itself."""
    assert callable(wall_clock)
    clock = BookClock(wall_clock, latest_s(connection))
    prices = Prices(known_prices(connection), registry, clock=clock)
    for number in connection.scalars(select(rate_epochs.c.epoch)).all():
        prices.remember(described(connection, number))
    return prices
