"""The operator's question about signals: who may ask for events beside persons, and how each of them stands.

Must not know: sockets, terminals, how a signal comes.
"""

from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from pool.admin.command import Commands, Question
from pool.admin.desk import Desk, running, wall_s
from pool.power.signals.intake import Source


class PowerSignals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SignalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One source, since the pool was started. A webhook is never silent: it speaks when it has something to
    say."""

    source: str
    where: str
    state: Literal["good", "silent", "refused"]
    heard_at_s: int | UnsetType = UNSET
    asked_at_s: int | UnsetType = UNSET
    asked: int
    refused_at_s: int | UnsetType = UNSET
    refused: int
    words: str | UnsetType = UNSET  # of the last that was refused


def power_signals(desk: Desk, it: PowerSignals) -> list[SignalRow]:
    """Sources of signals, when each was last heard of, and what was refused last."""
    now_s = wall_s()
    return [_row(source, now_s) for source in running(desk).signals()]


def _row(it: Source, now_s: int) -> SignalRow:
    state: Literal["good", "silent", "refused"] = "good"
    if it.silent_s(now_s):
        state = "silent"
    elif (it.refused_at_s or 0) > (it.heard_at_s or 0):
        state = "refused"
    return SignalRow(
        source=it.name,
        where=it.where,
        state=state,
        heard_at_s=_or_unset(it.heard_at_s),
        asked_at_s=_or_unset(it.asked_at_s),
        asked=it.asked_count,
        refused_at_s=_or_unset(it.refused_at_s),
        refused=it.refused_count,
        words=it.refused or UNSET,
    )


def _or_unset(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value


COMMANDS: Final[Commands] = {"power.signals": Question(PowerSignals, power_signals)}
