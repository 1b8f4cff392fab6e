"""Events at work on a simulated site: met within the ramp, proven by work, restored in batches; and whatever
machines, lines and operators do meanwhile. The judge adds up watts by himself."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from sqlalchemy.exc import OperationalError

from pool.books.store import Store
from pool.power.control.contract import Action, Answer, Answered, Asked
from pool.power.curtailment import course, rounds
from pool.power.curtailment.asking import change, restore
from pool.power.curtailment.course import Look
from pool.power.curtailment.executor import HOLD_FOR_S
from pool.power.curtailment.machines import Change, change_machines
from pool.power.curtailment.plan import RESTORE_BATCH, restore_s
from pool.power.curtailment.rounds import Rounds
from pool.power.curtailment.states import EventState, MachineState
from pool.power.curtailment.told_books import ToldBooks
from pool.power.energy.limits import lift_limit, set_limit
from tests.fixtures.no_threads import at_once
from tests.judges.power_site import Nature
from tests.stages.power import PowerStage

pytestmark = [pytest.mark.sqlite_suffices]


@pytest.fixture
def seed() -> int:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return seed


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)


@pytest.fixture
async def stage(store: Store, seed: int, autojump_clock: trio.testing.MockClock) -> PowerStage:
    """A hundred machines, nearly 300 kW."""
    return PowerStage(store, seed=seed)


async def in_thread(work: Any) -> Any:
    return await trio.to_thread.run_sync(work)


async def test_everything_is_proven_by_silence_and_restored_by_shares(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage.running() as running:
        await stage.ask(until_s=stage.now_s + 900)
        await trio.sleep(300)
        event = await stage.event()
        assert event.state is EventState.HOLDING
        assert await stage.states() == {"confirmed": 100}
        assert stage.site.off() == 100
        assert event.watts_before is not None
        assert abs(event.watts_before - 298_500) < 298_500 * 2 // 100  # by work
        await trio.sleep(600 + 900)
        event = await stage.event()
        assert event.state is EventState.OVER
        assert await stage.states() == {"restored": 100}
        assert stage.site.off() == 0
        assert running.leaving == frozenset()
    for it in (await stage.machines()).values():
        assert it.off_from_s is not None
        assert it.off_until_s is not None
        assert event.from_s <= it.off_from_s <= event.from_s + 200
        assert event.until_s <= it.off_until_s <= event.until_s + 300
    assert [it.action for _, it in stage.site.asked].count(Action.PAUSE) == 100


def let_ten_fail(stage: PowerStage) -> None:
    """The least efficient are asked first: these are among them."""
    stage.site.lets(Nature.LIAR, range(4))
    stage.site.lets(Nature.REFUSES, range(4, 6))
    stage.site.lets(Nature.AWAY, range(6, 8))
    stage.site.lets(Nature.SILENT, range(8, 10))


async def test_who_lies_refuses_or_is_out_of_reach_is_made_up_for_within_the_ramp(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    let_ten_fail(stage)
    async with stage.running() as running:
        await stage.ask(target="limit", target_value=150_000, ramp_s=480)
        await trio.sleep(480)
        assert stage.site.drawn_watts() <= 150_000 * 102 // 100  # what work says is true within 2 %
        assert (await stage.event()).state is EventState.HOLDING
        (status,) = running.status.events
        assert status.short_watts == 0
        states = await stage.states()
        assert states["refused"] == 8
        refused = [it for it in (await stage.machines()).values() if it.state is MachineState.REFUSED]
        assert {stage.site.row_of(it.worker) for it in refused} == set(range(8))
        # Who said yes and mined on was never off, and has forgone nothing.
        assert {(it.off_from_s, it.off_until_s) for it in refused} == {(None, None)}
        words = {words for _, state, words in await stage.steps() if state == "refused"}
        assert "mines on: said_yes" in words
        assert "unreached" in words


async def test_who_is_let_go_since_less_is_asked_for_leaves_the_target_met(
    store: Store, autojump_clock: trio.testing.MockClock
) -> None:
    """What it was a moment before is not met any more: the event was curtailing again until the next plan."""
    stage = PowerStage(store, seed=1964723473)  # the site draws less from 455 s on, by some hundred watts
    let_ten_fail(stage)
    async with stage.running():
        await stage.ask(target="limit", target_value=150_000, ramp_s=480)
        await trio.sleep(700)
    steps = [(state, words) for _, state, words in await stage.steps()]
    assert ("waking", "not needed any more") in steps
    assert ("curtailing", "not met any more") not in steps


async def test_who_mines_again_is_asked_again_and_what_it_mined_is_no_time_off(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    stage.site.lets(Nature.WAKES_ITSELF, [0])
    async with stage.running():
        await stage.ask(until_s=stage.now_s + 1_500)
        await trio.sleep(1_400)
        drifts = [worker for worker, state, _ in await stage.steps() if state == "drifted"]
        assert drifts.count(stage.workers[0]) >= 1
        assert (await stage.machines())[stage.workers[0]].state is MachineState.CONFIRMED
        assert stage.site.off() == 100


async def test_a_machine_with_a_watchdog_is_left_alone_in_the_end(
    stage: PowerStage, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "DRIFT_ASKS_MAX", 2)  # in half an hour, and not in two
    stage.site.lets(Nature.WAKES_ITSELF, [0])
    async with stage.running():
        await stage.ask(until_s=stage.now_s + 3 * 3_600)
        await trio.sleep(300)
        it = (await stage.machines())[stage.workers[0]]
        with trio.fail_after(2 * 3_600):
            while it.state is not MachineState.REFUSED:
                await trio.sleep(60)
                it = (await stage.machines())[stage.workers[0]]
        asked = [worker for worker, *_ in await stage.steps()].count(stage.workers[0])
        await trio.sleep(900)
        assert [worker for worker, *_ in await stage.steps()].count(stage.workers[0]) == asked
        assert stage.site.off() == 99
        assert it.off_from_s is not None
        assert it.off_until_s is not None  # the last time that it was seen to mine again


async def test_who_does_not_come_back_is_a_list_and_is_asked_until_it_does(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    stage.site.lets(Nature.SLEEPS_ON, [3, 5])
    stage.site.lets(Nature.AWAY, [])
    async with stage.running() as running:
        event = await stage.ask(until_s=stage.now_s + 900)
        await trio.sleep(300)
        stage.site.lets(Nature.AWAY, [5])  # and then it is reached by nobody
        await trio.sleep(600 + 960)
        assert (await stage.event()).state is EventState.OVER
        assert (await stage.states()).get("lost") == 1
        (status,) = running.status.events
        assert status.lost == ("acme.c00.u6",)
        lost = (await stage.machines())[stage.workers[5]]
        assert lost.off_until_s is not None
        assert lost.off_until_s <= event.until_s + 1_000
        stage.site.lets(Nature.HONEST, [5])
        with trio.fail_after(3_600):
            while await stage.states() != {"restored": 100}:  # noqa: ASYNC110 - books have no events
                await trio.sleep(60)
        assert stage.site.off() == 0
        await trio.sleep(10)
        assert running.status.events == ()


async def test_an_event_that_is_asked_for_ahead_takes_its_machines_from_orders_before_it_begins(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage.running() as running:
        await stage.ask(from_s=stage.now_s + 3_600, until_s=stage.now_s + 5_400)
        await trio.sleep(2_400)
        assert running.leaving == frozenset()
        await trio.sleep(600)
        assert running.leaving == frozenset(stage.workers)
        assert stage.site.off() == 0
        assert stage.site.asked == []
        now_s = stage.now_s
        await in_thread(
            lambda: restore(stage.store, "webhook", "grid-1", by="grid", words="off", now_s=now_s)
        )
        await trio.sleep(600)
        assert running.leaving == frozenset()
        assert (await stage.event()).state is EventState.CANCELLED
    assert stage.site.asked == []


async def test_a_dry_run_tells_nobody_anything_and_says_whom_it_would(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    running = stage.curtailment(dry_run=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        await stage.ask(target="share", target_value=5_000)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert stage.site.asked == []
    event = await stage.event()
    assert event.state is EventState.OVER
    assert (await stage.states()).keys() == {"released"}
    assert [words for worker, _, words in await stage.steps() if worker is None][-1].startswith(
        "dry run, nothing was sent: 5"
    )


async def test_a_dry_run_is_no_curtailment_in_the_books_whoever_said_that_it_is_one(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    """The settings' word alone, or that of who asked for it: tenants' statements have neither for ever."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.curtailment(dry_run=True).run)
        await stage.ask("settings", target="share", target_value=5_000)
        await stage.ask("asked", target="share", target_value=5_000, dry_run=True)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    for number in (1, 2):
        event = await stage.event(number)
        assert (event.state, event.dry_run) == (EventState.OVER, True)
    with stage.store.read() as connection:
        assert list(ToldBooks().ended(connection, stage.now_s)) == []


