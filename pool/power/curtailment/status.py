"""What events do at this moment, for whoever shows it. Must not know: where it is shown."""

from collections.abc import Mapping

import msgspec


class EventStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One event that goes on, or that has machines which did not come back. `proven_watts` are shed, as work
    says, without the `drawn_watts` that meters before containers have of them all the same; `asked_watts` of
    machines that were asked are not proven yet; `short_watts`, and `short_machines` of those whose watts
    nobody knows, are missing although the ramp is over."""

    event: int
    site: str
    reference: str
    state: str
    target_watts: int
    proven_watts: int
    asked_watts: int
    short_watts: int
    drawn_watts: int = 0
    unknown_machines: int = 0
    unknown_off: int = 0
    short_machines: int = 0
    machines: Mapping[str, int]  # by state
    lost: tuple[str, ...]  # names, the first of them


class PowerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All of them. `held` are machines that are off for an event, or about to be."""

    events: tuple[EventStatus, ...] = ()
    held: frozenset[int] = frozenset()
    failed: bool = False  # the last look did not come to its end


NO_EVENTS = PowerStatus()
