"""The words of Stratum V1 on the wire: what a line means, and how a line is written.

Every message is a frozen struct. `decode` turns one line into a `Request` or an `Answer` and raises
`BadLine` for everything else; `PARSERS` turns a request's parameters into its message and raises
`BadParams`. Firmware is met half-way: `id` may be anything and is echoed as it came, numbers may be
strings. Must not know: sessions, sockets, what is done about a message.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from stratum.difficulty import DIFF1


class BadLine(ValueError):
    """A line that is no JSON-RPC message."""


class BadParams(ValueError):
    """Parameters that the method cannot have; the text is for the miner."""


class ErrorCode:
    """The codes of Stratum V1 errors."""

    OTHER = 20
    JOB_NOT_FOUND = 21
    DUPLICATE = 22
    LOW_DIFFICULTY = 23
    UNAUTHORISED = 24
    NOT_SUBSCRIBED = 25


TEXT_CHARS_MAX = 255  # agents, session ids, passwords: longer is not firmware but abuse


class Request(msgspec.Struct, frozen=True):
    """A method call; `id` is raw JSON, to be echoed."""

    id: bytes
    method: str
    params: list[Any]


class Answer(msgspec.Struct, frozen=True):
    """A reply to something that we asked."""

    id: bytes
    result: Any
    error: Any


class Subscribe(msgspec.Struct, frozen=True):
    agent: str
    session_id: str | None
    host: str | None


class Authorize(msgspec.Struct, frozen=True):
    """`name` is the worker as it came, `difficulty` from `d=`, `minimum` from `md=`."""

    name: str
    difficulty: Fraction | None
    minimum: Fraction | None


class Configure(msgspec.Struct, frozen=True):
    """Extensions in the order asked; mask is None where version rolling was not asked for."""

    extensions: tuple[str, ...]
    version_mask: int | None
    version_min_bits: int
    minimum: Fraction | None


class ExtranonceSubscribe(msgspec.Struct, frozen=True):
    pass


class SuggestDifficulty(msgspec.Struct, frozen=True):
    difficulty: Fraction


class GetTransactions(msgspec.Struct, frozen=True):
    pass


class Ping(msgspec.Struct, frozen=True):
    pass


class Pong(msgspec.Struct, frozen=True):
    pass


class Submit(msgspec.Struct, frozen=True):
    """A submit that the engine left to us: its parameters as the text that the engine reads."""

    params: tuple[bytes, ...]


Message = (
    Subscribe
    | Authorize
    | Configure
    | ExtranonceSubscribe
    | SuggestDifficulty
    | GetTransactions
    | Ping
    | Pong
    | Submit
)


class _Line(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"null")
    method: str | None = None
    params: Any = None
    result: Any = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Line)
_encode = msgspec.json.encode


def decode(line: bytes) -> Request | Answer:
    """One line without its line feed."""
    try:
        parsed = _decoder.decode(line)
        raw_id = bytes(parsed.id)
        raw_id.decode()
    except RecursionError as error:
        raise BadLine("nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadLine(str(error)) from error
    if parsed.method is None:
        return Answer(raw_id, parsed.result, parsed.error)
    params = [] if parsed.params is None else parsed.params
    if not isinstance(params, list):
        raise BadLine("params must be a list")
    return Request(raw_id, parsed.method, params)


def reply(raw_id: bytes, result: object) -> bytes:
    return b'{"id":%b,"result":%b,"error":null}\n' % (raw_id, _encode(result))


def refusal(raw_id: bytes, code: int, text: str) -> bytes:
    return b'{"id":%b,"result":null,"error":[%d,%b,null]}\n' % (raw_id, code, _encode(text))


def notification(method: str, params: Sequence[object]) -> bytes:
    return b'{"id":null,"method":%b,"params":%b}\n' % (_encode(method), _encode(params))


def request(number: int, method: str, params: Sequence[object]) -> bytes:
    return b'{"id":%d,"method":%b,"params":%b}\n' % (number, _encode(method), _encode(params))


def notify(job_id: str, params: Sequence[object], *, clean: bool) -> bytes:
    """mining.notify: job id, [prevhash, coinbase1, coinbase2, branch, version, nbits, ntime], clean_jobs."""
    return notification("mining.notify", [job_id, *params, clean])


def _text(value: object, what: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    if not isinstance(value, str):
        raise BadParams(f"{what} must be a string")
    if len(value) > chars_max:
        raise BadParams(f"{what} is longer than {chars_max} characters")
    if not value.isprintable():
        raise BadParams(f"{what} has characters that cannot be printed")
    return value


def _optional_text(params: list[Any], at: int, what: str) -> str | None:
    if len(params) <= at or params[at] is None:
        return None
    return _text(params[at], what) or None


def _positive(value: object, what: str) -> Fraction:
    """A positive number, given as a number or as text; exact."""
    if isinstance(value, str) and len(value) <= 32 and "/" not in value:
        try:
            # The exponent decides how long the exact value is; no difficulty needs more than two digits.
            mantissa, _, exponent = value.strip().lower().partition("e")
            value = Fraction(mantissa) * Fraction(10) ** int(exponent[:3] if exponent else 0)
        except (ValueError, ZeroDivisionError):
            raise BadParams(f"{what} is not a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction) or not value > 0:
        raise BadParams(f"{what} must be a positive number")
    return Fraction(value)


def _hex_u32(value: object, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFFFFFF:
        return value
    if isinstance(value, str) and len(value) <= 10:
        try:
            number = int(value, 16)
        except ValueError:
            number = -1
        if 0 <= number <= 0xFFFFFFFF:
            return number
    raise BadParams(f"{what} must be 32 bits in hex")


def parse_subscribe(params: list[Any]) -> Subscribe:
    return Subscribe(
        agent=_optional_text(params, 0, "user agent") or "",
        session_id=_optional_text(params, 1, "session id"),
        host=_optional_text(params, 2, "host"),
    )


def parse_authorize(params: list[Any]) -> Authorize:
    """The password's options are d= and md=, in any order, separated by comma, semicolon or space."""
    if not params:
        raise BadParams("mining.authorize needs a worker name")
    name = _text(params[0], "worker name")
    password = _optional_text(params, 1, "password") or ""
    wishes: dict[str, Fraction] = {}
    for option in password.replace(";", ",").replace(" ", ",").split(","):
        key, equals, value = option.partition("=")
        if equals and key in ("d", "md"):
            try:
                wishes[key] = _positive(value, key)
            except BadParams:
                continue  # a password is not the place to fail a miner
    return Authorize(name, wishes.get("d"), wishes.get("md"))


