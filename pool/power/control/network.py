"""Machines of this site, asked beside each other: what is sent to whom, and whether anything is.

The last gate before bytes go out. Whoever asks may be the hub, or an operator, or a bug: nothing is sent in a
dry run, out of the networks that the settings name, or with a password that its machine is not to see.

Invariants: AT_ONCE machines are spoken to at a time, each within MACHINE_S; no answer has a password in it.
Must not know: who is held off, and why.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog
import trio

from pool.power.control.contract import (
    PERCENT_MIN,
    Action,
    Answer,
    Answered,
    Firmware,
    MachineName,
    Telemetry,
    in_words,
)
from pool.power.control.firmware import (
    Antminer,
    Avalon,
    Bitaxe,
    Braiins,
    Credential,
    Luxos,
    Shown,
    Silent,
    Telling,
    Vendor,
    Vnish,
)
from pool.power.control.passwords import CONTAINER, BadKey, Keys, Sealed, container_scope
from pool.power.control.settings import ControlSettings, address_of
from pool.power.control.whatsminer import Whatsminer
from pool.power.control.whatsminer3 import V3_PORT, WhatsminerV3
from pool.power.control.wire import Connect, Refused, Unanswered, Unreached, Wire

log = structlog.get_logger()

# A container: 5,600 machines, each of which takes 20 s for it, are told in five minutes.
AT_ONCE: Final = 400
MACHINE_S: Final = 90.0  # three questions, one of them slow
HIDDEN: Final = "***"

VENDORS: Final[Mapping[Firmware, Vendor]] = {
    Firmware.ANTMINER: Antminer(),
    Firmware.WHATSMINER: Whatsminer(),
    Firmware.AVALON: Avalon(),
    Firmware.BRAIINS: Braiins(),
    Firmware.LUXOS: Luxos(),
    Firmware.VNISH: Vnish(),
    Firmware.BITAXE: Bitaxe(),
    Firmware.OTHER: Silent(),
}
# What is spoken at a port that the operator said, where a firmware has two ways.
OTHER_PORTS: Final[Mapping[tuple[Firmware, int | None], Vendor]] = {
    (Firmware.WHATSMINER, V3_PORT): WhatsminerV3(),
}


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """A machine, and how it is spoken to. `by_hand`: the operator said where it is; else it is where it mines
    from, which who has the machine decides. `firmware_by_hand`: he said what it runs; else it says so."""

    machine: MachineName
    address: str
    port: int | None = None
    firmware: Firmware
    by_hand: bool
    firmware_by_hand: bool = False
    sealed: Sealed | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One of them, told something: contract.Asked."""

    reached: Reached
    action: Action
    until_s: int = 0
    percent: int = 100
    before_hps: int = 0


