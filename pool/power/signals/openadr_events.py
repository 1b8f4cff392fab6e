"""A grid's events (OpenADR 2.0b) as calls: what is asked for by each, and what the grid is answered.

Understood are SIMPLE levels, whose percents are agreed on with the grid, and LOAD_DISPATCH setpoints, the
power of the whole site. Of several intervals the strictest holds from the first that asks for something to
the last. What is not understood is opted out of, in words. A test event is opted in to, and nothing done.

`events` are what openleadr makes of an oadrDistributeEvent: dicts, whose values a stranger chose; whatever is
wrong with one is wrong with that one alone. Pure. Must not know: how they came.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from pool.power.signals.bounds import STANDING_MAX
from pool.power.signals.call import BPS_PER_PERCENT, RAMP_S_MAX, REFERENCE, Called, in_words

EVENTS_MAX: Final = STANDING_MAX  # of one message: a grid has some
INTERVALS_MAX: Final = 288  # five minutes of a day
RAMP_S: Final = 600  # where the grid says nothing of a ramp
SCALES: Final = {"none": 1, "k": 1_000, "M": 1_000_000, None: 1}
WATTS_MAX: Final = 10**12
OPT_IN, OPT_OUT = "optIn", "optOut"


class NotTalked(Exception):
    """The VTN was not heard of; the text says why."""


class Distributed(msgspec.Struct, frozen=True, kw_only=True):
    """All events that the VTN has for this pool, and how it calls that message."""

    request_id: str
    events: Sequence[Any]


class TooManyEvents(Exception):
    """More than a grid has: nothing of it is looked at."""


class NotUnderstood(Exception):
    """One event is none that anything can be done by; the text says why."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `called` None: nothing is to be done, and `opt` says whether that is meant. `answer`:
    whether the grid wants to be told."""

    event_id: str
    modification: int
    called: Called | None
    opt: str
    words: str
    answer: bool


def heard(events: Sequence[Any], *, site: str, percents: Sequence[int], longest_s: int) -> list[Heard]:
    """In their order. Raises TooManyEvents."""
    if len(events) > EVENTS_MAX:
        raise TooManyEvents(f"{len(events)} events in one message: {EVENTS_MAX} may be")
    return [it for event in events if (it := _heard(event, site, percents, longest_s)) is not None]


def _heard(event: Any, site: str, percents: Sequence[int], longest_s: int) -> Heard | None:
    """None for what has no name that it could be answered under."""
    try:
        descriptor = event["event_descriptor"]
        event_id, modification = str(descriptor["event_id"]), int(descriptor["modification_number"])
        answer = event.get("response_required") == "always"
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    called, opt, words = None, OPT_IN, ""
    try:
        if descriptor.get("event_status") in ("cancelled", "completed"):
            words = "it is over"
        elif descriptor.get("test_event") is True:
            words = "it is a test"
        else:
            called = _called(event, _reference(event_id), site, percents, longest_s)
            words = "" if called is not None else "it asks for nothing"
    except NotUnderstood as error:
        opt, words = OPT_OUT, str(error)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        opt, words = OPT_OUT, f"it is no event: {type(error).__name__}"
    return Heard(
        event_id=event_id, modification=modification, called=called, opt=opt, words=words, answer=answer
    )


def _reference(event_id: str) -> str:
    """A name of ours: the grid's own, where that can be one."""
    if re.fullmatch(REFERENCE, event_id):
        return event_id
    return f"sha256:{hashlib.sha256(event_id.encode()).hexdigest()[:32]}"


def _called(event: Any, reference: str, site: str, percents: Sequence[int], longest_s: int) -> Called | None:
    period = event["active_period"]
    from_s = _at(period["dtstart"])
    signal = _signal(event["event_signals"])
    intervals = signal["intervals"]
    if not 1 <= len(intervals) <= INTERVALS_MAX:
        raise NotUnderstood(f"its signal has {len(intervals)} intervals")
    asked: list[tuple[int, int, int]] = []  # what, from, until
    at_s = from_s
    for it in intervals:
        begins_s = _at(it["dtstart"]) if it.get("dtstart") is not None else at_s
        # A duration of nothing is one without an end: for as long as a signal may ask for.
        lasts_s = _seconds(it.get("duration")) or _seconds(period.get("duration")) or longest_s
        at_s = begins_s + lasts_s
        value = _value(signal, it["signal_payload"], percents)
        if value is not None:
            asked.append((value, begins_s, at_s))
    if not asked:
        return None
    limit = signal["signal_name"] == "LOAD_DISPATCH"
    value = min(it[0] for it in asked) if limit else max(it[0] for it in asked)
    everything = not limit and value == 100 * BPS_PER_PERCENT
    ramp = period.get("ramp_up_period")
    return Called(
        reference=reference,
        site=site,
        target="limit" if limit else "everything" if everything else "share",
        target_value=None if everything else value,
        from_s=min(it[1] for it in asked),
        until_s=max(it[2] for it in asked),
        ramp_s=RAMP_S if ramp is None else min(_seconds(ramp), RAMP_S_MAX),
    )


def _signal(signals: Any) -> Any:
    """The first that is understood."""
    names = []
    for it in signals[:EVENTS_MAX]:
        kind = (it.get("signal_name"), it.get("signal_type"))
        if kind[0] in ("SIMPLE", "simple") and kind[1] == "level":
            return it
        if kind == ("LOAD_DISPATCH", "setpoint"):
            return it
        names.append(f"{kind[0]} {kind[1]}")
    raise NotUnderstood(in_words(f"its signals are not understood here: {', '.join(names) or 'none'}"))


def _value(signal: Any, payload: Any, percents: Sequence[int]) -> int | None:
    """W of a setpoint, bps of a level; None: nothing is asked for."""
    number = float(payload)
    if signal["signal_name"] != "LOAD_DISPATCH":
        level = int(number)
        if level != number or not 0 <= level <= len(percents):
            raise NotUnderstood(f"there is no level {number:g}")
        percent = percents[level - 1] if level else 0
        return percent * BPS_PER_PERCENT or None
    measured = signal.get("measurement") or {}
    unit, scale = measured.get("unit"), measured.get("scale")
    if unit != "W" or scale not in SCALES:
        raise NotUnderstood("its setpoint is no power in W, kW or MW")
    watts = int(number * SCALES[scale])
    if not 0 <= watts <= WATTS_MAX:
        raise NotUnderstood("its setpoint is no power that a site has")
    return watts


def _at(value: Any) -> int:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise NotUnderstood("it begins at no time")
    return int(value.timestamp())


def _seconds(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, timedelta) or not 0 <= value.total_seconds() <= 1 << 31:
        raise NotUnderstood("a duration of it is none")
    return int(value.total_seconds())
