"""Events as the books have them: asked for once, with what machines did before, and every step of them."""

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from payouts.schemas.money import tally_hours
from payouts.tallies import roll_up_minutes
from pool.books.journal.positions import Position, write_position
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.power.curtailment import asking
from pool.power.curtailment.baseline import bounded, hashes_of, window
from pool.power.curtailment.events import NewEvent, load_event, move_event
from pool.power.curtailment.machines import Change, add_machines, change_machines, machines_of, owners
from pool.power.curtailment.rounds import Rounds
from pool.power.curtailment.schema import power_event_steps, power_event_work, power_events
from pool.power.curtailment.seen import NEVER
from pool.power.curtailment.states import (
    EVENT_MOVES,
    MACHINE_MOVES,
    OWNED,
    EventState,
    MachineState,
    WrongMove,
)
from pool.power.curtailment.terms import Terms, all_exemptions, all_terms, end_exemption, exempt, set_terms
from pool.power.curtailment.told_books import ToldBooks
from pool.power.figures import Efficiency
from tests.histories.power import NOW_S, add_container, mined_in_minute

UNTIL_S = NOW_S + 7_200


def event(reference: str = "grid-1", **changed: Any) -> NewEvent:
    fields: dict[str, Any] = {
        "source": "webhook",
        "reference": reference,
        "target": "limit",
        "target_value": 6_000_000,
        "site": "Bratsk",
        "from_s": NOW_S,
        "until_s": UNTIL_S,
        "ramp_s": 600,
    }
    return NewEvent(**fields | changed)


def ask(store: Store, new: NewEvent, now_s: int = NOW_S) -> Any:
    return asking.ask(store, new, by="grid", now_s=now_s)


@pytest.fixture
def machines(store: Store) -> list[int]:
    with store.write() as connection:
        return add_container(connection, "acme.c01", 2) + add_container(
            connection, "acme.c09", 1, site="Irkutsk"
        )


def work_of(store: Store, event_id: int) -> dict[tuple[int, int], int]:
    with store.read() as connection:
        rows = connection.execute(select(power_event_work).where(power_event_work.c.event_id == event_id))
        return {(row.worker_id, row.difficulty_log2): row.shares for row in rows}


def test_the_same_reference_again_is_the_same_event_and_another_one_under_it_is_refused(
    store: Store, machines: list[int]
) -> None:
    first = ask(store, event())
    assert (first.id, first.state, first.asked_by) == (1, EventState.PLANNED, "grid")
    assert ask(store, event(), NOW_S + 60) == first
    with pytest.raises(RegistryError, match="webhook grid-1 was asked for before, and was another event"):
        ask(store, event(target_value=1))
    asking.restore(store, "webhook", "grid-1", by="grid", words="no more", now_s=NOW_S + 1)
    assert ask(store, event(), NOW_S + 61).state is EventState.CANCELLED  # replayed: it stays what it is
    assert ask(store, event(source="api")).id == 2  # of somebody else


def test_what_cannot_be_is_refused_in_words(store: Store, machines: list[int]) -> None:
    for wrong, words in (
        ({"target_value": None}, "^a limit is 0 to 10000000000 kW$"),
        ({"target_value": -1_000}, "^a limit is 0 to"),
        ({"target": "share", "target_value": 0}, "^a share is 0.01 to 100 percent$"),
        ({"target": "share", "target_value": 10_001}, "^a share is"),
        ({"target": "everything"}, "^everything is asked for without a figure$"),
        ({"target": "break_even", "target_value": -1}, "^a kWh is worth 0 to 1000000000 satoshi$"),
        ({"until_s": NOW_S + 599}, "lasts for 10 min to 7 days"),
        ({"until_s": NOW_S + 8 * 86_400}, "lasts for 10 min to 7 days"),
        ({"ramp_s": -1}, "a ramp is"),
        ({"reference": "a\nb"}, "printable"),
        ({"source": "radio"}, "no source"),
    ):
        with pytest.raises(ValueError, match=words):
            event(**wrong)
    with pytest.raises(RegistryError, match="there is no site 'Moon'"):
        ask(store, event(site="Moon"))
    with pytest.raises(RegistryError, match="over already"):
        ask(store, event(from_s=NOW_S - 7_200, until_s=NOW_S))


