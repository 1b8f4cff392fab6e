"""What strangers and restarts can do to what is told: bounded, merged, remembered."""

from collections import Counter

from pool.messages.kinds import KINDS, Cause
from pool.messages.look import NodeLook
from pool.messages.message import Happened, Severity
from pool.messages.teller import MESSAGES, NAMED_MAX, SUBJECT_MESSAGES, Event
from tests.stages.watch import Watch, container, gone

ADDRESS = Event(kind="address-changed", subject="tenant/acme", name="acme", words="acme: bc1q, by eve")
BLOCK = Event(kind="block-found", subject="block/9", name="9", words="height 9")


def flap(watch: Watch, minutes: int, *names: str) -> None:
    """Each is offline for three looks and back for two, for ever."""
    whole = {it.name: it for it in watch.now.containers}
    for minute in range(minutes):
        watch.set(
            containers=tuple(
                gone(it) if name in names and minute % 5 < 3 else it for name, it in whole.items()
            )
        )
        watch.look()


def test_who_comes_and_goes_costs_four_messages_an_hour_and_one_that_says_so() -> None:
    watch = Watch()
    flap(watch, 6 * 60, "acme.c01")
    assert len(watch.told) <= 6 * (SUBJECT_MESSAGES + 1)
    (first, *_) = [it for it in watch.messages if "comes and goes" in it.text]
    assert first.at_s == watch.messages[SUBJECT_MESSAGES].at_s
    watch.change("acme.c01", lambda it: container())
    watch.looks(120)
    assert watch.told[-1][1] == "container acme.c01 mines again", "in the end what is so is known"


def test_hundreds_of_names_of_a_stranger_are_bounded_in_all_and_crowd_out_nobody_else() -> None:
    """Each of two hundred containers of one machine flaps in its own minute."""
    watch = Watch()
    many = [container(f"acme.x{number}", usual=1, mining=1, nameplate_hps=None) for number in range(200)]
    for minute in range(100):
        watch.set(
            containers=tuple(
                gone(it) if (number + minute) % 50 < 20 else it for number, it in enumerate(many)
            )
        )
        events = [ADDRESS] if minute % 30 == 20 else []
        before = len(watch.messages)
        watch.set(nodes=(NodeLook("first", minute < 60, "refused"),))
        watch.look(events)
        told = watch.messages[before:]
        if events:
            assert [it.kind for it in told if it.kind == "address-changed"] == ["address-changed"]
    assert "node-down" in {it.kind for it in watch.messages}
    at = [it.at_s for it in watch.messages if it.kind in ("container-offline", "held-back")]
    worst = max(sum(start <= other < start + 3600 for other in at) for start in at)
    assert worst <= MESSAGES[Cause.MACHINES] + 1
    assert next(it.title for it in watch.messages if it.kind == "held-back") == (
        "messages about machines are held back"
    )


def test_several_of_a_kind_are_one_message_with_five_names() -> None:
    watch = Watch()
    watch.set(containers=tuple(gone(container(f"acme.c{number:03d}")) for number in range(400)))
    watch.set(
        containers=(*watch.now.containers, *(container(f"acme.d{number:03d}") for number in range(400)))
    )
    (message,) = watch.look() + watch.look() + watch.look()
    assert message.title == "400 containers are offline"
    assert len(message.subjects) == NAMED_MAX
    assert message.text.splitlines()[-1] == "and 395 more"


def test_a_restart_repeats_nothing_and_tells_what_is_over() -> None:
    watch = Watch()
    watch.set(containers=(gone(container()),), disk_free_bytes=1)
    assert len(watch.looks(10)) == 2
    watch.restart()
    watch.set(running_s=60.0)
    assert watch.looks(9) == [], "and nobody is judged while machines come back"
    watch.set(running_s=900.0)
    assert watch.looks(60) == []
    watch.restart()
    watch.set(containers=(container(),))
    assert watch.looks(5) == ["container acme.c01 mines again"]


def test_a_pool_that_restarts_all_the_time_does_not_begin_its_bounds_anew() -> None:
    watch = Watch()
    for _ in range(100):
        flap(watch, 5, "acme.c01")
        watch.restart()
    hours = Counter((minute - 1) // 60 for minute, _ in watch.told)
    assert max(hours.values()) <= SUBJECT_MESSAGES + 1


def test_what_is_removed_is_forgotten_without_a_word() -> None:
    watch = Watch()
    watch.set(nodes=(NodeLook("first", True, ""), NodeLook("second", False, "refused")))
    assert watch.looks(2) == ["node second is down"]
    watch.set(nodes=(NodeLook("first", True, ""),))
    assert watch.looks(60) == []


def test_a_clock_that_goes_back_silences_nothing_for_longer_than_it_takes_to_notice() -> None:
    watch = Watch()
    watch.set(disk_free_bytes=1)
    watch.looks(2)
    watch.minute -= 10_000
    assert watch.looks(2) == ["Still: the disk of the pool is nearly full"]
    assert watch.looks(400) == []


def test_events_are_told_once_each_and_together() -> None:
    watch = Watch()
    assert [it.title for it in watch.look([BLOCK])] == ["block 9 found"]
    (message,) = watch.look([BLOCK, BLOCK])
    assert (message.title, message.happened, message.severity) == (
        "2 blocks found",
        Happened.EVENT,
        Severity.INFO,
    )


def test_nobody_silences_that_an_address_changed_or_that_there_is_a_silence() -> None:
    watch = Watch()
    watch.silenced = ["all", "tenant/acme", "container/acme.c01"]
    silence = Event(kind="silenced", subject="container/acme.c01", name="it", words="by eve")
    assert {it.kind for it in watch.look([ADDRESS, silence, BLOCK])} == {"address-changed", "silenced"}
    assert {name for name, kind in KINDS.items() if not kind.silenceable} == {
        "address-changed",
        "approval-changed",
        "edge-beyond-nameplate",
        "glass-broken",
        "machine-forgotten",
        "silenced",
        "journal-failed",
    }
