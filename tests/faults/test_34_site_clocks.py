"""The clock of a site is set wrong, by an hour and both ways, while its edge serves: nobody notices, what is
ahead waits until it is so late at the hub, and no share is settled twice or not at all.
"""

from pathlib import Path

import pytest

from pool.data_dir import database_url
from tests.faults.test_30_sites import more, new_miners
from tests.faults.test_31_sites_cluster import Fleet, connections, fleet
from tests.stages.other_clock import Clock
from tests.stages.sites import on_this_host, once
from tests.stages.waiting import until

__all__ = ["fleet"]

HOUR_S = 3600.0
AHEAD = "s ahead of ours"


@pytest.mark.soak
async def test_an_hour_ahead_waits_and_an_hour_behind_is_booked_and_each_share_is_settled_once(
    tmp_path: Path, fleet: Fleet
) -> None:
    (tmp_path / "books").mkdir()
    database = database_url(tmp_path / "books")
    async with on_this_host(tmp_path, database, edges=("north", "south")) as sites:
        (hub,), (north, south) = sites.hubs, sites.edges
        clocks = [Clock(tmp_path / f"clock-{name}") for name in ("hub", "north", "south")]
        of_north = clocks[1]
        for program, clock in zip((hub, north, south), clocks, strict=True):
            program.program = clock.program
        await sites.begin()
        miners = new_miners(sites, fleet)
        await more(miners)
        await sites.all_is_booked()

        of_north.step_to(HOUR_S)
        await more(miners)
        await until(lambda: hub.log.count(AHEAD) == 1)
        of_north.step_to(0)
        await more(miners)
        await sites.all_is_booked(south)
        assert hub.log.count(AHEAD) == 1, "it still waits"
        for clock in clocks:  # an hour passes for all of them
            clock.step_to(HOUR_S)
        await more(miners)
        await sites.all_is_booked()

        of_north.step_to(0)  # an hour behind: it dates nothing earlier than what it had
        await more(miners)
        await sites.all_is_booked()
        assert connections(miners) == 0
        fleet.stop()
        await sites.all_is_booked()
        booked = sites.shares()
        once(miners, booked)
        assert sites.held() == {}
        await until(lambda: sites.settled() >= booked.total())
        assert sites.settled() == booked.total()
        sites.reconciled()
