"""Meters over Modbus TCP: what is read of a real server, and of those that are away, wrong, or lie."""

import struct

import pytest
import trio
from sqlalchemy import select
from trio.testing import MockClock

from payouts.schemas.power import power_readings
from pool.books.store import Store
from pool.power.energy.meters import Meter, NewMeter, add_meter, take_readings
from pool.power.energy.modbus import (
    Address,
    MeterAway,
    Register,
    address_of,
    read_meter,
    registers_of,
)
from pool.power.energy.polling import POLL_S, REST_MAX_S, MeterPolling
from pool.power.energy.readings import Reading
from tests.fakes.modbus_meters import modbus_meter
from tests.histories.power import NOW_S, add_container

SPEC = "watts=holding:52:s32,counter_wh=holding:72:u32-le:x100"


def words(layout: str, value: float) -> list[int]:
    raw = struct.pack(layout, value)
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def test_a_meter_says_watts_and_what_its_counter_has() -> None:
    low_first = list(reversed(words(">I", 901_335)))
    with modbus_meter({52: words(">i", 1_312_000), 72: low_first}) as port:
        it = read_meter(address_of(f"127.0.0.1:{port}/1"), registers_of(SPEC), NOW_S)
        assert it == Reading(at_s=NOW_S, watts=1_312_000, counter_wh=90_133_500)
        with pytest.raises(MeterAway):  # registers that it has not
            read_meter(address_of(f"127.0.0.1:{port}/1"), registers_of("watts=holding:900:u16"), NOW_S)
    with pytest.raises(MeterAway, match="does not answer"):
        read_meter(Address("127.0.0.1", port, 1), registers_of(SPEC), NOW_S)


@pytest.mark.parametrize(
    ("spec", "said", "figure"),
    [
        ("watts=input:0:f32", words(">f", 1_312_000.75), 1_312_000),
        ("watts=input:0:f32:x1000", words(">f", 1.5), 1_500),
        ("watts=input:0:u16:/10", [12_345], 1_234),
        ("watts=input:0:s16", [0xFFFF], -1),  # refused by whoever takes it
        ("counter_wh=input:0:u64", words(">Q", 2**40), 2**40),
    ],
)
def test_figures_of_every_type_are_whole(spec: str, said: list[int], figure: int) -> None:
    (register,) = registers_of(spec)
    assert register.figure(said) == figure


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_figure_that_is_none_is_no_reading(value: float) -> None:
    (register,) = registers_of("watts=input:0:f32:x1000")
    with pytest.raises(MeterAway, match="watts is"):
        register.figure(words(">f", value))


@pytest.mark.parametrize(
    "spec",
    ["", "watts", "volts=input:1:u16", "watts=coil:1:u16", "watts=input:x:u16", "watts=input:1:u8",
     "watts=input:70000:u16", "watts=input:1:u16:y3", "watts=input:1:u16:x0", "watts=input:1:u16:x1:x1",
     "watts=input:1:u16,watts=input:2:u16"],
)  # fmt: skip
def test_what_is_no_register_is_refused_in_words(spec: str) -> None:
    with pytest.raises(ValueError, match=r"no register|twice"):
        registers_of(spec)


@pytest.mark.parametrize("text", ["", "host", "host:502", "host:0/1", "host:502/256", ":502/1", "host:x/1"])
def test_what_is_no_address_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port/unit"):
        address_of(text)
    assert address_of("[fe80::1]:502/7") == Address("fe80::1", 502, 7)


class MeterThatFallsSilent:
    """Answers but for a while."""

    def __init__(self, clock: MockClock) -> None:
        self.clock, self.asked_s, self.away, self.watts = clock, list[float](), False, 1_000

    def __call__(self, address: Address, registers: tuple[Register, ...], at_s: int) -> Reading:
        self.asked_s.append(self.clock.current_time())
        if self.away:
            raise MeterAway("it does not answer")
        return Reading(at_s=at_s, watts=self.watts)


def _add_meter(store: Store) -> Meter:
    with store.write() as connection:
        add_container(connection, "acme.c01", 1)
        new = NewMeter(
            name="m",
            kind="modbus",
            site="Bratsk",
            error_bps=50,
            max_kw=9,
            address="10.0.0.5:502/1",
            registers="watts=input:0:u16",
        )
        return add_meter(connection, new, by="olga", now_s=NOW_S)


@pytest.mark.sqlite_suffices
async def test_a_meter_is_read_once_a_minute_and_rests_longer_each_time_that_it_fails(
    store: Store, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    _add_meter(store)
    meter, began_s = MeterThatFallsSilent(autojump_clock), autojump_clock.current_time()
    polling = MeterPolling(
        store, read=meter, wall_clock=lambda: NOW_S + autojump_clock.current_time() - began_s
    )
    nursery.start_soon(polling.run)
    await trio.sleep(5 * POLL_S - 1)
    assert len(meter.asked_s) == 5
    meter.away = True
    await trio.sleep(3 * 3_600)
    rests = [b - a for a, b in zip(meter.asked_s[5:], meter.asked_s[6:], strict=False)]
    assert rests[:5] == [60.0, 120.0, 240.0, 480.0, REST_MAX_S]
    assert set(rests[5:]) == {REST_MAX_S}
    meter.away, meter.watts = False, 10_000  # more than the meter measures: it is no reading either
    await trio.sleep(2 * REST_MAX_S)
    meter.watts = 2_000
    await trio.sleep(2 * REST_MAX_S)
    with store.read() as connection:
        readings = connection.execute(select(power_readings.c.at_s, power_readings.c.watts)).all()
    said = [watts for _, watts in readings]
    assert said[:5] == [1_000] * 5
    assert set(said[5:]) == {2_000}
    assert len(said) > 20  # it is read once a minute again


@pytest.mark.sqlite_suffices
async def test_a_reading_that_is_refused_rests_no_meter(
    store: Store, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """There is one already too near to it, of half: the next one a minute later is the meter's own again."""
    it = _add_meter(store)
    with store.write() as connection:
        halves = [Reading(at_s=NOW_S + at, watts=500) for at in (55, 115)]
        take_readings(connection, it, halves, by="omar", now_s=NOW_S)
    meter, began_s = MeterThatFallsSilent(autojump_clock), autojump_clock.current_time()
    polling = MeterPolling(
        store, read=meter, wall_clock=lambda: NOW_S + autojump_clock.current_time() - began_s
    )
    nursery.start_soon(polling.run)
    await trio.sleep(5 * POLL_S - 1)
    assert [it - began_s for it in meter.asked_s] == [0.0, 60.0, 120.0, 180.0, 240.0]
    with store.read() as connection:
        of = power_readings.c
        query = select(of.at_s, of.watts).where(of.taken_by == "modbus").order_by(of.at_s)
        taken = [tuple(row) for row in connection.execute(query)]
    assert taken == [(NOW_S, 1_000), (NOW_S + 180, 1_000), (NOW_S + 240, 1_000)]
