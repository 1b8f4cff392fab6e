"""How each vendor's firmware is told to pause, to draw less, and to go on: small, beside each other.

Whoever answers yes may not have done it: that is for accepted shares to say. Sources are beside each; what
each can and cannot is docs/power.md's. Must not know: who is asked when, and what is held off.
"""

import contextlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

import httpx
import msgspec

from pool.power.control.contract import Action, Firmware, Telemetry
from pool.power.control.wire import Refused, Unanswered, Unreached, Wire, json_of

CGMINER_PORT: Final = 4028
HTTP_PORT: Final = 80
STATE_CHARS_MAX: Final = 40
HPS_MAX: Final = 10**18  # what a machine may say of itself: an exahash a second
WATTS_MAX: Final = 10**6
NUMBER_CHARS_MAX: Final = 30
MODES: Final = {"0": "normal", "1": "sleep", "2": "low power", "3": "high power", "-1": "starting"}


class Credential(msgspec.Struct, frozen=True):
    """What a machine lets in. Shown to nobody."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Credential(hidden)"


class Shown(StrEnum):
    """What a machine, or who stands where one stood, gets to see of a password."""

    NOTHING = "nothing"  # it takes none
    A_PROOF = "a proof"  # by which a guess can be tried at leisure
    ALL = "all of it"


class Telling:
    """One machine that is being told something. `acts` is set before anything is sent that changes it, and
    `acted` when that was answered: so who gets no answer knows whether it may have been done."""

    def __init__(self, wire: Wire, credential: Credential | None, now_s: int) -> None:
        self.wire, self._credential, self.now_s = wire, credential, now_s
        self.acts = self.acted = False
        self._digest: httpx.DigestAuth | None = None

    @property
    def credential(self) -> Credential:
        """Raises Refused where there is none."""
        if self._credential is None:
            raise Refused("it wants a password, and there is none: see `angara power`")
        return self._credential

    @property
    def digest(self) -> httpx.DigestAuth:
        """The same, as HTTP Digest has it. Raises Refused."""
        if self._digest is None:
            self._digest = httpx.DigestAuth(self.credential.user, self.credential.password)
        return self._digest

    async def command(
        self, command: str, parameter: str | None = None, *, acts: bool = False
    ) -> dict[str, Any]:
        """One of cgminer's API. Raises Refused with its words where its status is an error."""
        self.acts |= acts
        request = {"command": command} | ({} if parameter is None else {"parameter": parameter})
        return good(await self.wire.command(request))


class Vendor(Protocol):
    """How it is spoken to. Each raises Unreached, Unanswered and Refused."""

    port: int
    shows: Shown
    can: frozenset[Action]

    async def pause(self, it: Telling) -> None: ...

    async def resume(self, it: Telling) -> None: ...

    async def limit(self, it: Telling, percent: int) -> None: ...

    async def read(self, it: Telling) -> Telemetry: ...


class Silent:
    """One whose API cannot be asked for anything, or is not known."""

    port = CGMINER_PORT
    shows = Shown.NOTHING
    can: frozenset[Action] = frozenset()

    async def pause(self, it: Telling) -> None:
        raise NotImplementedError

    async def resume(self, it: Telling) -> None:
        raise NotImplementedError

    async def limit(self, it: Telling, percent: int) -> None:
        raise NotImplementedError

    async def read(self, it: Telling) -> Telemetry:
        raise NotImplementedError


PAUSES: Final = frozenset((Action.PAUSE, Action.RESUME, Action.READ))


