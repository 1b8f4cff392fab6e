"""A limit is of the whole site: fans and pumps are in it, where a meter of the site counts."""

import random

import pytest
import trio

from pool.books.store import Store
from pool.power.curtailment.besides import Besides, besides, settled
from pool.power.curtailment.candidates import candidates
from pool.power.curtailment.states import EventState
from tests.stages.power import PowerStage

pytestmark = [pytest.mark.sqlite_suffices]
FANS_W = 40_000


@pytest.fixture
def seed() -> int:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return seed


@pytest.fixture
async def stage(store: Store, seed: int, autojump_clock: trio.testing.MockClock) -> PowerStage:
    """A hundred machines, nearly 300 kW."""
    return PowerStage(store, seed=seed)


def found(stage: PowerStage, site: str = "Bratsk") -> Besides | None:
    with stage.store.read() as connection:
        return besides(connection, site, candidates(connection, site, stage.now_s), stage.now_s)


async def test_without_a_meter_of_the_site_nothing_is_known_to_be_drawn_besides(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    assert found(stage) == Besides(0, "")


async def test_what_the_meter_has_beyond_work_is_drawn_besides(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    stage.has_meter(FANS_W)
    for site in ("Bratsk", ""):
        it = found(stage, site)
        assert it is not None
        assert it.by == "hall"
        assert abs(it.watts - FANS_W) < 12_000  # 16,000 shares: 0.8 %, three times; and the meter's noise
        assert it.words.endswith("kW besides machines, by hall")


async def test_a_site_is_called_to_a_limit_as_a_whole_and_keeps_it(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    stage.has_meter(FANS_W)
    async with stage.running() as running:
        await stage.ask(target="limit", target_value=200_000, until_s=stage.now_s + 7_200)
        await trio.sleep(480)
        drawn = []
        for _ in range(30):
            await trio.sleep(120)
            drawn.append(stage.site.drawn_watts() + FANS_W)
        # Without the meter it would be 240 kW.
        assert max(drawn) < 200_000 + 13_000
        assert min(drawn) > 200_000 - 25_000
        (status,) = running.status.events
        assert status.short_watts == 0
        pauses = len(stage.site.asked)
    steps = [
        words for worker, state, words in await stage.steps() if worker is None and state == "curtailing"
    ]
    assert "kW besides machines, by hall" in steps[0]
    assert pauses < 2 * 65  # whoever is off stays off: what is measured does not have machines come and go


async def test_a_meter_that_lies_down_hides_fans_and_no_machine(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    """By work 300 kW are proven: a meter that says two thirds of that has nothing besides."""
    stage.has_meter(0, lies=0.66)
    assert found(stage) == Besides(0, "hall")


async def test_a_meter_that_says_less_than_half_of_the_work_is_none(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    stage.has_meter(0, lies=0.45)
    assert found(stage) is None


async def test_a_meter_that_lies_up_has_all_machines_off_while_a_limit_holds_and_says_no_more_than_it_may(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    stage.has_meter(0, lies=3.0)
    it = found(stage)
    assert it is not None
    assert 550_000 < it.watts < 700_000
    async with stage.running() as running:
        await stage.ask(target="limit", target_value=300_000, until_s=stage.now_s + 1_800)
        await trio.sleep(600)
        assert stage.site.off() == 100  # and no more is to be had: it is told as short
        (status,) = running.status.events
        assert status.short_watts > 30_000
        await trio.sleep(2_400)
        assert (await stage.event()).state is EventState.OVER
        assert stage.site.off() == 0


async def test_shares_that_are_late_make_no_fans_of_machines(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    stage.has_meter(FANS_W)
    async with stage.running():
        await stage.ask(target="limit", target_value=200_000, until_s=stage.now_s + 7_200)
        await trio.sleep(600)
        off = stage.site.off()
        stage.folds = False  # what is mined does not come here
        await trio.sleep(1_200)
        assert abs(stage.site.off() - off) <= 6


def test_what_counted_before_counts_until_it_is_another() -> None:
    before = Besides(40_000, "hall")
    assert settled(None, before, 300_000) == before
    assert settled(Besides(45_000, "hall"), before, 300_000) == before
    assert settled(Besides(47_000, "hall"), before, 300_000) == Besides(47_000, "hall")
    assert settled(Besides(0, ""), before, 300_000) == Besides(0, "")
