"""Machines that are off by their work and mine elsewhere: what a meter before their containers has of it."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import trio
from sqlalchemy import insert

from payouts.energy.events import EventPart, books_of
from payouts.ratebook import WorkSource, record_rate
from payouts.rates import Price, Scheme
from payouts.schemas.power import power_readings
from pool.books.store import Store
from pool.messages.curtailment_conditions import curtailment_conditions
from pool.messages.look import Look as MessageLook
from pool.power.curtailment.told_books import ToldBooks
from pool.power.energy.meters import NewMeter, add_meter
from tests.histories.power import NOW_S
from tests.stages.power import PowerStage

pytestmark = pytest.mark.sqlite_suffices
PRICE = Price(nbits=0x17021A42, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=0, scheme=Scheme.PPS)
FANS_WATTS = 4_000
METER_BPS = 100


class Metered:
    """Four containers of 25 machines with a meter each, read once a minute; those of some rows mine elsewhere
    when they are off, and draw."""

    def __init__(self, store: Store, seed: int) -> None:
        self.stage = PowerStage(store, seed=seed)
        self.elsewhere: Sequence[int] = ()
        self.heaters_watts = 0
        self._dice = np.random.default_rng(seed)
        self._ids: list[int] = []
        with store.write() as connection:
            for number in range(4):
                place = f"{('acme', 'bolt')[number % 2]}.c{number:02}"
                new = NewMeter(
                    name=f"m{number}", kind="push", containers=(place,), error_bps=METER_BPS, max_kw=200
                )
                self._ids.append(add_meter(connection, new, by="olga", now_s=NOW_S - 7_200).id)
            for tenant in (1, 2):
                record_rate(connection, tenant, PRICE, 900_000, None, NOW_S - 7_200, WorkSource(), noted=True)
        for at_s in range(NOW_S - 7_200, NOW_S + 1, 60):
            self._read(at_s, self.stage.site.mining())

    def _read(self, at_s: int, mining: Any) -> None:
        site = self.stage.site
        draws = mining | np.isin(np.arange(100), list(self.elsewhere))
        watts = np.where(draws, site.watts, site.idle_watts).reshape(4, 25).sum(axis=1) + FANS_WATTS
        watts[0] += self.heaters_watts
        rows = [
            {
                "meter_id": meter,
                "at_s": at_s,
                "watts": int(truth * self._dice.normal(1, 0.002)),
                "taken_at_s": at_s,
                "taken_by": "gateway",
            }
            for meter, truth in zip(self._ids, watts, strict=True)
        ]
        with self.stage.store.write() as connection:
            connection.execute(insert(power_readings), rows)

    async def read(self) -> None:
        while True:
            await trio.sleep(60 - self.stage.site.wall_s() % 60)
            await trio.to_thread.run_sync(self._read, self.stage.now_s, self.stage.site.mining())

    async def books(self) -> dict[int, EventPart]:
        """Of the event, by tenant."""

        def read() -> dict[int, EventPart]:
            with self.stage.store.read() as connection:
                return {
                    it.tenant_id: it for it in books_of(connection, *ToldBooks().event(connection, 1)).parts
                }

        return await trio.to_thread.run_sync(read)


@pytest.fixture
async def metered(store: Store, autojump_clock: trio.testing.MockClock) -> Metered:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return Metered(store, seed)


async def test_what_is_off_by_work_and_draws_is_made_up_for_and_named(
    metered: Metered, autojump_clock: trio.testing.MockClock
) -> None:
    """All machines of the first container, which are asked first, mine for another pool."""
    metered.elsewhere = range(25)
    stage = metered.stage
    async with stage.running() as running, trio.open_nursery() as nursery:
        nursery.start_soon(metered.read)
        await stage.ask(target="share", target_value=3_000, until_s=stage.now_s + 7_200)  # of 298 kW
        await trio.sleep(900)
        (status,) = running.status.events
        assert (status.drawn_watts, status.short_watts) == (0, 0)  # by work it is met
        await trio.sleep(1_500)
        (status,) = running.status.events
        assert 58_000 < status.drawn_watts <= 74_000
        really = 298_500 - stage.site.drawn_watts() - 25 * 2_940
        assert 70_000 < really < 100_000, "others were asked in their place"
        look = MessageLook(running_s=0, job_age_s=0, curtailment=running.status)
        found = {it.kind: it for it in curtailment_conditions(look)}
        assert found["curtailed-drawn"].holds
        nursery.cancel_scope.cancel()
    said = [words for worker, _, words in await stage.steps() if worker is None]
    assert any(words.startswith("m0 has ") and "machines that are off by work" in words for words in said)


@pytest.mark.parametrize("lies", ["all the time", "and has a share at the end", ""])
async def test_who_mines_elsewhere_while_he_is_off_is_paid_for_what_his_meter_was_given_less(
    metered: Metered, autojump_clock: trio.testing.MockClock, lies: str
) -> None:
    """Two tenants as large, all of whose machines are off for an hour; those of one mine on for another pool.
    He had half of the grid's payment; and with one share of each machine a minute before the end as well."""
    rows = [*range(25), *range(50, 75)]
    metered.elsewhere = rows if lies else ()
    stage = metered.stage
    async with stage.running(), trio.open_nursery() as nursery:
        nursery.start_soon(metered.read)
        await stage.ask(until_s=stage.now_s + 3_600)
        await trio.sleep(3_540)
        if "share" in lies:
            stage.site.has_share(rows)
        await trio.sleep(60)
        metered.elsewhere = ()
        await trio.sleep(1_200)
        nursery.cancel_scope.cancel()
    parts = await metered.books()
    part = parts[1].forgone_sat / (parts[1].forgone_sat + parts[2].forgone_sat)
    shed = parts[1].watts_shed / (parts[1].watts_shed + parts[2].watts_shed)
    print(f"of a payment: {part:.4f} by what was forgone, {shed:.4f} by what was shed")
    if lies:
        assert max(part, shed) < 0.15
    else:
        assert part == pytest.approx(0.5, abs=0.02)
        assert shed == pytest.approx(0.5, abs=0.02)


async def test_what_is_drawn_in_the_place_of_machines_is_drawn_too(
    metered: Metered, autojump_clock: trio.testing.MockClock
) -> None:
    stage = metered.stage
    async with stage.running() as running, trio.open_nursery() as nursery:
        nursery.start_soon(metered.read)
        await stage.ask(until_s=stage.now_s + 7_200)
        await trio.sleep(300)
        metered.heaters_watts = 30_000
        await trio.sleep(2_100)
        (status,) = running.status.events
        nursery.cancel_scope.cancel()
    assert 15_000 < status.drawn_watts < 32_000
