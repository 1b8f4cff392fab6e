"""How firmware of each vendor speaks: what `angara swarm` plays. Bitaxe's and cpuminer's are read off their
sources, the others off what pools see of them.

Must not know: sockets, and what a server makes of it.
"""

import json
from decimal import Decimal
from typing import Any, Final

import msgspec

MASK: Final = 0x1FFFE000  # the 16 general purpose bits of BIP 320


class Request(msgspec.Struct, frozen=True):
    """A request of a handshake. {agent}, {worker}, {password}, {host}, {port} and {difficulty} stand for what
    they say."""

    ask: str  # configure, subscribe, authorize: their answers matter; other
    method: str
    params: list[Any]
    waits: bool = True  # for its answer, before the next one


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor's firmware."""

    name: str
    agent: str
    requests: tuple[Request, ...]
    mask: int = 0  # what it can roll
    always_six: bool = False  # rolled bits in every submit, configured or not
    fixed_id: bool = False  # one id for every submit
    difficulty_at_once: bool = False  # and not from the next job on
    obeys_reconnect: bool = True
    pong: str = "result"  # its answer to mining.ping: result, a request of its own, or silent
    suggests: float | None = None  # a difficulty, whatever was asked for


class Step(msgspec.Struct, frozen=True):
    """A request as it is sent, but for its id and the machine's name."""

    ask: str
    waits: bool
    text: str


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """A profile for one server, as the native side takes it."""

    name: str
    agent: str
    steps: list[Step]
    mask: int
    always_six: bool
    fixed_id: bool
    difficulty_at_once: bool
    obeys_reconnect: bool
    pong: str


def _configure(mask: str, min_bits: int | str | None = None, *, waits: bool = True) -> Request:
    options: dict[str, Any] = {"version-rolling.mask": mask}
    if min_bits is not None:
        options["version-rolling.min-bit-count"] = min_bits
    return Request("configure", "mining.configure", [["version-rolling"], options], waits)


SUBSCRIBE: Final = Request("subscribe", "mining.subscribe", ["{agent}"])
AUTHORIZE: Final = Request("authorize", "mining.authorize", ["{worker}", "{password}"])
EXTRANONCES: Final = Request("other", "mining.extranonce.subscribe", [], waits=False)
SUGGEST: Final = Request("other", "mining.suggest_difficulty", ["{difficulty}"], waits=False)

PROFILES: Final = {
    profile.name: profile
    for profile in (
        # Configures behind authorize, for two bits, and does not wait.
        Profile(
            name="antminer",
            agent="bmminer/2.0.0/Antminer S19",
            requests=(SUBSCRIBE, AUTHORIZE, _configure("00c00000", 2, waits=False)),
            mask=MASK | 0x00C00000,
        ),
        # Leaves min-bit-count out.
        Profile(
            name="whatsminer",
            agent="whatsminer/v1.0",
            requests=(_configure("1fffe000"), SUBSCRIBE, AUTHORIZE),
            mask=MASK,
        ),
        # cgminer: asked to come back, it does so only within its pool's domain.
        Profile(
            name="avalon",
            agent="cgminer/4.11.1",
            requests=(_configure("1fffe000", 2), SUBSCRIBE, AUTHORIZE),
            mask=MASK,
        ),
        # Says all of it at once, and whom it thinks it speaks to.
        Profile(
            name="braiins",
            agent="bosminer-plus-tuner 0.2.0-36c56a9363",
            requests=(
                _configure("1fffe000", 16, waits=False),
                Request("subscribe", "mining.subscribe", ["{agent}", None, "{host}", "{port}"], waits=False),
                AUTHORIZE,
                EXTRANONCES,
            ),
            mask=MASK,
        ),
        Profile(
            name="luxos",
            agent="LUXminer 2024.9.1",
            requests=(
                SUBSCRIBE,
                _configure("1fffe000", "2"),  # some say it as a text
                EXTRANONCES,
                AUTHORIZE,
            ),
            mask=MASK,
        ),
        Profile(
            name="vnish",
            agent="xminer-1.2.6",
            requests=(_configure("1fffe000", 2), SUBSCRIBE, AUTHORIZE, EXTRANONCES),
            mask=MASK,
        ),
        # Asks for every bit there is and waits for nothing; stays when it is asked to come back.
        Profile(
            name="bitaxe",
            agent="bitaxe/BM1368/v2.6.0",
            requests=(
                _configure("ffffffff", waits=False),
                msgspec.structs.replace(SUBSCRIBE, waits=False),
                msgspec.structs.replace(AUTHORIZE, waits=False),
                SUGGEST,
                EXTRANONCES,
            ),
            mask=MASK,
            difficulty_at_once=True,
            obeys_reconnect=False,
            pong="request",
            suggests=1000,
        ),
        # Rolls nothing, knows no ping, and calls every share 4.
        Profile(
            name="cpuminer",
            agent="cpuminer/2.5.1",
            requests=(SUBSCRIBE, AUTHORIZE),
            fixed_id=True,
            pong="silent",
        ),
        # Six parameters without having configured.
        Profile(
            name="rental",
            agent="NiceHash/1.0.0",
            requests=(SUBSCRIBE, EXTRANONCES, AUTHORIZE),
            always_six=True,
        ),
    )
}


def spoken(
    profile: Profile, *, password: str, host: str, port: int, suggest_difficulty: float | None
) -> Spoken:
    """The profile for this server. A difficulty that is suggested comes last where firmware suggests none."""
    difficulty = profile.suggests if suggest_difficulty is None else suggest_difficulty
    requests = profile.requests
    if difficulty is not None and SUGGEST not in requests:
        requests = (*requests, SUGGEST)
    said = {
        "{agent}": profile.agent,
        "{password}": password,
        "{host}": host,
        "{port}": str(port),
    }
    steps = []
    for it in requests:
        params = [said.get(value, value) if isinstance(value, str) else value for value in it.params]
        text = json.dumps({"method": it.method, "params": params}, separators=(",", ":"))[1:-1]
        if it is SUGGEST:  # without an exponent, which small servers do not read
            text = text.replace('"{difficulty}"', format(Decimal(repr(difficulty)), "f"))
        steps.append(Step(it.ask, it.waits, text))
    return Spoken(
        name=profile.name,
        agent=profile.agent,
        steps=steps,
        mask=profile.mask,
        always_six=profile.always_six,
        fixed_id=profile.fixed_id,
        difficulty_at_once=profile.difficulty_at_once,
        obeys_reconnect=profile.obeys_reconnect,
        pong=profile.pong,
    )
