"""Meters that speak Modbus TCP: where one is, what is in which of its registers, and a reading of it.

    address     10.0.0.5:502/1                       host:port/unit
    registers   watts=input:52:s32,counter_wh=input:72:u32:x100

A register is `holding` or `input`, its number as the protocol counts (from 0), u16, s16, u32, s32, u64, f32
or the same with `-le` where the low word comes first, and what a count of it is worth: x100, or /10.

A reading blocks, for five times TIMEOUT_S at most: to connect, and two for each of two answers that come byte
by byte. What a device says is a figure and no more: whoever takes it looks at whether it can be. Must not
know: which meters there are, the database.
"""

import math
import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from pool.power.energy.readings import Reading

TIMEOUT_S: Final = 3.0  # of a connection, and of each question: a meter answers in a tenth
WORDS: Final = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "f32": 2, "u64": 4}
FORMATS: Final = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "f32": ">f", "u64": ">Q"}
FIELDS: Final = ("watts", "counter_wh")
FIGURE_MAX: Final = 1 << 62
SCALE_MAX: Final = 10**9
HOST_CHARS_MAX: Final = 253


class MeterAway(Exception):
    """It did not answer, or said something that is no reading; in words."""


class Address(msgspec.Struct, frozen=True):
    host: str
    port: int
    unit: int


class Register(msgspec.Struct, frozen=True, kw_only=True):
    field: str
    kind: str  # holding, input
    number: int
    type: str
    low_first: bool
    times: int
    by: int

    @property
    def words(self) -> int:
        return WORDS[self.type]

    def figure(self, words: Sequence[int]) -> int:
        """Whole, towards zero. Raises MeterAway for what is none."""
        ordered = list(reversed(words)) if self.low_first else words
        raw = struct.pack(f">{len(ordered)}H", *ordered)
        (value,) = struct.unpack(FORMATS[self.type], raw)
        if isinstance(value, float):
            if not math.isfinite(value) or abs(value) >= FIGURE_MAX // self.times:
                raise MeterAway(f"{self.field} is {value!r}")
            return math.trunc(value * self.times / self.by)
        figure = int(value) * self.times // self.by
        if not -FIGURE_MAX < figure < FIGURE_MAX:
            raise MeterAway(f"{self.field} is {figure}")
        return figure


def address_of(text: str) -> Address:
    """Raises ValueError."""
    place, slash, unit = text.rpartition("/")
    host, _, port = place.rpartition(":")
    good = slash and host and port.isascii() and port.isdigit() and unit.isascii() and unit.isdigit()
    if not good or len(host) > HOST_CHARS_MAX or not 0 < int(port) < 65_536 or int(unit) > 255:
        raise ValueError(f"{text!r:.80} is not host:port/unit, like 10.0.0.5:502/1")
    return Address(host.strip("[]"), int(port), int(unit))


def registers_of(text: str) -> tuple[Register, ...]:
    """Each field once. Raises ValueError."""
    found = tuple(_register(part.strip()) for part in text.split(","))
    if len({it.field for it in found}) < len(found):
        raise ValueError(f"{text!r:.120} has one of watts, counter_wh twice")
    return found


def _register(text: str) -> Register:
    field, _, rest = text.partition("=")
    kind, number, said, *scale = [*rest.split(":"), "", ""][: max(3, rest.count(":") + 1)]
    plain, low_first = said.removesuffix("-le"), said.endswith("-le")
    worth = scale[0] if scale else "x1"
    right = (
        field in FIELDS
        and kind in ("holding", "input")
        and number.isascii()
        and number.isdigit()
        and plain in WORDS
        and len(scale) <= 1
        and worth[:1] in ("x", "/")
        and worth[1:].isascii()
        and worth[1:].isdigit()
    )
    if not right or not int(number) <= 65_535 or not 1 <= int(worth[1:]) <= SCALE_MAX:
        raise ValueError(
            f"{text!r:.80} is no register, like watts=input:52:s32 or counter_wh=holding:72:u32-le:x100"
        )
    times, by = (int(worth[1:]), 1) if worth[0] == "x" else (1, int(worth[1:]))
    return Register(
        field=field, kind=kind, number=int(number), type=plain, low_first=low_first, times=times, by=by
    )


def read_meter(address: Address, registers: tuple[Register, ...], at_s: int) -> Reading:
    """What it says now. Raises MeterAway. Blocks."""
    from pymodbus.client import ModbusTcpClient  # of who has such a meter
    from pymodbus.exceptions import ModbusException

    client = ModbusTcpClient(address.host, port=address.port, timeout=TIMEOUT_S, retries=0)
    try:
        if not client.connect():
            raise MeterAway(f"{address.host}:{address.port} does not answer")
        said: dict[str, int] = {}
        for it in registers:
            read = client.read_holding_registers if it.kind == "holding" else client.read_input_registers
            answer = read(it.number, count=it.words, device_id=address.unit)
            if answer.isError() or len(answer.registers) != it.words:
                raise MeterAway(f"{it.field}: {answer!s:.100}")
            said[it.field] = it.figure(answer.registers)
        return Reading(at_s=at_s, watts=said.get("watts"), counter_wh=said.get("counter_wh"))
    except (ModbusException, OSError, struct.error) as error:
        raise MeterAway(f"{address.host}:{address.port}: {error!s:.100}") from None
    finally:
        client.close()
