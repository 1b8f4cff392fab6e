"""The words of Stratum V1 on the wire: what a line means, and how a line is written.

Every message is a frozen struct. `decode` turns one line into a `Request` or an `Answer` and raises
`BadLine` for everything else; `parse` turns a request into its message and raises `BadParams`. Firmware
is met half-way: `id` may be anything and is echoed as it came, numbers may be strings, and what we only
take note of (agents, passwords, sizes of an extension) never fails a miner.
Must not know: sessions, sockets, what is done about a message.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from stratum.difficulty import DIFF1
from stratum.json_depth import too_deep
from stratum.unreadable import NOT_READ


class BadLine(ValueError):
    """A line that is no JSON-RPC message."""


class BadParams(ValueError):
    """A method that there is not, or parameters that it cannot have; the text is for the miner."""


class ErrorCode:
    """The codes of Stratum V1 errors."""

    OTHER = 20
    JOB_NOT_FOUND = 21
    DUPLICATE = 22
    LOW_DIFFICULTY = 23
    UNAUTHORISED = 24
    NOT_SUBSCRIBED = 25


TEXT_CHARS_MAX = 255  # agents, session ids, passwords: longer is not firmware but abuse
EXTENSIONS_MAX = 16  # BIP 310 has four
NUMBER_CHARS_MAX = 32  # of a number that came as text


class Request(msgspec.Struct, frozen=True):
    """A method call; `id` is raw JSON, to be echoed."""

    id: bytes
    method: str
    params: Any


class Answer(msgspec.Struct, frozen=True):
    """A reply to something that we asked."""

    id: bytes
    result: Any
    error: Any


class Subscribe(msgspec.Struct, frozen=True):
    agent: str
    session_id: str | None


class Authorize(msgspec.Struct, frozen=True):
    """`name` is the worker as it came, `difficulty` from `d=`, `minimum` from `md=`."""

    name: str
    difficulty: Fraction | None
    minimum: Fraction | None


class Configure(msgspec.Struct, frozen=True):
    """Extensions in the order asked; mask and minimum are None where there is nothing to grant."""

    extensions: tuple[str, ...]
    version_mask: int | None
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


class MultiVersion(msgspec.Struct, frozen=True):
    """bmminer's question from before BIP 310; what it asks for comes with mining.configure, if at all."""


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
    | MultiVersion
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
    if too_deep(line):
        raise BadLine("nested too deeply")
    try:
        parsed = _decoder.decode(line)
        raw_id = bytes(parsed.id)
        raw_id.decode()
    except NOT_READ as error:
        raise BadLine(str(error)) from error
    if parsed.method is None:
        return Answer(raw_id, parsed.result, parsed.error)
    return Request(raw_id, parsed.method, parsed.params)


def parse(request: Request) -> Message:
    """What the request asks for. Raises BadParams."""
    parser = _PARSERS.get(request.method)
    if parser is None:
        raise BadParams("Method not supported")
    params = [] if request.params is None else request.params
    if not isinstance(params, list):
        raise BadParams("params must be a list")
    return parser(params)


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


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise BadParams(f"{what} must be a string")
    if len(value) > TEXT_CHARS_MAX:
        raise BadParams(f"{what} is longer than {TEXT_CHARS_MAX} characters")
    if not value.isprintable():
        raise BadParams(f"{what} has characters that cannot be printed")
    return value


def _note(params: list[Any], at: int) -> str:
    """Text that a miner may leave out: what is no such text is as good as none."""
    try:
        return _text(params[at], "") if at < len(params) else ""
    except BadParams:
        return ""


