"""MicroBT's API v3 at port 4433, which firmware of late 2024 and after has: JSON in packets, in clear.

    packet  four bytes of its length, the low one first, and JSON (pool.power.control.wire)
    token   of a command that changes something, eight characters of base64 of
            SHA-256(command + password + salt + time), beside the account's name, the salt and the time

The salt is the machine's: who stands in its place gets 48 bits by which he can try passwords, and not the
password. By the vendor's list of commands (apidoc.whatsminer.com) and what others send who speak it. It is
spoken to whom the operator gives this port: no machine says which of both it has. Must not know: when it is
asked.
"""

import base64
import hashlib
from typing import Any, Final

from pool.power.control.contract import Action, Telemetry
from pool.power.control.firmware import (
    HPS_MAX,
    PAUSES,
    STATE_CHARS_MAX,
    WATTS_MAX,
    Shown,
    Silent,
    Telling,
    bounded,
    found_in,
    number,
)
from pool.power.control.wire import Refused, Unanswered

V3_PORT: Final = 4433
TOKEN_CHARS: Final = 8
SALT_CHARS_MAX: Final = 64
FULL: Final = 100
HPS_PER_THS: Final = 10**12


class WhatsminerV3(Silent):
    """It has to be let: by the vendor's tool its API is switched on. Its account is `super` where nobody made
    another one."""

    port = V3_PORT
    shows = Shown.A_PROOF
    can = PAUSES | {Action.LIMIT}

    async def pause(self, it: Telling) -> None:
        await self._told(it, "set.miner.service", "stop")

    async def resume(self, it: Telling) -> None:
        """With all of its power: a limit may be what it comes back from, and one that never stopped may say
        no to be started."""
        try:
            await self._told(it, "set.miner.service", "start")
        except Refused:
            await self.limit(it, FULL)
            if not (await self.read(it)).mines:
                raise
        else:
            await self.limit(it, FULL)

    async def limit(self, it: Telling, percent: int) -> None:
        """The number is a string to it, whatever its document says."""
        await self._told(it, "set.miner.power_percent", {"percent": str(percent), "mode": "fast"})

    async def read(self, it: Telling) -> Telemetry:
        miner = found_in(await self._asked(it, {"cmd": "get.device.info"}), "miner")
        summary = found_in(await self._asked(it, {"cmd": "get.miner.status", "param": "summary"}), "summary")
        setting = await self._asked(it, {"cmd": "get.miner.setting"})
        working, ths = found_in(miner, "working"), number(found_in(summary, "hash-1min"))
        return Telemetry(
            mines=None if working is None else str(working).casefold() == "true",
            hashrate_hps=bounded(None if ths is None else ths * HPS_PER_THS, HPS_MAX),
            watts=bounded(number(found_in(summary, "power-realtime")), WATTS_MAX),
            temperature_c=bounded(number(found_in(summary, "chip-temp-max")), 1000),
            limit_watts=bounded(number(found_in(summary, "power-limit")), WATTS_MAX),
            state=str(found_in(setting, "power-mode") or "")[:STATE_CHARS_MAX],
        )

    async def _told(self, it: Telling, command: str, parameter: Any) -> None:
        credential = it.credential
        salt = found_in(await self._asked(it, {"cmd": "get.device.info"}), "salt")
        if not isinstance(salt, str) or not salt.isascii() or not 0 < len(salt) <= SALT_CHARS_MAX:
            raise Refused("it gives no salt")
        proof = hashlib.sha256(f"{command}{credential.password}{salt}{it.now_s}".encode()).digest()
        token = base64.b64encode(proof).decode()[:TOKEN_CHARS]
        it.acts = True
        await self._asked(
            it,
            {
                "cmd": command,
                "ts": it.now_s,
                "token": token,
                "account": credential.user,
                "param": parameter,
            },
        )
        it.acted = True

    async def _asked(self, it: Telling, request: dict[str, Any]) -> Any:
        """What it says to that. Raises Refused with its words where its code is not 0."""
        answer = await it.wire.packet(request)
        code = answer.get("code")
        if isinstance(code, bool) or not isinstance(code, int):
            raise Unanswered("an answer without a code")
        if code != 0:
            raise Refused(str(answer.get("msg") or answer.get("desc") or f"code {code}"))
        return answer.get("msg")
