"""The list of machines: searched, filtered, sorted, a page at a time."""

import random
from typing import Any

import msgspec
import pytest
import trio

from pool.dashboard import machine_list, places
from pool.dashboard.machine_list import Asked, BadCursor, MachineList
from pool.dashboard.site_map import LAYOUT_S
from tests.stages.machine_hall import MachineHall


def of(hall: MachineHall) -> MachineList:
    return MachineList(hall.map, hall.registry, hall.hashrates)


async def all_pages(machines: MachineList, **asked: Any) -> list[dict[str, Any]]:
    rows, cursor = [], ""
    while True:
        page = msgspec.to_builtins(await machines.page(Asked(cursor=cursor, **asked)))
        rows += page["machines"]
        assert page["found"] >= len(rows)
        if page["cursor"] is None:
            return rows
        assert len(page["machines"]) == asked["limit"]
        cursor = page["cursor"]


async def test_pages_add_up_to_what_a_list_by_hand_has(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_list, "PIECE", 7)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance, hall = random.Random(seed), MachineHall("acme", "zeta")
    names = [f"{chance.choice(('acme', 'zeta'))}.c{chance.randrange(3)}.R{at}" for at in range(40)]
    machines = [hall.machine(it) for it in names]
    await hall.mine(
        {it: chance.random() + 0.1 for it in machines[:30]}, 120, dict.fromkeys(machines[:9], 0.5)
    )
    listed = of(hall)
    everything = await all_pages(listed, limit=200)
    assert sorted(it["name"] for it in everything) == sorted(names)
    again = await all_pages(listed, limit=7)
    assert [it["name"] for it in again] == [it["name"] for it in everything]
    for sort, key in (("hashrate", "hashrate_hps"), ("rejected", "rejected")):
        for sign, reverse in (("", False), ("-", True)):
            found = [it[key] for it in await all_pages(listed, limit=6, sort=f"{sign}{sort}")]
            assert found == sorted((it[key] for it in everything), reverse=reverse)
    seen = [it["share_age_s"] for it in await all_pages(listed, limit=6, sort="-seen")]
    assert seen[:10] == [None] * 10
    for asked, wanted in (
        ({"search": "C1.r1"}, lambda it: ".c1.R1" in it["name"]),
        ({"tenant": "acme", "container": "c2"}, lambda it: it["name"].startswith("acme.c2.")),
        ({"state": "o"}, lambda it: it["state"] == "offline"),
        ({"state": "mr", "tenant": "zeta"}, lambda it: it["state"] != "offline" and it["tenant"] == "zeta"),
        ({"search": "nobody"}, lambda it: False),
    ):
        found = await all_pages(listed, limit=5, **asked)
        assert [it["name"] for it in found] == [it["name"] for it in everything if wanted(it)], asked


@pytest.mark.parametrize("asked", [{"search": "r"}, {"search": "r", "state": "o"}, {"sort": "hashrate"}])
async def test_a_page_is_of_one_map_whoever_comes_or_goes_while_it_is_made(
    asked: dict[str, Any], autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its places on another map a tenant would see machines of others."""
    hall = MachineHall("acme", "zeta")
    acmes = [hall.machine(f"acme.c.r{at}") for at in range(3)]
    zetas = [f"zeta.c.r{at}" for at in range(3)]
    for it in zetas:
        hall.machine(it)
    listed = of(hall)
    assert (await listed.page(Asked(tenant="acme"))).found == 3

    async def another_map() -> None:
        await trio.sleep(LAYOUT_S)
        assert await hall.map.look() is not None

    async def come() -> None:
        monkeypatch.setattr(machine_list, "rest", places.rest)
        hall.machine("acme.c.r3")
        await another_map()

    async def go() -> None:
        monkeypatch.setattr(machine_list, "rest", places.rest)
        hall.registry.remove_workers(acmes)
        await another_map()

    for meanwhile in (come, go):
        await trio.sleep(LAYOUT_S)
        monkeypatch.setattr(machine_list, "rest", meanwhile)
        page = await listed.page(Asked(tenant="zeta", **asked))
        assert [it.name for it in page.machines] == zetas


@pytest.mark.parametrize("cursor", ["x", "AAAA", "bm9uZSAx", "\udcff", "MS4wIDEgMg=="])
async def test_a_cursor_that_was_not_given_is_refused_in_words(cursor: str, autojump_clock: object) -> None:
    with pytest.raises(BadCursor, match="not one that was given"):
        await of(MachineHall()).page(Asked(cursor=cursor))


@pytest.mark.parametrize(
    "asked", [{"limit": "0"}, {"limit": "201"}, {"sort": "agent"}, {"state": "x"}, {"no": "such"}]
)
def test_what_cannot_be_asked_is_refused_in_words(asked: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(asked, Asked, strict=False)
