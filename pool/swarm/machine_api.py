"""What a simulated machine answers on its own network, and whether it does it: no I/O.

It speaks as its vendor's firmware does, from what pyasic and asic-rs read of it and from the vendors' own
documents, and not from what the pool sends: a check of that. A machine that is told to pause draws what its
fans draw, unless it lies.

Must not know: sockets, clocks, and anything of the pool's insides.
"""

import base64
import hashlib
import json
import random
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pool.md5_crypt import md5_crypt

REALM: Final = "antMiner Configuration"
PASSWORDS: Final = {
    "antminer": ("root", "root"),
    "whatsminer": ("admin", "swarm"),
    "vnish": ("admin", "admin"),
}
SPEAKS: Final = ("antminer", "whatsminer", "avalon", "braiins", "luxos", "vnish", "bitaxe")


class Temper(StrEnum):
    """What is wrong with it."""

    HONEST = "honest"
    LIES = "lies"  # says that it is paused, and mines on
    SLEEPS_ON = "sleeps-on"  # says that it wakes, and does not
    LATE = "late"
    REFUSES = "refuses"
    GARBAGE = "garbage"
    ENDLESS = "endless"  # answers, and never stops
    DEAF = "deaf"  # takes the connection, and says nothing


class ApiOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One machine."""

    firmware: str
    temper: Temper = Temper.HONEST
    hashrate_ths: int = 100
    watts: int = 3_000
    idle_watts: int = 60


class MachineApi:
    """`on_mining` is told when it stops, and when it goes on. `words` makes tokens and nonces."""

    def __init__(
        self,
        options: ApiOptions,
        words: random.Random,
        on_mining: Callable[[bool], None] = lambda mines: None,
    ) -> None:
        self.options, self._words, self._on_mining = options, words, on_mining
        self.mines = True
        self.says_it_mines = True
        self.percent = 100
        self.heard: list[str] = []  # that changed something, or would have
        self._session: str | None = None
        self._token: str | None = None
        self._nonces: set[str] = set()
        self._key: bytes | None = None
        self._sign: str | None = None
        self._salt: str | None = None

    # What a machine does

    def _pause(self) -> bool:
        self.heard.append("pause")
        if self.options.temper is Temper.REFUSES:
            return False
        self.says_it_mines = False
        if self.options.temper is not Temper.LIES and self.mines:
            self.mines = False
            self._on_mining(False)
        return True

    def _resume(self) -> bool:
        self.heard.append("resume")
        if self.options.temper is Temper.REFUSES:
            return False
        self.says_it_mines = True
        if self.options.temper is not Temper.SLEEPS_ON and not self.mines:
            self.mines = True
            self._on_mining(True)
        return True

    def _limit(self, percent: int) -> bool:
        self.heard.append(f"limit {percent}")
        if self.options.temper is Temper.REFUSES:
            return False
        self.percent = percent
        return True

    @property
    def watts(self) -> int:
        """That it says it draws."""
        watts = self.options.watts * self.percent // 100
        return watts if self.says_it_mines else self.options.idle_watts

    @property
    def _ths(self) -> float:
        return self.options.hashrate_ths * self.percent / 100 if self.says_it_mines else 0.0

    # cgminer's API

    def command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One of port 4028."""
        if "enc" in request:
            return self._encrypted(request)
        name = str(request.get("command", request.get("cmd", "")))
        answer = getattr(self, f"_{self.options.firmware}_{name}", None) or getattr(
            self, f"_any_{name}", None
        )
        if answer is None:
            return _status("E", f"Invalid command: {name}"[:80], 14)
        found: dict[str, Any] = answer(str(request.get("parameter", "")))
        return found

    def _any_summary(self, _: str) -> dict[str, Any]:
        summary = {"Elapsed": 100, "MHS 5s": self._ths * 1e6, "MHS av": self._ths * 1e6, "Accepted": 10}
        return _status("S", "Summary", 11) | {"SUMMARY": [summary]}

    def _any_version(self, _: str) -> dict[str, Any]:
        return _status("S", "CGMiner versions", 22) | {"VERSION": [{"CGMiner": "4.11.1", "API": "3.7"}]}

    def _braiins_pause(self, _: str) -> dict[str, Any]:
        return self._done(self._pause(), "Pausing mining", {"PAUSE": [True]})

    def _braiins_resume(self, _: str) -> dict[str, Any]:
        return self._done(self._resume(), "Resuming mining", {"RESUME": [True]})

    def _braiins_tunerstatus(self, _: str) -> dict[str, Any]:
        tuner = {"ApproximateMinerPowerConsumption": self.watts, "PowerLimit": self.options.watts}
        return _status("S", "Tuner Status", 201) | {"TUNERSTATUS": [tuner]}

    def _luxos_session(self, _: str) -> dict[str, Any]:
        return _status("S", "Session information", 316) | {"SESSION": [{"SessionID": self._session or ""}]}

    def _luxos_logon(self, _: str) -> dict[str, Any]:
        self._session = self._word()[:8]
        return _status("S", "Session created", 316) | {"SESSION": [{"SessionID": self._session}]}

    def _luxos_logoff(self, parameter: str) -> dict[str, Any]:
        known, self._session = parameter == self._session, None
        return _status("S", "Session killed", 316) if known else _status("E", "no session", 316)

    def _luxos_curtail(self, parameter: str) -> dict[str, Any]:
        session, _, what = parameter.partition(",")
        if session != self._session:
            return _status("E", "invalid session", 316)
        return self._done(self._pause() if what == "sleep" else self._resume(), f"{what} done", {})

    def _luxos_power(self, _: str) -> dict[str, Any]:
        return _status("S", "Power", 326) | {"POWER": [{"Watts": self.watts, "PSU": True}]}

    def _avalon_ascset(self, parameter: str) -> dict[str, Any]:
        what = parameter.split(",")[1] if "," in parameter else ""
        if what not in ("softoff", "softon"):
            return _status("E", "ASC 0 set failed", 120)
        done = self._pause() if what == "softoff" else self._resume()
        return self._done(done, f"ASC 0 set info: success {what}", {})

    def _avalon_estats(self, _: str) -> dict[str, Any]:
        state = "Work" if self.says_it_mines else "Idle"
        said = f"Ver[1366-90T] WALLPOWER[{self.watts} 0] SYSTEMSTATU[Work: In {state}]"
        return _status("S", "CGMiner estats", 70) | {"STATS": [{"STATS": 0, "MM ID0": said}]}

    def _whatsminer_status(self, _: str) -> dict[str, Any]:
        off = "false" if self.says_it_mines else "true"
        return _whatsminer("S", 131, {"btmineroff": off, "Firmware Version": "20240101"})

    def _whatsminer_summary(self, _: str) -> dict[str, Any]:
        limits = {"Power Limit": self.options.watts, "Power Mode": "Normal"}
        summary = {"MHS 1m": self._ths * 1e6, "Power": self.watts, "Temperature": 60.0, **limits}
        return _status("S", "Summary", 11) | {"SUMMARY": [summary]}

    def _whatsminer_get_token(self, _: str) -> dict[str, Any]:
        salt, newsalt, time = self._word()[:8], self._word()[:8], "1700"
        hashed = md5_crypt(PASSWORDS["whatsminer"][1].encode(), salt)
        self._key = hashlib.sha256(hashed.encode()).digest()
        self._sign = md5_crypt((hashed + time).encode(), newsalt)
        return _whatsminer("S", 134, {"time": time, "salt": salt, "newsalt": newsalt})

    def _encrypted(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Of Whatsminers: the token, and the command, in one."""
        if self._key is None or self.options.firmware != "whatsminer":
            return _whatsminer("E", 135, "check token error")
        aes = Cipher(algorithms.AES(self._key), modes.ECB())  # noqa: S305 - the vendor's
        try:
            opener = aes.decryptor()
            text = opener.update(base64.b64decode(str(request["data"]))) + opener.finalize()
            told = json.loads(text.rstrip(b"\0"))
        except (ValueError, KeyError):
            return _whatsminer("E", 135, "check token error")
        if told.get("token") != self._sign:
            return _whatsminer("E", 135, "check token error")
        sealer = aes.encryptor()
        said = json.dumps(self._whatsminer_told(told)).encode()
        sealed = sealer.update(said + bytes(-len(said) % 16)) + sealer.finalize()
        return {"enc": base64.b64encode(sealed).decode()}

    def _whatsminer_told(self, told: Mapping[str, Any]) -> dict[str, Any]:
        command = told.get("cmd")
        if command == "set_power_pct":
            done = self._limit(int(told["percent"]))
        elif command in ("power_off", "power_on"):
            done = self._pause() if command == "power_off" else self._resume()
        else:
            return _whatsminer("E", 14, "invalid cmd")
        return _whatsminer("S", 131, "API command OK") if done else _whatsminer("E", 45, "permission denied")

    @staticmethod
    def _done(done: bool, words: str, more: dict[str, Any]) -> dict[str, Any]:
        return _status("S", words, 100) | more if done else _status("E", "Access denied", 45)

    def _word(self) -> str:
        return f"{self._words.getrandbits(64):016x}"

    # Whatsminers' API v3

    def packet(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One of port 4433."""
        command, parameter = str(request.get("cmd", "")), request.get("param")
        if self.options.firmware != "whatsminer":
            return _said(-1, "unknown command")
        if command == "get.device.info":
            self._salt = self._salt or self._word()[:8]
            working = "true" if self.says_it_mines else "false"
            return _said(0, {"salt": self._salt, "miner": {"type": "M63", "working": working}})
        if command == "get.miner.status" and parameter == "summary":
            summary = {"hash-1min": self._ths, "power-realtime": self.watts, "chip-temp-max": 81.5}
            return _said(0, {"summary": summary | {"power-limit": self.options.watts}})
        if command == "get.miner.setting":
            return _said(0, {"power-mode": "normal"})
        user, password = PASSWORDS["whatsminer"]
        proof = hashlib.sha256(f"{command}{password}{self._salt}{request.get('ts')}".encode()).digest()
        if (request.get("account"), request.get("token")) != (user, base64.b64encode(proof)[:8].decode()):
            return _said(-2, "invalid token")
        if command == "set.miner.service" and parameter in ("stop", "start"):
            done = self._pause() if parameter == "stop" else self._resume()
        elif command == "set.miner.power_percent" and isinstance(parameter, dict):
            done = isinstance(parameter.get("percent"), str) and self._limit(int(parameter["percent"]))
        else:
            return _said(-1, "unknown command")
        return _said(0, "ok") if done else _said(-4, "no permission for write command")

    # HTTP

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """One of port 80; names of headers in small letters."""
        if self.options.firmware == "antminer":
            return self._antminer(method, path, headers, body)
        if self.options.firmware == "vnish":
            return self._vnish(method, path, headers, body)
        if self.options.firmware == "bitaxe":
            return self._bitaxe(method, path)
        return 404, [], b""

    def _antminer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        if not self._proven(method, path, headers.get("authorization", "")):
            self._nonces.add(nonce := self._word())
            asked = f'Digest realm="{REALM}", nonce="{nonce}", qop="auth"'
            return 401, [("WWW-Authenticate", asked)], b""
        if path == "/cgi-bin/get_miner_conf.cgi":
            mode = "0" if self.says_it_mines else "1"
            conf = {"pools": [{"url": "stratum+tcp://pool:3333", "user": "acme", "pass": "x"}]}
            return _json(conf | {"bitmain-work-mode": mode, "bitmain-freq": "500"})
        if path == "/cgi-bin/summary.cgi":
            return _json({"SUMMARY": [{"elapsed": 100, "rate_5s": self._ths * 1000, "rate_unit": "GH/s"}]})
        if path == "/cgi-bin/set_miner_conf.cgi" and method == "POST":
            mode = json.loads(body).get("miner-mode")
            done = self._pause() if str(mode) == "1" else self._resume()
            words = {"stats": "success", "code": "M000", "msg": "OK!"}
            return _json(words if done else {"stats": "error", "code": "M001", "msg": "Failed!"})
        return 404, [], b""

    def _proven(self, method: str, path: str, said: str) -> bool:
        """HTTP Digest, RFC 7616, with MD5 as the firmware has it."""
        kind, _, rest = said.partition(" ")
        fields = dict(it.strip().split("=", 1) for it in rest.split(",") if "=" in it)
        field = {name: value.strip('"') for name, value in fields.items()}
        if kind != "Digest" or field.get("nonce") not in self._nonces:
            return False
        user, password = PASSWORDS["antminer"]
        first, second = _md5(f"{user}:{REALM}:{password}"), _md5(f"{method}:{path}")
        middle = ":".join(field.get(it, "") for it in ("nonce", "nc", "cnonce", "qop"))
        return field.get("username") == user and field.get("response") == _md5(f"{first}:{middle}:{second}")

    def _vnish(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        if path == "/api/v1/unlock":
            if json.loads(body).get("pw") != PASSWORDS["vnish"][1]:
                return 403, [], b'{"err":"incorrect password"}'
            self._token = self._word()
            return _json({"token": self._token})
        if self._token is None or headers.get("authorization") != self._token:
            return 401, [], b""
        if path == "/api/v1/summary":
            state = "mining" if self.says_it_mines else "stopped"
            miner = {"miner_status": {"miner_state": state}, "power_usage": self.watts}
            return _json({"miner": miner | {"hr_realtime": self._ths * 1000}})
        if method == "POST" and path in ("/api/v1/mining/stop", "/api/v1/mining/start"):
            done = self._pause() if path.endswith("stop") else self._resume()
            return (200, [], b"") if done else (403, [], b"")
        return 404, [], b""

    def _bitaxe(self, method: str, path: str) -> tuple[int, list[tuple[str, str]], bytes]:
        if path == "/api/system/info":
            paused = not self.says_it_mines
            return _json(
                {"hashRate": self._ths * 1000, "power": self.watts, "temp": 55.5, "miningPaused": paused}
            )
        if method == "POST" and path in ("/api/system/pause", "/api/system/resume"):
            done = self._pause() if path.endswith("pause") else self._resume()
            return (200, [], b"") if done else (400, [], b"")
        return 404, [], b""


def _status(status: str, words: str, code: int) -> dict[str, Any]:
    return {"STATUS": [{"STATUS": status, "When": 1, "Code": code, "Msg": words}], "id": 1}


def _whatsminer(status: str, code: int, said: Any) -> dict[str, Any]:
    return {"STATUS": status, "When": 1, "Code": code, "Msg": said, "Description": "btminer"}


def _said(code: int, words: Any) -> dict[str, Any]:
    return {"code": code, "when": 1, "msg": words, "desc": ""}


def _json(said: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    return 200, [("Content-Type", "application/json")], json.dumps(said).encode()


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
