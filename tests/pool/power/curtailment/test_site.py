"""A call to 6 MW of a site of 5,600 machines of which one in fifty lies: met within its ramp, proven within
two minutes of asking, and restored in the time that the plan said."""

import random

import pytest
import trio

from pool.books.store import Store
from pool.power.curtailment.plan import RESTORE_BATCH, restore_s
from pool.power.curtailment.states import EventState, MachineState
from tests.judges.power_site import Nature
from tests.stages.power import PowerStage

pytestmark = [pytest.mark.soak, pytest.mark.sqlite_suffices]

LIMIT_WATTS = 6_000_000


async def test_a_call_to_six_megawatts(store: Store, autojump_clock: trio.testing.MockClock) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    stage = PowerStage(store, containers=14, units=400, watts=2_000, seed=seed)
    assert stage.site.drawn_watts() > 10_800_000
    liars = random.Random(seed).sample(range(5_600), 112)
    stage.site.lets(Nature.LIAR, liars)
    async with stage.running():
        asked = await stage.ask(
            target="limit", target_value=LIMIT_WATTS, ramp_s=600, until_s=stage.now_s + 1_200
        )
        await trio.sleep(600)
        assert stage.site.drawn_watts() <= LIMIT_WATTS * 1_005 // 1_000  # work says it within half a percent
        assert (await stage.event()).state is EventState.HOLDING
        machines = (await stage.machines()).values()
        confirmed = [it for it in machines if it.state is MachineState.CONFIRMED]
        assert all(it.changed_at_s - (it.asked_at_s or 0) <= 120 for it in confirmed)
        refused = {stage.site.row_of(it.worker) for it in machines if it.state is MachineState.REFUSED}
        assert refused <= set(liars)
        assert len(refused) > 10
        waking = 0
        while (await stage.event()).state is not EventState.OVER:
            await trio.sleep(60)
            waking = max(waking, (await stage.states()).get("waking", 0))
            assert stage.now_s <= asked.until_s + restore_s(len(confirmed)) + 60
        assert waking <= RESTORE_BATCH
        assert stage.site.off() == 0
        assert (await stage.states()).keys() == {"restored", "refused"}