def parse_configure(params: list[Any]) -> Configure:
    """BIP 310. min-bit-count may be missing or a string; a missing mask asks for every bit."""
    extensions = params[0] if params else None
    options = params[1] if len(params) > 1 and params[1] is not None else {}
    if not isinstance(extensions, list) or len(extensions) > 16:
        raise BadParams("extensions must be a short list")
    if not isinstance(options, dict):
        raise BadParams("extension parameters must be an object")
    names = tuple(dict.fromkeys(_text(name, "extension") for name in extensions))
    mask: int | None = None
    min_bits = 0
    if "version-rolling" in names:
        mask = _hex_u32(options.get("version-rolling.mask", 0xFFFFFFFF), "version-rolling.mask")
        try:
            min_bits = int(options.get("version-rolling.min-bit-count", 0))
        except (TypeError, ValueError, OverflowError):
            min_bits = 0
    minimum = None
    if "minimum-difficulty" in names:
        minimum = _positive(options.get("minimum-difficulty.value"), "minimum-difficulty.value")
    return Configure(names, mask, min_bits, minimum)


def parse_suggest_difficulty(params: list[Any]) -> SuggestDifficulty:
    if not params:
        raise BadParams("mining.suggest_difficulty needs a difficulty")
    return SuggestDifficulty(_positive(params[0], "difficulty"))


def parse_suggest_target(params: list[Any]) -> SuggestDifficulty:
    text = _text(params[0] if params else None, "target", 66)
    try:
        target = int(text, 16)
    except ValueError:
        target = 0
    if not 0 < target < 1 << 256:
        raise BadParams("target must be 256 bits in hex")
    return SuggestDifficulty(Fraction(DIFF1, target))


def parse_submit(params: list[Any]) -> Submit:
    """Only for lines that the engine left to us: escapes, signs, odd nesting."""
    if len(params) not in (5, 6):
        raise BadParams("mining.submit has 5 or 6 parameters")
    texts = []
    for param in params:
        if isinstance(param, bool) or not isinstance(param, int | str):
            raise BadParams("mining.submit takes strings")
        texts.append(param.encode() if isinstance(param, str) else b"%x" % max(param, 0))
        if isinstance(param, int) and param < 0:
            raise BadParams("mining.submit takes no negative numbers")
    return Submit(tuple(texts))


PARSERS: dict[str, Callable[[list[Any]], Message]] = {
    "mining.subscribe": parse_subscribe,
    "mining.authorize": parse_authorize,
    "mining.configure": parse_configure,
    "mining.extranonce.subscribe": lambda params: ExtranonceSubscribe(),
    "mining.suggest_difficulty": parse_suggest_difficulty,
    "mining.suggest_target": parse_suggest_target,
    "mining.get_transactions": lambda params: GetTransactions(),
    "mining.ping": lambda params: Ping(),
    "mining.pong": lambda params: Pong(),
    "mining.submit": parse_submit,
}
