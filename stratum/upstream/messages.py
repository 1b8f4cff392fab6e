"""What another pool says on the wire, and what it means: the client's half of Stratum V1.

Every function takes what `messages.decode` left of a line and returns a value, or raises BrokenUpstream with
a reason that repeats nothing of what was said (it could hold our account).
Must not know: connections, extranonce prefixes, what is done about a message.
"""

from typing import Any, Final, TypeVar

import msgspec

from stratum.difficulty import DIFF1, BadTarget, target_from_nbits
from stratum.job import Work, swap_words
from stratum.messages import TEXT_CHARS_MAX, Answer, BadParams, ErrorCode, read_positive
from stratum.unreadable import NOT_READ
from stratum.upstream.shares import RejectReason

VERSION_MASK: Final = 0x1FFFE000  # the bits that BIP 320 sets aside, all that we ever ask for
NTIME_AHEAD_S: Final = (
    7_000  # how far a miner may roll: consensus ends at 7,200 s ahead of the network's time
)
TARGET_MAX: Final = (1 << 256) - 1
EXTRANONCE_BYTES_MAX: Final = 32  # each of both: a coinbase script has 100 bytes for everything
COINBASE_BYTES_MAX: Final = 65_536  # what the engine takes; hundreds of outputs have 20,000
BRANCH_MAX: Final = 32  # 2^32 transactions
HEX_U32_CHARS: Final = 8
RECONNECT_WAIT_S_MAX: Final = 60.0  # a pool that asks for more gets us back then

_NO_INPUT: Final = bytes(32) + b"\xff\xff\xff\xff"  # the outpoint of a coinbase's only input
_Shape = TypeVar("_Shape")


class BrokenUpstream(Exception):
    """An upstream that says what no miner understands; the text is for an operator."""


class RefusedByUpstream(BrokenUpstream):
    """The upstream understood, and does not want us."""


class Notify(msgspec.Struct, frozen=True, kw_only=True):
    """mining.notify. Hashes in internal order, integers as in the header."""

    job_id: str
    prevhash_internal: bytes
    coinbase1: bytes
    coinbase2: bytes
    branch: tuple[bytes, ...]
    version: int
    nbits: int
    ntime: int
    network_target: int
    clean: bool


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """The result of mining.subscribe. `session_id` may get the same extranonce1 back at a reconnect."""

    session_id: str | None
    extranonce1: bytes
    extranonce2_bytes: int


class Reconnect(msgspec.Struct, frozen=True, kw_only=True):
    """client.reconnect. None: where we came from."""

    host: str | None = None
    port: int | None = None
    wait_s: float = 0.0


class _NotifyParams(msgspec.Struct, array_like=True):
    job_id: str | int
    prevhash: str
    coinbase1: str
    coinbase2: str
    branch: list[str]
    version: str
    nbits: str
    ntime: str


class _Rejection(msgspec.Struct):
    """Where ckpool says why: beside result and error."""

    reason: str | None = msgspec.field(default=None, name="reject-reason")


def _convert(value: object, shape: type[_Shape], what: str) -> _Shape:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise BrokenUpstream(f"{what}: {error}") from None


def _hex(text: str, what: str, size: int | None = None) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise BrokenUpstream(f"{what} is not hex") from None
    if size is not None and len(data) != size:
        raise BrokenUpstream(f"{what} has {len(data)} bytes, not {size}")
    return data


def _u32(text: str, what: str) -> int:
    if len(text) > HEX_U32_CHARS:
        raise BrokenUpstream(f"{what} is longer than 32 bits")
    return int.from_bytes(_hex(text.rjust(HEX_U32_CHARS, "0"), what, 4), "big")


def parse_notify(params: Any) -> Notify:
    """A job. Some pools have a parameter of their own before clean_jobs, the last one, or behind it."""
    head, rest = (params[:8], params[8:]) if isinstance(params, list) else (params, [])
    said = _convert(head, _NotifyParams, "mining.notify")
    job_id = str(said.job_id)
    if len(job_id) > TEXT_CHARS_MAX:
        raise BrokenUpstream(f"mining.notify: a job id of {len(job_id)} characters")
    if len(said.branch) > BRANCH_MAX:
        raise BrokenUpstream(f"mining.notify: a merkle branch of {len(said.branch)} nodes")
    nbits = _u32(said.nbits, "mining.notify: nbits")
    try:
        network_target = target_from_nbits(nbits)
    except BadTarget as error:
        raise BrokenUpstream(f"mining.notify: {error}") from None
    return Notify(
        job_id=job_id,
        prevhash_internal=swap_words(_hex(said.prevhash, "mining.notify: prevhash", 32)),
        coinbase1=_hex(said.coinbase1, "mining.notify: coinbase1"),
        coinbase2=_hex(said.coinbase2, "mining.notify: coinbase2"),
        branch=tuple(_hex(node, "mining.notify: merkle branch", 32) for node in said.branch),
        version=_u32(said.version, "mining.notify: version"),
        nbits=nbits,
        ntime=_u32(said.ntime, "mining.notify: ntime"),
        network_target=network_target,
        clean=_clean(rest),
    )


