"""A call over HTTP that proves who made it, and that he makes it now.

    Angara-Signature: t=1795795200,v1=<hex>          HMAC-SHA-256 of `<t>.<body>` with the secret of both

is the same that the pool's own messages have. The body is JSON: {"version": 1, "curtail": {a call}}, or
{"version": 1, "restore": {"reference": "grid-0412"}}.

What was heard once is never done again: the same bytes are answered what they were answered, within the time
in which a signature is taken at all; what was signed before this pool was started is not taken, and of one
event nothing that was signed before what was taken last. So who holds back or repeats what somebody else has
signed changes nothing that its maker did not want last.

Invariants: a signature is compared in a time that says nothing of it, before anything of the body is looked
at; what is remembered is bounded, and of those alone who have the secret. No I/O, and no clock of its own.
Must not know: HTTP, and where the secret is from.
"""

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from pool.power.signals.call import BadCall, Call, Reference, called, in_words
from pool.power.signals.intake import Answer, Intake
from stratum.unreadable import NOT_READ

HEADER: Final = "Angara-Signature"
SHOWN: Final = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})", re.ASCII)
WINDOW_S: Final = 300  # before and after: clocks differ by seconds, and lines take a minute
CALL_BYTES_MAX: Final = 4_096  # a call has 300
HEARD_MAX: Final = 1_024  # within the window; a grid that changes its mind says so some times an hour


class Restore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What that source asked for under this reference is over."""

    reference: Reference


class SignedCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed: one of the two."""

    version: Annotated[Literal[1], msgspec.Meta(description="Of this format")]
    curtail: Call | UnsetType = UNSET
    restore: Restore | UnsetType = UNSET


class NotSigned(Exception):
    """Whoever asks has not shown that he may, or not that it is now; the text says which. `guess`: it may be
    somebody who tries, and not a clock that is wrong."""

    def __init__(self, words: str, *, guess: bool) -> None:
        super().__init__(words)
        self.guess = guess


class TooMany(Exception):
    """More calls within minutes than are remembered."""


class _Heard(msgspec.Struct, frozen=True):
    signed_s: int
    answer: Answer


class SignedCalls:
    """Of one pool, started at `since_s`."""

    def __init__(self, intake: Intake, source: str, *, since_s: int, wall_clock: Callable[[], float]) -> None:
        self._intake, self._source = intake, source
        self._since_s, self._wall_clock = since_s, wall_clock
        self._heard: OrderedDict[str, _Heard] = OrderedDict()  # by signature, in the order of hearing
        self._last: OrderedDict[str, int] = OrderedDict()  # by reference, when the last was signed

    def signed_s(self, shown: str) -> tuple[int, str]:
        """When that was signed, and the signature. Raises NotSigned."""
        found = SHOWN.fullmatch(shown)
        if found is None:
            raise NotSigned(f"{HEADER} is missing, or is not t=SECONDS,v1=HEX", guess=True)
        signed_s = int(found[1])
        if abs(self._wall_clock() - signed_s) > WINDOW_S:
            raise NotSigned(
                f"it was not signed within {WINDOW_S} s of the pool's clock: sign it anew", guess=True
            )
        return signed_s, found[2]

    def answer(self, shown: str, body: bytes, secret: bytes) -> Answer:
        """What becomes of it. Blocks. One at a time. Raises NotSigned, BadCall and TooMany."""
        signed_s, signature = self.signed_s(shown)
        due = hmac.new(secret, b"%d.%s" % (signed_s, body), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature, due):
            raise NotSigned("the signature is wrong", guess=True)
        self._forget()
        known = self._heard.get(signature)
        if known is not None:
            return known.answer
        if signed_s < self._since_s:
            raise NotSigned("it was signed before the pool was started: sign it anew", guess=False)
        if len(self._heard) >= HEARD_MAX:
            raise TooMany(f"there were {HEARD_MAX} calls within minutes")
        answer = self._carry_out(signed_s, body)
        self._heard[signature] = _Heard(signed_s, answer)
        return answer

    def _carry_out(self, signed_s: int, body: bytes) -> Answer:
        try:
            asked = msgspec.json.decode(body, type=SignedCall)
        except NOT_READ as error:
            raise BadCall(in_words(error)) from None
        if isinstance(asked.curtail, Call) and asked.restore is UNSET:
            call = called(asked.curtail)
            self._in_order(call.reference, signed_s)
            (answer,) = self._intake.take(self._source, [call])
        elif isinstance(asked.restore, Restore) and asked.curtail is UNSET:
            self._in_order(asked.restore.reference, signed_s)
            answer = self._intake.restore(self._source, asked.restore.reference)
        else:
            raise BadCall("one of curtail and restore is asked for at a time")
        return answer

    def _in_order(self, reference: str, signed_s: int) -> None:
        """Raises NotSigned for what is older than what was taken last."""
        if signed_s < self._last.get(reference, 0):
            raise NotSigned(f"{reference}: what was signed later was taken before this", guess=False)
        self._last[reference] = signed_s
        self._last.move_to_end(reference)
        while len(self._last) > HEARD_MAX:
            self._last.popitem(last=False)

    def _forget(self) -> None:
        """What nobody can show again, even to a clock that was set back."""
        now_s = self._wall_clock()
        while self._heard and next(iter(self._heard.values())).signed_s < now_s - 2 * WINDOW_S:
            self._heard.popitem(last=False)
