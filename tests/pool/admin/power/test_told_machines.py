"""Single machines, told by hand: to draw less for a while, and to say something of themselves.

Control, the runner and its file are real, machines speak as their firmware does; what their work says is the
play's.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio
from sqlalchemy import insert
from trio.testing import MockClock

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.admin.power import held as held_commands
from pool.admin.power import told_machines
from pool.admin.power.told_machines import LEAST_S, LONGEST_S, READ_MAX
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Caller, Role, host_account
from pool.power.control.accepted_shares import AcceptedShares
from pool.power.control.contract import Answered, Asked, Firmware, MachineName
from pool.power.control.control import Control, Reach
from pool.power.control.rows import MachineAddress, set_address, set_credential
from pool.power.control.runner import HeldView, Runner
from pool.power.curtailment.schema import power_event_machines
from pool.power.energy.by_machine import MachineDrawn
from pool.power.figures import Basis
from pool.requests.made import RequestMade
from pool.requests.policy import Approval
from pool.swarm.machine_api import MachineApi, Temper
from stratum.tallies import Verdict, pack_tallies
from tests.fixtures.databases import add_tenant
from tests.stages.machines import MachinesOnTheNetwork, name_of, settings_of

pytestmark = pytest.mark.sqlite_suffices
NOW_S: Final = 1_800_000_000
TH: Final = 10**12
Give = Callable[..., Awaitable[Any]]


def works(ths: int, *, plate: int | None = 3_000) -> MachineDrawn:
    """Of a machine of 30 J/TH, at a share in ten seconds."""
    watts = None if plate is None else ths * 30
    return MachineDrawn(
        watts=watts,
        basis=None if plate is None else Basis.WORK,
        error_bps=5_000,
        work_watts=watts,
        hashrate_hps=ths * TH,
        work_error_bps=4_350,
        nameplate_watts=plate,
        mines=ths > 0,
    )


class Site:
    """What commands ask of a running pool. `work` is what machines did, by name."""

    def __init__(self, store: Store, nursery: trio.Nursery, directory: Path, clock: MockClock) -> None:
        self._store, self._directory, self._clock = store, directory, clock
        self.machines = MachinesOnTheNetwork(nursery)
        self.work: dict[MachineName, MachineDrawn] = {}
        self.shares = AcceptedShares(lambda tenant, container, unit: int(unit[1:]) + 1)

    def wall_s(self) -> int:
        return NOW_S + int(self._clock.current_time())

    async def begins(self, nursery: trio.Nursery, *, dry_run: bool = False) -> None:
        network = self.machines.network(settings_of(dry_run=dry_run))
        runner = Runner(network, self._directory, self.shares, wall_clock=self.wall_s)
        await nursery.start(runner.run)
        here = Reach("", lambda *place: True, self._peers, runner)
        self._control = Control(self._store, lambda: [here], dry_run=dry_run)

    async def _peers(self) -> tuple[()]:
        return ()

    def stands(
        self, unit: int, firmware: Firmware, temper: Temper = Temper.HONEST, ths: int = 100
    ) -> MachineApi:
        """A machine at an address that the operator said."""
        reached = self.machines.stand(unit, firmware, temper)
        with self._store.write() as connection:
            of = MachineAddress(
                tenant="acme", container="c01", unit=f"u{unit}", address=reached.address, firmware=firmware
            )
            set_address(connection, of, by="olga", now_s=NOW_S)
            if reached.sealed is not None:
                set_credential(connection, reached.sealed, by="olga", now_s=NOW_S)
        self.work[name_of(unit)] = works(ths)
        return self.machines.at(reached)

    def share_of(self, unit: int) -> None:
        self.shares.count(pack_tallies({(unit + 1, 1, 0, Verdict.ACCEPTED): 1}))

    # pool.admin.desk.LivePool, as far as it is asked

    def ask_machines(self, asked: tuple[Asked, ...], within_s: float) -> tuple[Answered, ...]:
        return trio.from_thread.run(self._told, asked, within_s)

    async def _told(self, asked: tuple[Asked, ...], within_s: float) -> tuple[Answered, ...]:
        """The clock waits for the command's thread, which waits for this."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._time_passes)
            answers = await self._control.control(asked, within_s=within_s)
            nursery.cancel_scope.cancel()
        return answers

    async def _time_passes(self) -> None:
        while True:
            await trio.testing.wait_all_tasks_blocked(0.001)
            self._clock.jump(0.1)

    def machine_looks(self) -> None:
        return None

    def held_machines(self) -> Sequence[HeldView]:
        return trio.from_thread.run(self._control.held)

    def machines_drawn(self, names: Collection[MachineName]) -> dict[MachineName, MachineDrawn]:
        return {it: self.work[it] for it in names if it in self.work}