def _clean(rest: list[Any]) -> bool:
    """clean_jobs, as what is behind ntime says it; no for a pool that leaves it out."""
    said = next((it for it in reversed(rest) if isinstance(it, bool)), rest[-1] if rest else False)
    if said in (True, False, None):  # 1 and 0 too
        return bool(said)
    if isinstance(said, str) and said.lower() in ("true", "false"):
        return said.lower() == "true"
    raise BrokenUpstream("mining.notify: clean_jobs is neither true nor false")


def work_from_notify(notify: Notify, *, before: bytes, extranonce2_bytes: int, origin: object) -> Work:
    """Work for our miners. `before` is what the upstream puts between coinbase1 and our part of extranonce2,
    which has `extranonce2_bytes`; it becomes part of the work's coinbase1."""
    coinbase1 = notify.coinbase1 + before
    if len(coinbase1) + extranonce2_bytes + len(notify.coinbase2) > COINBASE_BYTES_MAX:
        raise BrokenUpstream(f"mining.notify: a coinbase of more than {COINBASE_BYTES_MAX} bytes")
    return Work(
        prevhash_internal=notify.prevhash_internal,
        coinbase1=coinbase1,
        coinbase2=notify.coinbase2,
        branch=notify.branch,
        version=notify.version,
        nbits=notify.nbits,
        ntime=notify.ntime,
        ntime_min=notify.ntime,
        ntime_max=min(notify.ntime + NTIME_AHEAD_S, 0xFFFFFFFF),
        height=coinbase_height(notify.coinbase1),
        network_target=notify.network_target,
        origin=origin,
    )


def coinbase_height(coinbase1: bytes) -> int:
    """The height that a coinbase's script begins with (BIP 34), 0 where there is none to be found.

    Non-witness serialisation: version, one input that spends nothing, the script's length, the push.
    """
    if len(coinbase1) < 43 or coinbase1[4] != 1 or coinbase1[5:41] != _NO_INPUT:
        return 0
    opcode, pushed = coinbase1[42], coinbase1[43:]
    if 0x51 <= opcode <= 0x60:  # OP_1 to OP_16
        return opcode - 0x50
    if not 1 <= opcode <= 4 or len(pushed) < opcode or pushed[opcode - 1] & 0x80:  # the top bit is the sign
        return 0
    return int.from_bytes(pushed[:opcode], "little")


def parse_target(params: Any) -> int:
    """The share target of mining.set_difficulty: the largest whole number not above DIFF1 / difficulty."""
    if not isinstance(params, list) or not params:
        raise BrokenUpstream("mining.set_difficulty without a difficulty")
    try:
        exact = read_positive(params[0], "the difficulty")
    except BadParams as error:
        raise BrokenUpstream(f"mining.set_difficulty: {error}") from None
    target = DIFF1 * exact.denominator // exact.numerator
    if target == 0:
        raise BrokenUpstream("mining.set_difficulty: no hash can reach this difficulty")
    return min(target, TARGET_MAX)


def _size(said: int | str) -> int:
    """A number of bytes, as a number or as text; -1 for what is none."""
    if isinstance(said, int):
        return said
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 2 else -1


def parse_extranonce(extranonce1: str, extranonce2_bytes: int, what: str) -> tuple[bytes, int]:
    """An extranonce1 and the size of the extranonce2 behind it, both bounded."""
    data = _hex(extranonce1, f"{what}: extranonce1")
    if len(data) > EXTRANONCE_BYTES_MAX:
        raise BrokenUpstream(f"{what}: an extranonce1 of {len(data)} bytes")
    if not 0 <= extranonce2_bytes <= EXTRANONCE_BYTES_MAX:
        raise BrokenUpstream(f"{what}: an extranonce2 of a size that cannot be")
    return data, extranonce2_bytes


