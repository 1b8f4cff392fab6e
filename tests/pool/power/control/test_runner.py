"""The dead man's switch: whatever ends, and whoever is away, no machine stays off."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import structlog.testing
import trio

from pool.power.control import held as held_file
from pool.power.control import runner as runner_of_site
from pool.power.control.accepted_shares import AcceptedShares
from pool.power.control.contract import Action, Answer, Answered, Firmware, MachineName
from pool.power.control.held import Standing
from pool.power.control.network import Order, Reached
from pool.power.control.runner import AGAIN_S_MAX, RESUMES_PER_S, TRIES_MAX, Runner
from pool.power.control.settings import ControlSettings
from pool.questions import AnsweredWithError
from pool.swarm.machine_api import Temper
from stratum.tallies import Verdict, pack_tallies
from tests.stages.machines import MachinesOnTheNetwork, name_of, settings_of

BEGAN_S = 1_800_000_000.0


class Site:
    """A runner on a directory, with machines whose shares it hears of, and a wall clock."""

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self.directory = directory
        self.machines = MachinesOnTheNetwork(nursery)
        self.shares = AcceptedShares(lambda tenant, container, unit: int(unit[1:]) + 1)
        self.clock_is_off_s = 0.0
        self.settings: ControlSettings = settings_of()

    def wall_s(self) -> float:
        return BEGAN_S + trio.current_time() + self.clock_is_off_s

    async def started(self, nursery: trio.Nursery) -> Runner:
        runner = Runner(
            self.machines.network(self.settings), self.directory, self.shares, wall_clock=self.wall_s
        )
        await nursery.start(runner.run)
        return runner

    def order(self, reached: Reached, action: Action, for_s: float = 0) -> Order:
        return Order(reached=reached, action=action, until_s=int(self.wall_s() + for_s) if for_s else 0)

    def share_of(self, unit: int) -> None:
        self.shares.count(pack_tallies({(unit + 1, 1, 0, Verdict.ACCEPTED): 1}))


async def told(runner: Runner, *orders: Order) -> list[Answered]:
    batch = await runner.begin(orders)
    while not (said := await runner.answers(batch, 0)).over:  # noqa: ASYNC110 - as whoever decides asks
        await trio.sleep(0.1)
    return list(said.answered)


@pytest.fixture
def site(nursery: trio.Nursery, tmp_path: Path) -> Site:
    return Site(nursery, tmp_path)


async def names_held(runner: Runner) -> list[MachineName]:
    return [it.machine for it in await runner.held(0)]


async def test_a_pause_ends_by_itself_when_its_time_is_over(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    (answered,) = await told(runner, site.order(reached, Action.PAUSE, 600))
    assert answered.answer is Answer.SAID_YES
    await trio.sleep(590)
    assert not site.machines.at(reached).mines
    await trio.sleep(15)
    assert site.machines.at(reached).mines
    site.share_of(1)
    await trio.sleep(5)
    assert await names_held(runner) == []


async def test_who_is_held_on_stays_off_and_nothing_is_sent(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 600))
    sent = len(site.machines.connections)
    for _ in range(6):
        await trio.sleep(500)
        (answered,) = await told(runner, site.order(reached, Action.HOLD, 600))
        assert answered.answer is Answer.SAID_YES
    assert not site.machines.at(reached).mines
    assert len(site.machines.connections) == sent
    await trio.sleep(700)
    assert site.machines.at(reached).mines


async def test_a_machine_that_nobody_holds_off_is_not_held_on(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    (answered,) = await told(runner, site.order(reached, Action.HOLD, 600))
    assert answered.answer is Answer.REFUSED


async def test_nothing_is_sent_before_the_file_has_it(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)

    def disk_full(directory: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(held_file, "save", disk_full)
        (answered,) = await told(runner, site.order(reached, Action.PAUSE, 600))
        assert answered.answer is Answer.REFUSED
        assert site.machines.connections == []
        assert await names_held(runner) == []
    (answered,) = await told(runner, site.order(reached, Action.PAUSE, 600))
    assert answered.answer is Answer.SAID_YES
    assert held_file.load(site.directory).keys() == {reached.machine}


@contextmanager
def killed_at(what: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """kill -9, before or after the file is written."""

    class Killed(BaseException):
        pass

    save = held_file.save

    def dies(directory: Path, content: bytes) -> None:
        if what == "after":
            save(directory, content)
        raise Killed

    with monkeypatch.context() as broken, pytest.RaisesGroup(Killed, flatten_subgroups=True):
        broken.setattr(held_file, "save", dies)
        yield


@pytest.mark.parametrize("what", ["before", "after"])
async def test_a_kill_around_the_write_leaves_no_machine_off(
    what: str, site: Site, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = site.machines.stand(1, Firmware.BRAIINS)
    with killed_at(what, monkeypatch):
        async with trio.open_nursery() as first:
            runner = await site.started(first)
            await told(runner, site.order(reached, Action.PAUSE, 600))
    assert site.machines.at(reached).mines  # nothing was sent
    async with trio.open_nursery() as second:
        runner = await site.started(second)
        assert len(await names_held(runner)) == (1 if what == "after" else 0)
        await trio.sleep(605)
        site.share_of(1)
        await trio.sleep(5)
        assert await names_held(runner) == []
        second.cancel_scope.cancel()


async def test_after_kill_9_machines_come_back_when_their_time_is_over(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    all_of_them = [site.machines.stand(unit, Firmware.BRAIINS) for unit in range(20)]
    async with trio.open_nursery() as first:
        runner = await site.started(first)
        await told(runner, *(site.order(it, Action.PAUSE, 600) for it in all_of_them))
        await trio.sleep(100)
        first.cancel_scope.cancel()
    await trio.sleep(300)
    async with trio.open_nursery() as second:
        await site.started(second)
        await trio.sleep(190)
        assert not any(site.machines.at(it).mines for it in all_of_them)
        await trio.sleep(20)
        assert all(site.machines.at(it).mines for it in all_of_them)
        second.cancel_scope.cancel()


async def test_a_process_that_was_down_for_long_resumes_at_once(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    reached = site.machines.stand(1, Firmware.BRAIINS)
    async with trio.open_nursery() as first:
        runner = await site.started(first)
        await told(runner, site.order(reached, Action.PAUSE, 600))
        first.cancel_scope.cancel()
    await trio.sleep(7_200)
    async with trio.open_nursery() as second:
        await site.started(second)
        await trio.sleep(2)
        assert site.machines.at(reached).mines
        second.cancel_scope.cancel()


@pytest.mark.parametrize("off_s", [-86_400.0, 86_400.0])
async def test_a_clock_that_steps_moves_no_end_while_the_process_runs(
    off_s: float, site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 600))
    site.clock_is_off_s = off_s
    await trio.sleep(590)
    assert not site.machines.at(reached).mines
    await trio.sleep(20)
    assert site.machines.at(reached).mines


async def test_a_clock_that_was_set_back_before_a_restart_doubles_a_pause_and_no_more(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    reached = site.machines.stand(1, Firmware.BRAIINS)
    async with trio.open_nursery() as first:
        runner = await site.started(first)
        await told(runner, site.order(reached, Action.PAUSE, 600))
        await trio.sleep(300)
        first.cancel_scope.cancel()
    site.clock_is_off_s = -40 * 86_400.0
    async with trio.open_nursery() as second:
        await site.started(second)
        await trio.sleep(610)
        assert site.machines.at(reached).mines
        second.cancel_scope.cancel()


async def test_a_machine_that_says_yes_and_sleeps_on_is_told_again_once_an_hour_at_most(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.power.control.runner.TICK_S", 10.0)  # nine hours of seconds take six
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS, Temper.SLEEPS_ON)
    await told(runner, site.order(reached, Action.PAUSE, 60))
    await trio.sleep(60 + 3 * 3_600)
    first_hours = site.machines.at(reached).heard.count("resume")
    await trio.sleep(6 * 3_600)
    then = site.machines.at(reached).heard.count("resume") - first_hours
    assert 5 <= first_hours <= 7
    assert 6 * 3_600 / AGAIN_S_MAX - 1 <= then <= 6 * 3_600 / AGAIN_S_MAX
    assert await names_held(runner) == [name_of(1)]


async def test_a_machine_that_is_dark_is_told_as_soon_as_it_can_be(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 60))
    machine = site.machines.machines.pop(reached.address)  # no power at its switch
    await trio.sleep(600)
    assert 5 <= len(site.machines.connections) <= 8
    site.machines.machines[reached.address] = machine
    await trio.sleep(1_300)
    assert machine.mines


async def test_a_machine_that_said_no_is_told_to_resume_all_the_same(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """It may say so and sleep."""
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS, Temper.REFUSES)
    (answered,) = await told(runner, site.order(reached, Action.PAUSE, 60))
    assert answered.answer is Answer.REFUSED
    await trio.sleep(65)
    assert "resume" in site.machines.at(reached).heard


async def test_who_could_not_be_told_is_not_held(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    dark = site.machines.stand(1, Firmware.BRAIINS)
    site.machines.machines.clear()
    cannot = site.machines.stand(2, Firmware.OTHER)
    answers = await told(runner, *(site.order(it, Action.PAUSE, 600) for it in (dark, cannot)))
    assert {it.answer for it in answers} == {Answer.UNREACHED, Answer.UNSUPPORTED}
    assert await names_held(runner) == []


async def test_who_is_off_and_cannot_be_told_again_stays_held(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 600))
    machine = site.machines.machines.pop(reached.address)
    (answered,) = await told(runner, site.order(reached, Action.PAUSE, 600))
    assert answered.answer is Answer.UNREACHED
    site.machines.machines[reached.address] = machine
    await trio.sleep(605)
    assert machine.mines


async def test_a_site_comes_back_as_a_ramp_and_not_at_once(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    all_of_them = [site.machines.stand(unit, Firmware.BRAIINS) for unit in range(400)]
    await told(runner, *(site.order(it, Action.PAUSE, 600) for it in all_of_them))
    await trio.sleep(600)
    before = sum(site.machines.at(it).mines for it in all_of_them)
    most = 0
    for _ in range(30):
        await trio.sleep(1)
        now = sum(site.machines.at(it).mines for it in all_of_them)
        most, before = max(most, now - before), now
    assert before == 400
    assert most <= 2 * RESUMES_PER_S


async def test_the_last_word_counts_where_two_come_at_once(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.ANTMINER, Temper.LATE)
    pausing = await runner.begin((site.order(reached, Action.PAUSE, 600),))
    resuming = await runner.begin((site.order(reached, Action.RESUME),))
    for batch in (pausing, resuming):
        while not (await runner.answers(batch, 0)).over:  # noqa: ASYNC110
            await trio.sleep(1)
    assert site.machines.at(reached).mines
    assert site.machines.at(reached).heard == ["pause", "resume"]


async def test_settings_that_change_while_machines_are_off_leave_none_off(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    reached = site.machines.stand(1, Firmware.BRAIINS)
    async with trio.open_nursery() as first:
        runner = await site.started(first)
        await told(runner, site.order(reached, Action.PAUSE, 600))
        first.cancel_scope.cancel()
    site.settings = ControlSettings()  # [power] is gone
    async with trio.open_nursery() as second:
        await site.started(second)
        await trio.sleep(610)
        assert site.machines.at(reached).mines
        second.cancel_scope.cancel()


@pytest.mark.parametrize(
    "content",
    [b'{"version":1,"machines":[{"rea', b'{"machines":[{"places":[{"reached":{"address":"\xff"}}]}]}'],
)
async def test_a_file_that_cannot_be_read_is_put_aside_and_the_pool_goes_on(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, content: bytes
) -> None:
    (site.directory / held_file.FILE).write_bytes(content)
    runner = await site.started(nursery)
    assert await names_held(runner) == []
    assert (site.directory / held_file.DAMAGED).exists()


async def test_a_dry_run_holds_nobody(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    site.settings = settings_of(dry_run=True)
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    for action in (Action.PAUSE, Action.HOLD, Action.RESUME):
        (answered,) = await told(runner, site.order(reached, action, 600))
        assert answered.answer is Answer.DRY_RUN
    assert site.machines.connections == []
    assert await names_held(runner) == []
    assert not (site.directory / held_file.FILE).exists()


@pytest.mark.parametrize("for_s", [-5, 86_500])
async def test_a_pause_without_an_end_that_can_be_is_refused(
    for_s: int, site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    (answered,) = await told(runner, site.order(reached, Action.PAUSE, for_s))
    assert answered.answer is Answer.REFUSED
    assert site.machines.connections == []


async def test_the_file_has_no_password(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.WHATSMINER)
    await told(runner, site.order(reached, Action.PAUSE, 600))
    content = (site.directory / held_file.FILE).read_bytes()
    assert b"swarm" not in content
    assert msgspec.json.decode(content)["machines"][0]["places"][0]["reached"]["sealed"]["text"]


async def test_a_batch_of_before_a_restart_is_nobodys(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    with pytest.raises(AnsweredWithError, match="no such batch"):
        await runner.answers(17, 0)


# Who lies about machines

METADATA = ["203.0.113.5", "127.0.0.1", "169.254.169.254"]


@pytest.mark.parametrize("address", METADATA)
async def test_to_resume_what_was_never_paused_opens_no_connection_out_of_the_networks(
    address: str, site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The strategy: have an Antminer resumed that nobody paused, at an address of one's own choice. It was a
    connection there, with the proof of a password, every ten seconds and then once an hour."""
    runner = await site.started(nursery)
    reached = msgspec.structs.replace(site.machines.stand(1, Firmware.ANTMINER), address=address)
    (answered,) = await told(runner, site.order(reached, Action.RESUME))
    assert answered.answer is Answer.UNREACHED
    assert await names_held(runner) == []
    await trio.sleep(1_000)
    assert site.machines.connections == []


