"""A call for curtailment, as programs write it: one format, for the watched file and for the webhook.

    reference = "grid-0412"           whoever calls has one for each event; the same again is the same event
    site = "north"                    or "": all of them
    target = "limit"                  with limit_kw; or share, with percent; or everything
    limit_kw = 1500
    from = 2026-11-27T16:00:00Z
    until = 2026-11-27T18:00:00Z      a signal always says when it is over
    ramp_s = 300                      within which the target is to be met

Every line is needed and nothing else is taken: what was cut off is no other call. Must not know: who calls,
and what he may ask.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

VERSION: Final = 1
REFERENCE: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,95}$"
SITE_CHARS_MAX: Final = 64
WORDS_CHARS_MAX: Final = 200  # of a mistake that is told
LIMIT_KW_MAX: Final = 10_000_000  # ten times the largest site that there is
RAMP_S_MAX: Final = 4 * 3600
BPS_PER_PERCENT: Final = 100

Reference = Annotated[str, Meta(pattern=REFERENCE, description="The caller's own name for the event")]
Target = Literal["limit", "share", "everything"]


class BadCall(Exception):
    """Nothing can be asked by that; the text says why, in words that are safe to show."""


class Call(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of them, as it is written."""

    reference: Reference
    site: Annotated[str, Meta(max_length=SITE_CHARS_MAX, description="Its name; empty: all of them")]
    target: Target
    begins: Annotated[datetime, Meta(tz=True)] = msgspec.field(name="from")
    until: Annotated[datetime, Meta(tz=True)]
    ramp_s: Annotated[int, Meta(ge=0, le=RAMP_S_MAX, description="Within which the target is to be met")]
    limit_kw: Annotated[int, Meta(ge=0, le=LIMIT_KW_MAX)] | UnsetType = UNSET
    percent: Annotated[int, Meta(ge=1, le=100, description="Of the site's power less")] | UnsetType = UNSET


class Called(msgspec.Struct, frozen=True, kw_only=True):
    """The same, in the books' words: `target_value` is W of a limit, bps of a share."""

    reference: str
    site: str
    target: str
    target_value: int | None
    from_s: int
    until_s: int
    ramp_s: int


def called(call: Call) -> Called:
    """Raises BadCall where it does not hold together."""
    value: int | None = None
    if (call.target == "limit") != (call.limit_kw is not UNSET):
        raise BadCall(f"{call.reference}: limit_kw is for target = limit, which needs it")
    if (call.target == "share") != (call.percent is not UNSET):
        raise BadCall(f"{call.reference}: percent is for target = share, which needs it")
    if isinstance(call.limit_kw, int):
        value = call.limit_kw * 1000
    elif isinstance(call.percent, int):
        value = call.percent * BPS_PER_PERCENT
    from_s, until_s = int(call.begins.timestamp()), int(call.until.timestamp())
    if until_s <= from_s:
        raise BadCall(f"{call.reference}: until is not later than from")
    return Called(
        reference=call.reference,
        site=call.site,
        target=call.target,
        target_value=value,
        from_s=from_s,
        until_s=until_s,
        ramp_s=call.ramp_s,
    )


def in_words(error: object) -> str:
    """What a decoder says, or somebody else: cut, and in one line."""
    return "".join(it if it.isprintable() else "?" for it in str(error)[:WORDS_CHARS_MAX])