async def test_no_order_goes_without_machines_for_a_dry_run_whoever_said_that_it_is_one(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    """Those that it would ask left orders a quarter of an hour before, which buyers were not delivered."""
    running = stage.curtailment(dry_run=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        await stage.ask(from_s=stage.now_s + 600, until_s=stage.now_s + 2_400)
        for _ in range(20):
            await trio.sleep(60)
            assert running.leaving == frozenset()
        nursery.cancel_scope.cancel()
    event = await stage.event()
    assert (event.state, event.dry_run) == (EventState.OVER, True)


async def test_a_dry_run_takes_no_machine_from_an_event_that_is_about_to_restore_it(
    stage: PowerStage, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were that event's no more, and nobody else's: off until their pause was over, and in
    tenants' statements as on."""
    monkeypatch.setattr(course, "RESTORE_BATCH", 20)
    async with stage.running():
        await stage.ask(until_s=stage.now_s + 900)
        await trio.sleep(920)
        assert await stage.states() == {"waking": 20, "confirmed": 80}
        await stage.ask("what if", dry_run=True)
        await trio.sleep(10)
        what_if = await stage.event(2)
        assert (what_if.state, what_if.dry_run) == (EventState.OVER, True)
        assert len(await stage.machines(2)) == 80, "who are to come back, it would ask"
        await trio.sleep(1_500)
        assert await stage.states() == {"restored": 100}
        assert stage.site.off() == 0


async def test_a_limit_that_is_another_one_in_mid_event_is_planned_for(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage.running():
        event = await stage.ask(target="limit", target_value=150_000, until_s=stage.now_s + 7_200)
        await trio.sleep(400)
        assert 145_000 < stage.site.drawn_watts() < 153_000

        def limit(watts: int) -> Any:
            now_s, until_s = stage.now_s, event.until_s
            return lambda: change(
                stage.store,
                "webhook",
                "grid-1",
                target_value=watts,
                until_s=until_s,
                by="grid",
                now_s=now_s,
            )

        await in_thread(limit(90_000))
        await trio.sleep(400)
        assert 85_000 < stage.site.drawn_watts() < 93_000
        await in_thread(limit(200_000))
        await trio.sleep(600)
        assert 188_000 < stage.site.drawn_watts() < 204_000
        await in_thread(limit(60_000))  # machines that came back are asked anew
        await trio.sleep(400)
        assert stage.site.drawn_watts() < 63_000


async def test_a_limit_in_force_that_is_lower_than_what_is_asked_for_is_kept_to_as_long_as_it_is(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    first = limited(stage, 150)
    async with stage.running():
        await stage.ask(target="limit", target_value=200_000, until_s=stage.now_s + 7_200)
        await trio.sleep(400)
        assert 145_000 < stage.site.drawn_watts() < 153_000
        second = limited(stage, 90)  # in mid-event, and of several the lowest
        await trio.sleep(500)
        assert 85_000 < stage.site.drawn_watts() < 93_000
        lifted(stage, second)
        await trio.sleep(600)
        assert 140_000 < stage.site.drawn_watts() < 153_000
        lifted(stage, first)
        await trio.sleep(600)
        assert 188_000 < stage.site.drawn_watts() < 204_000
        limited(stage, 250)  # higher than what is asked for: nothing comes back
        await trio.sleep(300)
        assert stage.site.drawn_watts() < 204_000
    said = [words for worker, _, words in await stage.steps() if worker is None]
    assert sum("a limit of 150 kW is in force" in words for words in said) >= 2
    assert sum("a limit of 90 kW is in force" in words for words in said) >= 1
    assert not any("250 kW" in words for words in said)


def limited(stage: PowerStage, kw: int) -> int:
    with stage.store.write() as connection:
        return set_limit(
            connection,
            site="Bratsk",
            container=None,
            kw=kw,
            from_s=stage.now_s,
            until_s=None,
            reason="its transformer",
            by="olga",
            now_s=stage.now_s,
        ).id


def lifted(stage: PowerStage, number: int) -> None:
    with stage.store.write() as connection:
        lift_limit(connection, number, by="olga", now_s=stage.now_s)


async def test_of_two_events_the_second_takes_over_who_is_off_and_nobody_comes_back_in_between(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage.running():
        await stage.ask("first", target="limit", target_value=100_000, until_s=stage.now_s + 1_200)
        await trio.sleep(400)
        await stage.ask("second", target="limit", target_value=120_000, until_s=stage.now_s + 7_200)
        await trio.sleep(200)
        second = await stage.states(2)
        assert second == {}  # it is met already
        seen = []
        for _ in range(200):
            await trio.sleep(10)
            seen.append(stage.site.drawn_watts())
        assert max(seen) < 124_000
        assert (await stage.event(1)).state is EventState.OVER
        if (await stage.event(2)).state is not EventState.HOLDING:
            await trio.sleep(120)  # a plan of that very moment had one more asked
        assert (await stage.event(2)).state is EventState.HOLDING
        taken = [it for it in (await stage.machines(1)).values() if it.state is MachineState.RELEASED]
        assert taken
        assert all(it.off_until_s is not None for it in taken)
        # Told once, and held from then on.
        of_first = {str(it.name) for it in taken}
        pauses = [str(it.machine) for _, it in stage.site.asked if it.action is Action.PAUSE]
        assert all(pauses.count(name) <= 2 for name in of_first)


async def test_no_machine_is_two_events(stage: PowerStage, autojump_clock: trio.testing.MockClock) -> None:
    async with stage.running():
        await stage.ask("first", target="share", target_value=5_000)
        await stage.ask("second")
        for _ in range(40):
            await trio.sleep(10)
            first, second = await stage.owned(1), await stage.owned(2)
            assert not first & second
        # One that the first did not need any more is the second's from then on.
        assert len(first) + len(second) == 100
        assert stage.site.off() == 100


@pytest.mark.parametrize("step", [(course.Doing, "again"), (rounds, "note_asked")])
async def test_who_says_in_the_middle_of_a_look_that_nobody_holds_it_is_asked_at_the_next(
    stage: PowerStage,
    step: tuple[Any, str],
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread looks, and the pool's own hears all the machines of a runner that begins anew."""
    async with stage.running():
        await stage.ask(until_s=stage.now_s + 3_600)
        await trio.sleep(300)
    looking, machines = Rounds(stage.store, dry_run=False), await stage.machines()
    first, second = stage.workers[:2]

    def look() -> set[int]:
        asks = looking.look(stage.site.looks(), stage.now_s, trio.current_time()).asks.get(1, ())
        return {it.worker for it in asks if it.action is Action.PAUSE}

    def nobody_holds(worker: int) -> None:
        answer = Answered(machine=machines[worker].name, answer=Answer.REFUSED)
        looking.answered(1, worker, Action.HOLD, answer)

    look()
    owner, name = step
    do = getattr(owner, name)

    def meanwhile(*given: Any, **more: Any) -> None:
        monkeypatch.setattr(owner, name, do)
        nobody_holds(second)
        do(*given, **more)

    nobody_holds(first)
    monkeypatch.setattr(owner, name, meanwhile)
    assert look() == {first}
    assert look() == {second}
    assert look() == set()


async def test_a_line_that_is_cut_proves_nothing_and_nobody_stays_off(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage.running():
        await stage.ask(until_s=stage.now_s + 3_600)
        await trio.sleep(20)
        stage.site.cut = True  # some were told by then
        told = stage.site.off()
        await trio.sleep(600)
        states = await stage.states()
        assert states.get("confirmed", 0) <= told
        await trio.sleep(HOLD_FOR_S)  # nobody held them: they have come back by themselves
        assert stage.site.off() == 0
        stage.site.cut = False
        await trio.sleep(600)
        assert stage.site.off() == 100
        assert await stage.states() == {"confirmed": 100}
        await trio.sleep(2_700)
        assert stage.site.off() == 0
        assert await stage.states() == {"restored": 100}


async def test_a_pool_that_is_gone_lets_all_machines_come_back_and_one_that_begins_goes_on(
    stage: PowerStage, autojump_clock: trio.testing.MockClock
) -> None:
    async with stage.running():
        await stage.ask(until_s=stage.now_s + 7_200)
        await trio.sleep(400)
        assert stage.site.off() == 100
    await trio.sleep(HOLD_FOR_S + 200)
    assert stage.site.off() == 0
    async with stage.running():
        await trio.sleep(400)
        assert stage.site.off() == 100
        assert await stage.states() == {"confirmed": 100}


async def test_books_that_fail_as_a_pool_begins_leave_nobody_out_of_what_it_tells_again(
    stage: PowerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before it was killed when it had written down whom to ask, and had asked nobody."""
    await stage.ask(until_s=stage.now_s + 3_600, ramp_s=0)

    def mines(worker: int) -> Look:
        return Look(age_s=1.0, silent_s=0.0)

    def look(of: Rounds, after_s: int) -> set[int]:
        asks = of.look(mines, stage.now_s + after_s, float(after_s)).asks.get(1, ())
        return {it.worker for it in asks if it.action is Action.PAUSE}

    before = Rounds(stage.store, dry_run=False)
    assert look(before, 0) | look(before, 1) == set(stage.workers)
    begins = Rounds(stage.store, dry_run=False)

    def away() -> None:
        raise OperationalError("UPDATE", {}, Exception("disk full"))

    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "write", away)
        with pytest.raises(OperationalError):
            look(begins, 2)
    assert look(begins, 3) == set(stage.workers)


KILLS_MAX = 30  # of one play


class Killed(BaseException):
    """As kill -9: nothing is caught, nothing is tidied up."""


class KilledAt:
    """Kills the process at every so-and-so-manieth of these moments, as the dice say."""

    def __init__(self, stage: PowerStage, moment: str, seed: int) -> None:
        self.dice, self.kills = random.Random(seed), 0
        if moment.endswith("commit"):
            write = stage.store.write

            def writing() -> Any:
                return _Written(write(), moment, self.maybe)

            stage.store.write = writing  # type: ignore[method-assign]
        else:
            stage.site.before_control = self.before

    def before(self, asked: Sequence[Asked]) -> None:
        self.maybe()

    def maybe(self) -> None:
        if self.kills < KILLS_MAX and self.dice.random() < 0.5:
            self.kills += 1
            raise Killed


class _Written:
    """A transaction that a kill comes right before the commit of, or right after."""

    def __init__(self, of: Any, moment: str, maybe: Any) -> None:
        self._of, self._moment, self._maybe = of, moment, maybe

    def __enter__(self) -> Any:
        return self._of.__enter__()

    def __exit__(self, *error: Any) -> Any:
        if error[0] is None and self._moment == "before a commit":
            try:
                self._maybe()
            except Killed as killed:
                self._of.__exit__(Killed, killed, None)
                raise
        done = self._of.__exit__(*error)
        if error[0] is None and self._moment == "after a commit":
            self._maybe()
        return done


async def outlived(stage: PowerStage, seconds: float) -> None:
    """So long, one process after the other."""
    ends_s = trio.current_time() + seconds
    while trio.current_time() < ends_s:
        try:
            with trio.move_on_at(ends_s):
                async with stage.running():
                    await trio.sleep_forever()
        except* Killed:
            await trio.sleep(3)


@pytest.mark.parametrize("moment", ["before a commit", "after a commit", "before machines are told"])
async def test_whoever_is_killed_at_any_moment_is_followed_by_one_that_goes_on(
    store: Store, seed: int, autojump_clock: trio.testing.MockClock, moment: str
) -> None:
    stage = PowerStage(store, containers=2, units=10, seed=seed)
    stage.site.lets(Nature.LIAR, [4])
    stage.site.lets(Nature.SLEEPS_ON, [7])
    await stage.ask(until_s=stage.now_s + 1_800, ramp_s=60)
    killer = KilledAt(stage, moment, seed)
    await outlived(stage, 1_500)
    states = await stage.states()
    off = stage.site.off()
    assert states["refused"] == 1
    assert states.get("confirmed", 0) + states.get("asked", 0) == 19
    assert off == 19
    await outlived(stage, 3_000)
    assert killer.kills > 5
    assert stage.site.off() == 0
    assert await stage.states() == {"restored": 19, "refused": 1}
    assert (await stage.event()).state is EventState.OVER


async def test_books_that_are_away_leave_everybody_as_he_is(
    stage: PowerStage, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.running() as running:
        await stage.ask(until_s=stage.now_s + 7_200)
        await trio.sleep(400)

        def away(*_: Any) -> Any:
            raise OperationalError("SELECT", {}, Exception("away"))

        with monkeypatch.context() as patched:
            patched.setattr(stage.store, "read", away)
            patched.setattr(stage.store, "write", away)
            await trio.sleep(3_000)
            assert running.status.failed
            assert stage.site.off() == 100  # held all the time
        await trio.sleep(30)
        assert not running.status.failed
        assert await stage.states() == {"confirmed": 100}


@pytest.mark.parametrize("away_after_s", [400, 900 + 60])
async def test_books_that_are_away_hold_nobody_for_longer_than_the_event_and_its_restore(
    store: Store,
    seed: int,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    away_after_s: int,
) -> None:
    """A disk that is full, in mid-event or a minute into the restore; and the clock is set back a day."""
    stage = PowerStage(store, units=(RESTORE_BATCH + 88) // 4, seed=seed)
    async with stage.running() as running:
        await stage.ask(until_s=stage.now_s + 900)
        await trio.sleep(away_after_s)
        waits = 600 if away_after_s < 900 else 88  # of the restore: those of the second batch
        assert (await stage.states())["confirmed"] == waits

        def away(*_: Any) -> Any:
            raise OperationalError("SELECT", {}, Exception("disk full"))

        monkeypatch.setattr(stage.store, "read", away)
        monkeypatch.setattr(stage.store, "write", away)
        stage.site.step_clock(-86_400)
        await trio.sleep(400)
        assert stage.site.off() == waits
        await trio.sleep(restore_s(600) + HOLD_FOR_S)
        assert running.status.failed
        assert stage.site.off() == 0


async def test_who_is_released_while_a_look_is_under_way_is_not_held_on(store: Store) -> None:
    """What the look writes then is not taken for all that there is."""
    stage = PowerStage(store, containers=1, units=3)
    event = await stage.ask()
    rounds, released = Rounds(store, dry_run=False), list[int]()

    def mines(worker: int) -> Look:
        return Look(age_s=1.0, silent_s=0.0)

    def release_meanwhile(worker: int) -> Look:
        if not released:
            released.append(worker)
            change = Change(
                worker=worker, before=MachineState.ASKED, after=MachineState.RELEASED, words="now"
            )
            with store.write() as connection:
                change_machines(connection, event.id, [change], stage.now_s)
        return mines(worker)

    def held(now_s: int) -> set[int]:
        return {ask.worker for _, ask in rounds.held(now_s, 60.0)}

    for after_s in (0, 5):
        rounds.look(mines, stage.now_s + after_s, float(after_s))
    assert len(held(stage.now_s)) == 3
    rounds.look(release_meanwhile, stage.now_s + 60, 60.0)  # they mine on, and are asked once more
    rounds.look(mines, stage.now_s + 65, 65.0)
    assert held(stage.now_s) == set(stage.workers) - set(released)
