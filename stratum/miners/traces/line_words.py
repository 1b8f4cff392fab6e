"""What a line between a miner and the pool means, in words for a person who looks at them as they pass.

Sans-IO, and of one connection: a reply is told by what it answers, a share by the job that it is of. A line
may be anything. Must not know: sessions, who looks.
"""

from fractions import Fraction
from typing import Any, Final

import msgspec

from stratum.messages import (
    Answer,
    Authorize,
    BadLine,
    BadParams,
    Configure,
    ExtranonceSubscribe,
    Request,
    Submit,
    Subscribe,
    SuggestDifficulty,
    decode,
    parse,
)

REMEMBERED_MAX: Final = 64  # questions without an answer, and jobs: who asks more is told less
WORDS_CHARS_MAX: Final = 200
_SUFFIXES: Final = "kMGTPE"


class _Asked(msgspec.Struct, frozen=True):
    what: str
    at_s: float


class LineWords:
    """Lines in the order in which they pass."""

    def __init__(self) -> None:
        self._asked: dict[bytes, _Asked] = {}
        self._asked_by_us: dict[bytes, str] = {}
        self._jobs: dict[str, float] = {}

    def heard(self, line: bytes, at_s: float) -> str:
        """Of a line that the miner said."""
        return self._of(line, at_s, self._from_miner)

    def said(self, line: bytes, at_s: float) -> str:
        """Of a line that the pool said."""
        return self._of(line, at_s, self._from_pool)

    def _of(self, line: bytes, at_s: float, words: Any) -> str:
        try:
            message = decode(line)
        except BadLine as error:
            return f"no message: {error}"[:WORDS_CHARS_MAX]
        return str(words(message, at_s))[:WORDS_CHARS_MAX]

    def _from_miner(self, message: Request | Answer, at_s: float) -> str:
        if isinstance(message, Answer):
            return f"answers {self._asked_by_us.pop(message.id, 'nothing that was asked')}"
        words = self._asks(message, at_s)
        _remember(self._asked, message.id, _Asked(message.method, at_s))
        return words

    def _asks(self, request: Request, at_s: float) -> str:
        try:
            message = parse(request)
        except BadParams as error:
            return str(error)
        match message:
            case Configure(extensions=extensions, version_mask=mask, minimum=minimum):
                told = [f"wants {', '.join(extensions) or 'no extension'}"]
                told += [] if mask is None else [f"can roll version bits {mask:08x}"]
                told += [] if minimum is None else [f"difficulty at least {number(minimum)}"]
                return ", ".join(told)
            case Subscribe(agent=agent, session_id=session_id):
                return f"is {agent or 'nameless'}" + (", was here before" if session_id else "")
            case Authorize(name=name, difficulty=difficulty, minimum=minimum):
                told = [f"mines as {name}"]
                told += [] if difficulty is None else [f"wants difficulty {number(difficulty)}"]
                told += [] if minimum is None else [f"difficulty at least {number(minimum)}"]
                return ", ".join(told)
            case SuggestDifficulty(difficulty=difficulty):
                return f"wants difficulty {number(difficulty)}"
            case ExtranonceSubscribe():
                return "takes other extranonces without a new connection"
            case Submit(params=params):
                job = params[1].decode(errors="replace")
                given_s = self._jobs.get(job)
                if given_s is None:
                    return f"a share of job {job}, which it was not given while lines were kept"
                return f"a share of job {job}, {at_s - given_s:.1f} s old"
        return ""

    def _from_pool(self, message: Request | Answer, at_s: float) -> str:
        if isinstance(message, Request):
            return self._tells(message, at_s)
        asked = self._asked.pop(message.id, None)
        if asked is None:
            return "answers nothing that was asked while lines were kept"
        took = f"{asked.what}, after {(at_s - asked.at_s) * 1000:.0f} ms"
        if message.error is not None:
            parts = message.error if isinstance(message.error, list) else [message.error]
            return f"refuses {took}: {' '.join(str(it) for it in parts if it is not None)}"
        if message.result is False:
            return f"refuses {took}"
        return f"accepts {took}"

    def _tells(self, request: Request, at_s: float) -> str:
        params = request.params if isinstance(request.params, list) else []
        match request.method, params:
            case "mining.set_difficulty", [int() | float() as difficulty, *_]:
                return f"difficulty {number(difficulty)} from the next job on"
            case "mining.notify", [str() as job, *_] if len(params) >= 9:
                _remember(self._jobs, job, at_s)
                return f"job {job}" + (", and what was before is worth nothing" if params[8] is True else "")
            case "mining.set_extranonce", [extranonce1, size, *_]:
                return f"extranonce1 {extranonce1} from the next job on, {size} bytes are the miner's"
            case "mining.set_version_mask", [mask, *_]:
                return f"version bits {mask} may be rolled from now on"
            case "client.reconnect", _:
                return "is to come back" + (f" to {params[0]}:{params[1]}" if len(params) > 1 else "")
        if request.id != b"null":
            _remember(self._asked_by_us, request.id, request.method)
        return ""


def number(difficulty: Fraction | int | float) -> str:
    """65536 is 64k, as machines' settings have it; what is no multiple is told whole."""
    exact, steps = Fraction(difficulty), 0
    if exact.denominator != 1:
        return str(exact) if exact.numerator == 1 else f"{float(exact):g}"
    while exact and exact % 1024 == 0 and steps < len(_SUFFIXES):
        exact, steps = exact / 1024, steps + 1
    return f"{exact}{_SUFFIXES[steps - 1] if steps else ''}"


def _remember(kept: dict[Any, Any], key: Any, value: Any) -> None:
    if len(kept) >= REMEMBERED_MAX:
        del kept[next(iter(kept))]
    kept[key] = value
