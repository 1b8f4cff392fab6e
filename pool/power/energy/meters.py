"""Meters as rows: before which site or containers they stand, how good they are, and what they read.

A reading is taken once, for a moment: the same one again is no other, and another one for that moment is
refused. None is taken of a moment to come, nor of an hour that is over for so long that it may be booked.
Functions on a connection inside the caller's transaction, which for changes must be the only writer.

Must not know: how readings get here, what becomes of them.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from payouts.book_time import book_time
from payouts.rates import BPS
from payouts.schemas.many import bound, selected
from payouts.schemas.money import containers, sites, tenants
from payouts.schemas.power import METER_KINDS, power_meter_containers, power_meters, power_readings
from pool.fleet.registry_error import RegistryError
from pool.power.energy.places import container_named, site_named
from pool.power.energy.readings import Metered, Reading, metered

METERS_MAX: Final = 1_000  # that are there: ten for each site, or one for each container of ten sites
CONTAINERS_MAX: Final = 1_000  # before which one stands
NAME_CHARS_MAX: Final = 63
MAX_KW_MAX: Final = 10**7  # 10 GW
# Clocks differ; what is further ahead would be a reading that nobody has taken.
AHEAD_S_MAX: Final = 120
# An hour is booked when it is over for an hour and more: by then all of its readings are there, or it goes
# without them. A table of last month proves nothing that this month's bill could be made of.
LATE_S_MAX: Final = 3_600
# Two in less time are no better than one: a meter is read once a minute.
APART_S_MIN: Final = 10
READINGS_AT_ONCE: Final = 10_000  # a week of minutes
FAR_S: Final = 1 << 40
KEPT_S: Final = 400 * 86_400  # as long as hours of work are kept by the hour


class NewMeter(msgspec.Struct, frozen=True, kw_only=True):
    """Before a site, or before containers (tenant.container). Raises ValueError for what cannot be."""

    name: str
    kind: str
    site: str | None = None
    containers: tuple[str, ...] = ()
    error_bps: int
    max_kw: int
    rolls_at_wh: int | None = None
    address: str | None = None
    registers: str | None = None
    pusher: str | None = None

    def __post_init__(self) -> None:
        plain = self.name.replace("-", "").replace("_", "")
        if not (plain.isascii() and plain.isalnum()) or len(self.name) > NAME_CHARS_MAX:
            raise ValueError(f"a meter has a name of up to {NAME_CHARS_MAX} letters, digits, - and _")
        if self.kind not in METER_KINDS:
            raise ValueError(f"a meter is read by {', '.join(METER_KINDS)}")
        if (self.site is None) == (not self.containers):
            raise ValueError("a meter stands before one site, or before containers")
        if len(self.containers) > CONTAINERS_MAX:
            raise ValueError(f"a meter stands before {CONTAINERS_MAX} containers at most")
        if not 0 <= self.error_bps <= BPS:
            raise ValueError("the class of a meter is 0 to 100 percent")
        if not 1 <= self.max_kw <= MAX_KW_MAX:
            raise ValueError(f"a meter measures up to 1 to {MAX_KW_MAX} kW")
        if self.rolls_at_wh is not None and not 1 <= self.rolls_at_wh <= 10**15:
            raise ValueError("a counter begins at 0 again behind 1 to 10^15 Wh")
        if (self.kind == "modbus") != (self.address is not None):
            raise ValueError("Modbus has an address, host:port/unit, and nothing else has")
        if self.kind != "push" and self.pusher is not None:
            raise ValueError("who may push is said of a meter that is pushed for")


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """One meter. `containers` are numbers, `places` the names of those or of its site."""

    id: int
    name: str
    kind: str
    site_id: int | None
    site: str | None
    containers: tuple[int, ...]
    places: tuple[str, ...]
    error_bps: int
    max_watts: int
    rolls_at_wh: int | None
    address: str | None
    registers: str | None
    pusher: str | None
    created_at_s: int
    created_by: str
    removed_at_s: int | None
    removed_by: str | None


def list_meters(connection: Connection, *, at_s: int | None = None) -> tuple[Meter, ...]:
    """Those that are there, at that moment or now, by number."""
    of = power_meters.c
    there: ColumnElement[bool] = of.removed_at_s.is_(None)
    if at_s is not None:
        there = (of.created_at_s <= at_s) & (there | (of.removed_at_s > at_s))
    return _meters(connection, there)


def find_meter(connection: Connection, name: str) -> Meter:
    """Removed or not. Raises RegistryError."""
    found = _meters(connection, power_meters.c.name == name)
    if not found:
        raise RegistryError(f"there is no meter {name!r:.80}: angara power meter list has them")
    return found[0]


def _meters(connection: Connection, which: ColumnElement[bool]) -> tuple[Meter, ...]:
    before: dict[int, list[tuple[int, str]]] = {}
    named = (
        select(
            power_meter_containers.c.meter_id, containers.c.id, tenants.c.name, containers.c.name.label("box")
        )
        .join(containers, containers.c.id == power_meter_containers.c.container_id)
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .order_by(containers.c.id)
    )
    for meter_id, number, tenant, box in connection.execute(named):
        before.setdefault(meter_id, []).append((number, f"{tenant}.{box}"))
    query = (
        select(power_meters, sites.c.name.label("site"))
        .outerjoin(sites, sites.c.id == power_meters.c.site_id)
        .where(which)
        .order_by(power_meters.c.id)
    )
    columns = [column.name for column in power_meters.columns]
    found = []
    for row in connection.execute(query):
        boxes = before.get(row.id, [])
        found.append(
            Meter(
                **{name: row._mapping[name] for name in columns},
                site=row.site,
                containers=tuple(number for number, _ in boxes),
                places=tuple(name for _, name in boxes) or (str(row.site),),
            )
        )
    return tuple(found)


def add_meter(connection: Connection, new: NewMeter, *, by: str, now_s: int) -> Meter:
    """Raises RegistryError."""
    if connection.scalar(select(power_meters.c.id).where(power_meters.c.name == new.name)) is not None:
        raise RegistryError(f"there is a meter {new.name!r} already, removed or not")
    there = list_meters(connection)
    if len(there) >= METERS_MAX:
        raise RegistryError(f"there are {METERS_MAX} meters already")
    site_id = None if new.site is None else site_named(connection, new.site)
    boxes = list(dict.fromkeys(container_named(connection, it) for it in new.containers))
    of_sites = select(containers.c.site_id).where(containers.c.id.in_(boxes)).distinct()
    if len(connection.scalars(of_sites).all()) > 1:
        raise RegistryError(
            "a meter stands before containers of one site: of two, what is drawn counts twice"
        )
    for it in there:
        if (site_id is not None and it.site_id == site_id) or set(boxes) & set(it.containers):
            raise RegistryError(f"the meter {it.name} stands there already: what is drawn counts once")
    now_s = book_time(connection, now_s)
    row = insert(power_meters).values(
        name=new.name,
        kind=new.kind,
        site_id=site_id,
        error_bps=new.error_bps,
        max_watts=new.max_kw * 1000,
        rolls_at_wh=new.rolls_at_wh,
        address=new.address,
        registers=new.registers,
        pusher=new.pusher,
        created_at_s=now_s,
        created_by=by,
    )
    number = int(connection.execute(row.returning(power_meters.c.id)).scalar_one())
    if boxes:
        connection.execute(
            insert(power_meter_containers), [{"meter_id": number, "container_id": it} for it in boxes]
        )
    return find_meter(connection, new.name)


def remove_meter(connection: Connection, name: str, *, by: str, now_s: int) -> Meter:
    """It stands there no longer; what it read stays. Raises RegistryError."""
    it = find_meter(connection, name)
    if it.removed_at_s is not None:
        raise RegistryError(f"the meter {name!r} is removed already")
    gone = update(power_meters).where(power_meters.c.id == it.id)
    connection.execute(gone.values(removed_at_s=book_time(connection, now_s), removed_by=by))
    return find_meter(connection, name)


def take_readings(
    connection: Connection, meter: Meter, new: Sequence[Reading], *, by: str, now_s: int
) -> int:
    """All of them or none; how many were new. Raises RegistryError."""
    if meter.removed_at_s is not None:
        raise RegistryError(f"the meter {meter.name} is removed")
    if len(new) > READINGS_AT_ONCE:
        raise RegistryError(f"{READINGS_AT_ONCE} readings at most are taken at once")
    said: dict[int, Reading] = {}
    for it in sorted(new, key=lambda it: it.at_s):
        _check(meter, it, now_s)
        if said.setdefault(it.at_s, it) != it:
            raise RegistryError(f"{meter.name}: two readings for one moment, {it.at_s}, that differ")
    if not said:
        return 0
    first, last = min(said), max(said)
    there = {
        it.at_s: it for it in readings_between(connection, meter.id, first - APART_S_MIN, last + APART_S_MIN)
    }
    fresh = [it for it in said.values() if it.at_s not in there]
    for it in said.values():
        if there.get(it.at_s, it) != it:
            raise RegistryError(
                f"{meter.name}: there is another reading for {it.at_s}, and one never changes"
            )
    times = sorted({*there, *said})
    for a, b in pairwise(times):
        if b - a < APART_S_MIN and (a not in there or b not in there):
            raise RegistryError(
                f"{meter.name}: readings are {APART_S_MIN} s apart at least, {a} and {b} are not"
            )
    if fresh:
        rows = [
            {
                "meter_id": meter.id,
                "at_s": it.at_s,
                "watts": it.watts,
                "counter_wh": it.counter_wh,
                "taken_at_s": now_s,
                "taken_by": by,
            }
            for it in fresh
        ]
        names = list(rows[0])
        query = selected(power_readings, names)[connection.dialect.name]
        connection.execute(
            insert(power_readings).from_select(names, query, include_defaults=False), bound(rows)
        )
    return len(fresh)


def _check(meter: Meter, it: Reading, now_s: int) -> None:
    if it.watts is None and it.counter_wh is None:
        raise RegistryError(f"{meter.name}: a reading has watts, or what the counter has, or both")
    if it.at_s > now_s + AHEAD_S_MAX:
        raise RegistryError(f"{meter.name}: {it.at_s} is yet to come: see to the clock of who reads it")
    if it.at_s < earliest_s(now_s):
        raise RegistryError(
            f"{meter.name}: {it.at_s} is of an hour that is over and may be booked: what is late is not taken"
        )
    if it.watts is not None and not 0 <= it.watts <= meter.max_watts:
        raise RegistryError(f"{meter.name}: {it.watts} W is not what it measures, 0 to {meter.max_watts} W")
    if it.counter_wh is not None and not 0 <= it.counter_wh < (meter.rolls_at_wh or 1 << 62):
        raise RegistryError(f"{meter.name}: its counter cannot have {it.counter_wh} Wh")


def earliest_s(now_s: int) -> int:
    """The beginning of the hour that readings are taken of, at the earliest."""
    return (now_s - LATE_S_MAX) // 3600 * 3600


def readings_between(connection: Connection, meter_id: int, from_s: int, until_s: int) -> list[Reading]:
    """Both ends among them, by time."""
    of = power_readings.c
    query = (
        select(of.at_s, of.watts, of.counter_wh)
        .where(of.meter_id == meter_id, of.at_s.between(from_s, until_s))
        .order_by(of.at_s)
    )
    return [Reading(at_s=at, watts=watts, counter_wh=wh) for at, watts, wh in connection.execute(query)]


def measured_by(meter: Meter, readings: Sequence[Reading], from_s: int, until_s: int) -> Metered:
    """What it measured between two moments, by its readings from GAP_S before to GAP_S behind them."""
    return metered(
        readings,
        from_s,
        until_s,
        max_watts=meter.max_watts,
        rolls_at_wh=meter.rolls_at_wh,
    )


def newest_readings(connection: Connection, from_s: int) -> Mapping[int, list[Reading]]:
    """Of every meter that is there those since then, by its number."""
    meters = list_meters(connection)
    return {it.id: readings_between(connection, it.id, from_s, FAR_S) for it in meters}


def any_readings_before(connection: Connection, now_s: int) -> bool:
    """Whether there is any to forget."""
    of = power_readings.c
    for number in connection.scalars(select(power_meters.c.id)).all():
        oldest = select(of.at_s).where(of.meter_id == number).order_by(of.at_s).limit(1)
        if (at_s := connection.scalar(oldest)) is not None and at_s < now_s - KEPT_S:
            return True
    return False


def forget_readings(connection: Connection, now_s: int) -> int:
    """Those that are older than anything is asked by the hour; how many."""
    of, gone = power_readings.c, 0
    for number in connection.scalars(select(power_meters.c.id)).all():
        old = delete(power_readings).where(of.meter_id == number, of.at_s < now_s - KEPT_S)
        gone += connection.execute(old).rowcount
    return gone
