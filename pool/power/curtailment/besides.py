"""What a site draws besides its machines' work, where a meter of the site counts: fans, pumps, machines that
nobody knows the power of, and those that are off and draw all the same.

A limit is of the whole site. So what the meter has of a quarter of an hour, without what accepted work takes
in the same minutes and what paused machines may draw, is drawn besides, and stays when machines go. Where the
meter has nothing of the last minutes, or many machines' shares of those are not here yet (a line that is cut
would make fans of them), an older quarter of an hour counts, and then what was known last.

A meter may lie. It is never believed less than what work proves: who says too little has nothing besides, and
less than half of the work is no reading. Who says too much has more machines of its site off, all of them at
most, for as long as somebody's limit lasts; it can say no more than a payer said that it measures. Must not
know: events.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection

from pool.power.curtailment.baseline import BEHIND_MIN
from pool.power.curtailment.candidates import Candidate
from pool.power.energy.energies import BELIEVED_AT_LEAST
from pool.power.energy.meters import Meter, list_meters, measured_by, readings_between
from pool.power.energy.readings import GAP_S, STILL_S, stands_still
from pool.power.energy.work import joules_of, work_of_minutes

SPAN_MIN: Final = 15  # of a container's machines that is some 3,000 shares: known within 4 percent
BACK_MIN: Final = (0, 5, 15, 30)  # minutes of the hour before are kept apart so long
# Of the last of these minutes there is nearly as much work as of all of them; else it is not all here.
LAST_MIN: Final = 2
HEARD_PERCENT: Final = 80
SAME_BPS: Final = 200  # of the site's power: what meters and shares say is not the same from minute to minute
BPS: Final = 10_000


class Besides(msgspec.Struct, frozen=True):
    """`by`: the meters that it is known by; empty where none is."""

    watts: int = 0
    by: str = ""

    @property
    def words(self) -> str:
        return f"{self.watts // 1000} kW besides machines, by {self.by}" if self.by else ""


NOTHING: Final = Besides()


def besides(connection: Connection, site: str, machines: Sequence[Candidate], now_s: int) -> Besides | None:
    """Of a site (empty: of all that have a meter); None where there are meters, and none of them counts."""
    meters = [it for it in list_meters(connection) if it.site_id is not None and site in ("", it.site)]
    if not meters:
        return NOTHING
    found: dict[str, int] = {}
    for back in BACK_MIN:
        left = [it for it in meters if it.name not in found]
        if not left:
            break
        until = now_s // 60 - BEHIND_MIN - back
        of_sites = _minutes(connection, machines, until)
        for it in left:
            of = of_sites.get(it.site or "", _Minutes())
            if of.heard and (watts := _watts(connection, it, of.drawn_j, until)) is not None:
                found[it.name] = watts
    return Besides(sum(found.values()), ", ".join(sorted(found))) if found else None


def settled(found: Besides | None, before: Besides, site_watts: int) -> Besides:
    """What counts, of what was found and what counted before."""
    if found is None:
        return before
    same = abs(found.watts - before.watts) * BPS <= SAME_BPS * site_watts
    return before if same and found.by == before.by else found


class _Minutes(msgspec.Struct):
    """Of a site. `drawn_j`: what work takes, and what may be drawn by who is off; hashes are of machines that
    no event has."""

    drawn_j: int = 0
    hashes: int = 0
    last_hashes: int = 0
    mined_before: bool = False

    @property
    def heard(self) -> bool:
        """Whether the shares of its last minutes are here."""
        if not self.hashes:
            return not self.mined_before
        return self.last_hashes * SPAN_MIN * 100 >= self.hashes * LAST_MIN * HEARD_PERCENT


def _minutes(connection: Connection, machines: Sequence[Candidate], until: int) -> Mapping[str, _Minutes]:
    """By site."""
    work = work_of_minutes(connection, until - SPAN_MIN, until)
    last = work_of_minutes(connection, until - LAST_MIN, until)
    found: dict[str, _Minutes] = {}
    for it in machines:
        of = found.setdefault(it.site, _Minutes())
        hashes = work[it.worker].hashes if it.worker in work else 0
        of.drawn_j += joules_of(hashes, it.mj_per_th)
        if it.held_off:
            of.drawn_j += it.idle_watts * SPAN_MIN * 60
        if it.owner is None:
            of.hashes += hashes
            of.last_hashes += last[it.worker].hashes if it.worker in last else 0
            of.mined_before |= it.pace.shares > 0
    return found


def _watts(connection: Connection, meter: Meter, drawn_j: int, until_minute: int) -> int | None:
    """None: it does not count."""
    until_s, span_s = until_minute * 60, SPAN_MIN * 60
    readings = readings_between(connection, meter.id, until_s - STILL_S - GAP_S, until_s + GAP_S)
    measured = measured_by(meter, readings, until_s - span_s, until_s)
    if measured.covered_s < span_s or stands_still(readings) or measured.joules * BELIEVED_AT_LEAST < drawn_j:
        return None
    return max(measured.joules - drawn_j, 0) // span_s
