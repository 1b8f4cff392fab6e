"""Who tells machines of this site, and has every one of them come back: the dead man's switch.

    held      told to pause until a moment: written down, then told
    released  that moment came, or somebody said resume: told to resume, until it has said yes where it was
              paused, and has an accepted share after that; a week at most
    given up  after that week: told no more, and kept until it has a share, or somebody forgets it

It needs nobody for that: not the books, not the hub, not a line to it. A machine that does not come back is
told again, at 10 s, then each time after twice as long, and each hour, for a week. Machines whose time is
over at once are told RESUMES_PER_S a second, and as many of those whom somebody asks to resume: a site's
power comes back as a ramp, and so do its sessions.

Invariants: nothing is sent before the file has it; an order to a machine waits for the one before it; what
was paused is resumed where it was paused, also in a dry run, and out of networks that the settings name no
more; what was not is told nothing there.
Must not know: why a machine is off.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog
import trio

from pool.power.control import held as held_file
from pool.power.control.accepted_shares import AcceptedShares
from pool.power.control.batches import Answers, Batch, Batches
from pool.power.control.contract import ASKED_MAX, Action, Answer, Answered, MachineName
from pool.power.control.held import (
    HELD_MAX,
    HOLD_S_MAX,
    PLACES_MAX,
    Held,
    Place,
    Standing,
    places_to_pause,
    places_to_resume,
)
from pool.power.control.network import MachineNetwork, Order, Reached
from pool.power.control.passwords import read_keys
from pool.power.control.settings import ControlSettings
from pool.power.control.turns import Turn, Turns
from pool.questions import AnsweredWithError

log = structlog.get_logger()

TICK_S: Final = 1.0
RESUMES_PER_S: Final = 20  # 5,600 machines in five minutes: 60 kW a second at 3 kW each
# Miners are served on the same loop, and what a machine answers takes a millisecond of it: all machines of a
# container at once would be their wait. 5,600 are begun within half a minute.
STARTS_PER_S: Final = 200
AGAIN_S: Final = 10.0  # after the first resume that was not answered well
WAKES_S: Final = 300.0  # a machine that said yes boots and tunes so long
AGAIN_S_MAX: Final = 3_600.0
TRIES_MAX: Final = 175  # a week, by no clock: what does not mine by then was taken away, or is looked for
PAUSES: Final = (Action.PAUSE, Action.LIMIT)  # what has to be written down first
NOT_SENT: Final = (Answer.UNSUPPORTED, Answer.UNREACHED, Answer.DRY_RUN)
REFUSALS: Final = 8  # within an hour: who is awake may say no for ever, and is believed when it has a share
# Of several places of a machine the worst counts: it may be off there.
_WORST: Final = (
    Answer.SAID_YES,
    Answer.REFUSED,
    Answer.DRY_RUN,
    Answer.UNKNOWN,
    Answer.UNREACHED,
    Answer.UNSUPPORTED,
)


class HeldView(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that is held off, or limited, or that is being resumed."""

    machine: MachineName
    address: str
    action: Action
    percent: int = 100
    before_hps: int = 0
    since_s: int
    until_s: int
    released_s: int | None
    tries: int
    given_up_s: int | None = None


class Machines(Protocol):
    """Who tells the machines of a site, as whoever decides asks it. A batch goes on whoever is gone."""

    async def begin(self, orders: tuple[Order, ...]) -> int:
        """Tell these, one order a machine: the number of the batch."""

    async def answers(self, batch: int, after: int) -> Answers:
        """What has been answered, without the first `after` of it."""

    async def held(self, after: int) -> tuple[HeldView, ...]:
        """Machines that are held off or being resumed, without the first `after` of them."""

    async def standing(self) -> Standing:
        """How many there are."""

    async def forget(self, machine: MachineName) -> bool:
        """It is gone for good: nothing more is told it. Whether it was known; one that is held off is not
        forgotten."""


Before = Mapping[MachineName, tuple[Held | None, float | None, float | None]]
Stale = Mapping[MachineName, Sequence[MachineName]]  # under which other names one that is paused is resumed


