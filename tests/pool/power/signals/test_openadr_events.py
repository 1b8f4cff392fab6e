"""What a grid's event asks for: one row for each kind; what a stranger makes of one is that one's alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pool.power.signals.call import Called
from pool.power.signals.openadr_events import EVENTS_MAX, RAMP_S, Heard, TooManyEvents, heard
from tests.stages.signals import HOUR_S, NOW_S

AT = datetime.fromtimestamp(NOW_S, UTC)
HOUR = timedelta(hours=1)
WATTS = {"unit": "W", "scale": "k"}


def interval(payload: Any, at: int = 0, lasts: Any = HOUR) -> dict[str, Any]:
    return {"dtstart": AT + timedelta(seconds=at), "duration": lasts, "signal_payload": payload}


def event(
    *intervals: dict[str, Any], name: str = "SIMPLE", kind: str = "level", **more: Any
) -> dict[str, Any]:
    signal = {"signal_name": name, "signal_type": kind, "intervals": list(intervals), **more}
    return {
        "event_descriptor": {
            "event_id": "event-1",
            "modification_number": 3,
            "event_status": "far",
            "test_event": False,
        },
        "active_period": {"dtstart": AT, "duration": HOUR},
        "event_signals": [signal],
        "response_required": "always",
    }


def of(it: dict[str, Any], percents: tuple[int, ...] = (0, 50, 100)) -> Heard:
    (found,) = heard([it], site="north", percents=percents, longest_s=4 * HOUR_S)
    return found


def called(target: str, value: int | None, from_s: int = 0, until_s: int = HOUR_S) -> Called:
    return Called(
        reference="event-1",
        site="north",
        target=target,
        target_value=value,
        from_s=NOW_S + from_s,
        until_s=NOW_S + until_s,
        ramp_s=RAMP_S,
    )


@pytest.mark.parametrize(
    ("it", "asked"),
    [
        (event(interval(0.0)), None),
        (event(interval(1.0)), None),  # 0 percent was agreed on for it
        (event(interval(2.0)), called("share", 5_000)),
        (event(interval(3.0)), called("everything", None)),
        (event(interval(2.0, 0, None)), called("share", 5_000)),
        (event(interval(0.0), interval(2.0, 600, HOUR)), called("share", 5_000, 600, HOUR_S + 600)),
        (event(interval(2.0), interval(3.0, HOUR_S)), called("everything", None, 0, 2 * HOUR_S)),
        (
            event(interval(1500.0), name="LOAD_DISPATCH", kind="setpoint", measurement=WATTS),
            called("limit", 1_500_000),
        ),
        (
            event(
                interval(1500.0),
                interval(900.0, HOUR_S),
                name="LOAD_DISPATCH",
                kind="setpoint",
                measurement=WATTS,
            ),
            called("limit", 900_000, 0, 2 * HOUR_S),
        ),
    ],
)
def test_what_is_understood_is_opted_in_to(it: dict[str, Any], asked: Called | None) -> None:
    found = of(it)
    assert (found.called, found.opt, found.modification, found.answer) == (asked, "optIn", 3, True)


def test_an_event_without_an_end_is_for_as_long_as_a_signal_may_ask_for() -> None:
    it = event(interval(2.0, 0, timedelta(0)))
    it["active_period"]["duration"] = timedelta(0)
    assert of(it).called == called("share", 5_000, 0, 4 * HOUR_S)


@pytest.mark.parametrize("status", ["cancelled", "completed"])
def test_one_that_is_over_and_a_test_ask_for_nothing_and_are_opted_in_to(status: str) -> None:
    over, test = event(interval(3.0)), event(interval(3.0))
    over["event_descriptor"]["event_status"] = status
    test["event_descriptor"]["test_event"] = True
    for it in (over, test):
        assert (of(it).called, of(it).opt) == (None, "optIn")


def broken(**changed: Any) -> dict[str, Any]:
    return event(interval(3.0)) | changed


@pytest.mark.parametrize(
    ("it", "words"),
    [
        (event(interval(4.0)), "there is no level 4"),
        (event(interval(1.5)), "there is no level 1.5"),
        (event(interval(-1.0)), "there is no level -1"),
        (event(interval("nan")), "it is no event: ValueError"),
        (event(interval("inf")), "it is no event: OverflowError"),
        (event(interval(None)), "it is no event: TypeError"),
        (event(), "its signal has 0 intervals"),
        (event(*[interval(2.0)] * 289), "its signal has 289 intervals"),
        (event(interval(2.0), name="ELECTRICITY_PRICE", kind="price"), "its signals are not understood here"),
        (event(interval(1.0), name="LOAD_DISPATCH", kind="setpoint"), "its setpoint is no power in W"),
        (
            event(interval(-1.0), name="LOAD_DISPATCH", kind="setpoint", measurement=WATTS),
            "its setpoint is no power that a site has",
        ),
        (event(interval(3.0, 0, timedelta(days=99_999))), "a duration of it is none"),
        (event(interval(3.0, 0, "long")), "a duration of it is none"),
        (broken(active_period={"dtstart": datetime(2026, 1, 1), "duration": HOUR}), "it begins at no time"),
        (broken(active_period=None), "it is no event: TypeError"),
        (broken(event_signals=[]), "its signals are not understood here: none"),
        (broken(event_signals="x"), "it is no event: AttributeError"),
        (broken(event_signals=None), "it is no event: TypeError"),
    ],
)
def test_what_is_not_understood_is_opted_out_of_in_words(it: dict[str, Any], words: str) -> None:
    found = of(it)
    assert found.called is None
    assert found.opt == "optOut"
    assert found.words.startswith(words)


def test_a_wrong_event_leaves_the_others_and_one_without_a_name_is_nothing() -> None:
    good, wrong = event(interval(2.0)), event(interval(9.0))
    found = heard([wrong, {}, None, good], site="north", percents=(0, 50, 100), longest_s=HOUR_S)
    assert [it.opt for it in found] == ["optOut", "optIn"]


def test_a_name_that_is_none_of_ours_is_always_the_same_one() -> None:
    it = event(interval(2.0))
    it["event_descriptor"]["event_id"] = "<ä> \n" * 1_000
    first, again = of(it).called, of(it).called
    assert first == again
    assert first is not None
    assert first.reference.startswith("sha256:")


def test_a_thousand_events_in_a_message_are_looked_at_by_nobody() -> None:
    many = [event(interval(2.0))] * EVENTS_MAX
    assert len(heard(many, site="north", percents=(0, 50, 100), longest_s=HOUR_S)) == EVENTS_MAX
    with pytest.raises(TooManyEvents):
        heard([*many, many[0]], site="north", percents=(0, 50, 100), longest_s=HOUR_S)
