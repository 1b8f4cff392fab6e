"""What becomes of the machines of an event at one moment: which are asked, believed, refused, given up.

Pure: an event, its machines, what is seen of their shares, what they answered; out come changes, to be
written before anything is sent, and what is to be sent then. The same after a crash: nothing else is
remembered, but answers.

Who was asked to pause is believed when it is silent for so long that this is no chance (one in 10,000, by how
often it had a share before). What it answers decides only what is tried next: "yes" proves nothing, and who
has a share half a minute after it was asked mines on; it is asked once more, and is refused then. Who is
believed and has a share has drifted, is asked again, and after some times no more.

Who was asked to mine is back with its first share. Without one it is asked every two minutes, is lost after a
quarter of an hour, and is asked on and on: no machine is left off for ever.

Must not know: rows, clocks, what a machine's power is good for.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import msgspec

from pool.power.control.contract import Action, Answer, Answered, MachineName
from pool.power.curtailment.events import Event
from pool.power.curtailment.machines import Change, EventMachine
from pool.power.curtailment.pace import Pace, proof_s
from pool.power.curtailment.plan import RESTORE_BACK, RESTORE_BATCH, RESTORE_BATCH_S, WAKE_S
from pool.power.curtailment.states import EventState, MachineState

# A machine that obeys finishes what it has, and its last share is on the way: half a minute.
PAUSE_S: Final = 30
PAUSE_ASKS_MAX: Final = 2  # of one that mines on: others make up for it meanwhile
REACH_ASKS_MAX: Final = 3  # of one that is not reached: a switch that restarts
REACH_AGAIN_S: Final = 15
DRIFT_ASKS_MAX: Final = 6  # a watchdog that starts its machine every hour costs no more than that
WAKE_AGAIN_S: Final = 120
LOST_AGAIN_S: Final = 300  # twice as long after each time
LOST_AGAIN_S_MAX: Final = 6 * 3_600
LET_GO_ASKS: Final = 2  # to mine, of one that is no more the event's: its dead-man does the rest
LET_GO_AGAIN_S: Final = 60


class Look(msgspec.Struct, frozen=True):
    """Of one machine: the age of its last accepted share, infinite for none; and for how long it is known to
    be silent, which is less where nobody was looking."""

    age_s: float
    silent_s: float


class Ask(msgspec.Struct, frozen=True):
    """What is sent to one machine."""

    worker: int
    name: MachineName
    action: Action


class Doing(msgspec.Struct, kw_only=True):
    """What is done: first written, and then sent. `asked` are asked again in the state that they are in;
    to whom it is `resent` nobody knows whether anything was sent before."""

    changes: list[Change] = []
    asked: list[int] = []
    resent: list[int] = []
    asks: list[Ask] = []

    def change(self, it: EventMachine, after: MachineState, words: str, **values: int | None) -> None:
        self.changes.append(
            Change(worker=it.worker, before=it.state, after=after, words=words, values=values)
        )

    def again(self, it: EventMachine, action: Action) -> None:
        self.asked.append(it.worker)
        self.asks.append(Ask(it.worker, it.name, action))

    def resend(self, it: EventMachine, action: Action) -> None:
        self.resent.append(it.worker)
        self.asks.append(Ask(it.worker, it.name, action))


Looks = Callable[[int], Look]
NO_PACES: Final[Mapping[int, Pace]] = {}
_SENT: Final = {MachineState.ASKED: Action.PAUSE, MachineState.WAKING: Action.RESUME}


def doing(
    event: Event,
    machines: Mapping[int, EventMachine],
    looks: Looks,
    answers: Mapping[int, Answered],
    now_s: int,
    *,
    paces: Mapping[int, Pace] = NO_PACES,
    others: Callable[[int], bool] = lambda worker: False,
    begins: bool = False,
) -> Doing:
    """At this moment. `answers` are to what each was asked last; `paces`: of machines as they were chosen,
    where that is known; `others`: whether another event has the machine; `begins`: this process does not know
    what was sent by the one before."""
    found = Doing()
    ends = event.state is EventState.RESTORING
    for it in machines.values():
        look = looks(it.worker)
        if begins and it.state in _SENT:
            found.resend(it, _SENT[it.state])
        elif it.state is MachineState.PENDING:
            _pending(found, it, ends, now_s)
        elif it.state is MachineState.ASKED and not ends:
            _asked(found, it, look, answers.get(it.worker), paces.get(it.worker, it.pace), now_s)
        elif it.state is MachineState.CONFIRMED and not ends:
            _confirmed(found, it, look, now_s)
        elif it.state is MachineState.DRIFTED and not ends:
            _drifted(found, it, now_s)
        elif it.state is MachineState.WAKING:
            _waking(found, it, look, answers.get(it.worker), now_s)
        elif it.state is MachineState.LOST:
            _lost(found, it, look, now_s)
        elif it.state in (MachineState.RELEASED, MachineState.REFUSED):
            _let_go(found, it, look, now_s, others)
    if ends:
        wake(found, next_to_wake(machines.values(), now_s), "restored", now_s)
    return found


def next_to_wake(machines: Collection[EventMachine], now_s: int) -> list[EventMachine]:
    """The next batch: last asked, first back."""
    off = (MachineState.ASKED, MachineState.CONFIRMED, MachineState.DRIFTED)
    held = [it for it in machines if it.state in off]
    held.sort(key=lambda it: (-it.batch, -it.due_s, it.worker))
    return held[: room_to_wake(machines, now_s)]


def room_to_wake(machines: Iterable[EventMachine], now_s: int) -> int:
    """How many may begin to come back now: a batch, once the one before is back or its time is over."""
    waking = [it for it in machines if it.state is MachineState.WAKING]
    late = sum(now_s - it.changed_at_s < RESTORE_BATCH_S for it in waking)
    return 0 if late * 100 > RESTORE_BATCH * (100 - RESTORE_BACK) else RESTORE_BATCH - late


def wake(found: Doing, machines: Iterable[EventMachine], words: str, now_s: int) -> None:
    """Let these mine again, whatever else was about to be done with them."""
    going = {it.worker: it for it in machines}
    found.changes = [it for it in found.changes if it.worker not in going]
    found.asked = [it for it in found.asked if it not in going]
    found.resent = [it for it in found.resent if it not in going]
    found.asks = [it for it in found.asks if it.worker not in going]
    for it in going.values():
        found.change(it, MachineState.WAKING, words, asks=1, asked_at_s=now_s)
        found.asks.append(Ask(it.worker, it.name, Action.RESUME))


def _pending(found: Doing, it: EventMachine, ends: bool, now_s: int) -> None:
    if ends:
        found.change(it, MachineState.RELEASED, "over before it was asked")
    elif now_s >= it.due_s:
        found.change(it, MachineState.ASKED, "asked to pause", asks=it.asks + 1, asked_at_s=now_s)
        found.asks.append(Ask(it.worker, it.name, Action.PAUSE))


def _asked(
    found: Doing, it: EventMachine, look: Look, answer: Answered | None, pace: Pace, now_s: int
) -> None:
    asked_at_s = now_s if it.asked_at_s is None else it.asked_at_s
    share_at_s = now_s - look.age_s
    if look.silent_s >= proof_s(pace):
        off_from_s = int(max(share_at_s, asked_at_s)) if it.off_from_s is None else it.off_from_s
        words = f"no share for {int(look.silent_s)} s"
        found.change(it, MachineState.CONFIRMED, words, off_from_s=off_from_s, off_until_s=None)
    elif answer is not None and answer.answer in (Answer.UNSUPPORTED, Answer.DRY_RUN):
        _refuse(found, it, answer)
    elif answer is not None and answer.answer in (Answer.REFUSED, Answer.UNREACHED):
        # The answer stands until something else is known: it is tried again from time to time.
        most = PAUSE_ASKS_MAX if answer.answer is Answer.REFUSED else REACH_ASKS_MAX
        if it.asks >= most:
            _refuse(found, it, answer)
        elif now_s >= asked_at_s + REACH_AGAIN_S:
            found.again(it, Action.PAUSE)
    elif share_at_s > asked_at_s + PAUSE_S:
        if it.asks >= PAUSE_ASKS_MAX:
            _refuse(found, it, answer)
        else:
            found.again(it, Action.PAUSE)


def _refuse(found: Doing, it: EventMachine, answer: Answered | None) -> None:
    said = "" if answer is None else f": {answer.answer.value} {answer.words}".rstrip()
    mines = answer is None or answer.answer in (Answer.SAID_YES, Answer.UNKNOWN)
    words = f"mines on{said}" if mines else said.removeprefix(": ")
    found.change(it, MachineState.REFUSED, words, asks=0)


def _confirmed(found: Doing, it: EventMachine, look: Look, now_s: int) -> None:
    share_at_s = now_s - look.age_s
    if share_at_s > it.changed_at_s:
        found.change(it, MachineState.DRIFTED, "mines again", off_until_s=int(share_at_s))


def _drifted(found: Doing, it: EventMachine, now_s: int) -> None:
    if it.asks >= DRIFT_ASKS_MAX:
        found.change(it, MachineState.REFUSED, f"mines again, asked {it.asks} times", asks=0)
    else:
        found.change(it, MachineState.ASKED, "asked again", asks=it.asks + 1, asked_at_s=now_s)
        found.asks.append(Ask(it.worker, it.name, Action.PAUSE))


def _waking(found: Doing, it: EventMachine, look: Look, answer: Answered | None, now_s: int) -> None:
    share_at_s = now_s - look.age_s
    if share_at_s > it.changed_at_s:
        found.change(it, MachineState.RESTORED, "mines again", off_until_s=_until(it, share_at_s))
    elif now_s >= it.changed_at_s + WAKE_S:
        said = "" if answer is None else f": {answer.answer.value} {answer.words}".rstrip()
        words = f"no share for {WAKE_S} s{said}"
        found.change(it, MachineState.LOST, words, off_until_s=_until(it, now_s))
    elif it.asked_at_s is None or now_s >= it.asked_at_s + WAKE_AGAIN_S:
        found.again(it, Action.RESUME)


def _lost(found: Doing, it: EventMachine, look: Look, now_s: int) -> None:
    wait_s = min(LOST_AGAIN_S * 2 ** min(it.asks, 16), LOST_AGAIN_S_MAX)
    if now_s - look.age_s > it.changed_at_s:
        found.change(it, MachineState.RESTORED, "mines again")
    elif it.asked_at_s is None or now_s >= it.asked_at_s + wait_s:
        found.again(it, Action.RESUME)


def _let_go(found: Doing, it: EventMachine, look: Look, now_s: int, others: Callable[[int], bool]) -> None:
    """One that may be off, and is nobody's: nobody would wake it but its dead-man."""
    due_s = it.changed_at_s + it.asks * LET_GO_AGAIN_S
    if it.asked_at_s is None or it.asks >= LET_GO_ASKS or now_s < due_s or others(it.worker):
        return
    if it.asks == 0 or now_s - look.age_s <= it.changed_at_s:
        found.again(it, Action.RESUME)


def _until(it: EventMachine, at_s: float) -> int | None:
    """The end of its time off, of one that has one."""
    if it.off_from_s is None:
        return None
    return max(int(at_s), it.off_from_s) if it.off_until_s is None else it.off_until_s
