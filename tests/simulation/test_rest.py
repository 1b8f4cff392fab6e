"""A world is at its end when one process has served until all is folded and settled: to an auditor who comes
earlier, what is not settled yet looks like what nobody was paid for.
"""

from typing import Any

import pytest

from tests.simulation import host, sites_world
from tests.simulation.ground import SMALL, Ground, play_on
from tests.simulation.sites_world import SITES, SitesWorld
from tests.simulation.world import QUIET_S, REST_S, World

SEED = 4
DOWN_S = 12.0  # the longest that a host of a world is
LONG_S = 25.0  # the longest world: at its end there are shares that are folded at 32 s and settled at 45 s
KILLS_S = {"before it settles": 44.9, "as the last thing": LONG_S + QUIET_S + REST_S - 1.0}


class WorldOfOneKill(World):
    """Nothing goes wrong but that its process is killed, as it comes to rest."""

    def __init__(self, kill_s: float, *rest: Any) -> None:
        super().__init__(SEED, SMALL, *rest)
        self.seconds = LONG_S
        self.faults.plan = lambda: self.network.after(kill_s, self.node.kill)  # type: ignore[method-assign]


class SitesWorldOfOneKill(SitesWorld):
    """Nothing goes wrong but that its hubs are killed a second before its end, when all is booked."""

    def __init__(self, *rest: Any) -> None:
        super().__init__(SEED, SITES, (), *rest)
        self.faults.plan = lambda _: None  # type: ignore[method-assign,misc,assignment]
        self.killed_s = 0.0

    async def _all_is_booked(self) -> None:
        await super()._all_is_booked()
        if not self.killed_s:
            self.killed_s = self.clock.monotonic_s() + sites_world.REST_S - 1.0
            for hub in self.hubs:
                self.network.after(sites_world.REST_S - 1.0, hub.kill)


@pytest.fixture(autouse=True)
def _slow_to_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "DOWN_S", (DOWN_S, DOWN_S))


@pytest.mark.simulation
@pytest.mark.parametrize("kill", KILLS_S)
def test_who_is_killed_as_all_comes_to_rest_settles_what_it_had_left_before_the_audit(kill: str) -> None:
    worlds: list[WorldOfOneKill] = []

    def make(*rest: Any) -> Ground:
        worlds.append(WorldOfOneKill(KILLS_S[kill], *rest))
        return worlds[0]

    outcome = play_on(SEED, make)
    assert outcome.clean, outcome.words
    assert outcome.lives == 2
    (world,) = worlds
    assert world.clock.monotonic_s() - world.node.began_s >= REST_S


@pytest.mark.simulation
def test_a_hub_that_is_killed_when_all_is_booked_settles_before_the_audit() -> None:
    worlds: list[SitesWorldOfOneKill] = []

    def make(*rest: Any) -> Ground:
        worlds.append(SitesWorldOfOneKill(*rest))
        return worlds[0]

    outcome = play_on(SEED, make)
    assert outcome.clean, outcome.words
    (world,) = worlds
    began_s = max(it.began_s for it in world.hubs)
    assert began_s > world.killed_s > 0
    assert world.clock.monotonic_s() - began_s >= sites_world.REST_S
