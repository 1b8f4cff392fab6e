"""A signal that is silent, or refused: one message, and not both of the same cause."""

import msgspec

from pool.messages.look import Look, SignalLook
from pool.messages.signal_conditions import REFUSED_S, signal_conditions

GOOD = SignalLook("openadr", 0, None, "")


def holds(it: SignalLook) -> dict[str, bool | None]:
    found = signal_conditions(Look(running_s=0.0, job_age_s=0.0, signals=(it,)))
    return {finding.kind: finding.holds for finding in found}


def test_a_signal_that_is_heard_of_is_no_message() -> None:
    assert holds(GOOD) == {"signal-silent": False, "signal-refused": False}


def test_a_silent_one_is_silent_and_not_refused_as_well() -> None:
    it = msgspec.structs.replace(GOOD, silent_s=700, refused_age_s=10, refused="cannot read calls.toml")
    assert holds(it) == {"signal-silent": True, "signal-refused": False}


def test_one_that_was_refused_is_told_for_a_while_in_plain_words() -> None:
    it = msgspec.structs.replace(GOOD, refused_age_s=10, refused="<b>grid-1</b>: it is over already")
    assert holds(it) == {"signal-silent": False, "signal-refused": True}
    (_, finding) = signal_conditions(Look(running_s=0.0, job_age_s=0.0, signals=(it,)))
    assert finding.words == "openadr: ?b?grid-1?/b?: it is over already"
    assert finding.subject == "signal/openadr"
    old = msgspec.structs.replace(it, refused_age_s=int(REFUSED_S))
    assert holds(old) == {"signal-silent": False, "signal-refused": False}