class Runner:
    """Of one process. `directory` is the one that its journal is in."""

    def __init__(
        self,
        network: MachineNetwork,
        directory: Path,
        shares: AcceptedShares,
        *,
        wall_clock: Callable[[], float],
    ) -> None:
        self._network, self._directory, self._shares = network, directory, shares
        self._wall_clock = wall_clock
        self._held: dict[MachineName, Held] = {}
        self._ends_s: dict[MachineName, float] = {}  # of those held: monotonic
        self._next_s: dict[MachineName, float] = {}  # of those released: when they are told again
        self._gone: set[MachineName] = set()  # given up
        self._turns = Turns()
        self._saving = trio.Lock()
        self._changed = False
        self._batches = Batches()
        self._tasks: trio.Nursery | None = None
        self._credit = 0.0
        self._ramp_s = 0.0  # when the next one is told that somebody asks to resume

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Who is off at the end is in the file."""
        loaded = await trio.to_thread.run_sync(held_file.load, self._directory)
        now_s, wall_s = trio.current_time(), self._wall_clock()
        for name, it in loaded.items():
            self._held[name] = it
            self._ends_s[name] = now_s + held_file.left_s(it, wall_s)
            if it.given_up_s is not None:
                self._given_up(name)
            elif it.released_s is not None:
                self._released(name, it, now_s)
        if loaded:
            log.warning("machines_held_off", machines=len(loaded))
        async with trio.open_nursery() as self._tasks:
            task_status.started()
            while True:
                self._look()
                await self._save_if_changed()
                await trio.sleep(TICK_S)

    # Machines

    async def begin(self, orders: tuple[Order, ...]) -> int:
        if self._tasks is None:
            raise AnsweredWithError("machines are not told anything yet")
        names = {it.reached.machine for it in orders}
        if not 1 <= len(orders) <= ASKED_MAX or len(names) < len(orders):
            raise AnsweredWithError(f"one to {ASKED_MAX} orders, and one for each machine")
        number, batch = self._batches.begin()
        new = self._taken(orders, batch)
        before = {it.reached.machine: self._known(it.reached.machine) for it in new}
        stale: Stale = {}
        if not self._network.dry_run:
            stale = self._other_names(new)
            for it in new:
                self._note(it)
        turns = [(it, self._turns.next_of(it.reached.machine)) for it in new]
        self._tasks.start_soon(self._carry_out, turns, before, stale, batch)
        return number

    async def answers(self, batch: int, after: int) -> Answers:
        return self._batches.answers(batch, after)

    async def held(self, after: int) -> tuple[HeldView, ...]:
        return tuple(_view(it) for it in list(self._held.values())[max(0, after) :][:ASKED_MAX])

    async def standing(self) -> Standing:
        return held_file.standing(self._held.values())

    async def forget(self, machine: MachineName) -> bool:
        known = self._held.get(machine)
        if known is None or known.released_s is None:
            return False
        log.warning("machine_forgotten", machine=str(machine), address=known.reached.address)
        self._drop(machine)
        return True

    # Orders

    async def _carry_out(
        self, turns: Sequence[tuple[Order, Turn]], before: Before, stale: Stale, batch: Batch
    ) -> None:
        try:
            written = self._network.dry_run or await self._written()
            async with trio.open_nursery() as nursery:
                for order, turn in turns:
                    if written or order.action not in PAUSES:
                        others = stale.get(order.reached.machine, ())
                        nursery.start_soon(self._told, order, turn, others, batch)
                        await trio.sleep(1 / STARTS_PER_S)
                    else:
                        self._put_back(order, before[order.reached.machine])
                        batch.answered.append(_refused(order, "who is held off cannot be written down here"))
        finally:
            for _, turn in turns:
                self._turns.over(turn)
            batch.end()

    def _taken(self, orders: Sequence[Order], batch: Batch) -> list[Order]:
        """Those that something is to be sent for; what they change here is changed."""
        wall_s, now_s = int(self._wall_clock()), trio.current_time()
        told: list[Order] = []
        room = HELD_MAX - len(self._held)
        for it in orders:
            new = it.reached.machine not in self._held
            holds = it.action in (*PAUSES, Action.HOLD)
            if holds and not wall_s < it.until_s <= wall_s + HOLD_S_MAX:
                batch.answered.append(_refused(it, f"a pause ends within {HOLD_S_MAX // 3600} hours"))
            elif it.action is Action.HOLD:
                batch.answered.append(self._hold_on(it, now_s, wall_s))
            elif holds and new and room <= 0:
                batch.answered.append(_refused(it, f"{HELD_MAX} machines are held off here already"))
            elif holds and len(self._places_to_pause(it)) > PLACES_MAX:
                batch.answered.append(_refused(it, f"it is held off at {PLACES_MAX} addresses already"))
            else:
                told.append(it)
                room -= holds and new
        return told

    def _hold_on(self, it: Order, now_s: float, wall_s: int) -> Answered:
        name = it.reached.machine
        if self._network.dry_run:
            return Answered(machine=name, answer=Answer.DRY_RUN)
        known = self._held.get(name)
        if known is None or known.released_s is not None:
            return _refused(it, "it is not held off here")
        known.since_s, known.until_s = wall_s, it.until_s
        self._ends_s[name] = now_s + (it.until_s - wall_s)
        self._changed = True
        return Answered(machine=name, answer=Answer.SAID_YES)

    async def _written(self) -> bool:
        """What may be off from now on is on disk."""
        try:
            await self._save_if_changed(raises=True)
        except OSError as error:
            log.error("machines_held_not_written", reason=str(error)[:200])
            return False
        return True

    def _note(self, it: Order) -> None:
        name, wall_s, now_s = it.reached.machine, int(self._wall_clock()), trio.current_time()
        known, allowed = self._held.get(name), self._network.allows(it.reached)
        if it.action in PAUSES:
            places = self._places_to_pause(it)
            if not places:
                return  # nothing is sent
            self._held[name] = Held(
                places=places,
                action=it.action,
                percent=it.percent,
                before_hps=it.before_hps,
                since_s=wall_s,
                until_s=it.until_s,
                may_be_off=known is not None,
            )
            self._ends_s[name] = now_s + (it.until_s - wall_s)
            self._next_s.pop(name, None)
            self._gone.discard(name)
            self._changed = True
        elif it.action is Action.RESUME:
            if known is None:
                if not allowed or len(self._held) >= HELD_MAX:
                    return  # it was never paused here: told once, where it may be told anything
                places = [Place(reached=it.reached)]
                known = Held(places=places, action=Action.PAUSE, since_s=wall_s, until_s=wall_s)
                self._held[name] = known
                self._ends_s[name] = now_s
            known.places = places_to_resume(known, it.reached, allowed=allowed)
            if known.given_up_s is not None:
                return  # told once, by who asked
            self._released(name, known, now_s)
            self._next_s[name] = now_s + AGAIN_S_MAX  # told by who asked, just now

    def _places_to_pause(self, it: Order) -> list[Place]:
        known = self._held.get(it.reached.machine)
        return places_to_pause(known, it.reached, allowed=self._network.allows(it.reached))

    def _known(self, name: MachineName) -> tuple[Held | None, float | None, float | None]:
        return self._held.get(name), self._ends_s.get(name), self._next_s.get(name)

    def _put_back(self, order: Order, before: tuple[Held | None, float | None, float | None]) -> None:
        """Nothing was sent; unless it was told something else since."""
        name, (held, ends_s, next_s) = order.reached.machine, before
        now = self._held.get(name)
        if now is None or now.released_s is not None or now.until_s != order.until_s:
            return
        self._drop(name)
        if held is not None:
            self._held[name] = held
            if held.given_up_s is not None:
                self._gone.add(name)
        if ends_s is not None:
            self._ends_s[name] = ends_s
        if next_s is not None:
            self._next_s[name] = trio.current_time()  # to resume it may not have been sent either

    async def _told(self, order: Order, turn: Turn, others: Sequence[MachineName], batch: Batch) -> None:
        answered = Answered(machine=order.reached.machine, answer=Answer.UNKNOWN)
        try:
            await turn.begins()
            nowhere = not order.reached.address
            if order.action is Action.RESUME and (nowhere or not self._network.dry_run):
                answered = await self._asked_to_resume(order)
            else:
                answered = await self._network.ask(order)
            self._heard(order, answered)
            if order.action in PAUSES and answered.answer not in NOT_SENT:
                for name in others:
                    self._not_there(name, order.reached)
        finally:
            self._turns.over(turn)
            batch.answered.append(answered)

    async def _asked_to_resume(self, order: Order) -> Answered:
        known = self._held.get(order.reached.machine)
        if known is not None or order.reached.address:
            await self._ramp()
            known = self._held.get(order.reached.machine)
        if known is None and not order.reached.address:
            words = "it is not held off here, and has no address that is its alone"
            return Answered(machine=order.reached.machine, answer=Answer.UNREACHED, words=words)
        if known is None:
            return await self._network.ask(order)
        if known.released_s is None:
            return _refused(order, "it was told to pause since")
        return await self._wake(known)

    async def _ramp(self) -> None:
        """Whoever asks, and how often: a site does not come back at once."""
        at_s = max(self._ramp_s, trio.current_time())
        self._ramp_s = at_s + 1 / RESUMES_PER_S
        await trio.sleep_until(at_s)

    async def _wake(self, it: Held) -> Answered:
        """At each of its places; what is said where it was paused counts."""
        answers: list[tuple[bool, Answered]] = []
        for place in it.places:
            order = Order(reached=place.reached, action=Action.RESUME)
            answers.append((place.paused, await self._network.ask(order, was_paused=place.paused)))
        counts = [answered for paused, answered in answers if paused or not it.was_paused]
        return max(counts, key=lambda answered: _WORST.index(answered.answer))

    def _heard(self, order: Order, answered: Answered) -> None:
        name = order.reached.machine
        known = self._held.get(name)
        if known is None:
            return
        if order.action is Action.RESUME:
            self._tried(name, known, answered, counts=False)  # however often somebody asks
        elif order.action in PAUSES and known.released_s is None:
            if answered.answer not in NOT_SENT:
                known.may_be_off = True
            elif not known.may_be_off:
                self._drop(name)  # nothing was sent

    def _other_names(self, orders: Sequence[Order]) -> Stale:
        """Whoever is resumed at an address where another one is paused now: it was renamed, or moved."""
        paused = [it.reached for it in orders if it.action in PAUSES]
        at: dict[tuple[str, int | None], list[MachineName]] = {}
        for name in [*self._next_s, *self._gone] if paused else ():
            for place in self._held[name].places:
                at.setdefault(_where(place.reached), []).append(name)
        return {
            it.machine: [name for name in at[_where(it)] if name != it.machine]
            for it in paused
            if _where(it) in at
        }

    def _not_there(self, name: MachineName, reached: Reached) -> None:
        it = self._held.get(name)
        if it is None or it.released_s is None:
            return
        places = [place for place in it.places if _where(place.reached) != _where(reached)]
        if places:
            it.places, self._changed = places, True
        else:
            log.info("machine_has_another_name", machine=str(name), name=str(reached.machine))
            self._drop(name)

    # The dead man's switch

    def _look(self) -> None:
        """Whoever's time is over is released, and told; who was told and mines is forgotten."""
        assert self._tasks is not None
        now_s = trio.current_time()
        self._credit = min(float(RESUMES_PER_S), self._credit + RESUMES_PER_S * TICK_S)
        over = [name for name, ends_s in self._ends_s.items() if ends_s <= now_s]
        for name in over:
            it = self._held[name]
            if it.released_s is None:
                log.warning("machine_let_go", machine=str(name), until_s=it.until_s)
                self._released(name, it, now_s)
        self._shares.watch([*self._next_s, *self._gone])
        for name in [it for it in self._gone if self._shares.has_mined(it)]:
            log.info("machine_mines_again", machine=str(name))
            self._drop(name)
        for name in list(self._next_s):
            if self._held[name].woken and self._shares.has_mined(name):
                self._drop(name)
            elif self._next_s[name] <= now_s and self._credit >= 1:
                self._credit -= 1
                self._next_s[name] = now_s + AGAIN_S_MAX
                self._tasks.start_soon(self._resume, name, self._turns.next_of(name))

    def _released(self, name: MachineName, it: Held, now_s: float) -> None:
        if it.released_s is None:
            it.released_s, self._changed = int(self._wall_clock()), True
        self._shares.forget(name)
        self._ends_s.pop(name, None)
        self._next_s[name] = now_s

    async def _resume(self, name: MachineName, turn: Turn) -> None:
        try:
            await turn.begins()
            it = self._held.get(name)
            if it is not None and it.released_s is not None:  # else it mines, or was told to pause again
                if it.was_paused or any(self._network.allows(place.reached) for place in it.places):
                    self._tried(name, it, await self._wake(it))
                else:
                    self._drop(name)  # nobody paused it from here, and nothing may be sent there any more
        finally:
            self._turns.over(turn)

    def _tried(self, name: MachineName, it: Held, answered: Answered, *, counts: bool = True) -> None:
        if it.released_s is None or it.given_up_s is not None or self._held.get(name) is not it:
            return
        it.tries += counts
        says_no = answered.answer is Answer.REFUSED and it.tries >= REFUSALS
        if not it.woken and (answered.answer is Answer.SAID_YES or says_no):
            it.woken = True
            self._shares.forget(name)  # by whoever it was: from now on it counts
        first_s = WAKES_S if answered.answer is Answer.SAID_YES else AGAIN_S
        wait_s = min(AGAIN_S_MAX, first_s * 2 ** min(max(0, it.tries - 1), 12))
        self._next_s[name] = trio.current_time() + wait_s
        self._changed = True
        if answered.answer is not Answer.SAID_YES:
            log.warning(
                "machine_not_resumed",
                machine=str(name),
                answer=answered.answer.value,
                reason=answered.words,
                again_s=round(wait_s),
            )
        if it.tries >= TRIES_MAX:
            log.error("machine_given_up", machine=str(name), address=it.reached.address, tries=it.tries)
            it.given_up_s = int(self._wall_clock())
            self._given_up(name)

    def _given_up(self, name: MachineName) -> None:
        self._ends_s.pop(name, None)
        self._next_s.pop(name, None)
        self._gone.add(name)
        self._shares.forget(name)

    def _drop(self, name: MachineName) -> None:
        self._held.pop(name, None)
        self._gone.discard(name)
        self._ends_s.pop(name, None)
        self._next_s.pop(name, None)
        self._changed = True

    # The file

    async def _save_if_changed(self, *, raises: bool = False) -> None:
        try:
            async with self._saving:
                if self._changed:
                    await self._save()
        except OSError as error:
            if raises:
                raise
            log.error("machines_held_not_written", reason=str(error)[:200])

    async def _save(self) -> None:
        """Raises OSError."""
        self._changed = False
        content = held_file.packed(self._held)
        try:
            await trio.to_thread.run_sync(held_file.save, self._directory, content)
        except BaseException:
            self._changed = True
            raise


def runner_of(
    settings: ControlSettings | None,
    data_dir: Path,
    shares: AcceptedShares,
    wall_clock: Callable[[], float],
) -> Runner:
    """By the settings, in the data directory; without [power] too, for machines that were paused when there
    was one. Blocks. Raises BadConfig."""
    chosen = ControlSettings() if settings is None else settings
    keys = None if chosen.key_file is None else read_keys(chosen.key_file)
    network = MachineNetwork(chosen, keys, wall_clock=wall_clock)
    return Runner(network, data_dir, shares, wall_clock=wall_clock)


def _view(it: Held) -> HeldView:
    return HeldView(
        machine=it.reached.machine,
        address=it.reached.address,
        action=it.action,
        percent=it.percent,
        before_hps=it.before_hps,
        since_s=it.since_s,
        until_s=it.until_s,
        released_s=it.released_s,
        tries=it.tries,
        given_up_s=it.given_up_s,
    )


def _where(it: Reached) -> tuple[str, int | None]:
    return it.address, it.port


def _refused(it: Order, words: str) -> Answered:
    return Answered(machine=it.reached.machine, answer=Answer.REFUSED, words=words)
