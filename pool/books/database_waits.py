"""Waiting for a database that is busy or away, or full: what passes by itself ends no pool, and is told once;
what somebody has to do something about is told each time that it is tried.

Whoever waits here has work that may be done again: after an error nobody knows whether a commit had happened.

Must not know: what the work is.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog
import trio
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from pool.books.store import Store, words_of

log = structlog.get_logger()

_Value = TypeVar("_Value")

PAUSE_S: Final = 1.0  # between two attempts; a busy database has made each of them wait ten seconds by then
AGAIN_S: Final = 30.0  # after an error that does not pass by itself
# Of PostgreSQL: connections that broke or were cut off, a server that starts or stops or has no connection
# left, a lock that somebody holds, a transaction that lost against another.
PASSING: Final = ("08", "57P", "53300", "55P03", "25P03", "40")


def passes(error: BaseException) -> bool:
    """Whether the database will do what was asked when it is asked later."""
    if isinstance(error, NoConnectionFree):
        return True
    if not isinstance(error, DBAPIError):
        return False
    said = error.orig
    if isinstance(said, sqlite3.Error):
        code = getattr(said, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    import psycopg  # is there, where it has raised something

    if isinstance(said, psycopg.Error) and said.sqlstate is not None:
        return said.sqlstate.startswith(PASSING)
    return isinstance(said, psycopg.OperationalError)  # there was no answer at all


async def when_it_answers(
    doing: str, work: Callable[..., Any], *args: object, wait_s: Callable[[], float] = lambda: float("inf")
) -> Any:
    """What the work returns, from a worker thread, however long the database is away; at most wait_s."""
    since_s: float | None = None
    while True:
        try:
            done = await trio.to_thread.run_sync(work, *args)
        except Exception as error:
            now_s = trio.current_time()
            if not passes(error) or (since_s is not None and now_s - since_s >= wait_s()):
                raise
            if since_s is None:
                since_s = now_s
                log.error("database_waited_for", doing=doing, reason=words_of(error)[:300])
        else:
            if since_s is not None:
                log.warning("database_answers", doing=doing, after_s=round(trio.current_time() - since_s))
            return done
        await trio.sleep(PAUSE_S)


async def when_it_takes(
    doing: str, keep: Callable[[], Awaitable[_Value]], errors: tuple[type[Exception], ...]
) -> _Value:
    """What is not done now is done later: these errors are no reason to stop miners."""
    while True:
        try:
            return await keep()
        except errors as error:
            log.error("books_not_kept", doing=doing, reason=words_of(error)[:300], again_in_s=AGAIN_S)
        await trio.sleep(AGAIN_S)


async def read_books(store: Store, work: Callable[[Connection], _Value]) -> _Value:
    """What the work reads, however long the database is away."""

    def transaction() -> _Value:
        with store.read() as connection:
            return work(connection)

    found: _Value = await when_it_answers("read the books", transaction)
    return found


async def write_books(store: Store, work: Callable[[Connection], _Value]) -> _Value:
    """What the work returns, in a transaction of its own, however long the database is away."""

    def transaction() -> _Value:
        with store.write() as connection:
            return work(connection)

    done: _Value = await when_it_answers("write to the books", transaction)
    return done
