"""A day of every machine: what it did then, in a bounded number of bytes."""

import msgspec
import pytest
import trio

from pool.dashboard import history
from pool.dashboard.history import BLOCK, MACHINES_MAX, POINTS, STEP_S, History, _Block
from tests.stages.machine_hall import MACHINE_THS, MachineHall

MIB = 1 << 20


def of(hall: MachineHall) -> History:
    return History(hall.registry, hall.hashrates, wall_clock=trio.current_time)


async def test_each_machine_and_each_tenant_has_its_points_since_it_came(autojump_clock: object) -> None:
    hall = MachineHall("acme", "zeta")
    day, one = of(hall), hall.machine("acme.c1.u1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(day.run)
        await hall.mine({one: 1.0}, 2 * STEP_S)
        two = hall.machine("zeta.c1.u1")
        await hall.mine({one: 0.5, two: 2.0}, 2 * STEP_S + 10, {one: 0.5})
        nursery.cancel_scope.cancel()
    first, second = day.of(one), day.of(two)
    assert (first.from_s, len(first.hps)) == (STEP_S, 4)
    assert first.hps[:2] == pytest.approx([MACHINE_THS * 1e12] * 2, rel=0.05)
    assert first.hps[3] == pytest.approx(0.5 * MACHINE_THS * 1e12, rel=0.2)
    assert first.rejected[:2] == [0, 0]
    assert first.rejected[3] == pytest.approx(0.5, abs=0.1)
    assert second.hps[:2] == second.rejected[:2] == [None, None]
    assert second.hps[3] == pytest.approx(2 * MACHINE_THS * 1e12, rel=0.2)
    totals = msgspec.to_builtins(day.totals(None))
    last = [it.hps[3] or 0 for it in (first, second)]
    assert totals["rejected"][:2] == [0, 0]
    assert totals["rejected"][3] == pytest.approx(0.5 / 3, abs=0.05)  # of the work of both
    assert [it["rejected"][3] for it in totals["tenants"]] == [pytest.approx(0.5, abs=0.1), 0]
    assert totals["pool"][3] == pytest.approx(sum(last), rel=1e-6)
    assert [(it["name"], len(it["hps"])) for it in totals["tenants"]] == [("acme", 4), ("zeta", 4)]
    own = msgspec.to_builtins(day.totals("zeta"))
    assert own.keys() == {"from_s", "step_s", "tenants"}
    assert [it["name"] for it in own["tenants"]] == ["zeta"]
    assert own["tenants"][0]["hps"][:2] == [0, 0]


def hashrates_of_all(day: History) -> list[int]:
    told: list[int] = msgspec.to_builtins(day.totals(None))["pool"]
    return told


async def test_a_day_is_kept_and_no_more(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "POINTS", 4)
    hall = MachineHall()
    day, one = of(hall), hall.machine("acme.c1.u1")
    for at in range(6):
        await hall.mine({one: 1.0 if at < 3 else 0.0}, STEP_S)
        await day.step()
    series = day.of(one)
    assert series.from_s == 3 * STEP_S
    assert len(series.hps) == len(series.difficulty_log2) == len(hashrates_of_all(day)) == 4
    rates = [it for it in series.hps if it is not None]
    assert rates == sorted(rates, reverse=True)
    assert day.of(7).hps == []


async def test_who_is_gone_makes_room_and_his_day_is_nobody_elses(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MACHINES_MAX", 2)
    hall = MachineHall()
    day = of(hall)
    machines = [hall.machine(f"acme.c1.u{at}") for at in range(3)]
    await hall.mine(dict.fromkeys(machines, 1.0), 60)
    await day.step()
    assert [len(day.of(it).hps) for it in machines] == [1, 1, 0]
    hall.registry.remove_workers(machines[:1])
    await hall.mine(dict.fromkeys(machines[1:], 1.0), 60)
    await day.step()
    assert day.of(machines[0]).hps == []
    assert day.of(machines[2]).hps[0] is None
    assert day.of(machines[2]).hps[1] is not None


def test_the_memory_is_what_is_said() -> None:
    block = _Block()
    a_block = block.hps.nbytes + block.rejected.nbytes + block.log2.nbytes
    assert a_block == 6 * POINTS * BLOCK
    assert round(22 * a_block / MIB) == 37
    assert round(MACHINES_MAX / BLOCK * a_block / MIB) == 54