async def test_what_was_paused_is_resumed_where_it_was_and_nowhere_else_out_of_the_networks(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 600))
    for address in METADATA:
        elsewhere = msgspec.structs.replace(reached, address=address)
        (answered,) = await told(runner, site.order(elsewhere, Action.RESUME))
        assert answered.answer is Answer.SAID_YES
    assert {address for address, _ in site.machines.connections} == {reached.address}
    assert site.machines.at(reached).mines


async def test_who_was_never_paused_is_not_asked_once_the_settings_name_its_network_no_more(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    reached = site.machines.stand(1, Firmware.BRAIINS)
    site.machines.machines.clear()
    async with trio.open_nursery() as first:
        await told(await site.started(first), site.order(reached, Action.RESUME))
        first.cancel_scope.cancel()
    site.machines.connections.clear()
    site.settings = settings_of("192.168.0.0/16")
    async with trio.open_nursery() as second:
        runner = await site.started(second)
        await trio.sleep(60)
        assert await names_held(runner) == []
        second.cancel_scope.cancel()
    assert site.machines.connections == []


@pytest.mark.parametrize("action", [Action.RESUME, Action.PAUSE])
async def test_who_mines_under_the_name_of_a_machine_that_is_off_does_not_get_its_place(
    action: Action, site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The strategy: one share under its name from elsewhere, so that it is paused, or resumed, there alone.
    The machine stayed off for ever."""
    runner = await site.started(nursery)
    reached, thief = (site.machines.stand(unit, Firmware.BRAIINS) for unit in (1, 2))
    moved = msgspec.structs.replace(thief, machine=reached.machine, by_hand=False)
    await told(runner, site.order(msgspec.structs.replace(reached, by_hand=False), Action.PAUSE, 600))
    site.share_of(1)
    await told(runner, site.order(moved, action, 600))
    site.share_of(1)
    await trio.sleep(700)
    assert site.machines.at(reached).mines


async def test_where_the_operator_says_that_a_machine_is_now_it_is_told_too(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached, there = (site.machines.stand(unit, Firmware.BRAIINS) for unit in (1, 2))
    await told(runner, site.order(reached, Action.PAUSE, 600))
    await told(runner, site.order(there, Action.PAUSE, 600))
    corrected = msgspec.structs.replace(there, machine=reached.machine)
    await told(runner, site.order(corrected, Action.RESUME))
    assert site.machines.at(reached).mines
    assert site.machines.at(there).mines


async def test_a_machine_is_paused_at_a_few_addresses_and_no_more(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    answers: list[Answer] = []
    for unit in range(6):
        reached = site.machines.stand(unit, Firmware.BRAIINS)
        one = msgspec.structs.replace(reached, machine=name_of(1))
        answers += [it.answer for it in await told(runner, site.order(one, Action.PAUSE, 600))]
    assert answers == [Answer.SAID_YES] * 4 + [Answer.REFUSED] * 2
    await trio.sleep(700)
    assert all(it.mines for it in site.machines.machines.values())


async def test_a_share_under_each_name_while_a_site_waits_to_be_told_keeps_no_machine_off(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The strategy: 400 shares in the second in which 400 pauses end. 340 machines were forgotten untold."""
    runner = await site.started(nursery)
    all_of_them = [site.machines.stand(unit, Firmware.BRAIINS) for unit in range(400)]
    await told(runner, *(site.order(it, Action.PAUSE, 600) for it in all_of_them))
    for _ in range(60):
        await trio.sleep(10)
        for unit in range(400):
            site.share_of(unit)
    await trio.sleep(60)
    assert sum(site.machines.at(it).mines for it in all_of_them) == 400


async def test_a_share_under_the_name_of_a_machine_that_is_dark_keeps_it_told(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 60))
    machine = site.machines.machines.pop(reached.address)
    for _ in range(30):
        await trio.sleep(10)
        site.share_of(1)
    site.machines.machines[reached.address] = machine
    await trio.sleep(600)
    assert machine.mines
    site.share_of(1)
    await trio.sleep(10)
    assert await names_held(runner) == []


async def test_who_is_told_without_an_address_is_told_where_it_was_paused(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    nowhere = Reached(machine=reached.machine, address="", firmware=Firmware.OTHER, by_hand=False)
    (answered,) = await told(runner, site.order(nowhere, Action.RESUME))
    assert answered.answer is Answer.UNREACHED
    assert await names_held(runner) == []
    await told(runner, site.order(reached, Action.PAUSE, 600))
    for action in (Action.HOLD, Action.RESUME):
        (answered,) = await told(runner, site.order(nowhere, action, 600))
        assert answered.answer is Answer.SAID_YES
    assert site.machines.at(reached).mines


# Names, and whoever asks too much


async def test_a_machine_with_another_name_is_not_woken_under_the_old_one(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 60))
    await trio.sleep(90)
    renamed = msgspec.structs.replace(reached, machine=name_of(9))
    await told(runner, site.order(renamed, Action.PAUSE, 20_000))
    assert await names_held(runner) == [name_of(9)]
    await trio.sleep(15_000)
    assert not site.machines.at(reached).mines


async def test_another_name_that_could_not_be_told_takes_no_place(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 60))
    machine = site.machines.machines.pop(reached.address)
    await trio.sleep(90)
    renamed = msgspec.structs.replace(reached, machine=name_of(9))
    await told(runner, site.order(renamed, Action.PAUSE, 600))
    assert await names_held(runner) == [name_of(1)]
    site.machines.machines[reached.address] = machine
    await trio.sleep(600)
    assert machine.mines


