"""The operator's commands for events: on a book without a pool, as a person gives them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from pool.admin.commands import execute, execute_alone
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.admin.power import events
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.people.roles import host_account
from tests.judges.power_site import PowerSite
from tests.stages.power import PowerStage


@pytest.fixture
def give(tmp_path: Path) -> Any:
    url = f"sqlite:///{tmp_path}/angara.db"

    def give(command: str, **params: Any) -> Any:
        return execute_alone(url, "regtest", command, msgspec.json.encode(params), by="root")

    give("tenant.add", name="acme")
    give("container.set", tenant="acme", name="c01", site="north")
    return give


def test_an_event_needs_no_name_and_each_without_one_is_another(give: Any) -> None:
    first = give("power.curtail", target="share", target_value=1_000)
    second = give("power.curtail", target="share", target_value=1_000)
    assert (first["id"], second["id"]) == (1, 2)
    assert first["reference"] != second["reference"]


def test_an_event_with_a_name_is_asked_for_once(give: Any) -> None:
    from_s = 2_000_000_000
    asked = {"target": "everything", "reference": "grid-1", "from_s": from_s, "site": "north"}
    assert give("power.curtail", **asked)["id"] == give("power.curtail", **asked)["id"] == 1
    with pytest.raises(RegistryError, match="was another event"):
        give("power.curtail", **asked | {"from_s": from_s + 60})
    now = {"target": "everything", "reference": "grid-2"}
    assert give("power.curtail", **now) == give("power.curtail", **now)
    assert [it["reference"] for it in give("power.list")] == ["grid-1", "grid-2"]


def test_a_site_that_there_is_not_has_no_plan_as_it_has_no_event(give: Any) -> None:
    """It drew 0 kW, and nothing was to be done there."""
    for command in ("power.plan", "power.curtail"):
        with pytest.raises(RegistryError, match="there is no site 'nroth'"):
            give(command, target="everything", site="nroth")


def test_break_even_without_a_tariff_is_refused_in_words(give: Any) -> None:
    with pytest.raises(RegistryError, match="nobody knows what a kWh costs at north now"):
        give("power.plan", target="break_even", site="north")
    assert give("power.plan", target="break_even", target_value=500)["machines"] == 0


def test_an_event_that_has_not_begun_is_called_off(give: Any) -> None:
    give("power.curtail", target="everything", site="north")
    assert give("power.restore", event=1)["state"] == "cancelled"
    with pytest.raises(RegistryError, match=r"has no machine 'acme\.c01\.u9'"):
        give("power.release", event=1, machine="acme.c01.u9")
    with pytest.raises(RegistryError, match="there is no event 7"):
        give("power.show", event=7)


class LiveOrders:
    """A pool whose order needs every machine: what it is short by is what is taken from it. Nothing else of a
    pool is asked for."""

    def __init__(self, site: PowerSite) -> None:
        self._site = site
        self.asked: list[frozenset[int]] = []

    def machine_looks(self) -> Any:
        return trio.from_thread.run_sync(self._site.looks)

    def orders_without(self, machines: frozenset[int]) -> dict[str, float]:
        self.asked.append(machines)
        return {"zeta-100": 1e14 * len(machines)}


@pytest.mark.sqlite_suffices
async def test_orders_that_miss_machines_are_told_when_they_are_taken_and_as_long_as_they_are(
    store: Store, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Not in the plan alone, which nobody has to ask for: `curtail` says it, and `show` until it is over."""
    stage = PowerStage(store, containers=2, units=10)
    live = LiveOrders(stage.site)
    desk = Desk(store, "regtest", live)  # type: ignore[arg-type]
    monkeypatch.setattr(events, "wall_s", lambda: int(trio.from_thread.run_sync(stage.site.wall_s)))

    async def give(command: str, **params: Any) -> Any:
        caller = host_account("olga", ALONE)
        return await trio.to_thread.run_sync(execute, desk, command, msgspec.json.encode(params), caller)

    async with stage.running():
        half = {"target": "share", "target_value": 5_000, "site": "Bratsk", "ramp_s": 60}
        planned = await give("power.plan", **half)
        asked = await give("power.curtail", **half, until_s=stage.now_s + 1_800)
        assert asked["orders_short"] == planned["orders_short"]
        assert asked["orders_short"][0]["order"] == "zeta-100"
        would_be_off = live.asked[-1]
        assert 10 <= len(would_be_off) <= 11
        await trio.sleep(300)
        shown = await give("power.show", event=1)
        assert (shown["state"], shown["orders_short"]) == ("holding", asked["orders_short"])
        assert live.asked[-1] == await stage.owned() == would_be_off
        await give("power.restore", event=1)
        await trio.sleep(3_600)
        over = await give("power.show", event=1)
        assert (over["state"], over["orders_short"]) == ("over", [])
