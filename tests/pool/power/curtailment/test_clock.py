"""A clock that is set back in mid-event: waits begin anew once, and are not longer by as much."""

import random

import pytest
import trio

from pool.books.store import Store
from pool.power.curtailment.states import EventState
from tests.judges.power_site import Nature
from tests.stages.power import PowerStage

pytestmark = [pytest.mark.sqlite_suffices]


async def test_who_lies_is_refused_and_who_obeys_is_proven_although_the_clock_went_back_an_hour(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    stage = PowerStage(store, containers=2, units=10, seed=seed)
    stage.site.lets(Nature.LIAR, [3])
    stage.site.lets(Nature.AWAY, [5])
    stage.folds = False  # its minutes would come twice
    async with stage.running():
        await stage.ask(until_s=stage.now_s + 1_800, ramp_s=60)
        await trio.sleep(20)
        stage.site.step_clock(-3_600)
        await trio.sleep(300)
        assert await stage.states() == {"confirmed": 18, "refused": 2}
        assert stage.site.off() == 18
        words = [words for worker, _, words in await stage.steps() if worker is None]
        assert sum(it.startswith("the clock was set back by 35") for it in words) == 1
        await trio.sleep(3_600)
        assert (await stage.event()).state is EventState.CURTAILING  # its end is a time of the clock
        await trio.sleep(2_700)
        assert (await stage.event()).state is EventState.OVER
        assert stage.site.off() == 0
    for it in (await stage.machines()).values():
        assert it.off_until_s is None or it.off_from_s is not None