async def test_a_machine_that_was_taken_away_is_given_up_after_a_week(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.power.control.runner.TICK_S", 600.0)
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 60))
    site.machines.machines.clear()
    site.machines.connections.clear()
    await trio.sleep(6.8 * 86_400)
    assert await names_held(runner) == [name_of(1)]
    await trio.sleep(1.5 * 86_400)
    (kept,) = await runner.held(0)
    assert kept.given_up_s is not None
    assert len(site.machines.connections) == TRIES_MAX
    expected = Standing(given_up_machines=1, given_up=(name_of(1),))
    assert await runner.standing() == expected
    await trio.sleep(1200)
    again = await site.started(nursery)
    await trio.sleep(86_400)
    assert await again.standing() == expected
    assert len(site.machines.connections) == TRIES_MAX


async def test_who_was_given_up_is_told_of_until_it_mines_or_is_paused_again(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.power.control.runner.TICK_S", 600.0)
    runner = await site.started(nursery)
    units = [site.machines.stand(unit, Firmware.BRAIINS) for unit in (1, 2, 3)]
    await told(runner, *(site.order(it, Action.PAUSE, 60) for it in units))
    site.machines.machines.clear()
    await trio.sleep(8.3 * 86_400)
    assert (await runner.standing()).given_up_machines == 3
    site.share_of(1)
    await trio.sleep(1_800)
    assert (await runner.standing()).given_up == (name_of(2), name_of(3))
    site.machines.stand(3, Firmware.BRAIINS)
    await told(runner, site.order(units[2], Action.PAUSE, 6_000))
    assert await runner.standing() == Standing(off=1, given_up_machines=1, given_up=(name_of(2),))
    assert not await runner.forget(name_of(3)), "who is held off is told to mine first"
    assert await runner.forget(name_of(2))
    assert not await runner.forget(name_of(2))
    assert await runner.standing() == Standing(off=1)


async def test_however_often_somebody_asks_to_resume_nobody_is_given_up_for_it(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    runner = await site.started(nursery)
    reached = site.machines.stand(1, Firmware.BRAIINS)
    await told(runner, site.order(reached, Action.PAUSE, 600))
    site.machines.machines.clear()
    for _ in range(TRIES_MAX + 1):
        await told(runner, site.order(reached, Action.RESUME))
    assert await names_held(runner) == [name_of(1)]


async def test_a_site_comes_back_as_a_ramp_whoever_asks_for_all_of_it_at_once(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """It was 200 machines a second, 600 kW: all of a container within half a minute."""
    runner = await site.started(nursery)
    all_of_them = [site.machines.stand(unit, Firmware.BRAIINS) for unit in range(200)]
    await told(runner, *(site.order(it, Action.PAUSE, 6_000) for it in all_of_them))
    for some in (all_of_them[:100], all_of_them[100:]):
        await runner.begin(tuple(site.order(it, Action.RESUME) for it in some))
    before, most = 0, 0
    for _ in range(12):
        await trio.sleep(1)
        now = sum(site.machines.at(it).mines for it in all_of_them)
        most, before = max(most, now - before), now
    assert before == 200
    assert most <= RESUMES_PER_S + 2


async def test_what_a_file_has_too_much_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = Reached(machine=name_of(1), address="10.0.0.1", firmware=Firmware.BRAIINS, by_hand=True)
    held = {
        name_of(unit): held_file.Held(
            places=[held_file.Place(reached=msgspec.structs.replace(reached, machine=name_of(unit)))],
            action=Action.PAUSE,
            since_s=1,
            until_s=2,
        )
        for unit in range(5)
    }
    held_file.save(site.directory, held_file.packed(held))
    monkeypatch.setattr(held_file, "HELD_MAX", 3)
    with structlog.testing.capture_logs() as logs:
        assert len(held_file.load(site.directory)) == 3
    assert [(it["event"], it["machines"]) for it in logs] == [("machines_held_not_kept", 2)]


async def test_a_call_pauses_no_more_machines_than_are_known_again_after_a_restart(
    site: Site, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (held_file, runner_of_site):
        monkeypatch.setattr(module, "HELD_MAX", 3)
    machines = [site.machines.stand(unit, Firmware.BRAIINS) for unit in range(5)]
    async with trio.open_nursery() as first:
        runner = await site.started(first)
        answered = await told(runner, *(site.order(it, Action.PAUSE, 600) for it in machines))
        assert sorted(it.answer for it in answered) == [Answer.REFUSED] * 2 + [Answer.SAID_YES] * 3
        first.cancel_scope.cancel()
    await site.started(nursery)
    await trio.sleep(700)
    assert all(site.machines.at(it).mines for it in machines)


async def test_whoever_is_woken_or_asked_in_the_same_call_takes_no_place_of_who_is_paused(
    site: Site, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_of_site, "HELD_MAX", 1)
    paused, woken, asked = (site.machines.stand(unit, Firmware.BRAIINS) for unit in range(3))
    runner = await site.started(nursery)
    others = site.order(woken, Action.RESUME), site.order(asked, Action.READ)
    answered = await told(runner, *others, site.order(paused, Action.PAUSE, 600))
    assert Answer.REFUSED not in [it.answer for it in answered]
