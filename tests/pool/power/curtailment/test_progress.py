"""How far an event is where nobody knows what machines draw: so many of so many are off."""

import random

import pytest
import trio

from pool.books.store import Store
from pool.messages.curtailment_conditions import curtailment_conditions
from pool.messages.look import Look
from pool.power.curtailment.machines import machines_of
from pool.power.curtailment.progress import progress_of
from pool.power.curtailment.states import EventState
from pool.power.curtailment.status import PowerStatus
from tests.judges.power_site import Nature
from tests.stages.power import PowerStage

pytestmark = [pytest.mark.sqlite_suffices]


@pytest.fixture
def seed() -> int:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return seed


def told(status: PowerStatus) -> dict[str, str]:
    """Messages that hold, by kind."""
    look = Look(running_s=3_600, job_age_s=1, curtailment=status)
    return {it.kind: it.words for it in curtailment_conditions(look) if it.holds}


async def test_machines_of_unknown_power_that_all_refuse_are_no_target_that_is_met(
    store: Store, seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    stage = PowerStage(store, containers=1, units=10, seed=seed, unknown=[0])
    stage.site.lets(Nature.REFUSES, range(10))
    async with stage.running() as running:
        await stage.ask(ramp_s=120)
        await trio.sleep(400)
        assert await stage.states() == {"refused": 10}
        assert (await stage.event()).state is EventState.CURTAILING
        (status,) = running.status.events
        assert (status.unknown_off, status.unknown_machines, status.short_machines) == (0, 10, 10)
        assert "0 of 10 machines of unknown power" in told(running.status)["curtailed-short"]


async def test_it_is_met_when_all_of_them_are_off_and_the_last_one_was_switched_off_by_hand(
    store: Store, seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    stage = PowerStage(store, containers=2, units=10, seed=seed, unknown=[1])
    stage.site.lets(Nature.LIAR, [15])
    async with stage.running() as running:
        await stage.ask(ramp_s=120)
        await trio.sleep(400)
        event = await stage.event()
        assert event.state is EventState.CURTAILING
        assert event.watts_asked is not None
        assert abs(event.watts_asked - 29_400) < 1_500  # of those whose watts are known
        (status,) = running.status.events
        assert (status.unknown_off, status.unknown_machines, status.short_watts) == (9, 10, 0)
        with stage.store.read() as connection:
            unknown = machines_of(connection, 1, unknown_alone=True)
        assert len(unknown) == 10
        assert progress_of(unknown.values(), None).words == (
            "0 kW less, 9 of 10 machines of unknown power off, proven by work"
        )
        stage.site.switch_off(15)
        await trio.sleep(600)
        assert (await stage.event()).state is EventState.HOLDING
        assert "curtailed-short" not in told(running.status)
    words = [words for worker, state, words in await stage.steps() if worker is None and state == "holding"]
    assert words[0].endswith("kW less, 9 of 9 machines of unknown power off, proven by work")
