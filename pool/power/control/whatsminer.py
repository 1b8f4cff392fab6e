"""MicroBT's API v2 at port 4028: commands that change something are encrypted, with a token of half an hour.

    key    AES-256-ECB by SHA-256 of MD5-crypt(password, salt)
    token  MD5-crypt(that hash + time, newsalt)

The salts are the machine's: who stands in its place gets something by which he can try passwords, and not
the password (whatsminer API 2.0.5). ECB, and MD5, are the vendor's. Must not know: when it is asked.
"""

import base64
import functools
import hashlib
from typing import Any, Final

import msgspec
import trio
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pool.md5_crypt import md5_crypt
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
    good,
    number,
)
from pool.power.control.wire import Refused, Unanswered, json_of

BLOCK_BYTES: Final = 16
TIME_CHARS_MAX: Final = 20
HASHES_MAX: Final = 8_192  # of a password with a machine's salt, which stays: half of what is to be reckoned

_hashed = functools.lru_cache(HASHES_MAX)(md5_crypt)


class Whatsminer(Silent):
    """It has to be let: by the vendor's tool its API is switched on, and its password is not `admin`."""

    shows = Shown.A_PROOF
    can = PAUSES | {Action.LIMIT}

    async def pause(self, it: Telling) -> None:
        await self._told(it, "power_off", respbefore="true")

    async def resume(self, it: Telling) -> None:
        """With all of its power: a limit may be what it comes back from, and of one that never stopped what
        it says to be switched on is for nobody to know."""
        try:
            await self._told(it, "power_on")
        except Refused:
            await self._told(it, "set_power_pct", percent="100")
            if not (await self.read(it)).mines:
                raise
        else:
            await self._told(it, "set_power_pct", percent="100")

    async def limit(self, it: Telling, percent: int) -> None:
        await self._told(it, "set_power_pct", percent=str(percent))

    async def read(self, it: Telling) -> Telemetry:
        status = found_in(await it.command("status"), "Msg")
        summary = found_in(await it.command("summary"), "SUMMARY", 0)
        off = found_in(status, "btmineroff") or found_in(status, "mineroff")
        mhs = number(found_in(summary, "MHS 1m"))
        return Telemetry(
            mines=None if off is None else off != "true",
            hashrate_hps=bounded(None if mhs is None else mhs * 10**6, HPS_MAX),
            watts=bounded(number(found_in(summary, "Power")), WATTS_MAX),
            temperature_c=bounded(number(found_in(summary, "Temperature")), 1000),
            limit_watts=bounded(number(found_in(summary, "Power Limit")), WATTS_MAX),
            state=str(found_in(summary, "Power Mode") or "")[:STATE_CHARS_MAX],
        )

    async def _told(self, it: Telling, command: str, **parameters: str) -> None:
        said = found_in(await it.command("get_token"), "Msg")
        if not isinstance(said, dict):
            raise Refused(f"it gives no token: {said}")
        # 2,000 rounds of MD5 are three milliseconds, that others on this loop do not wait for.
        sign, key = await trio.to_thread.run_sync(_token, said, it.credential.password)
        it.acts = True
        sealed = _sealed(msgspec.json.encode({"cmd": command, **parameters, "token": sign}), key)
        answer = await it.wire.command({"enc": 1, "data": base64.b64encode(sealed).decode()})
        encrypted = answer.get("enc")
        if isinstance(encrypted, str):
            answer = json_of(_opened(encrypted, key))
        good(answer)
        it.acted = True


def _token(said: dict[str, Any], password: str) -> tuple[str, bytes]:
    """Of what a machine says: the proof, and the key."""
    found = [said.get(it) for it in ("salt", "newsalt", "time")]
    if not all(isinstance(it, str) and it.isascii() and 0 < len(it) <= TIME_CHARS_MAX for it in found):
        raise Refused("its token is none")
    salt, newsalt, time = (str(it) for it in found)
    hashed = _hashed(password.encode(), salt)
    return md5_crypt(f"{hashed}{time}".encode(), newsalt), hashlib.sha256(hashed.encode()).digest()


def _sealed(text: bytes, key: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - the vendor's
    return cipher.update(text + bytes(-len(text) % BLOCK_BYTES)) + cipher.finalize()


def _opened(text: str, key: bytes) -> bytes:
    try:
        sealed = base64.b64decode(text)
        cipher = Cipher(algorithms.AES(key), modes.ECB()).decryptor()  # noqa: S305 - the vendor's
        return (cipher.update(sealed) + cipher.finalize()).rstrip(b"\0")
    except ValueError:
        raise Unanswered("an answer that does not open") from None
