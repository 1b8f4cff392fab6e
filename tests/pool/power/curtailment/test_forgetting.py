"""A machine that is gone for good: no event asks it any more, and nothing that is paid changes."""

import random
from typing import Any

import pytest
import trio
from sqlalchemy import select

from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.power.control.contract import MachineName
from pool.power.curtailment.forgetting import Forgotten, forget
from pool.power.curtailment.schema import power_event_steps
from pool.power.curtailment.told_books import ToldBooks
from tests.judges.power_site import Nature
from tests.stages.power import PowerStage

pytestmark = [pytest.mark.sqlite_suffices]


@pytest.fixture
async def stage(store: Store, autojump_clock: trio.testing.MockClock) -> PowerStage:
    """A hundred machines, nearly 300 kW."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return PowerStage(store, seed=seed)


async def in_thread(work: Any) -> Any:
    return await trio.to_thread.run_sync(work)


async def test_a_machine_that_was_thrown_away_is_forgotten_and_asked_no_more(
    stage: PowerStage, store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    """It moves no money: who took a machine away and has it forgotten is paid for it as before."""
    gone = MachineName("acme", "c00", "u6")

    async def forgotten() -> Forgotten:
        now_s = stage.now_s

        def write() -> Forgotten:
            with store.write() as connection:
                return forget(connection, gone, reason="thrown away", by="ada", now_s=now_s)

        done: Forgotten = await in_thread(write)
        return done

    def told() -> Any:
        with store.read() as connection:
            return ToldBooks().event(connection, 1)

    async with stage.running() as running:
        await stage.ask(until_s=stage.now_s + 900)
        await trio.sleep(300)
        with pytest.raises(RegistryError, match=r"event 1 has it.*`angara power release 1 acme\.c00\.u6`"):
            await forgotten()
        stage.site.lets(Nature.AWAY, [5])
        await trio.sleep(600 + 960)
        assert running.status.events[0].lost == ("acme.c00.u6",)
        before = await in_thread(told)
        assert await forgotten() == Forgotten(machine=gone, lost_in=(1,))
        await trio.sleep(10)
        assert running.status.events == ()
        asked = len(stage.site.asked)
        await trio.sleep(7_200)  # in which one that is lost is asked four times
        assert len(stage.site.asked) == asked
        assert await in_thread(told) == before
        assert await forgotten() == Forgotten(machine=gone, lost_in=())
    with store.read() as connection:
        steps = select(power_event_steps.c.state, power_event_steps.c.words)
        said = connection.execute(steps.where(power_event_steps.c.words.startswith("gone"))).all()
    assert [tuple(it) for it in said] == [("released", "gone for good, by ada: thrown away")] * 2