def read_positive(value: object, what: str) -> Fraction:
    """A positive number, given as a number or as text; exact."""
    if isinstance(value, str) and len(value) <= NUMBER_CHARS_MAX and "/" not in value:
        try:
            # The exponent decides how long the exact value is: three characters are more than any
            # difficulty needs.
            mantissa, _, exponent = value.strip().lower().partition("e")
            value = Fraction(mantissa) * Fraction(10) ** int(exponent[:3] if exponent else 0)
        except (ValueError, ZeroDivisionError):
            raise BadParams(f"{what} is not a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction) or not value > 0:
        raise BadParams(f"{what} must be a positive number")
    return Fraction(value)


def _mask(value: object) -> int:
    """32 bits, as hex with or without 0x; 0 for what is no mask: no bit to roll."""
    if type(value) is int:
        return max(value, 0)
    if isinstance(value, str) and len(value) <= len("0x1fffe000"):
        try:
            return max(int(value, 16), 0)
        except ValueError:
            return 0
    return 0


def parse_subscribe(params: list[Any]) -> Subscribe:
    """[agent, session id, host, port], all of it optional; we are where the miner found us."""
    return Subscribe(agent=_note(params, 0), session_id=_note(params, 1) or None)


def parse_authorize(params: list[Any]) -> Authorize:
    """The password's options are d= and md=, in any order, separated by comma, semicolon or space."""
    name = _text(params[0] if params else None, "worker name")
    wishes: dict[str, Fraction] = {}
    for option in _note(params, 1).replace(";", ",").replace(" ", ",").split(","):
        key, _, value = option.partition("=")
        if key in ("d", "md"):
            try:
                wishes[key] = read_positive(value, key)
            except BadParams:
                continue  # a password is not the place to fail a miner
    return Authorize(name, wishes.get("d"), wishes.get("md"))


def parse_configure(params: list[Any]) -> Configure:
    """BIP 310. min-bit-count is a hint that does not change our answer: it may be anything, or missing."""
    extensions = params[0] if params else None
    options = params[1] if len(params) > 1 and params[1] is not None else {}
    if not isinstance(extensions, list) or len(extensions) > EXTENSIONS_MAX:
        raise BadParams("extensions must be a short list")
    if not isinstance(options, dict):
        raise BadParams("extension parameters must be an object")
    names = tuple(dict.fromkeys(_text(name, "extension") for name in extensions))
    mask = None
    if "version-rolling" in names:
        mask = _mask(options.get("version-rolling.mask", "ffffffff"))
    minimum = None
    if "minimum-difficulty" in names:
        try:
            minimum = read_positive(options.get("minimum-difficulty.value"), "minimum-difficulty.value")
        except BadParams:
            minimum = None  # this extension is refused; the others are not worse for it
    return Configure(names, mask, minimum)


def parse_suggest_difficulty(params: list[Any]) -> SuggestDifficulty:
    if not params:
        raise BadParams("mining.suggest_difficulty needs a difficulty")
    return SuggestDifficulty(read_positive(params[0], "difficulty"))


def parse_suggest_target(params: list[Any]) -> SuggestDifficulty:
    text = _text(params[0] if params else None, "target")
    try:
        target = int(text, 16)
    except ValueError:
        target = 0
    if not 0 < target < 1 << 256:
        raise BadParams("target must be 256 bits in hex")
    return SuggestDifficulty(Fraction(DIFF1, target))


def parse_submit(params: list[Any]) -> Submit:
    """Only for lines that the engine left to us: escapes, signs, odd nesting.

    What cannot be read becomes empty text, which the engine calls malformed: so it is answered, counted
    and held against the miner like every other bad share.
    """
    if len(params) not in (5, 6):
        params = [*params[:1], None, None, None, None, None][:5]
    if len(params) == 6 and params[5] is None:
        params = params[:5]  # no rolled bits
    worker, job_id, extranonce2, *numbers = params
    return Submit(
        (
            _digits(worker, b"%d"),
            _digits(job_id, b"%d"),
            extranonce2.encode() if isinstance(extranonce2, str) else b"",  # bytes have no number
            *(_digits(number, b"%x") for number in numbers),
        )
    )


def _digits(value: object, number: bytes) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return number % value if type(value) is int and value >= 0 else b""


_PARSERS: dict[str, Callable[[list[Any]], Message]] = {
    "mining.subscribe": parse_subscribe,
    "mining.authorize": parse_authorize,
    "mining.configure": parse_configure,
    "mining.extranonce.subscribe": lambda params: ExtranonceSubscribe(),
    "mining.suggest_difficulty": parse_suggest_difficulty,
    "mining.suggest_target": parse_suggest_target,
    "mining.get_transactions": lambda params: GetTransactions(),
    "mining.ping": lambda params: Ping(),
    "mining.pong": lambda params: Pong(),
    "pong": lambda params: Pong(),  # a Bitaxe's answer to a ping is a request
    "mining.multi_version": lambda params: MultiVersion(),
    "mining.submit": parse_submit,
}