class Antminer(Silent):
    """Bitmain's own since 2020: the settings of its web page, behind HTTP Digest. What is read is
    `bitmain-work-mode`, what has to be written `miner-mode` (asic-rs#249); other settings stay as they are.
    It says OK also where it does nothing (asic-rs#310), and takes 21 s for it."""

    port = HTTP_PORT
    shows = Shown.A_PROOF
    can = PAUSES
    _GET: Final = "/cgi-bin/get_miner_conf.cgi"
    _SET: Final = "/cgi-bin/set_miner_conf.cgi"

    async def pause(self, it: Telling) -> None:
        await self._set(it, 1)

    async def resume(self, it: Telling) -> None:
        await self._set(it, 0)

    async def _set(self, it: Telling, mode: int) -> None:
        """Written is flash, which wears: not where it is so already."""
        if _mode(await self._asked(it, "GET", self._GET)) == str(mode):
            return
        it.acts = True
        answer = await self._asked(it, "POST", self._SET, {"miner-mode": mode})
        if answer.get("stats") != "success":
            raise Refused(str(answer.get("msg", answer.get("stats", "it says nothing"))))

    async def read(self, it: Telling) -> Telemetry:
        mode = _mode(await self._asked(it, "GET", self._GET))
        summary = await self._asked(it, "GET", "/cgi-bin/summary.cgi")
        rate = number(found_in(summary, "SUMMARY", 0, "rate_5s"))
        return Telemetry(
            mines=None if mode is None else mode != "1",
            hashrate_hps=bounded(None if rate is None else rate * 10**9, HPS_MAX),
            state=MODES.get(mode or "", mode or "")[:STATE_CHARS_MAX],
        )

    async def _asked(self, it: Telling, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = await it.wire.request_with_digest(method, path, body, it.digest)
        return _http_json(answer.status, answer.body)


class Braiins(Silent):
    """Braiins OS and OS+: `pause` and `resume` of BOSminer's API, of which nothing is known to outsiders but
    that it is on the machine's own network. Power targets are set by its public API alone, which wants a
    password in clear."""

    can = PAUSES

    async def pause(self, it: Telling) -> None:
        await it.command("pause", acts=True)

    async def resume(self, it: Telling) -> None:
        await it.command("resume", acts=True)

    async def read(self, it: Telling) -> Telemetry:
        summary = await it.command("summary")
        tuner = found_in(await it.command("tunerstatus"), "TUNERSTATUS", 0)
        said = _of_summary(summary, number(found_in(tuner, "ApproximateMinerPowerConsumption")))
        limit_watts = bounded(number(found_in(tuner, "PowerLimit")), WATTS_MAX)
        return msgspec.structs.replace(said, limit_watts=limit_watts)


class Luxos(Silent):
    """LuxOS: `curtail` within a session, of which a machine has one, that everybody may ask for."""

    can = PAUSES

    async def pause(self, it: Telling) -> None:
        await self._curtail(it, "sleep")

    async def resume(self, it: Telling) -> None:
        await self._curtail(it, "wakeup")

    async def _curtail(self, it: Telling, what: str) -> None:
        session = found_in(await it.command("session"), "SESSION", 0, "SessionID")
        if not session:
            session = found_in(await it.command("logon"), "SESSION", 0, "SessionID")
        if not isinstance(session, str) or not session.isalnum() or len(session) > 64:
            raise Refused("it gives no session")
        await it.command("curtail", f"{session},{what}", acts=True)
        with contextlib.suppress(Refused, Unanswered, Unreached):  # it was told, and a session ends by itself
            await it.command("logoff", session)

    async def read(self, it: Telling) -> Telemetry:
        summary = await it.command("summary")
        return _of_summary(summary, number(found_in(await it.command("power"), "POWER", 0, "Watts")))


class Avalon(Silent):
    """Canaan's cgminer: soft off and on, each at a moment of the machine's own clock."""

    can = PAUSES
    _LATER_S: Final = 5

    async def pause(self, it: Telling) -> None:
        await self._soft(it, "softoff")

    async def resume(self, it: Telling) -> None:
        await self._soft(it, "softon")

    async def _soft(self, it: Telling, what: str) -> None:
        await it.command("ascset", f"0,{what},1:{it.now_s + self._LATER_S}", acts=True)

    async def read(self, it: Telling) -> Telemetry:
        summary = await it.command("summary")
        said = str(found_in(await it.command("estats"), "STATS", 0, "MM ID0") or "")
        return _of_summary(summary, number(said.partition("WALLPOWER[")[2].partition("]")[0].split(" ")[0]))


class Vnish(Silent):
    """VNish: a token for the password, which is sent in clear; then stop and start."""

    port = HTTP_PORT
    shows = Shown.ALL
    can = PAUSES

    async def pause(self, it: Telling) -> None:
        await self._mining(it, "stop")

    async def resume(self, it: Telling) -> None:
        await self._mining(it, "start")

    async def _mining(self, it: Telling, what: str) -> None:
        token = await self._token(it)
        it.acts = True
        answer = await it.wire.request("POST", f"/api/v1/mining/{what}", {}, (("Authorization", token),))
        if answer.status not in (200, 202, 204):
            raise Refused(f"HTTP {answer.status}")

    async def read(self, it: Telling) -> Telemetry:
        token = await self._token(it)
        answer = await it.wire.request("GET", "/api/v1/summary", None, (("Authorization", token),))
        miner = found_in(_http_json(answer.status, answer.body), "miner")
        state = found_in(miner, "miner_status", "miner_state")
        rate = number(found_in(miner, "hr_realtime"))
        return Telemetry(
            mines=None if state is None else state in ("mining", "auto-tuning"),
            hashrate_hps=bounded(None if rate is None else rate * 10**9, HPS_MAX),
            watts=bounded(number(found_in(miner, "power_usage")), WATTS_MAX),
            state=str(state or "")[:STATE_CHARS_MAX],
        )

    async def _token(self, it: Telling) -> str:
        answer = await it.wire.request("POST", "/api/v1/unlock", {"pw": it.credential.password})
        token = _http_json(answer.status, answer.body).get("token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or len(token) > 1000:
            raise Refused("it gives no token")
        return token


class Bitaxe(Silent):
    """ESP-Miner: pause and resume since 2.14 (ESP-Miner#1608); before that it does not know the words."""

    port = HTTP_PORT
    can = PAUSES

    async def pause(self, it: Telling) -> None:
        await self._said(it, "pause")

    async def resume(self, it: Telling) -> None:
        await self._said(it, "resume")

    async def _said(self, it: Telling, what: str) -> None:
        it.acts = True
        answer = await it.wire.request("POST", f"/api/system/{what}", {})
        if answer.status >= 300:
            raise Refused(f"HTTP {answer.status}: pause is known from ESP-Miner 2.14 on")

    async def read(self, it: Telling) -> Telemetry:
        answer = await it.wire.request("GET", "/api/system/info")
        said = _http_json(answer.status, answer.body)
        rate, paused = number(said.get("hashRate")), said.get("miningPaused")
        return Telemetry(
            mines=not paused if isinstance(paused, bool) else None,
            hashrate_hps=bounded(None if rate is None else rate * 10**9, HPS_MAX),
            watts=bounded(number(said.get("power")), WATTS_MAX),
            temperature_c=bounded(number(said.get("temp")), 1000),
        )


def good(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What cgminer's API says, where its status is no error. Raises Refused with its words."""
    status = found_in(answer, "STATUS", 0)
    if not isinstance(status, dict):
        status = answer  # Whatsminer's own commands
    said = status.get("STATUS")
    if said in ("E", "F"):
        raise Refused(str(status.get("Msg") or status.get("Description") or "it says no more"))
    if said not in ("S", "I", "W"):
        raise Unanswered("an answer without a status")
    return dict(answer)


def _of_summary(answer: Mapping[str, Any], watts: float | None) -> Telemetry:
    mhs = number(found_in(answer, "SUMMARY", 0, "MHS 5s"))
    if mhs is None and (ghs := number(found_in(answer, "SUMMARY", 0, "GHS 5s"))) is not None:
        mhs = ghs * 1000
    return Telemetry(
        mines=None if mhs is None else mhs > 0,
        hashrate_hps=bounded(None if mhs is None else mhs * 10**6, HPS_MAX),
        watts=bounded(watts, WATTS_MAX),
    )


def _mode(conf: Mapping[str, Any]) -> str | None:
    """Of an Antminer. Raises Refused for one that has none: of before 2020."""
    mode = conf.get("bitmain-work-mode", conf.get("miner-mode"))
    if mode is None or len(str(mode)) > 4:
        raise Refused("it has no modes: firmware of before 2020 cannot sleep")
    return str(mode)


def _http_json(status: int, body: bytes) -> dict[str, Any]:
    if status in (401, 403):
        raise Refused("it does not take the password")
    if status != 200:
        raise Refused(f"HTTP {status}")
    return json_of(body)


def found_in(answer: Any, *path: str | int) -> Any:
    """What is there, of whatever a machine says; None for what is not."""
    for key in path:
        if isinstance(answer, dict) and isinstance(key, str):
            answer = answer.get(key)
        elif isinstance(answer, list) and isinstance(key, int) and key < len(answer):
            answer = answer[key]
        else:
            return None
    return answer


def number(said: Any) -> float | None:
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None
    if isinstance(said, int):
        return float(said) if abs(said) <= HPS_MAX else None
    if isinstance(said, str) and len(said) > NUMBER_CHARS_MAX:
        return None
    try:
        return float(said)
    except ValueError:
        return None


def bounded(value: float | None, most: int) -> int | None:
    """A whole number that somebody may have measured; else nothing was said."""
    return round(value) if value is not None and 0 <= value <= most else None


def firmware_of(agent: str) -> Firmware:
    """What a machine says of itself when it mines. Its own Bitmain, Braiins and cgminer are told apart by
    words that others have too: what stands first counts."""
    said = agent.casefold()
    for words, firmware in _WORDS:
        if any(it in said for it in words):
            return firmware
    return Firmware.OTHER


_WORDS: Final = (
    (("nicehash", "proxy"), Firmware.OTHER),
    (("bosminer", "braiins"), Firmware.BRAIINS),
    (("luxminer", "luxos"), Firmware.LUXOS),
    (("vnish", "xminer"), Firmware.VNISH),
    (("btminer", "whatsminer"), Firmware.WHATSMINER),
    (("avalon",), Firmware.AVALON),
    (("bitaxe", "esp-miner"), Firmware.BITAXE),
    (("antminer", "bmminer"), Firmware.ANTMINER),
)
