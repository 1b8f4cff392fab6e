"""Each bug that is planted for those who speak Stratum V2 is found by a world of routes, as what it is."""

from typing import Final

import pytest

from tests.simulation.planted_bugs import planted
from tests.simulation.planted_route_bugs import ROUTE_VERDICTS, ROUTES_PLANTED
from tests.simulation.routes_auditor import play_routes

FIRST_SEEDS = 40
# What it was found by last is played first. Worlds change with what is played in them: then others find it.
FOUND_BY: Final = {
    "leave_who_passes_close_channel_over": 35,
    "keep_a_new_prefix_from_the_machine": 1,
    "credit_the_channel_for_all_behind_it": 10,
}


@pytest.mark.simulation
@pytest.mark.parametrize("name", ROUTES_PLANTED)
def test_a_planted_bug_of_routes_is_found(name: str) -> None:
    found: list[str] = []
    for seed in (FOUND_BY[name], *range(FIRST_SEEDS)):
        with planted(name):
            found += [it.verdict for it in play_routes(seed).found]
        if ROUTE_VERDICTS[name] in found:
            return
    pytest.fail(f"{name} was found as {sorted(set(found)) or 'nothing'}")
