"""Sites whose PostgreSQL is lost for ever, and a standby of it is the primary from then on.

A synchronous standby has every commit that returned; one that is not has the books of before. Either way each
acknowledged share is booked once, and nobody at a site notices.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.faults.test_30_sites import more, new_miners
from tests.faults.test_31_sites_cluster import Fleet, connections, fleet, proven
from tests.fixtures.databases import PostgresDatabases
from tests.fixtures.postgres_server import PostgresServer
from tests.stages.sites import Sites, on_this_host
from tests.stages.waiting import until

__all__ = ["fleet"]

EDGES = ("north", "south")
# A hub that books shares, and waits for the standby's word before it hears that they are booked.
IN_MID_BOOKING = """
    SELECT count(*) FROM pg_stat_activity AS it JOIN pg_locks USING (pid)
    WHERE it.wait_event = 'SyncRep' AND relation = 'tally_minutes'::regclass
"""
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
DATABASE = "sites"


class Two:
    """A primary with the books, and a standby of it."""

    def __init__(self) -> None:
        self.primary = PostgresServer()
        self.primary.start()
        PostgresDatabases(self.primary.home).kept_url(DATABASE)
        self.standby = PostgresServer(self.primary)
        self.standby.start()
        self.url = f"postgresql://angara@/{DATABASE}?host={self.primary.home}&host={self.standby.home}"

    def count(self, query: str) -> int:
        """Of the primary."""
        with self.primary.connect(DATABASE) as connection:
            (found,) = connection.execute(query).fetchone() or (0,)
        return int(found)

    def remove(self) -> None:
        self.primary.remove()
        self.standby.remove()


@pytest.fixture
def two() -> Iterator[Two]:
    it = Two()
    try:
        yield it
    finally:
        it.remove()


@pytest.fixture
async def sites(tmp_path: Path, two: Two, request: pytest.FixtureRequest) -> AsyncIterator[Sites]:
    async with on_this_host(tmp_path, two.url, edges=EDGES, hubs=request.param) as made:
        await made.begin()
        yield made


@asynccontextmanager
async def started_again(sites: Sites) -> AsyncIterator[None]:
    """As by an operator's units: a hub that has ended is started."""

    async def look() -> None:
        while True:
            for hub in sites.hubs:
                if not hub.lives:
                    hub.start()
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.soak
@pytest.mark.parametrize("sites", [2], indirect=True)
async def test_a_synchronous_standby_has_all_that_was_booked_whenever_the_primary_dies(
    two: Two, sites: Sites, fleet: Fleet
) -> None:
    two.primary.commit_with_standby()
    miners = new_miners(sites, fleet)
    await more(miners)
    while True:  # which of a hub's commits is the first that waits is chance
        two.standby.freeze()
        await until(lambda: two.count(WAITS) > 0)
        if two.count(IN_MID_BOOKING):
            break
        two.standby.thaw()
        await until(lambda: two.count(WAITS) == 0)
    await more(miners)
    two.primary.kill()
    two.standby.thaw()
    two.standby.promote()
    sites.store.engine.dispose()  # this test's own connections are gone too
    async with started_again(sites):
        await more(miners)
        assert connections(miners) == 0
        await proven(sites, fleet, miners)
    sites.reconciled()


@pytest.mark.soak
@pytest.mark.parametrize("sites", [1, 2], indirect=True)
async def test_a_standby_that_is_behind_is_the_books_of_before_and_edges_send_the_rest_again(
    two: Two, sites: Sites, fleet: Fleet
) -> None:
    miners = new_miners(sites, fleet)
    await more(miners)
    await sites.all_is_booked()
    two.standby.stop()
    await more(miners)
    await sites.all_is_booked()
    two.primary.kill()
    two.standby.start()
    two.standby.promote()
    sites.store.engine.dispose()
    async with started_again(sites):
        await more(miners)
        assert connections(miners) == 0
        await proven(sites, fleet, miners)
    assert sites.held() == {}
    sites.reconciled()
