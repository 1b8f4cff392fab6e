"""The operator's commands for meters and their readings.

Which meter counts, and who may push for it, decides what energy is charged for. Must not know: files,
terminals, how a meter is read.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from payouts.schemas.power import power_readings
from pool.admin.command import Change, Commands, Guarded, Question
from pool.admin.desk import Desk, OperatorDesk, valid, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.admin.power.now import power_changed
from pool.books.changes.changes import State
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Role
from pool.people.users import find_user
from pool.power.energy.meters import (
    Meter,
    NewMeter,
    add_meter,
    find_meter,
    list_meters,
    measured_by,
    readings_between,
    remove_meter,
    take_readings,
)
from pool.power.energy.modbus import address_of, registers_of
from pool.power.energy.readings import GAP_S, Reading

READINGS_MAX: Final = 500  # of one import: a command has 64 KiB
SHOWN_S: Final = 86_400


class MeterAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Before a site, or before containers (tenant.container). `error_bps` is of its class, `max_kw` what it
    can measure, `rolls_at_kwh` where its counter begins at 0 again."""

    name: str
    kind: str
    site: str | None = None
    containers: tuple[str, ...] = ()
    error_bps: int
    max_kw: int
    rolls_at_kwh: int | None = None
    address: str | None = None
    registers: str | None = None
    pusher: str | None = None


class MeterList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class MeterShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class MeterRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class MeterImport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of them or none; one that is there already is no other."""

    name: str
    readings: tuple[Reading, ...]


class MeterRow(Meter, frozen=True, kw_only=True):
    """With its newest reading."""

    last_at_s: int | None
    last_watts: int | None
    last_counter_wh: int | None


class MeterGap(msgspec.Struct, frozen=True, kw_only=True):
    from_s: int
    until_s: int
    why: str


class MeterDay(MeterRow, frozen=True, kw_only=True):
    """And what it measured within a day, and when it did not."""

    joules_day: int
    covered_s: int
    gaps: tuple[MeterGap, ...]


class ReadingsTaken(msgspec.Struct, frozen=True):
    meter: str
    taken: int  # that were new


def meter_add(desk: OperatorDesk, it: MeterAdd) -> MeterRow:
    rolls = None if it.rolls_at_kwh is None else it.rolls_at_kwh * 1000
    fields = {name: getattr(it, name) for name in MeterAdd.__struct_fields__ if name != "rolls_at_kwh"}
    new = valid(lambda: NewMeter(**fields, rolls_at_wh=rolls))
    if new.kind == "modbus":
        valid(lambda: (address_of(new.address or ""), registers_of(new.registers or "")))

    def change(connection: Connection) -> MeterRow:
        if new.pusher is not None and Role(find_user(connection, new.pusher).role) is Role.TENANT:
            raise RegistryError(f"{new.pusher} is a tenant's: nobody pushes what he is charged by")
        return _row(connection, add_meter(connection, new, by=desk.by, now_s=wall_s()))

    row = desk.write(change)
    power_changed(desk)
    return row


def meter_list(desk: Desk, it: MeterList) -> Page[MeterRow]:
    """Meters that are there, each with its newest reading."""
    rows = desk.read(lambda connection: [_row(connection, one) for one in list_meters(connection)])
    return page_of(it, rows, lambda row: (row.id,))


def meter_show(desk: Desk, it: MeterShow) -> MeterDay:
    """A meter, what it measured within a day, and when it did not."""
    now_s = wall_s()

    def read(connection: Connection) -> MeterDay:
        row = _row(connection, find_meter(connection, it.name))
        readings = readings_between(connection, row.id, now_s - SHOWN_S - GAP_S, now_s)
        until_s = min(now_s, row.last_at_s or now_s)
        measured = measured_by(row, readings, until_s - SHOWN_S, until_s)
        return MeterDay(
            **msgspec.structs.asdict(row),
            joules_day=measured.joules,
            covered_s=measured.covered_s,
            gaps=tuple(MeterGap(**msgspec.structs.asdict(gap)) for gap in measured.gaps),
        )

    return desk.read(read)


def meter_remove(desk: OperatorDesk, it: MeterRemove) -> MeterRow:
    """It stands there no longer; what it read stays."""
    row = desk.write(
        lambda connection: _row(connection, remove_meter(connection, it.name, by=desk.by, now_s=wall_s()))
    )
    power_changed(desk)
    return row


def meter_import(desk: OperatorDesk, it: MeterImport) -> ReadingsTaken:
    """Take readings of a table, for a meter that is read by tables and in no other way."""
    if len(it.readings) > READINGS_MAX:
        raise RegistryError(f"{READINGS_MAX} readings at most are taken by one command")

    def take(connection: Connection) -> int:
        meter = find_meter(connection, it.name)
        if meter.kind != "csv":
            raise RegistryError(f"no table is taken for the meter {meter.name}: it is read by {meter.kind}")
        return take_readings(connection, meter, it.readings, by=desk.by, now_s=wall_s())

    taken = desk.write(take)
    power_changed(desk)
    return ReadingsTaken(it.name, taken)


def _row(connection: Connection, meter: Meter) -> MeterRow:
    of = power_readings.c
    newest = select(of.at_s, of.watts, of.counter_wh).where(of.meter_id == meter.id).order_by(of.at_s.desc())
    last = connection.execute(newest.limit(1)).one_or_none()
    return MeterRow(
        **msgspec.structs.asdict(meter),
        last_at_s=None if last is None else last.at_s,
        last_watts=None if last is None else last.watts,
        last_counter_wh=None if last is None else last.counter_wh,
    )


def named_meter(it: MeterAdd | MeterRemove | MeterImport) -> str:
    return it.name


def meter_state(connection: Connection, subject: str) -> State:
    try:
        return msgspec.to_builtins(find_meter(connection, subject))  # type: ignore[no-any-return]
    except RegistryError:
        return None


def readings_state(connection: Connection, subject: str) -> State:
    """How many there are: they are kept themselves."""
    try:
        meter = find_meter(connection, subject)
    except RegistryError:
        return None
    of = power_readings.c
    count = select(func.count(), func.max(of.at_s)).where(of.meter_id == meter.id)
    there, last = connection.execute(count).one()
    return {"readings": there, "last_at_s": last}


COMMANDS: Final[Commands] = {
    "meter.add": Guarded(MeterAdd, meter_add, named_meter, meter_state, Role.PAYER, makes_books=False),
    "meter.list": Question(MeterList, meter_list),
    "meter.show": Question(MeterShow, meter_show),
    "meter.remove": Guarded(
        MeterRemove, meter_remove, named_meter, meter_state, Role.PAYER, makes_books=False
    ),
    "meter.import": Change(
        MeterImport, meter_import, named_meter, readings_state, Role.OPERATOR, makes_books=False
    ),
}
