"""What becomes of one machine at one moment, by its shares; what it answers proves nothing."""

from typing import Any

import msgspec

from pool.power.control.contract import Action, Answer, Answered, MachineName
from pool.power.curtailment.course import Doing, Look, doing
from pool.power.curtailment.events import Event
from pool.power.curtailment.machines import EventMachine
from pool.power.curtailment.pace import Pace
from pool.power.curtailment.plan import WAKE_S
from pool.power.curtailment.states import EventState, MachineState

NOW_S = 1_800_000_000
NAME = MachineName(tenant="acme", container="c01", unit="u1")


def event(state: EventState = EventState.CURTAILING) -> Event:
    return Event(
        id=1,
        site="Bratsk",
        target="everything",
        target_value=None,
        source="cli",
        reference="a",
        state=state,
        dry_run=False,
        asked_at_s=NOW_S,
        asked_by="olga",
        from_s=NOW_S,
        until_s=NOW_S + 3_600,
        ramp_s=600,
        watts_before=3_000,
        watts_asked=3_000,
        restore_asked_at_s=None,
        restore_asked_by=None,
        ended_at_s=None,
        note=None,
    )


def machine(state: MachineState, **changed: Any) -> EventMachine:
    """One that had a share in six seconds, and was asked at NOW_S."""
    fields: dict[str, Any] = {
        "worker": 1,
        "name": NAME,
        "batch": 0,
        "state": state,
        "changed_at_s": NOW_S,
        "due_s": NOW_S,
        "asks": 1,
        "asked_at_s": NOW_S,
        "before_from_s": NOW_S - 3_600,
        "before_until_s": NOW_S,
        "before_shares": 600,
        "watts_before": 3_000,
        "watts_idle": 60,
        "basis": "work",
        "error_bps": 500,
        "off_from_s": None,
        "off_until_s": None,
    }
    return EventMachine(**fields | changed)


def after(
    it: EventMachine,
    seconds: int,
    look: Look,
    answer: Answer | None = None,
    state: EventState = EventState.CURTAILING,
    **more: Any,
) -> Doing:
    answers = {} if answer is None else {1: Answered(machine=NAME, answer=answer)}
    return doing(event(state), {1: it}, lambda worker: look, answers, NOW_S + seconds, **more)


def became(it: Doing) -> MachineState | None:
    return it.changes[0].after if it.changes else None


def silent(seconds: float) -> Look:
    return Look(age_s=seconds, silent_s=seconds)


def test_yes_proves_nothing_and_silence_does() -> None:
    asked = machine(MachineState.ASKED)
    assert became(after(asked, 60, silent(60), Answer.SAID_YES)) is None
    proven = after(asked, 66, silent(66), Answer.UNKNOWN)
    assert became(proven) is MachineState.CONFIRMED
    assert proven.changes[0].values == {"off_from_s": NOW_S, "off_until_s": None}


def test_whose_pace_is_known_as_it_was_chosen_is_proven_by_that() -> None:
    """It came five minutes before: the hour before has few shares of it."""
    new = machine(MachineState.ASKED, before_shares=50)
    assert became(after(new, 70, silent(70))) is None
    assert became(after(new, 72, silent(72), paces={1: Pace(50.0, 300)})) is MachineState.CONFIRMED


def test_who_is_unheard_is_not_silent() -> None:
    unheard = Look(age_s=3_600, silent_s=20)
    assert became(after(machine(MachineState.ASKED), 3_600, unheard)) is None


def test_who_says_yes_and_mines_on_is_asked_once_more_and_then_refused() -> None:
    asked, mining = machine(MachineState.ASKED), Look(age_s=1, silent_s=1)
    assert after(asked, 20, mining, Answer.SAID_YES) == Doing()
    again = after(asked, 40, mining, Answer.SAID_YES)
    assert [it.action for it in again.asks] == [Action.PAUSE]
    assert again.asked == [1]
    twice = msgspec.structs.replace(asked, asks=2, asked_at_s=NOW_S + 40)
    assert became(after(twice, 80, mining, Answer.SAID_YES)) is MachineState.REFUSED


def test_a_process_that_begins_does_not_know_what_was_sent_and_sends_it_uncounted() -> None:
    mining = Look(age_s=1, silent_s=1)
    of_before = machine(MachineState.ASKED, asks=2)
    sent = after(of_before, 600, mining, begins=True)
    assert (sent.resent, sent.asked, became(sent)) == ([1], [], None)
    assert [it.action for it in sent.asks] == [Action.PAUSE]
    waking = after(machine(MachineState.WAKING), 5, silent(600), begins=True)
    assert [it.action for it in waking.asks] == [Action.RESUME]


def test_nobody_is_back_without_a_share_and_nobody_is_given_up() -> None:
    waking = machine(MachineState.WAKING, off_from_s=NOW_S - 600)
    assert became(after(waking, 60, Look(age_s=30, silent_s=30))) is MachineState.RESTORED
    assert after(waking, 130, silent(730)).asked == [1]
    lost = after(waking, WAKE_S, silent(1_500))
    assert became(lost) is MachineState.LOST
    assert lost.changes[0].values == {"off_until_s": NOW_S + WAKE_S}
    gone = machine(MachineState.LOST, asks=9)
    month_s = 30 * 86_400
    assert after(gone, month_s, silent(month_s), state=EventState.OVER).asks[0].action is Action.RESUME
    assert became(after(gone, month_s, Look(age_s=1, silent_s=1))) is MachineState.RESTORED


def test_who_was_let_go_is_told_to_mine_but_not_what_another_event_has() -> None:
    released = machine(MachineState.RELEASED, asks=0)
    assert [it.action for it in after(released, 1, silent(300)).asks] == [Action.RESUME]
    assert after(released, 1, silent(300), others=lambda worker: True).asks == []
    never = machine(MachineState.RELEASED, asks=0, asked_at_s=None)
    assert after(never, 1, Look(age_s=1, silent_s=1)).asks == []
