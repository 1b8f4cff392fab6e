"""The site map: each machine's state, in its place, looked at once for all; a tenant sees its own."""

import random
import zlib
from typing import Any

import msgspec
import pytest
import trio

from pool.dashboard import places, site_map
from pool.dashboard.site_map import LAYOUT_S, LOOK_S, Changes, changes_for
from pool.messages.conditions import Thresholds
from tests.stages.machine_hall import MACHINE_THS, MachineHall

HOUR_S = 3_600


async def shown(hall: MachineHall, tenant: str | None = None) -> dict[str, Any]:
    await hall.map.look()
    _, body = await hall.map.body(tenant, packed=False)
    found: dict[str, Any] = msgspec.json.decode(body)
    return found


async def later(hall: MachineHall, seconds: float = LAYOUT_S) -> Changes | None:
    """What the next look finds."""
    await trio.sleep(seconds)
    return await hall.map.look()


def states(shown_map: dict[str, Any]) -> dict[str, str]:
    return {
        ".".join((it["tenant"], it["name"], unit)): state
        for it in shown_map["containers"]
        for unit, state in zip(it["units"], it["states"], strict=True)
    }


async def test_each_machine_has_the_state_that_it_is_in(autojump_clock: object) -> None:
    hall = MachineHall()
    good, slow, rejects, stands = (hall.machine(f"acme.c1.u{at}") for at in range(4))
    hall.nameplate("c1", 4, round(4 * MACHINE_THS))
    paces = {good: 1.0, slow: 0.8, rejects: 0.9}
    await hall.mine(paces | {stands: 1.0}, HOUR_S / 4, {rejects: 0.1})
    await hall.mine(paces, 310, {rejects: 0.1})
    found = await shown(hall)
    assert states(found) == {
        "acme.c1.u0": "m",
        "acme.c1.u1": "s",
        "acme.c1.u2": "r",
        "acme.c1.u3": "o",
    }
    container = found["containers"][0]
    assert container["ths"] == pytest.approx([MACHINE_THS, 0.8 * MACHINE_THS, 0.9 * MACHINE_THS, 0], abs=3)
    assert container["machine_ths"] == pytest.approx(MACHINE_THS, abs=1)
    assert hall.map.total.machines == {"m": 1, "s": 1, "r": 1, "o": 1}
    assert hall.map.tenants["acme"] == hall.map.total


async def test_other_thresholds_are_in_force_from_the_next_look_on(autojump_clock: object) -> None:
    hall = MachineHall()
    good, weak = hall.machine("acme.c1.u0"), hall.machine("acme.c1.u1")
    hall.nameplate("c1", 2, round(2 * MACHINE_THS))
    await hall.mine({good: 1.0, weak: 0.8}, HOUR_S / 4)
    assert states(await shown(hall)) == {"acme.c1.u0": "m", "acme.c1.u1": "s"}
    hall.map.thresholds = Thresholds(nameplate_percent=70.0)
    changes = await later(hall, LOOK_S)
    assert changes is not None
    [(container, machine, state, ths)] = changes_for(changes, "boot", None).changes
    assert (container, machine, state) == (0, 1, "m")
    assert ths == pytest.approx(75, abs=2)
    assert states(await shown(hall)) == {"acme.c1.u0": "m", "acme.c1.u1": "m"}


async def test_who_comes_back_is_not_slow_for_an_hour(autojump_clock: object) -> None:
    hall = MachineHall()
    machines = [hall.machine(f"acme.c1.u{at}") for at in range(4)]
    hall.nameplate("c1", 4, round(4 * MACHINE_THS))
    await hall.mine(dict.fromkeys(machines, 1.0), HOUR_S / 2)
    await trio.sleep(HOUR_S / 2)
    assert set(states(await shown(hall)).values()) == {"o"}
    await hall.mine(dict.fromkeys(machines, 1.0), HOUR_S / 6)
    assert set(states(await shown(hall)).values()) == {"m"}


async def test_chance_makes_nobody_slow(autojump_clock: object) -> None:
    """Shares come as they do: ten a minute, give or take three. One seed, for of a hundred one has a machine
    that is slow by chance."""
    seed = 20261127
    print("seed", seed)
    chance, hall = random.Random(seed), MachineHall()
    machines = [hall.machine(f"acme.c1.u{at}") for at in range(20)]
    hall.nameplate("c1", 20, round(20 * MACHINE_THS))
    for minute in range(70):
        await hall.mine({it: chance.gauss(1.0, 0.33) for it in machines}, 60)
        if minute >= 60:
            assert set(states(await shown(hall)).values()) == {"m"}


async def test_machines_stand_in_the_order_of_their_names_and_those_that_never_came_are_counted(
    autojump_clock: object,
) -> None:
    hall = MachineHall("zeta", "acme")
    for name in ("zeta.c2.r10s01", "zeta.c2.r2s10", "zeta.c2.r2s9", "acme.c10.u", "acme.c9.u", "acme.rig"):
        hall.machine(name)
    hall.nameplate("c2", 5, 500)
    found = (await shown(hall))["containers"]
    assert [(it["tenant"], it["name"]) for it in found] == [
        ("acme", ""),
        ("acme", "c9"),
        ("acme", "c10"),
        ("zeta", "c2"),
    ]
    assert found[3]["units"] == ["r2s9", "r2s10", "r10s01"]
    assert [it["unseen"] for it in found] == [0, 0, 0, 2]
    names = [hall.map.places.name_of(at) for at in range(6)]
    assert names == ["acme.rig", "acme.c9.u", "acme.c10.u", "zeta.c2.r2s9", "zeta.c2.r2s10", "zeta.c2.r10s01"]


