"""What a curtailment's books are held against: for how long simulated machines were off, in truth."""

import math
from typing import Any, cast

from bench.curtailed_site import CurtailedSite, is_back
from pool.swarm.simulated_site import IDLE_WATTS, SimulatedSite, SiteOptions


def test_a_machine_is_off_from_when_it_pauses_until_it_has_booted_within_the_event() -> None:
    site = SimulatedSite(SiteOptions(port=1, api_port=1, machines=4, watts=3_060))
    never, once, twice, away = site.machines
    once.rests = [(100.0, 160.0)]
    twice.rests = [(50.0, 110.0), (130.0, 500.0)]
    away.rests = [(150.0, math.inf)]
    it = CurtailedSite(cast(Any, None), site, cast(Any, None), cast(Any, None))
    assert [it.off(machine, 100.0, 200.0) for machine in (never, once, twice, away)] == [0, 60, 80, 50]
    truth = it.truth(100.0, 200.0)
    assert (truth.machines, truth.off_s, truth.watts) == (3, 190.0, 3 * (3_060 - IDLE_WATTS))
    assert truth.joules == 190 * 3_000
    assert [is_back(machine) for machine in site.machines] == [True, True, True, False]