class MachineNetwork:
    """`connect` reaches machines in another way than by TCP. Raises nothing but bugs."""

    def __init__(
        self,
        settings: ControlSettings,
        keys: Keys | None,
        *,
        wall_clock: Callable[[], float],
        connect: Connect = trio.open_tcp_stream,
    ) -> None:
        self._settings, self._keys, self._wall_clock, self._connect = settings, keys, wall_clock, connect
        self._room = trio.CapacityLimiter(AT_ONCE)

    @property
    def dry_run(self) -> bool:
        return self._settings.dry_run

    def allows(self, reached: Reached) -> bool:
        """Whether something may be sent to where it is."""
        address = address_of(reached.address)
        return address is not None and self._settings.allows(address)

    async def ask(self, order: Order, *, was_paused: bool = False) -> Answered:
        """One of them, when there is room. What was paused from here, at this address, is resumed also where
        the settings are others now."""
        credential: Credential | None = None
        telemetry: Telemetry | None = None
        try:
            wire, vendor = self._gate(order, was_paused)
            credential = self._credential(order.reached, vendor)
            if self._settings.dry_run and not was_paused:
                return _answered(order, Answer.DRY_RUN, f"{order.action.value}: nothing was sent")
            telling = Telling(wire, credential, int(self._wall_clock()))
            async with self._room:
                answer, words, telemetry = await _told(order, vendor, telling)
        except _No as no:
            answer, words = no.answer, no.words
        return _answered(order, answer, _without(words, credential), telemetry)

    def _gate(self, order: Order, was_paused: bool) -> tuple[Wire, Vendor]:
        """Raises _No."""
        reached = order.reached
        said_port = reached.port if reached.by_hand else None
        vendor = OTHER_PORTS.get((reached.firmware, said_port), VENDORS[reached.firmware])
        if order.action not in vendor.can:
            words = f"{reached.firmware.value} firmware has no way to {order.action.value}"
            raise _No(Answer.UNSUPPORTED, words)
        if order.action is Action.LIMIT and not PERCENT_MIN <= order.percent <= 100:
            raise _No(Answer.REFUSED, f"a limit is {PERCENT_MIN} to 100 percent")
        address = address_of(reached.address)
        if address is None or not (was_paused or self._settings.allows(address)):
            raise _No(Answer.UNREACHED, f"{reached.address:.60} is in no network of [power] networks")
        port = vendor.port if said_port is None else said_port
        return Wire(str(address), port, self._connect), vendor

    def _credential(self, reached: Reached, vendor: Vendor) -> Credential | None:
        """What it is to be shown. Raises _No."""
        if vendor.shows is Shown.NOTHING:
            return None
        if vendor.shows is Shown.ALL and not (reached.by_hand and reached.firmware_by_hand):
            words = f"{reached.firmware.value} takes its password in clear: give address and firmware by hand"
            raise _No(Answer.UNREACHED, words)
        sealed = reached.sealed
        if sealed is None:
            raise _No(Answer.UNREACHED, f"there is no password for {reached.firmware.value} here")
        if sealed.firmware is not reached.firmware or self._keys is None:
            raise _No(Answer.UNREACHED, "there is no key here for its password")
        of = container_scope(reached.machine.tenant, reached.machine.container)
        anywhere = reached.by_hand and not sealed.scope.startswith(CONTAINER)
        if sealed.scope != of and not anywhere:
            raise _No(Answer.UNREACHED, f"where it mines from it is shown a password of {of} alone")
        try:
            return self._keys.open(sealed)
        except BadKey as error:
            raise _No(Answer.UNREACHED, str(error)) from None


class _No(Exception):
    """It is not told anything."""

    def __init__(self, answer: Answer, words: str) -> None:
        super().__init__(words)
        self.answer, self.words = answer, words


async def _told(order: Order, vendor: Vendor, telling: Telling) -> tuple[Answer, str, Telemetry | None]:
    """What it answers, which is not what it does."""
    telemetry: Telemetry | None = None
    try:
        with trio.fail_after(MACHINE_S):
            if order.action is Action.PAUSE:
                await vendor.pause(telling)
            elif order.action is Action.RESUME:
                await vendor.resume(telling)
            elif order.action is Action.LIMIT:
                await vendor.limit(telling, order.percent)
            else:
                telemetry = await vendor.read(telling)
    except Refused as error:
        return Answer.REFUSED, str(error), None
    except Unreached as error:
        return (Answer.UNKNOWN if telling.acted else Answer.UNREACHED), str(error), None
    except (Unanswered, trio.TooSlowError) as error:
        words = str(error) or "no answer in time"
        return (Answer.UNKNOWN if telling.acts else Answer.UNREACHED), words, None
    except Exception:  # whatever a hostile answer makes of us: miners are served in this process
        log.exception("machine_answer_not_understood", firmware=order.reached.firmware.value)
        return (Answer.UNKNOWN if telling.acts else Answer.UNREACHED), "an answer that makes no sense", None
    return Answer.SAID_YES, "", telemetry


def _answered(order: Order, answer: Answer, words: str, telemetry: Telemetry | None = None) -> Answered:
    machine = order.reached.machine
    return Answered(machine=machine, answer=answer, words=in_words(words), telemetry=telemetry)


def _without(words: str, credential: Credential | None) -> str:
    """A machine that was shown a password may say it back."""
    if credential is not None:
        for secret in (credential.password, credential.user):
            if secret:
                words = words.replace(secret, HIDDEN)
    return words