def test_what_every_machine_of_the_site_did_before_is_kept_when_it_is_asked_for(
    store: Store, machines: list[int]
) -> None:
    here, _, elsewhere = machines
    from_s, until_s = window(NOW_S)
    assert (from_s, until_s) == (NOW_S - 3_600, NOW_S - 120)  # minutes of before are hours by then
    with store.write() as connection:
        for minute in range(from_s // 60 - 3, NOW_S // 60 + 3):
            mined_in_minute(connection, minute, {here: 10, elsewhere: 10})
        mined_in_minute(connection, from_s // 60, {here: 3}, log2=18)
    asked = ask(store, event())
    assert work_of(store, asked.id) == {(here, 16): 580, (here, 18): 3}
    assert work_of(store, ask(store, event("all", site="")).id).keys() == {
        (here, 16),
        (here, 18),
        (elsewhere, 16),
    }


@pytest.mark.sqlite_suffices
def test_who_works_more_after_an_event_was_asked_for_has_no_more_before_it(
    store: Store, machines: list[int]
) -> None:
    """A call for tomorrow: what is pumped up until then is no baseline."""
    here = machines[0]
    with store.write() as connection:
        mined_in_minute(connection, NOW_S // 60 - 10, {here: 10})
    asked = ask(store, event(from_s=NOW_S + 86_400, until_s=NOW_S + 90_000))
    with store.write() as connection:
        mined_in_minute(connection, NOW_S // 60 - 10 + 1, {here: 10_000})
    ask(store, event(from_s=NOW_S + 86_400, until_s=NOW_S + 90_000), NOW_S + 3_600)
    assert work_of(store, asked.id) == {(here, 16): 10}


class Late:
    """An edge of one machine that is eight minutes behind, and the books that wait for it."""

    def __init__(self, store: Store, worker: int, asked_at_s: int) -> None:
        self.store, self.worker, self.asked_at_s = store, worker, asked_at_s
        self.rounds = Rounds(store, dry_run=True)
        self.first, self.after = (it // 60 for it in window(asked_at_s))

    def minutes(self, first: int, after: int) -> None:
        """Come, and nothing of before them comes any more."""
        with self.store.write() as connection:
            for minute in range(first, after):
                mined_in_minute(connection, minute, {self.worker: 10})
            write_position(connection, Position(writer="ab" * 16, moment_s=after * 60))

    def look(self, now_s: int) -> None:
        self.rounds.look(lambda worker: NEVER, now_s, 0.0)


@pytest.mark.sqlite_suffices
def test_minutes_that_an_edge_brings_late_are_in_what_its_machines_did_before_once(
    store: Store, machines: list[int]
) -> None:
    """Eight of 58: its tenant was said to have forgone 14 % less than his neighbours."""
    it = Late(store, machines[0], NOW_S)
    it.minutes(it.first, it.after - 8)
    asked = ask(store, event(from_s=NOW_S + 1_800))
    it.look(NOW_S + 5)
    assert work_of(store, asked.id) == {}
    it.minutes(it.after - 8, it.after + 1)
    for _ in range(2):
        it.look(NOW_S + 480)
    assert work_of(store, asked.id) == {(it.worker, 16): 580}
    with store.write() as connection:
        mined_in_minute(connection, it.after - 8, {it.worker: 1_000}, log2=17)  # nothing adds to it
    it.look(NOW_S + 960)
    assert work_of(store, asked.id) == {(it.worker, 16): 580}


@pytest.mark.sqlite_suffices
def test_minutes_that_are_hours_by_then_and_what_no_process_wrote_down_count_all_the_same(
    store: Store, machines: list[int]
) -> None:
    asked_at_s = NOW_S + 3_540  # a minute before the hour
    it = Late(store, machines[0], asked_at_s)
    it.minutes(it.first, it.after - 8)
    asked = ask(store, event(from_s=asked_at_s + 600, until_s=asked_at_s + 1_200), asked_at_s)
    it.minutes(it.after - 8, it.after + 1)
    with store.write() as connection:
        while roll_up_minutes(connection, asked_at_s + 3_600):
            pass
        moved = connection.scalar(select(func.count()).select_from(tally_hours))
        over = {"state": "over", "ended_at_s": asked_at_s + 1_200}
        connection.execute(update(power_events).values(**over))
        add_machines(connection, asked.id, [row(it.worker)], "chosen", asked_at_s)
    assert moved
    with store.read() as connection:
        _, (told,) = ToldBooks().event(connection, asked.id)
    assert told.before == {16: 600}
    with store.write() as connection:
        connection.execute(update(power_events).values(state="planned", ended_at_s=None))
    it.look(asked_at_s + 3_600)
    assert work_of(store, asked.id) == {(it.worker, 16): 600}


def test_no_machine_is_believed_to_have_done_more_than_its_nameplate_and_luck_allow() -> None:
    known = Efficiency(
        mj_per_th=30_000,
        hashrate_hps=100 * 10**12,
        watts=3_000,
        idle_watts=60,
        error_bps=500,
        source="a table",
    )
    hour = 100 * 10**12 * 3_600
    honest = {16: 1_278}  # 100 TH/s for an hour
    assert bounded(honest, known, 3_600) == honest
    pumped = {16: 3_000, 30: 2}  # a rented machine beside it, under its name
    believed = bounded(pumped, known, 3_600)
    assert believed[16] < 1_600
    assert hashes_of(believed) <= hour * Fraction(10_500 + 555, 10_000)  # three sigmas of 3,002 shares
    assert hashes_of(bounded({40: 1}, known, 3_600)) == 0
    assert bounded(pumped, None, 3_600) == pumped  # of whom nothing is known


def row(worker: int, **changed: Any) -> dict[str, Any]:
    fields = {
        "worker_id": worker,
        "batch": 0,
        "due_s": NOW_S,
        "before_from_s": NOW_S - 3_600,
        "before_until_s": NOW_S,
        "watts_before": 3_000,
        "watts_idle": 60,
        "basis": "work",
        "error_bps": 500,
    }
    return fields | changed


def test_a_machine_is_one_events_at_a_time(store: Store, machines: list[int]) -> None:
    first, second = ask(store, event()), ask(store, event("grid-2"))
    with store.write() as connection:
        add_machines(connection, first.id, [row(machines[0])], "chosen", NOW_S)
    with pytest.raises(IntegrityError), store.write() as connection:
        add_machines(connection, second.id, [row(machines[0])], "chosen", NOW_S)
    with store.write() as connection:
        released = Change(
            worker=machines[0], before=MachineState.PENDING, after=MachineState.RELEASED, words="by olga"
        )
        assert change_machines(connection, first.id, [released], NOW_S) == [released]
        assert change_machines(connection, first.id, [released], NOW_S) == []  # it is no more pending
        add_machines(connection, second.id, [row(machines[0])], "chosen", NOW_S)
        assert owners(connection)[machines[0]].event == second.id
        name = machines_of(connection, second.id)[machines[0]].name
        assert str(name) == "acme.c01.u1"


def test_every_step_is_written_and_none_is_ever_changed(store: Store, machines: list[int]) -> None:
    asked = ask(store, event())
    with store.write() as connection:
        begun = move_event(connection, asked, EventState.CURTAILING, "begins", NOW_S, watts_before=9)
        add_machines(connection, asked.id, [row(machines[0])], "chosen", NOW_S)
        assert (begun.state, begun.watts_before) == (EventState.CURTAILING, 9)
        with pytest.raises(WrongMove):
            move_event(connection, begun, EventState.OVER, "", NOW_S)
        steps = connection.execute(select(power_event_steps)).all()
        assert [(it.step, it.worker_id, it.state) for it in steps] == [
            (1, None, "planned"),
            (2, None, "curtailing"),
            (3, machines[0], "pending"),
        ]
    for change in (power_event_steps.delete(), power_event_steps.update().values(words="nothing")):
        with pytest.raises(IntegrityError), store.write() as connection:
            connection.execute(change)


def test_a_signal_changes_and_ends_its_own_event(store: Store, machines: list[int]) -> None:
    ask(store, event())
    changed = asking.change(
        store, "webhook", "grid-1", target_value=7_000_000, until_s=UNTIL_S + 60, by="grid", now_s=NOW_S
    )
    assert (changed.target_value, changed.until_s) == (7_000_000, UNTIL_S + 60)
    with pytest.raises(RegistryError, match="lasts for"):
        asking.change(store, "webhook", "grid-1", target_value=1, until_s=NOW_S + 1, by="g", now_s=NOW_S)
    with store.write() as connection:
        move_event(connection, load_event(connection, 1), EventState.CURTAILING, "", NOW_S)
    ended = asking.restore(store, "webhook", "grid-1", by="grid", words="early", now_s=NOW_S + 600)
    assert (ended.restore_asked_at_s, ended.restore_asked_by) == (NOW_S + 600, "grid")
    again = asking.restore(store, "webhook", "grid-1", by="other", words="early", now_s=NOW_S + 700)
    assert again == ended
    with pytest.raises(RegistryError, match="has asked for no 'grid-9'"):
        asking.restore(store, "webhook", "grid-9", by="grid", words="", now_s=NOW_S)
    assert [it.reference for it in asking.standing(store, "webhook", NOW_S + 9_999)] == ["grid-1"]
    assert asking.standing(store, "api", 0) == []


def test_terms_and_exemptions_say_who_and_why(store: Store, machines: list[int]) -> None:
    with store.write() as connection:
        set_terms(connection, "acme", Terms(priority=9, curtailable_bps=5_000), by="olga", now_s=NOW_S)
        changed = set_terms(connection, "acme", Terms(priority=8), by="ben", now_s=NOW_S + 1)
        assert all_terms(connection) == [changed]
        assert (changed.priority, changed.curtailable_bps, changed.changed_by) == (8, 10_000, "ben")
        with pytest.raises(RegistryError, match="a priority is"):
            set_terms(connection, "acme", Terms(priority=0), by="ben", now_s=NOW_S)
        made = exempt(connection, "acme.c01.u1", reason="on repair", by="olga", now_s=NOW_S)
        assert made.words == "exempt, by olga: on repair"
        exempt(connection, "acme.c01", reason="test of pumps", by="olga", now_s=NOW_S)
        for wrong in ("acme.c01.u1", "acme.c77", "acme", "acme.c01.u77"):
            with pytest.raises(RegistryError):
                exempt(connection, wrong, reason="x", by="olga", now_s=NOW_S)
        assert [it.unit for it in all_exemptions(connection)] == ["", "u1"]
        end_exemption(connection, "acme.c01")
        with pytest.raises(RegistryError, match="is not exempt"):
            end_exemption(connection, "acme.c01")


def test_from_every_state_there_is_a_way_to_the_end_and_no_machine_stays_an_events() -> None:
    for begin in MachineState:
        reached, new = {begin}, {begin}
        while new:
            new = {after for it in new for after in MACHINE_MOVES[it]} - reached
            reached |= new
        assert reached - OWNED
    assert all(EventState.OVER in _reached(it) for it in EventState if it not in (EventState.CANCELLED,))
    assert EVENT_MOVES[EventState.OVER] == EVENT_MOVES[EventState.CANCELLED] == frozenset()


def _reached(begin: EventState) -> set[EventState]:
    reached, new = {begin}, {begin}
    while new:
        new = {after for it in new for after in EVENT_MOVES[it]} - reached
        reached |= new
    return reached


@pytest.mark.parametrize("column", ["state", "target", "source"])
def test_closed_sets_are_checked_by_the_database(store: Store, machines: list[int], column: str) -> None:
    ask(store, event())
    with store.read() as connection:
        first = dict(connection.execute(select(power_events)).one()._mapping)
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(insert(power_events).values(first | {"id": 9, "reference": "z", column: "?"}))
    assert msgspec.json.encode(first)