@pytest.fixture
def site(
    store: Store,
    nursery: trio.Nursery,
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    with store.write() as connection:
        add_tenant(connection, 1, "acme")
    made = Site(store, nursery, tmp_path, autojump_clock)
    for commands in (told_machines, held_commands):
        monkeypatch.setattr(commands, "wall_s", made.wall_s)
    return made


@pytest.fixture
def give(site: Site, store: Store) -> Give:
    desk = Desk(store, "regtest", site)  # type: ignore[arg-type]

    async def give(command: str, **params: Any) -> Any:
        olga = host_account("olga", ALONE)
        return await trio.to_thread.run_sync(execute, desk, command, msgspec.json.encode(params), olga)

    return give


async def test_a_machine_draws_less_until_a_time_and_its_work_says_whether_it_does(
    site: Site, give: Give, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await site.begins(nursery)
    machine, until_s = site.stands(1, Firmware.WHATSMINER), site.wall_s() + 3_600
    told = await give("power.reduce", machine="acme.c01.u1", watts=1_900, until_s=until_s)
    assert (told["answer"], told["percent"], told["watts"]) == ("said_yes", 63, 1_890)
    assert (told["before_watts"], told["before_hps"]) == (3_000, 100 * TH)
    assert (told["says"]["watts"], told["says"]["limit_watts"]) == (1_890, 3_000)  # its own word
    (record,) = await give("change.list", subject="acme.c01.u1")
    assert (record["was"], record["command"]) == ({}, "power.reduce")
    assert record["became"] == {"percent": 63, "until_s": until_s, "dry_run": False}
    (row,) = await give("held.list")
    assert (row["action"], row["percent"], row["until_s"], row["proof"]) == ("limit", 63, until_s, None)
    await trio.sleep(900)
    for ths, proof in ((100, "as before"), (80, "as before"), (63, "less"), (0, "nothing")):
        site.work[name_of(1)] = works(ths)
        (row,) = await give("held.list")
        assert (row["proof"], row["now_hps"]) == (proof, ths * TH)
    await trio.sleep(3_600)
    assert machine.percent == 100
    assert machine.heard[-1] == "limit 100"
    site.share_of(1)
    await trio.sleep(5)
    assert await give("held.list") == []


async def test_a_limit_outlives_no_kill_and_is_lifted_by_hand(
    site: Site, give: Give, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """What is told is in the file before; whoever comes after lets the machine go when its time is over."""
    machine = site.stands(1, Firmware.WHATSMINER)
    async with trio.open_nursery() as first:
        await site.begins(first)
        await give("power.reduce", machine="acme.c01.u1", watts=1_500)
        first.cancel_scope.cancel()
    await site.begins(nursery)
    (row,) = await give("held.list")
    assert (row["percent"], row["until_s"] - site.wall_s()) == (50, pytest.approx(LONGEST_S, abs=5))
    assert machine.percent == 50
    lifted = await give("power.reduce", machine="acme.c01.u1")
    assert (lifted["answer"], lifted["percent"], lifted["watts"], machine.percent) == (
        "said_yes",
        100,
        None,
        100,
    )
    await give("power.reduce", machine="acme.c01.u1", watts=1_500, until_s=site.wall_s() + 7_200)
    await trio.sleep(7_200 - 60)
    assert machine.percent == 50
    await trio.sleep(120)
    assert machine.percent == 100


async def test_one_that_says_no_to_be_switched_on_because_it_is_on_has_its_limit_lifted_all_the_same(
    site: Site, give: Give, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.begins(nursery)
    machine = site.stands(1, Firmware.WHATSMINER)
    await give("power.reduce", machine="acme.c01.u1", watts=1_500)
    monkeypatch.setattr(machine, "_resume", lambda: False)
    assert (await give("power.reduce", machine="acme.c01.u1"))["answer"] == "said_yes"
    assert machine.percent == 100


@pytest.mark.parametrize("firmware", [Firmware.ANTMINER, Firmware.BRAIINS, Firmware.OTHER])
async def test_firmware_that_cannot_says_so_and_nobody_is_held(
    site: Site, give: Give, nursery: trio.Nursery, autojump_clock: MockClock, firmware: Firmware
) -> None:
    await site.begins(nursery)
    site.stands(1, firmware)
    told = await give("power.reduce", machine="acme.c01.u1", watts=1_500)
    assert (told["answer"], told["says"]) == ("unsupported", None)
    assert firmware.value in told["words"]
    assert await give("held.list") == []
    assert site.machines.connections == []


@pytest.mark.parametrize("settings", [True, False])
async def test_a_dry_run_sends_nothing(
    site: Site, give: Give, nursery: trio.Nursery, autojump_clock: MockClock, settings: bool
) -> None:
    await site.begins(nursery, dry_run=settings)
    site.stands(1, Firmware.WHATSMINER)
    told = await give("power.reduce", machine="acme.c01.u1", watts=1_500, dry_run=not settings)
    assert (told["answer"], told["percent"]) == ("dry_run", 50)
    if settings:
        assert [it["answer"] for it in await give("power.read", machines=["acme.c01.u1"])] == ["dry_run"]
    assert site.machines.connections == []
    assert await give("held.list") == []


@pytest.mark.parametrize(
    ("ths", "plate", "asked", "words"),
    [
        (0, 3_000, {"watts": 1_500}, "does not mine: there is nothing to reduce"),
        (0, 3_000, {}, "does not mine, and nobody limits it"),
        (100, None, {"watts": 1_500}, "nobody has said what acme.c01.u1 is"),
        (100, 3_000, {"watts": 1_199}, "draws 3000 W, and a limit is 1200 W or more, and less than that"),
        (100, 3_000, {"watts": 3_000}, "draws 3000 W"),
        (100, 3_000, {"watts": -5}, "draws 3000 W"),
        (100, 3_000, {"watts": 1_500, "until_s": NOW_S + LEAST_S - 1}, "lasts for 60 s to 23 h 50 min"),
        (100, 3_000, {"watts": 1_500, "until_s": NOW_S + LONGEST_S + 60}, "lasts for 60 s"),
    ],
)
async def test_what_no_machine_can_be_told_is_refused_in_words_and_leaves_no_record(
    site: Site,
    give: Give,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    ths: int,
    plate: int | None,
    asked: Any,
    words: str,
) -> None:
    await site.begins(nursery)
    site.stands(1, Firmware.WHATSMINER)
    site.work[name_of(1)] = works(ths, plate=plate)
    with pytest.raises(RegistryError, match=words):
        await give("power.reduce", machine="acme.c01.u1", **asked)
    assert site.machines.connections == []
    assert await give("change.list", subject="acme.c01.u1") == []


async def test_it_waits_for_a_second_person_where_the_settings_want_one(
    site: Site, give: Give, store: Store, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await site.begins(nursery)
    machine = site.stands(1, Firmware.WHATSMINER)
    for name, role in (("otto", "operator"), ("ada", "admin")):
        await give("user.add", name=name, role=role)
    desk = Desk(store, "regtest", site, policy=Approval(people=2))  # type: ignore[arg-type]

    async def by(who: Caller, command: str, **params: Any) -> Any:
        return await trio.to_thread.run_sync(execute, desk, command, msgspec.json.encode(params), who)

    otto = Caller(name="otto", source="test", role=Role.OPERATOR, user_id=1)
    ada = Caller(name="ada", source="test", role=Role.ADMIN, user_id=2)
    with pytest.raises(RequestMade):
        await by(otto, "power.reduce", machine="acme.c01.u1", watts=1_500)
    assert site.machines.connections == []
    shown = await by(ada, "request.show", number=1)
    assert (shown["was"], shown["became"]["percent"], shown["became"]["dry_run"]) == ({}, 50, False)
    assert (await by(ada, "request.approve", number=1))["state"] == "carried_out"
    assert machine.percent == 50


@pytest.mark.parametrize("watts", [1_500, None])
async def test_an_event_owns_its_machines(
    site: Site, give: Give, store: Store, nursery: trio.Nursery, autojump_clock: MockClock, watts: int | None
) -> None:
    await site.begins(nursery)
    site.stands(0, Firmware.WHATSMINER)
    await give("power.curtail", target="everything")
    row = {"event_id": 1, "worker_id": 100, "batch": 0, "state": "confirmed", "changed_at_s": 0, "due_s": 0}
    row |= {"asks": 1, "before_from_s": 0, "before_until_s": 3_600, "watts_before": 3_000, "watts_idle": 60}
    with store.write() as connection:
        connection.execute(insert(power_event_machines).values(**row, basis="work", error_bps=500))
    with pytest.raises(RegistryError, match=r"event 1 has acme\.c01\.u0, which is confirmed"):
        await give("power.reduce", machine="acme.c01.u0", watts=watts)
    assert site.machines.connections == []


async def test_what_a_machine_says_of_itself_stands_beside_what_its_work_says(
    site: Site, give: Give, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """One lies: it says that it sleeps, and mines on. One says nothing, and holds nobody up for longer than a
    command may take."""
    await site.begins(nursery)
    lies, deaf = site.stands(1, Firmware.BRAIINS, Temper.LIES), site.stands(2, Firmware.BRAIINS, Temper.DEAF)
    lies.says_it_mines = False
    site.stands(3, Firmware.BITAXE, ths=0)
    began_s = site.wall_s()
    names = [f"acme.c01.u{it}" for it in (1, 2, 3, 1, 9)]
    one, two, three, nobody = await give("power.read", machines=names)
    assert site.wall_s() - began_s < 15
    assert deaf.heard == []
    assert (one["says"]["mines"], one["says"]["watts"], one["says"]["limit_watts"]) == (False, 60, 3_000)
    assert (one["mining"], one["work_watts"], one["work_hps"]) == (True, 3_000, 100 * TH)
    assert (two["answer"], two["says"], two["mining"]) == ("unknown", None, True)
    assert (three["says"]["mines"], three["says"]["temperature_c"], three["mining"]) == (True, 56, False)
    assert (nobody["answer"], nobody["work_hps"]) == ("unreached", None)


@pytest.mark.parametrize("count", [0, READ_MAX + 1])
async def test_a_hundred_machines_are_read_at_once_and_no_more(
    site: Site, give: Give, nursery: trio.Nursery, autojump_clock: MockClock, count: int
) -> None:
    await site.begins(nursery)
    with pytest.raises(RegistryError, match="1 to 100 machines are read at once"):
        await give("power.read", machines=[f"acme.c01.u{it}" for it in range(count)])