def parse_set_extranonce(params: Any) -> tuple[bytes, int]:
    """mining.set_extranonce. Whatever pools say behind the two is ignored."""
    what = "mining.set_extranonce"
    head = params[:2] if isinstance(params, list) else params
    extranonce1, size = _convert(head, tuple[str, int | str], what)
    return parse_extranonce(extranonce1, _size(size), what)


def parse_subscribed(result: Any) -> Subscribed:
    """The result of mining.subscribe."""
    what = "mining.subscribe"
    head = result[:3] if isinstance(result, list) else result
    topics, extranonce1, size = _convert(head, tuple[Any, str, int | str], what)
    data, extranonce2_bytes = parse_extranonce(extranonce1, _size(size), what)
    return Subscribed(session_id=_session_id(topics), extranonce1=data, extranonce2_bytes=extranonce2_bytes)


def _session_id(topics: Any) -> str | None:
    """Of the notify subscription, which is what pools resume by; some say it without the list around."""
    if not isinstance(topics, list):
        return None
    for topic in [*topics, topics]:
        match topic:
            case ["mining.notify", str(session_id)] if 0 < len(session_id) <= TEXT_CHARS_MAX:
                return session_id
    return None


def parse_mask(value: Any, what: str) -> int:
    """A version mask, cut to the bits that we asked for."""
    return _u32(_convert(value, str, what), what) & VERSION_MASK


def parse_configured(answer: Answer) -> int | None:
    """The version mask that mining.configure granted; None where version rolling was not."""
    granted = answer.result
    if not isinstance(granted, dict) or granted.get("version-rolling") is not True:
        return None
    return parse_mask(granted.get("version-rolling.mask"), "mining.configure: version-rolling.mask")


def parse_set_version_mask(params: Any) -> int:
    """mining.set_version_mask."""
    what = "mining.set_version_mask"
    return parse_mask(_convert(params, list[Any], what)[0] if params else None, what)


def parse_reconnect(params: Any) -> Reconnect:
    """[], [host, port] or [host, port, seconds]; pools give numbers as numbers or as text."""
    what = "client.reconnect"
    fields = _convert([] if params is None else params, list[str | int | float | None], what)
    host, port, wait_s = [*fields, None, None, None][:3]
    try:
        port_number = int(port) if port else None
        wait = float(wait_s or 0)
    except (ValueError, OverflowError):
        raise BrokenUpstream(f"{what}: port or time is not a number") from None
    if port_number is not None and not 0 < port_number < 1 << 16:
        raise BrokenUpstream(f"{what}: not a port")
    return Reconnect(
        host=str(host) if host else None,
        port=port_number,
        wait_s=min(max(wait, 0.0), RECONNECT_WAIT_S_MAX) if wait == wait else 0.0,  # not a number: at once
    )


def accepted(answer: Answer) -> bool:
    """Whether it is a plain yes."""
    return answer.result is True and not answer.error


_CODES: Final = {
    ErrorCode.JOB_NOT_FOUND: RejectReason.STALE,
    ErrorCode.DUPLICATE: RejectReason.DUPLICATE,
    ErrorCode.LOW_DIFFICULTY: RejectReason.LOW_DIFFICULTY,
    ErrorCode.UNAUTHORISED: RejectReason.UNAUTHORISED,
    ErrorCode.NOT_SUBSCRIBED: RejectReason.NOT_SUBSCRIBED,
}
# What pools say where the code says nothing.
_WORDS: Final = (
    ("stale", RejectReason.STALE),
    ("job not found", RejectReason.STALE),
    ("unknown job", RejectReason.STALE),
    ("invalid job", RejectReason.STALE),
    ("duplicate", RejectReason.DUPLICATE),
    ("low diff", RejectReason.LOW_DIFFICULTY),
    ("above target", RejectReason.LOW_DIFFICULTY),
    ("high-hash", RejectReason.LOW_DIFFICULTY),
    ("unauthor", RejectReason.UNAUTHORISED),
)


def words_of(answer: Answer, line: bytes) -> str:
    """What the upstream says about a refusal, as it came."""
    match answer.error:
        case str(words) | [_, str(words), *_] | {"message": str(words)}:
            return words
    try:
        return msgspec.json.decode(line, type=_Rejection).reason or ""
    except NOT_READ:
        return ""


def reject_reason(answer: Answer, words: str) -> RejectReason:
    """By the error's code, or by the upstream's words where the code does not tell."""
    match answer.error:
        case [int(code), *_] | {"code": int(code)} if code in _CODES:
            return _CODES[code]
    said = words.lower()
    return next((reason for text, reason in _WORDS if text in said), RejectReason.OTHER)
