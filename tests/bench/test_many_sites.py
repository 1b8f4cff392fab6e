"""Sites without miners are no straw men: what they say is believed by a hub, as it is run, and booked."""

from pathlib import Path

from bench.parts.many_sites import Size, begun
from bench.site_without_miners import TURNS

EDGES, MACHINES = 2, 20


async def test_a_hub_books_every_share_of_sites_without_miners(tmp_path: Path) -> None:
    """And again after it was stopped."""
    async with begun(Size(edges=EDGES, machines=MACHINES), tmp_path, patient=False) as play:
        play.begin()
        for it in play.edges:
            for _ in range(2 * TURNS):
                it.append()
        await play.until_late(0)
        assert play.shares() == EDGES * MACHINES * 2
        stretch = play.stretch("two shares of each machine")
        assert stretch.hub_s > 0
        assert stretch.hub_bytes > 0
        assert stretch.of_edge_bytes > 2 * MACHINES * 16
        await play.stop_hub()
        for it in play.edges:
            it.append()
        await play.start_hub()
        await play.until_late(0)
        assert play.shares() == sum(it.accepted for it in play.edges)
