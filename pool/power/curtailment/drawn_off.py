"""Machines that are off by their work, and draw: they mine for somebody else, or never stopped, and only a
meter before their containers has it.

Silence here is all that work says of a machine that is off. So where a meter stands before containers, what
it was given less while they were off is held against what their work says: what is missing of that, beyond
all errors, those draw that count as off behind it. Fans that run on, and machines of which nobody knows, were
before the meter in the hour before too, and are not in the difference; what an operator switches on in the
place of machines, to keep a hall warm, is: it is drawn. Where a meter does not count, or a machine behind it
has mined of whose power nothing is known, nothing is said.

A meter that lies upwards has others asked and who is off said to save less, a tenant of its own alone; it
says no more than it may. Must not know: what becomes of what is found.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from payouts.schemas.money import containers, workers
from pool.books.journal.positions import taken_until_s
from pool.power.curtailment.baseline import BEHIND_MIN, window, work_before
from pool.power.curtailment.schema import power_event_work
from pool.power.energy.bounds import BPS
from pool.power.energy.efficiencies import Efficiencies, efficiencies_at
from pool.power.energy.meters import Meter, list_meters, measured_by, readings_between
from pool.power.energy.readings import GAP_S, STILL_S, stands_still
from pool.power.energy.work import MJ_HASHES_PER_J_TH, Work, spread_bps, work_of_span

SPAN_MIN: Final = 15  # of a container's machines that is some 3,000 shares
SPAN_S_MIN: Final = 300  # of an event that is over: in less a meter that is read once a minute says little


class Off(msgspec.Struct, frozen=True):
    """A machine that was off: what that saves in all of the time, and what it may draw all the same."""

    saves_watts: int
    idle_watts: int


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """`watts` of the `of_watts` that these machines save by their work are drawn, by this meter. `shared`:
    of several tenants, so that nobody knows whose."""

    meter: str
    machines: frozenset[int]
    watts: int
    of_watts: int
    shared: bool

    @property
    def saved_bps(self) -> int:
        """Of what they save by work what they save; rounded up."""
        return -(-(self.of_watts - self.watts) * BPS // self.of_watts)


def lately(connection: Connection, now_s: int) -> tuple[int, int]:
    """The last quarter of an hour whose shares are in the books, in seconds: by the shares of an edge that is
    behind its machines would seem to rest, and draw."""
    taken_s = taken_until_s(connection)
    until = min(now_s // 60 - BEHIND_MIN, now_s if taken_s is None else taken_s // 60)
    return (until - SPAN_MIN) * 60, until * 60


def drawn_off(
    connection: Connection,
    event_id: int,
    site: str,
    asked_at_s: int,
    off: Mapping[int, Off],
    span: tuple[int, int],
    now_s: int,
) -> list[Drawn]:
    """Of an event that was asked for then, between these seconds (whole minutes count)."""
    span = -(-span[0] // 60) * 60, span[1] // 60 * 60
    meters = [it for it in list_meters(connection, at_s=asked_at_s) if it.removed_at_s is None]
    behind = {it.id: _machines(connection, it) for it in meters if it.site_id is None}
    meters = [it for it in meters if behind.get(it.id, {}).keys() & off.keys()]
    if not meters or span[1] - span[0] < SPAN_S_MIN:
        return []
    known = efficiencies_at(connection, asked_at_s)
    before = _before(connection, event_id, site, asked_at_s, now_s)
    found = []
    for meter in meters:
        of_tenants = behind[meter.id]
        its = {number: off[number] for number in of_tenants.keys() & off.keys()}
        watts = _missing(connection, meter, list(of_tenants), its, known, before, window(asked_at_s), span)
        saves = sum(it.saves_watts for it in its.values())
        if watts > 0 and saves > 0:
            found.append(
                Drawn(
                    meter=meter.name,
                    machines=frozenset(its),
                    watts=min(watts, saves),
                    of_watts=saves,
                    shared=len(set(of_tenants.values())) > 1,
                )
            )
    return found


def _machines(connection: Connection, meter: Meter) -> dict[int, int]:
    """Of its containers, with their tenants."""
    query = select(workers.c.id, workers.c.tenant_id).join(
        containers, containers.c.id == workers.c.container_id
    )
    rows = connection.execute(query.where(containers.c.id.in_(meter.containers)))
    return {row.id: row.tenant_id for row in rows}


def _before(
    connection: Connection, event_id: int, site: str, asked_at_s: int, now_s: int
) -> Mapping[int, Work]:
    """What every machine did in the hour before, as the event has it."""
    of = power_event_work.c
    rows = connection.execute(select(power_event_work).where(of.event_id == event_id)).all()
    noted = [(row.worker_id, row.difficulty_log2, int(row.shares)) for row in rows]
    if not noted:
        work = work_before(connection, site, asked_at_s, now_s)
        noted = [(it, log2, shares) for it, of_it in work.items() for log2, shares in of_it.items()]
    found: dict[int, Work] = {}
    for worker, log2, shares in noted:
        found.setdefault(worker, Work()).add(shares, log2)
    return found


class _Watts(msgspec.Struct, frozen=True):
    """What work says, in W; by how much chance has it wrong, and nameplates."""

    watts: int
    chance_watts: int
    tolerance_watts: int


def _missing(
    connection: Connection,
    meter: Meter,
    behind: Sequence[int],
    off: Mapping[int, Off],
    known: Efficiencies,
    before: Mapping[int, Work],
    earlier: tuple[int, int],
    now: tuple[int, int],
) -> int:
    """How much less the meter was given than work says that it should have been; nothing where it does not
    count."""
    was_read, is_read = (_read(connection, meter, *it) for it in (earlier, now))
    did = work_of_span(connection, behind, now[0] // 60, now[1] // 60)
    was = _watts({it: before[it] for it in behind if it in before}, known, earlier[1] - earlier[0])
    does = _watts(did, known, now[1] - now[0])
    if was_read is None or is_read is None or was is None or does is None:
        return 0
    by_work = was.watts - does.watts - sum(it.idle_watts for it in off.values())
    errors = was.chance_watts + does.chance_watts + was.tolerance_watts + meter.error_bps * was_read // BPS
    return by_work - (was_read - is_read) - errors


def _read(connection: Connection, meter: Meter, from_s: int, until_s: int) -> int | None:
    """W; None: it does not count."""
    readings = readings_between(connection, meter.id, from_s - max(STILL_S, GAP_S), until_s + GAP_S)
    measured = measured_by(meter, readings, from_s, until_s)
    if measured.covered_s < until_s - from_s or stands_still([it for it in readings if it.at_s <= until_s]):
        return None
    return measured.joules // (until_s - from_s)


def _watts(work: Mapping[int, Work], known: Efficiencies, seconds: int) -> _Watts | None:
    """None: a machine has mined of which nothing is known."""
    total = squares = tolerance = 0
    for worker, its in work.items():
        efficiency = known.get(worker)
        if efficiency is None:
            return None
        mj = efficiency.mj_per_th
        total += mj * its.hashes
        squares += mj * mj * its.squares
        tolerance += mj * its.hashes * efficiency.error_bps
    watts = total // MJ_HASHES_PER_J_TH // seconds
    return _Watts(
        watts=watts,
        chance_watts=watts * spread_bps(total, squares) // BPS if total else 0,
        tolerance_watts=watts * (tolerance // total) // BPS if total else 0,
    )


def words_of(drawn: Collection[Drawn]) -> str:
    """For whoever looks at an event."""
    return ", ".join(
        f"{it.meter} has {it.watts // 1000} of {it.of_watts // 1000} kW of {len(it.machines)} machines that"
        " are off by work"
        for it in drawn
    )
