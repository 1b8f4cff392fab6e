"""A second hub waits, and takes over from one that is killed or stands still, which then writes nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO

import pytest
from sqlalchemy import insert, select

import pool.books.lease
import pool.books.standby
from payouts.schemas.money import journal_writers
from pool.books.standby import await_lease
from pool.books.store import Store, open_store
from tests.fixtures.databases import PostgresDatabases

HOLDER = """
import sys, time
from sqlalchemy import insert
from payouts.schemas.money import journal_writers
from pool.books.lease import LeaseLost
from pool.books.store import open_store
store = open_store(sys.argv[1])
store.acquire_lease()
print("holds", flush=True)
sys.stdin.readline()
try:
    with store.write() as connection:
        connection.execute(insert(journal_writers).values(writer="former", batch=1))
    print("wrote", flush=True)
except Exception:
    try:
        with store.write() as connection:
            connection.execute(insert(journal_writers).values(writer="former", batch=1))
    except LeaseLost as error:
        print("lost", flush=True)
"""


class Holder:
    """Another process that has the lease, and writes when it is told to."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-c", HOLDER, url]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self.said() == "holds"

    def said(self) -> str:
        out: IO[str] | None = self.process.stdout
        assert out is not None
        return out.readline().strip()

    def writes(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("write\n")
        self.process.stdin.flush()
        return self.said()


@pytest.fixture
def url(postgres_databases: PostgresDatabases, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(pool.books.lease, "TAKE_WAIT_S", 0.0)
    monkeypatch.setattr(pool.books.standby, "LOOK_S", 0.01)
    with postgres_databases.fresh_url() as url:
        yield url


@contextmanager
def holding(url: str) -> Iterator[Holder]:
    holder = Holder(url)
    try:
        yield holder
    finally:
        holder.process.kill()
        holder.process.communicate()


def writers(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.scalars(select(journal_writers.c.writer)))


async def test_a_holder_that_was_killed_is_followed_at_the_next_look(url: str) -> None:
    with closing(open_store(url)) as store, holding(url) as holder:
        waited = []

        def kill(words: str) -> None:
            waited.append(words)
            holder.process.kill()

        await await_lease(store, on_wait=kill)
        assert f"the pool that is process {holder.process.pid} on" in waited[0]
        assert store.lease_epoch is not None
        with store.write() as connection:
            connection.execute(insert(journal_writers).values(writer="standby", batch=1))
        assert writers(store) == ["standby"]


class Enough(Exception):
    """Of waiting."""


async def test_a_holder_that_lives_is_waited_for_and_one_that_stands_still_is_fenced(url: str) -> None:
    """Its sessions live, so its lock does; nobody else would ever keep the books."""
    with closing(open_store(url)) as store, holding(url) as holder:
        looks = iter(range(5))

        def look(words: str) -> None:
            if next(looks, None) is None:
                raise Enough

        with pytest.raises(Enough):
            await await_lease(store, on_wait=look)
        assert store.lease_epoch is None
        os.kill(holder.process.pid, signal.SIGSTOP)
        await await_lease(store, silent_s=0.2)
        assert store.lease_epoch is not None
        os.kill(holder.process.pid, signal.SIGCONT)
        assert holder.writes() == "lost"
        assert writers(store) == []


async def test_a_server_whose_clock_is_set_an_hour_ahead_has_nobody_ended_who_lives(url: str) -> None:
    """His sessions were heard of an hour ago then, until he says the next thing."""
    ahead = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3Dpublic,pg_catalog"
    with closing(open_store(url)) as store, store.write() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS"
            " $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$"
        )
    with closing(open_store(ahead)) as store, holding(url):
        looks = iter(range(5))

        def look(words: str) -> None:
            if next(looks, None) is None:
                raise Enough

        with pytest.raises(Enough):
            await await_lease(store, on_wait=look)
        assert store.lease_epoch is None