async def test_a_map_and_its_changes_are_the_next_map_for_everybody(autojump_clock: object) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance, hall = random.Random(seed), MachineHall("acme", "zeta")
    machines = [hall.machine(f"{chance.choice(('acme', 'zeta'))}.c{at % 3}.u{at}") for at in range(30)]
    views = (None, "acme", "zeta")
    maps = {view: await shown(hall, view) for view in views}
    changed = 0
    for _ in range(25):
        await hall.mine({it: chance.choice((0, 1, 1.5)) for it in machines}, 60, {machines[0]: 1})
        changes = await hall.map.look()
        for view in views:
            known = maps[view]
            if changes is not None:
                told = changes_for(changes, hall.map.boot, view)
                assert told.base == known["version"]
                known["version"] = told.version
                for at, machine, state, ths in told.changes:
                    it = known["containers"][at]
                    it["states"] = it["states"][:machine] + state + it["states"][machine + 1 :]
                    it["ths"][machine] = ths
                    changed += 1
            anew = await shown(hall, view)
            assert {**anew, "at_s": 0} == {**known, "at_s": 0}
    assert changed > 100


async def test_it_is_looked_at_once_for_all_and_not_more_often_than_it_changes(
    autojump_clock: object,
) -> None:
    hall = MachineHall()
    one = hall.machine("acme.c1.u1")
    found: list[Changes | None] = []

    async def look() -> None:
        found.append(await hall.map.look())

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(look)
    assert [it.base for it in found if it is not None] == [None]
    assert await later(hall) is None
    await hall.mine({one: 1.0}, 3 * LOOK_S)
    changes = await hall.map.look()
    assert changes is not None
    assert (changes.base, changes.letters) == (1, b"m")
    assert await hall.map.look() is None
    bodies = {id((await hall.map.body(None, packed=False))[1]) for _ in range(100)}
    assert len(bodies) == 1


async def test_who_leaves_while_the_map_is_made_anew_leaves_it_whole(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may take so long and no longer: half a look, and no look worked any more until a machine
    came."""
    hall = MachineHall()
    hall.machine("acme.c1.u0")
    before = await shown(hall)
    hall.machine("acme.c1.u1")
    await trio.sleep(LAYOUT_S)
    with trio.CancelScope() as request, monkeypatch.context() as patched:

        async def late() -> None:
            request.cancel()
            await places.rest()

        patched.setattr(site_map, "rest", late)
        await hall.map.look()
    assert request.cancelled_caught
    assert len(hall.map.letters) == len(hall.map.places) == len(before["containers"][0]["units"])
    assert states(await shown(hall)).keys() == {"acme.c1.u0", "acme.c1.u1"}


async def test_new_machines_are_a_new_map_and_not_one_each(autojump_clock: object) -> None:
    hall = MachineHall()
    hall.machine("acme.c1.u1")
    await hall.map.look()
    anew = 0
    for at in range(20):
        hall.machine(f"acme.c1.v{at}")
        changes = await later(hall, LOOK_S)
        anew += changes is not None and changes.base is None
    assert anew == 20 * LOOK_S / LAYOUT_S
    hall.registry.remove_workers([1])
    changes = await later(hall)
    assert changes is not None
    assert changes.base is None
    assert "acme.c1.u1" not in states(await shown(hall))


async def test_a_tenant_sees_its_own_whatever_others_are_called(autojump_clock: object) -> None:
    hall = MachineHall("acme", "acme2", "zeta")
    for name in ("acme.c1.u1", "acme2.c1.u1", "zeta.c1.u1"):
        hall.machine(name)
    found = await shown(hall, "acme2")
    assert list(states(found)) == ["acme2.c1.u1"]
    assert (await shown(hall, "nobody"))["containers"] == []


async def test_what_is_beyond_the_bounds_is_counted_and_waits(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of machines who came first stays; of changes states go first."""
    monkeypatch.setattr(places, "MACHINES_MAX", 4)
    monkeypatch.setattr(site_map, "CHANGES_MAX", 2)
    hall = MachineHall("acme", "zeta")
    machines = [hall.machine(f"zeta.c1.u{at}") for at in range(3)]
    machines += [hall.machine(f"acme.c{at}.u") for at in range(3)]
    assert list(states(await shown(hall))) == ["acme.c0.u", "zeta.c1.u0", "zeta.c1.u1", "zeta.c1.u2"]
    assert hall.map.total.machines["o"] == 6
    assert hall.map.tenants["acme"].machines["o"] == 3
    await hall.mine(dict.fromkeys(machines, 1.0), 3 * LOOK_S)
    first = await hall.map.look()
    second = await later(hall, LOOK_S)
    assert first is not None
    assert second is not None
    assert (first.letters, second.letters) == (b"mm", b"mm")
    assert sorted([*first.cells.tolist(), *second.cells.tolist()]) == [0, 1, 2, 3]
    assert hall.map.total.machines["m"] == 6


async def test_it_is_packed_once_for_all_who_take_it_so() -> None:
    hall = MachineHall()
    hall.machine("acme.c1.u1")
    await hall.map.look()
    _, plain = await hall.map.body(None, packed=False)
    _, packed = await hall.map.body(None, packed=True)
    assert zlib.decompress(packed, 16 + zlib.MAX_WBITS) == plain
    assert (await hall.map.body(None, packed=True))[1] is packed
